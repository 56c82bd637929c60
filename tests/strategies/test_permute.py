"""A whole order in one decode: what is asked for, and what becomes of any reply to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from itertools import cycle, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker import Candidate, Ranker, Ranking
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.cli.demo import written
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion, Request

WEIGHTS = Path(str(files("unified_ranker.embedded"))) / "model.safetensors"
FRUIT = [Candidate(name, f"text of {name}") for name in ("apple", "banana", "cherry", "date")]
TAGGED = ("<1>", "<2>", "<3>", "<4>")
OWN_TEMPLATE = """
user: "{query} {candidates} {instruction}"
candidate: "{label} = {text}"
label_separator: SEPARATOR
instructions: {append: worst first, rounds: the worst, direct: best first}
"""
METHODS = ("iranker", "dranker")
EACH_METHOD = pytest.mark.parametrize("method", METHODS)


def ask(
    replies: Any, candidates: Any = FRUIT, *, labels: tuple[str, ...] = (), **options: Any
) -> tuple[Ranking, list[Request]]:
    backend = ScriptedBackend(replies, text=WordTools(labels=labels))
    ranker = Ranker(backend, **{"method": "iranker", "style": "compact", "permute": True, **options})
    return ranker.rank("fruit", candidates), backend.requests


def whole(step: Callable[[Request], str]) -> Callable[[Request], str]:
    """Return a script that writes in one reply what another writes step by step."""

    def script(request: Request) -> str:
        reply, left = "", list(request.choices)
        for _ in range(request.draws):
            said = step(replace(request, reply_prefix=request.reply_prefix + reply, choices=tuple(left), draws=1))
            reply += said
            left.remove(said)
        return reply

    return script


def gone(ranking: Ranking) -> list[str]:
    return [step.chosen[0] for step in ranking.steps]


@pytest.mark.parametrize("n", [2, 3, 4, 20, 26])
@pytest.mark.parametrize(("method", "draws"), [("iranker", -1), ("dranker", 0)])
def test_one_request_asks_for_the_whole_order(method: str, draws: int, n: int) -> None:
    script = whole(lambda request: request.choices[-1])
    ranking, (request,) = ask(script, [f"text {i}" for i in range(n)], method=method)
    assert request.draws == n + draws
    assert request.choices == tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"[:n])
    assert request.max_tokens == request.draws
    assert (request.reply_prefix, request.session, request.stop) == ("", "", ())
    assert ranking.usage.calls == 1
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (0, 0)
    names = tuple(str(i) for i in range(n))
    assert ranking.ids == (names if method == "iranker" else names[::-1])


@EACH_METHOD
def test_one_candidate_is_ranked_without_a_call(method: str) -> None:
    ranking, requests = ask([], FRUIT[:1], method=method)
    assert requests == []
    assert (ranking.ids, ranking.steps, ranking.scores) == (("apple",), (), (0.0,))


@pytest.mark.parametrize(
    ("method", "reply", "ids"),
    [
        ("iranker", "A", ("banana", "apple")),
        ("iranker", "B", ("apple", "banana")),
        ("dranker", "AB", ("apple", "banana")),
        ("dranker", "BA", ("banana", "apple")),
    ],
)
def test_two_candidates_take_one_step(method: str, reply: str, ids: tuple[str, ...]) -> None:
    ranking, (request,) = ask([reply], FRUIT[:2], method=method)
    assert ranking.ids == ids
    assert request.draws == len(reply)
    assert [step.outcome for step in ranking.steps] == ["ok"]


@pytest.mark.parametrize(("most", "reply"), [(1, "B"), (2, "BD"), (3, "BDA"), (9, "BDA")])
def test_no_more_steps_than_allowed_are_written_at_once(most: int, reply: str) -> None:
    at_once, (request,) = ask([reply], max_steps=most)
    step_by_step, _ = ask(list(reply), max_steps=most, permute=False)
    assert request.draws == request.max_tokens == len(reply)
    assert at_once.steps == step_by_step.steps
    assert at_once.order == step_by_step.order
    assert at_once.usage.failed_steps == 0


@EACH_METHOD
@pytest.mark.parametrize("options", [{"permute": False}, {"permute": False, "style": "natural"}])
def test_without_the_option_no_request_is_for_several_labels(method: str, options: dict[str, Any]) -> None:
    replies = ["B", "D", "A"] if method == "iranker" else ["C > A > D > B"]
    _, requests = ask(replies, method=method, **options)
    assert [request.draws for request in requests] == [1] * len(replies)


@EACH_METHOD
def test_the_sampling_options_arrive(method: str) -> None:
    _, (request,) = ask(["BDA"], method=method, temperature=0.4, top_p=0.8, seed=11)
    assert (request.temperature, request.top_p, request.seed) == (0.4, 0.8, 11)


@pytest.mark.parametrize("labels", [(), TAGGED], ids=["letters", "own-labels"])
def test_the_steps_are_those_of_the_path_step_by_step(labels: tuple[str, ...]) -> None:
    orders = list(permutations(labels or "ABCD", 3))
    assert len(orders) == 24
    for order in orders:
        at_once, _ = ask(["".join(order)], labels=labels)
        step_by_step, requests = ask(list(order), labels=labels, permute=False)
        assert len(requests) == 3
        assert at_once.steps == step_by_step.steps
        assert (at_once.order, at_once.scores) == (step_by_step.order, step_by_step.scores)
        assert at_once.method == step_by_step.method == "iranker"


@pytest.mark.parametrize("options", [{"shuffle_seed": 3}, {"token_budget": 150}, {"shuffle_seed": 1, "seed": 2}])
@pytest.mark.parametrize("domain", ["passage", "recommendation", "routing"])
def test_both_paths_write_the_same_prompt(options: dict[str, Any], domain: str) -> None:
    candidates = [Candidate(f"c{i}", f"candidate {i} " + "word " * 60) for i in range(9)]
    prompts, rankings = [], []
    for permute in (False, True):
        backend = ScriptedBackend(whole(lambda request: request.choices[len(request.reply_prefix) % 3 % 2]))
        ranker = Ranker(backend, method="iranker", style="compact", permute=permute, **options)
        rankings.append(ranker.rank("fruit", candidates, domain=domain))
        prompts.append({request.messages for request in backend.requests})
    assert prompts[0] == prompts[1]
    assert len(prompts[0]) == 1
    assert rankings[0].steps == rankings[1].steps
    assert len(set(gone(rankings[0]))) == 8
    assert rankings[0].usage.truncated_candidates == rankings[1].usage.truncated_candidates


def test_log_probabilities_are_told_by_candidate_and_step() -> None:
    draws: list[dict[str, float]] = [
        {"A": -1.0, "B": -0.5, "C": -2.0, "D": -3.0},
        {"A": -1.5, "C": -2.5, "D": -0.25},
        {"A": -0.125, "C": -4.0},
    ]
    at_once, _ = ask([Completion("BDA", draws[0], draw_logprobs=tuple(draws))])
    replies = [Completion(label, draw) for label, draw in zip("BDA", draws, strict=True)]
    step_by_step, _ = ask(replies, permute=False)
    assert at_once.steps == step_by_step.steps
    assert at_once.steps[1].logprobs == {"apple": -1.5, "cherry": -2.5, "date": -0.25}


# Reply; outcomes; who leaves, in order. A step that fails takes the last that stands, among A, B, C and D.
ELIMINATIONS: list[tuple[str, str, str]] = [
    # The form asked for.
    ("BDA", "ok ok ok", "BDA"),
    ("CBA", "ok ok ok", "CBA"),
    # Blanks between labels, and more than was asked for.
    (" BDA", "ok ok ok", "BDA"),
    ("B D A", "ok ok ok", "BDA"),
    ("B\nD\n\nA\n", "ok ok ok", "BDA"),
    ("BDAC", "ok ok ok", "BDA"),
    ("BDABDA", "ok ok ok", "BDA"),
    ("BDA and that is all", "ok ok ok", "BDA"),
    # Too short.
    ("", "failed failed failed", "DCB"),
    (" \n", "failed failed failed", "DCB"),
    ("B", "ok failed failed", "BDC"),
    ("BD", "ok ok failed", "BDC"),
    ("D", "ok failed failed", "DCB"),
    # A label twice.
    ("BB", "ok failed failed", "BDC"),
    ("BBD", "ok failed failed", "BDC"),
    ("BDB", "ok ok failed", "BDC"),
    ("AAAA", "ok failed failed", "ADC"),
    # No label of the list.
    ("Z", "failed failed failed", "DCB"),
    ("ZBD", "failed failed failed", "DCB"),
    ("BZD", "ok failed failed", "BDC"),
    ("123", "failed failed failed", "DCB"),
    ("\x00\ud800", "failed failed failed", "DCB"),
    ("<1><2><3>", "failed failed failed", "DCB"),
    # Another form.
    ("bda", "failed failed failed", "DCB"),
    ("b", "repaired failed failed", "BDC"),
    ("worst: B", "repaired failed failed", "BDC"),
    ("[B]", "repaired failed failed", "BDC"),
    ("<answer>B</answer>", "repaired failed failed", "BDC"),
    ("[B][D][A]", "failed failed failed", "DCB"),
    # What a failed step could not use is read again, among fewer labels: "D" and "A" are two, "A" alone is one.
    ("B > D > A", "ok failed repaired", "BDA"),
]


@pytest.mark.parametrize(("reply", "outcomes", "leaving"), ELIMINATIONS)
def test_each_candidate_comes_once_whatever_the_reply_and_failed_steps_are_counted(
    reply: str, outcomes: str, leaving: str
) -> None:
    ranking, (request,) = ask([reply])
    names = dict(zip(request.choices, FRUIT, strict=True))
    assert [step.outcome for step in ranking.steps] == outcomes.split()
    assert gone(ranking) == [names[label].id for label in leaving]
    (winner,) = set("ABCD") - set(leaving)
    assert ranking.ids == (names[winner].id, *reversed(gone(ranking)))
    assert ranking.scores == (3.0, 2.0, 1.0, 0.0)
    assert ranking.usage.failed_steps == outcomes.split().count("failed")
    assert ranking.usage.repaired_steps == outcomes.split().count("repaired")
    assert ranking.usage.calls == 1
    assert [step.in_play for step in ranking.steps] == [4, 3, 2]
    assert [step.index for step in ranking.steps] == [0, 1, 2]
    assert all(bool(step.reason) == (step.outcome != "ok") for step in ranking.steps)


@pytest.mark.parametrize(
    ("reply", "outcomes", "leaving"),
    [
        ("<2><4><1>", "ok ok ok", "241"),
        ("<2> <4> <1>", "ok ok ok", "241"),
        ("<2><4>", "ok ok failed", "243"),
        ("<2><2>", "ok failed failed", "243"),
        ("<9>", "failed failed failed", "432"),
        ("241", "failed failed failed", "432"),
        ("", "failed failed failed", "432"),
    ],
)
def test_labels_of_the_model_itself_are_cut_apart(reply: str, outcomes: str, leaving: str) -> None:
    ranking, _ = ask([reply], labels=TAGGED)
    assert [step.outcome for step in ranking.steps] == outcomes.split()
    assert gone(ranking) == [FRUIT[int(number) - 1].id for number in leaving]


def test_a_step_that_failed_has_no_log_probabilities_of_who_has_left() -> None:
    draws = ({"A": -1.0, "B": -0.5, "C": -2.0, "D": -3.0}, {"A": -0.5, "B": -1.0, "C": -2.0, "D": -1.5})
    ranking, _ = ask([Completion("BB", draw_logprobs=draws)])
    assert [set(step.logprobs) for step in ranking.steps] == [
        {"apple", "banana", "cherry", "date"},
        {"apple", "cherry", "date"},
        set(),
    ]


ORDERS: list[tuple[str, str, str]] = [
    ("CADB", "ok", "CADB"),
    (" C A D B\n", "ok", "CADB"),
    ("CA", "repaired", "CABD"),
    ("D", "repaired", "DABC"),
    ("CCADB", "repaired", "CADB"),
    ("CADBCADB", "repaired", "CADB"),
    ("CCCC", "repaired", "CABD"),
    ("CADBZ", "repaired", "CADB"),
    ("first CADB", "repaired", "CADB"),
    ("", "failed", "ABCD"),
    ("\n", "failed", "ABCD"),
    ("zz", "failed", "ABCD"),
    ("123", "failed", "ABCD"),
]


@pytest.mark.parametrize(("reply", "outcome", "order"), ORDERS)
def test_each_candidate_comes_once_in_a_whole_order(reply: str, outcome: str, order: str) -> None:
    ranking, (request,) = ask([reply], method="dranker")
    names = dict(zip(request.choices, FRUIT, strict=True))
    assert ranking.ids == tuple(names[label].id for label in order)
    assert [step.outcome for step in ranking.steps] == [outcome]
    assert ranking.usage.failed_steps == int(outcome == "failed")
    assert ranking.usage.repaired_steps == int(outcome == "repaired")


replies = st.lists(
    st.one_of(
        st.text(max_size=12),
        st.lists(st.sampled_from([*"ABCDEF", *TAGGED, "<9>", "b", " ", "\n", "[", ">"]), max_size=10).map("".join),
    ),
    min_size=1,
    max_size=3,
)


@EACH_METHOD
@pytest.mark.parametrize("labels", [(), tuple(f"<{i}>" for i in range(1, 7))], ids=["letters", "own-labels"])
@settings(max_examples=80, deadline=None, derandomize=True)
@given(replies=replies, n=st.integers(1, 6), retry=st.booleans(), shuffle_seed=st.none() | st.integers(0, 3))
def test_any_reply_gives_a_permutation_and_every_flaw_is_counted(
    method: str, labels: tuple[str, ...], replies: list[str], n: int, retry: bool, shuffle_seed: int | None
) -> None:
    script = cycle(replies)
    options = {"method": method, "on_error": "retry" if retry else "repair", "shuffle_seed": shuffle_seed}
    ranking, requests = ask(lambda request: next(script), ["same text"] * n, labels=labels, **options)
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    outcomes = [step.outcome for step in ranking.steps]
    assert ranking.usage.repaired_steps == outcomes.count("repaired")
    assert ranking.usage.failed_steps == outcomes.count("failed")
    assert all(bool(step.reason) == (step.outcome != "ok") for step in ranking.steps)
    assert len(ranking.steps) == (min(n - 1, 1) if method == "dranker" else n - 1)
    assert len(requests) == ranking.usage.calls <= (3 if retry else 1)
    assert {step.attempts for step in ranking.steps} <= {len(requests)}


@pytest.mark.parametrize(
    ("method", "bad", "good", "ids"),
    [
        ("iranker", "B", "BDA", ("cherry", "apple", "date", "banana")),
        ("iranker", "BDD", "CBA", ("date", "apple", "banana", "cherry")),
        ("dranker", "?", "CADB", ("cherry", "apple", "date", "banana")),
    ],
)
def test_retry_asks_for_the_whole_order_again_with_another_temperature_and_seed(
    method: str, bad: str, good: str, ids: tuple[str, ...]
) -> None:
    ranking, requests = ask([bad, bad, good], method=method, on_error="retry", seed=5)
    assert ranking.ids == ids
    assert [request.seed for request in requests] == [5, 6, 7]
    assert requests[0].temperature == 0
    assert requests[1].temperature == requests[2].temperature > 0
    assert len({(request.messages, request.choices, request.draws) for request in requests}) == 1
    assert {step.attempts for step in ranking.steps} == {3}
    assert ranking.usage.calls == 3
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (0, 0)


def test_retry_repairs_when_its_attempts_are_spent() -> None:
    ranking, requests = ask(["?", "B"], on_error="retry", retries=1)
    assert len(requests) == 2
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "failed"]
    assert ranking.usage.failed_steps == 2
    assert gone(ranking) == ["banana", "date", "cherry"]


def test_repair_never_asks_twice() -> None:
    assert len(ask(["?"], on_error="repair", retries=5)[1]) == 1


@pytest.mark.parametrize(
    ("method", "reply", "message"),
    [
        ("iranker", "", r"example 'query', step 0: empty answer; the reply was ''"),
        ("iranker", "BZ", r"example 'query', step 1: no label in play in 'Z'; the reply was 'Z'"),
        ("iranker", "BD", r"example 'query', step 2: empty answer; the reply was ''"),
        ("dranker", "zz", r"example 'query', step 0: .*; the reply was 'zz'"),
    ],
)
def test_raise_names_the_example_the_step_and_the_reply(method: str, reply: str, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        ask([reply], method=method, on_error="raise")


def test_raise_lets_an_order_pass() -> None:
    assert ask(["BDA"], on_error="raise")[0].ids == ("cherry", "apple", "date", "banana")
    assert ask(["CA"], on_error="raise", method="dranker")[0].usage.repaired_steps == 1


def test_usage_adds_up_over_all_attempts() -> None:
    costs = [Completion(text, {}, 100 + i, 10 * i, 1 + i) for i, text in enumerate(["?", "B", "BDA"])]
    ranking, _ = ask(costs, on_error="retry")
    assert (ranking.usage.calls, ranking.usage.prompt_tokens, ranking.usage.reused_tokens) == (3, 303, 30)
    assert ranking.usage.generated_tokens == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reasoning": True}, "permute=True .* does not go with reasoning=True"),
        ({"unguided": True}, "permute=True .* does not go with unguided=True"),
        ({"layout": "rounds"}, "permute=True needs layout='append', not 'rounds'"),
        ({"style": "natural"}, r"permute=True .* separates them by '(\\n| > )'; use style='compact'"),
    ],
)
@EACH_METHOD
def test_what_does_not_go_with_it_is_refused_at_once(method: str, options: dict[str, Any], message: str) -> None:
    if method == "dranker" and "layout" in options:
        message = "layout='rounds': the method 'dranker' does not take it"
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=message):
        Ranker(backend, **{"method": method, "style": "compact", "permute": True, **options})
    assert backend.requests == []


@EACH_METHOD
def test_a_template_of_ones_own_goes_with_it_only_without_a_separator(method: str, tmp_path: Path) -> None:
    for name, separator in (("joined", '""'), ("blank", '" "')):
        (tmp_path / f"{name}.yaml").write_text(OWN_TEMPLATE.replace("SEPARATOR", separator), encoding="utf-8")
    _, (request,) = ask(["BDA"], method=method, template=tmp_path / "joined.yaml")
    assert "B = text of banana" in request.messages[-1].content
    with pytest.raises(OptionError, match=r"separates them by ' '.*label_separator: ''"):
        ask([], method=method, template=tmp_path / "blank.yaml")


@pytest.mark.skipif(not WEIGHTS.is_file(), reason="the embedded model is not there")
def test_the_embedded_model_gives_the_same_order_as_step_by_step() -> None:
    examples = written()[:3]
    assert len(examples) == 3
    step_by_step = list(Ranker().rank_batch(examples))
    at_once = list(Ranker(permute=True).rank_batch(examples))
    for found, expected, example in zip(at_once, step_by_step, examples, strict=True):
        assert found.method == "iranker"
        assert found.ids == expected.ids
        assert found.order != example.candidates
        for step, other in zip(found.steps, expected.steps, strict=True):
            assert (step.reply, step.chosen, step.outcome) == (other.reply, other.chosen, "ok")
            assert step.logprobs == pytest.approx(other.logprobs, abs=1e-3)
        assert (found.usage.calls, expected.usage.calls) == (1, len(found.order) - 1)
