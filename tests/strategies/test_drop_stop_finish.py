"""Elimination that takes several at a step, that stops early, and that leaves the rest to another strategy."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Judge, best_first, counting, erratic, ids_listed, items

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.exchange import Completion, Request
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.types import Usage
from unified_ranker.strategies import Elimination, OneShot, make_strategy
from unified_ranker.strategies.base import listing

FRUIT = [Candidate(name, f"text of {name}") for name in ("apple", "banana", "cherry", "date", "elder")]
LAYOUTS = ("append", "rounds")
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
WORTH = {"0": 3.0, "1": 8.0, "2": 1.0, "3": 6.0, "4": 5.0, "5": 2.0, "6": 7.0, "7": 4.0}
OWN_TEMPLATE = """
user: "MY OWN WORDS {query} {candidates} {instruction}"
candidate: "{label} = {text}"
instructions: {append: worst first, rounds: the worst, direct: best first}
"""

worths = st.permutations(range(9)).flatmap(
    lambda order: st.integers(1, 9).map(lambda n: {str(i): float(order[i]) for i in range(n)})
)
layouts = st.sampled_from(LAYOUTS)


def ask(replies: Any, candidates: Any = FRUIT, **options: Any) -> tuple[Ranking, list[Request]]:
    backend = ScriptedBackend(replies)
    return Ranker(backend, **{"method": "iranker", **options}).rank("fruit", candidates), backend.requests


def judged(worth: dict[str, float], **options: Any) -> tuple[Ranking, list[Request]]:
    return ask(Judge(worth), items(len(worth)), **options)


def told(text: str, **logprobs: float) -> Completion:
    return Completion(text, logprobs)


def without_sessions(requests: list[Request]) -> list[Request]:
    return [replace(request, session="s" if request.session else "") for request in requests]


def gone(ranking: Ranking) -> list[tuple[str, ...]]:
    return [step.chosen for step in ranking.steps]


# drop_per_step


@EACH_LAYOUT
@pytest.mark.parametrize("drop", [1, 2, 3, 7, 19, 50])
@pytest.mark.parametrize("n", [1, 2, 3, 8, 20])
def test_so_many_at_a_step_are_so_many_times_fewer_requests(layout: str, n: int, drop: int) -> None:
    ranking, requests = judged({str(i): float(i) for i in range(n)}, layout=layout, drop_per_step=drop)
    calls = ceil((n - 1) / drop)
    assert len(requests) == ranking.usage.calls == len(ranking.steps) == calls
    assert [step.in_play for step in ranking.steps] == [n - drop * step for step in range(calls)]
    assert [step.index for step in ranking.steps] == list(range(calls))
    assert [len(step.chosen) for step in ranking.steps] == [min(drop, n - 1 - drop * step) for step in range(calls)]
    assert ranking.ids == tuple(str(i) for i in reversed(range(n)))


@EACH_LAYOUT
def test_those_whose_labels_are_most_likely_leave_the_most_likely_first(layout: str) -> None:
    first = told("D", A=-2.0, B=-1.5, C=-4.0, D=-0.5, E=-3.0)
    # What is left are apple, cherry and elder: in rounds they have fresh labels.
    second = told("A", A=-0.25, C=-2.0, E=-1.0) if layout == "append" else told("A", A=-0.25, B=-2.0, C=-1.0)
    ranking, _ = ask([first, second], layout=layout, drop_per_step=2)
    assert gone(ranking) == [("date", "banana"), ("apple", "elder")]
    assert ranking.ids == ("cherry", "elder", "apple", "banana", "date")
    assert ranking.scores == (4.0, 3.0, 2.0, 1.0, 0.0)
    assert ranking.steps[0].logprobs == {"apple": -2.0, "banana": -1.5, "cherry": -4.0, "date": -0.5, "elder": -3.0}
    assert ranking.steps[1].logprobs == {"apple": -0.25, "cherry": -2.0, "elder": -1.0}
    assert [step.outcome for step in ranking.steps] == ["ok", "ok"]


@pytest.mark.parametrize(("style", "prefix"), [("natural", "D\nB\n"), ("compact", "DB")])
def test_the_reply_goes_on_behind_all_labels_that_left_at_once(style: str, prefix: str) -> None:
    replies = [told("D", A=-2.0, B=-1.5, C=-4.0, D=-0.5, E=-3.0), told("A", A=-0.25, C=-2.0, E=-1.0)]
    _, requests = ask(replies, style=style, drop_per_step=2)
    assert [request.reply_prefix for request in requests] == ["", prefix]
    assert [request.choices for request in requests] == [("A", "B", "C", "D", "E"), ("A", "C", "E")]
    assert len({request.messages for request in requests}) == 1
    assert len({request.session for request in requests}) == 1
    assert [request.last for request in requests] == [False, True]


def test_rounds_list_what_several_at_a_step_have_left() -> None:
    _, requests = judged(WORTH, layout="rounds", drop_per_step=3)
    assert [ids_listed(request) for request in requests] == [
        ["0", "1", "2", "3", "4", "5", "6", "7"],
        ["1", "3", "4", "6", "7"],
        ["1", "6"],
    ]
    assert [request.choices for request in requests] == [tuple("ABCDEFGH"), tuple("ABCDE"), tuple("AB")]
    assert {(request.reply_prefix, request.session) for request in requests} == {("", "")}


@EACH_LAYOUT
def test_the_last_step_goes_by_the_reply_where_it_takes_one(layout: str) -> None:
    # Of five, three leave at the first step and one at the second: that one is what the reply itself names.
    first = told("D", A=-2.0, B=-1.5, C=-4.0, D=-0.5, E=-1.75)
    ranking, requests = ask([first, "C" if layout == "append" else "B"], layout=layout, drop_per_step=3)
    assert gone(ranking) == [("date", "banana", "elder"), ("cherry",)]
    assert ranking.ids == ("apple", "cherry", "elder", "banana", "date")
    assert len(requests) == 2


@EACH_LAYOUT
@pytest.mark.parametrize(
    ("stop", "leaving"),
    [({"max_steps": 4}, [3, 1]), ({"stop_at": 2}, [3, 3]), ({"stop_at": 4}, [3, 1]), ({"max_steps": 2}, [2])],
)
def test_no_step_takes_more_than_are_to_leave(layout: str, stop: dict[str, int], leaving: list[int]) -> None:
    ranking, requests = judged(WORTH, layout=layout, drop_per_step=3, **stop)
    assert [len(step.chosen) for step in ranking.steps] == leaving
    assert [id for step in ranking.steps for id in step.chosen] == list(reversed(best_first(WORTH)))[: sum(leaving)]
    ends = [False] * (len(leaving) - 1) + [layout == "append"]
    assert [request.last for request in requests] == ends


@settings(max_examples=60, deadline=None, derandomize=True)
@given(worth=worths, layout=layouts, drop=st.integers(1, 10), shuffle_seed=st.none() | st.integers(0, 9))
def test_a_judge_that_knows_the_order_gives_it_however_many_leave_at_once(
    worth: dict[str, float], layout: str, drop: int, shuffle_seed: int | None
) -> None:
    ranking, requests = judged(worth, layout=layout, drop_per_step=drop, shuffle_seed=shuffle_seed)
    assert ranking.ids == best_first(worth)
    assert len(requests) == ceil((len(worth) - 1) / drop)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), layout=layouts, shuffle_seed=st.none() | st.integers(0, 9), stop=st.integers(1, 9))
def test_one_at_a_step_is_the_elimination_that_was_there_before(
    n: int, layout: str, shuffle_seed: int | None, stop: int
) -> None:
    options = {"layout": layout, "shuffle_seed": shuffle_seed, "max_steps": stop}
    plain, asked_plain = ask(erratic, items(n), **options)
    one, asked_one = ask(erratic, items(n), drop_per_step=1, **options)
    assert (one.ids, one.steps, one.scores) == (plain.ids, plain.steps, plain.scores)
    assert replace(one.usage, seconds=0.0) == replace(plain.usage, seconds=0.0)
    assert without_sessions(asked_one) == without_sessions(asked_plain)


replies = st.lists(
    st.lists(st.sampled_from([*"ABCDEFGH", "b", "?", " > ", "\n", "[", "<answer>"]), max_size=6).map("".join),
    min_size=1,
    max_size=4,
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(replies=replies, n=st.integers(1, 8), layout=layouts, drop=st.integers(1, 5), retry=st.booleans())
def test_any_reply_gives_a_permutation_also_where_several_leave_at_once(
    replies: list[str], n: int, layout: str, drop: int, retry: bool
) -> None:
    script = cycle(replies)

    def reply(request: Request) -> Completion:
        # An engine that tells log-probabilities, but writes what it likes.
        return replace(erratic(request), text=next(script))

    on_error = "retry" if retry else "repair"
    ranking, requests = ask(reply, items(n), layout=layout, drop_per_step=drop, on_error=on_error)
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    assert len(ranking.steps) == ceil((n - 1) / drop)
    outcomes = [step.outcome for step in ranking.steps]
    assert ranking.usage.repaired_steps == outcomes.count("repaired")
    assert ranking.usage.failed_steps == outcomes.count("failed")
    assert sum(step.attempts for step in ranking.steps) == len(requests) == ranking.usage.calls


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"reasoning": True}, "reasoning=True"),
        ({"unguided": True}, "unguided=True"),
        ({"permute": True, "style": "compact"}, "permute=True"),
        ({"temperature": 0.3}, "temperature=0.3"),
    ],
)
@pytest.mark.parametrize("method", ["iranker", "tournament"])
def test_several_at_a_step_do_not_go_with_what_tells_no_log_probabilities(
    method: str, options: dict[str, Any], named: str
) -> None:
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=f"drop_per_step=2 .*does not go with {named}$"):
        Ranker(backend, method=method, drop_per_step=2, **options)
    Ranker(backend, method=method, drop_per_step=1, **options)


@EACH_LAYOUT
@pytest.mark.parametrize(
    "reply",
    ["B", told("B", B=-0.5), told("B", A=-1.0, B=-0.5, C=-2.0, D=-3.0)],
    ids=["nothing", "only-the-reply", "all-but-one"],
)
def test_a_backend_that_does_not_tell_enough_is_named_with_the_mend(layout: str, reply: Any) -> None:
    backend = ScriptedBackend([reply])
    with pytest.raises(BackendError, match=r"drop_per_step .*log-probabilities of 5 labels.*use drop_per_step=1"):
        Ranker(backend, method="iranker", layout=layout, drop_per_step=2).rank("fruit", FRUIT)
    # What the backend keeps for the list is given up.
    assert backend.forgotten == [request.session for request in backend.requests if request.session]


# stop_at


@EACH_LAYOUT
@pytest.mark.parametrize("stop_at", [1, 2, 5, 7, 8, 9, 100])
def test_stopping_at_so_many_saves_the_requests_of_the_rest(layout: str, stop_at: int) -> None:
    ranking, requests = judged(WORTH, layout=layout, stop_at=stop_at)
    true = best_first(WORTH)
    assert len(requests) == len(ranking.steps) == ranking.usage.calls == max(0, 8 - stop_at)
    # Those that are left keep the order in which they are listed, those that left are in order.
    assert ranking.ids == (*sorted(true[:stop_at]), *true[stop_at:])
    assert ranking.scores == (7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0)
    assert [request.last for request in requests] == [
        layout == "append" and number == len(requests) for number in range(1, len(requests) + 1)
    ]


@EACH_LAYOUT
@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_list_that_is_no_longer_than_where_to_stop_is_left_as_it_is_listed(layout: str, n: int) -> None:
    for shuffle_seed in (None, 4):
        ranking, requests = ask([], FRUIT[:n], layout=layout, stop_at=3, shuffle_seed=shuffle_seed)
        example = RankingExample(id="query", query="fruit", candidates=tuple(FRUIT[:n]))
        assert ranking.order == tuple(listing(example, shuffle_seed))
        assert (requests, ranking.steps) == ([], ())
        assert ranking.usage.calls == 0


def test_those_that_are_left_keep_the_shuffled_order_in_which_they_were_shown() -> None:
    ranking, requests = judged(WORTH, stop_at=5, shuffle_seed=3)
    shown = ids_listed(requests[0])
    assert shown != sorted(shown)
    assert ranking.ids == (*(id for id in shown if WORTH[id] > 3), "0", "5", "2")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), stop_at=st.integers(1, 9), layout=layouts, drop=st.integers(1, 3))
def test_stopping_at_so_many_left_asks_what_as_many_steps_ask(n: int, stop_at: int, layout: str, drop: int) -> None:
    options = {"layout": layout, "drop_per_step": drop}
    stopped, asked_stopped = ask(erratic, items(n), stop_at=stop_at, **options)
    if n > stop_at:
        counted, asked_counted = ask(erratic, items(n), max_steps=n - stop_at, **options)
        assert (stopped.ids, stopped.steps) == (counted.ids, counted.steps)
        assert without_sessions(asked_stopped) == without_sessions(asked_counted)
    else:
        assert asked_stopped == []
    if stop_at == 1:
        whole, asked_whole = ask(erratic, items(n), **options)
        assert (stopped.ids, stopped.steps) == (whole.ids, whole.steps)
        assert without_sessions(asked_stopped) == without_sessions(asked_whole)


@pytest.mark.parametrize("stop_at", [1, 2, 6, 7])
def test_one_decode_draws_no_more_labels_than_are_to_leave(stop_at: int) -> None:
    permuted, (request,) = judged(WORTH, style="compact", permute=True, stop_at=stop_at)
    assert request.draws == request.max_tokens == 8 - stop_at
    assert request.choices == tuple("ABCDEFGH")
    step_by_step, requests = judged(WORTH, style="compact", stop_at=stop_at)
    assert permuted.ids == step_by_step.ids
    assert gone(permuted) == gone(step_by_step)
    assert {other.messages for other in requests} == {request.messages}


@pytest.mark.parametrize("stop_at", [8, 9])
def test_one_decode_is_not_asked_for_where_nobody_is_to_leave(stop_at: int) -> None:
    ranking, requests = judged(WORTH, style="compact", permute=True, stop_at=stop_at)
    assert requests == []
    assert ranking.ids == tuple(WORTH)


# finish


@EACH_LAYOUT
def test_what_is_left_is_ranked_by_the_other_method_with_its_own_template(layout: str) -> None:
    ranking, requests = judged(WORTH, layout=layout, stop_at=3, finish="dranker")
    assert ranking.ids == best_first(WORTH)
    assert ranking.method == "iranker"
    *eliminating, last = requests
    assert len(eliminating) == 5
    assert all("Rank all candidates" not in request.messages[-1].content for request in eliminating)
    assert "Rank all candidates" in last.messages[-1].content
    # Listed as the elimination left them, under fresh labels, and without what was said before.
    assert ids_listed(last) == ["1", "3", "6"]
    assert "[B] item3" in last.messages[-1].content
    assert (last.choices, last.pattern, last.session, last.reply_prefix) == ((), "", "", "")
    if layout == "append":
        assert [request.last for request in eliminating] == [False] * 4 + [True]


@pytest.mark.parametrize("domain", ["passage", "recommendation", "routing"])
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize(("finish", "folder"), [("dranker", "one_shot"), ("iranker", "elimination")])
def test_the_finish_has_the_template_of_its_own_method_style_and_domain(
    finish: str, folder: str, style: str, domain: str
) -> None:
    tools = WordTools()
    alone = PromptWriter(load_template(style, folder, domain), tools)
    left = RankingExample(id="query", query="fruit", candidates=tuple(FRUIT[:2]), domain=domain)
    (expected,) = next(make_strategy(finish, writer=alone).rank(left))
    backend = ScriptedBackend(lambda request: "?")
    ranker = Ranker(backend, method="iranker", style=style, stop_at=2, finish=finish)
    # A reply that nobody can read eliminates the last: apple and banana are left.
    ranker.rank("fruit", FRUIT, domain=domain)
    assert without_sessions([backend.requests[-1]]) == without_sessions([expected])


@pytest.mark.parametrize(("finish", "calls"), [("dranker", 1), ("iranker", 3), ("tournament", 3)])
def test_any_method_can_finish(finish: str, calls: int) -> None:
    ranking, requests = judged(WORTH, stop_at=4, finish=finish)
    assert ranking.ids == best_first(WORTH)
    assert len(requests) == ranking.usage.calls == 4 + calls
    assert [step.index for step in ranking.steps] == list(range(4 + calls))
    assert ids_listed(requests[4]) == ["1", "3", "4", "6"]


def test_the_finish_decides_over_the_first_places_alone() -> None:
    ranking, _ = ask(["B", "D", "A", "B > A"], stop_at=2, finish="dranker")
    # Banana, date and apple have left; of cherry and elder the reply prefers the second.
    assert ranking.ids == ("elder", "cherry", "apple", "date", "banana")
    assert gone(ranking) == [("banana",), ("date",), ("apple",), ("elder", "cherry")]
    assert [step.index for step in ranking.steps] == [0, 1, 2, 3]
    assert [step.in_play for step in ranking.steps] == [5, 4, 3, 2]
    assert ranking.scores == (4.0, 3.0, 2.0, 1.0, 0.0)


def test_a_finish_that_fails_keeps_those_that_are_left_as_they_were_listed() -> None:
    ranking, _ = ask(["B", "?", "A", "no idea"], stop_at=2, finish="dranker")
    assert ranking.ids == ("cherry", "date", "apple", "elder", "banana")
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "ok", "failed"]
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (0, 2)


def test_what_the_finish_cost_is_added() -> None:
    paid: list[Completion] = []
    ranking, _ = ask(counting(Judge(WORTH), paid), items(8), stop_at=3, finish="iranker")
    assert ranking.usage.calls == len(paid) == 7
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    assert ranking.usage.reused_tokens == sum(entry.reused_tokens for entry in paid)
    assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)


def test_what_the_finish_cut_is_counted() -> None:
    long = [Candidate(str(i), "word " * 200) for i in range(4)]
    before, _ = ask(lambda request: request.choices[-1], long, token_budget=300, stop_at=2)
    ranking, _ = ask(
        lambda request: request.choices[-1] if request.choices else "A > B",
        long,
        token_budget=300,
        stop_at=2,
        finish="dranker",
    )
    assert before.usage.truncated_candidates == 4
    assert ranking.usage.truncated_candidates == 4 + 2


@EACH_LAYOUT
@pytest.mark.parametrize("n", [2, 3, 4])
def test_a_short_list_is_left_to_the_finish_as_a_whole(layout: str, n: int) -> None:
    worth = {str(i): WORTH[str(i)] for i in range(n)}
    ranking, (request,) = judged(worth, layout=layout, stop_at=4, finish="dranker")
    alone, (plain,) = judged(worth, method="dranker")
    assert request == plain
    assert (ranking.ids, ranking.steps) == (alone.ids, alone.steps)
    assert ranking.method == "iranker"


@pytest.mark.parametrize(("n", "stop_at", "calls"), [(1, 1, 0), (1, 5, 0), (2, 1, 1), (8, 1, 7)])
def test_a_single_candidate_that_is_left_needs_no_finish(n: int, stop_at: int, calls: int) -> None:
    ranking, requests = judged({str(i): WORTH[str(i)] for i in range(n)}, stop_at=stop_at, finish="dranker")
    assert len(requests) == len(ranking.steps) == calls
    assert all("Rank all candidates" not in request.messages[-1].content for request in requests)


def test_the_order_is_drawn_once_for_the_elimination_and_its_finish() -> None:
    _, requests = judged(WORTH, stop_at=4, finish="dranker", shuffle_seed=3)
    shown = ids_listed(requests[0])
    assert shown != sorted(shown)
    assert ids_listed(requests[-1]) == [id for id in shown if WORTH[id] > 4]


def test_one_decode_and_a_finish_are_two_requests() -> None:
    ranking, requests = judged(WORTH, style="compact", permute=True, stop_at=3, finish="dranker")
    assert [request.draws for request in requests] == [5, 1]
    assert ranking.ids == best_first(WORTH)
    assert [step.index for step in ranking.steps] == [0, 1, 2, 3, 4, 5]
    assert ranking.usage.calls == 2


def test_several_at_a_step_and_a_finish_go_together() -> None:
    ranking, requests = judged(WORTH, drop_per_step=3, stop_at=3, finish="dranker")
    assert [len(step.chosen) for step in ranking.steps] == [3, 2, 3]
    assert ranking.ids == best_first(WORTH)
    assert len(requests) == 3


def test_the_finish_thinks_and_asks_again_as_the_elimination_does() -> None:
    thought = "<think>so</think><answer>{}</answer>"
    replies = [thought.format(name) for name in ("B", "D", "A")] + ["?", thought.format("B > A")]
    ranking, requests = ask(replies, stop_at=2, finish="dranker", reasoning=True, on_error="retry")
    assert ranking.ids == ("elder", "cherry", "apple", "date", "banana")
    assert {request.stop for request in requests} == {("</answer>",)}
    assert [step.attempts for step in ranking.steps] == [1, 1, 1, 2]
    assert ranking.usage.calls == 5


def test_a_template_of_ones_own_is_used_for_both(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN_TEMPLATE, encoding="utf-8")
    _, requests = ask(["E", "D", "A > B > C"], template=tmp_path / "own.yaml", stop_at=3, finish="dranker")
    contents = [request.messages[-1].content for request in requests]
    assert all(content.startswith("MY OWN WORDS fruit A = text of apple") for content in contents)
    assert [content.split()[-2:] for content in contents] == [["worst", "first"]] * 2 + [["best", "first"]]


@pytest.mark.parametrize("finish", ["dranker", "iranker", "tournament", None])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    replies=replies,
    n=st.integers(1, 7),
    stop_at=st.integers(1, 8),
    layout=layouts,
    style=st.sampled_from(["natural", "compact"]),
    unguided=st.booleans(),
    shuffle_seed=st.none() | st.integers(0, 3),
    retry=st.booleans(),
)
def test_any_reply_gives_a_permutation_and_every_flaw_is_counted_with_any_finish(
    finish: str | None,
    replies: list[str],
    n: int,
    stop_at: int,
    layout: str,
    style: str,
    unguided: bool,
    shuffle_seed: int | None,
    retry: bool,
) -> None:
    script = cycle(replies)
    ranking, requests = ask(
        lambda request: next(script),
        items(n),
        layout=layout,
        style=style,
        stop_at=stop_at,
        finish=finish,
        unguided=unguided,
        shuffle_seed=shuffle_seed,
        on_error="retry" if retry else "repair",
    )
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    outcomes = [step.outcome for step in ranking.steps]
    assert ranking.usage.repaired_steps == outcomes.count("repaired")
    assert ranking.usage.failed_steps == outcomes.count("failed")
    assert [step.index for step in ranking.steps] == list(range(len(ranking.steps)))
    left = min(n, stop_at)
    finishing = {None: 0, "dranker": min(1, left - 1)}.get(finish, left - 1)
    assert len(ranking.steps) == max(0, n - stop_at) + finishing
    assert sum(step.attempts for step in ranking.steps) == len(requests) == ranking.usage.calls


# What is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"stop_at": 3, "max_steps": 2}, "max_steps=2 and stop_at=3 both say when to stop; give one"),
        ({"finish": "dranker"}, "finish ranks what stop_at leaves; give stop_at as well"),
        ({"finish": "dranker", "max_steps": 2}, "finish ranks what stop_at leaves; give stop_at as well"),
        ({"finish": "dranker", "max_steps": 2, "stop_at": 2}, "both say when to stop"),
        ({"finish": "drankr", "stop_at": 2}, "'drankr' is not known; did you mean 'dranker'"),
        ({"stop_at": 0}, "stop_at=0 must be ≥ 1"),
        ({"drop_per_step": 0}, "drop_per_step=0 must be ≥ 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=named):
        Ranker(backend, method="iranker", **options)
    assert backend.requests == []


def test_a_finish_needs_someone_who_knows_its_template() -> None:
    writer = PromptWriter(load_template("natural", "elimination", "passage"), WordTools())
    with pytest.raises(OptionError, match="finish='dranker': this method's writer knows no other template"):
        make_strategy("iranker", writer=writer, stop_at=2, finish="dranker")


def test_any_strategy_can_be_the_finish_of_an_elimination_that_is_built_by_hand() -> None:
    tools = WordTools()
    strategy = Elimination(
        writer=PromptWriter(load_template("natural", "elimination", "passage"), tools),
        stop_at=2,
        finish=OneShot(writer=PromptWriter(load_template("compact", "one_shot", "passage"), tools), permute=True),
    )
    running = strategy.rank(RankingExample(id="one", query="fruit", candidates=tuple(FRUIT[:3])))
    assert next(running)[0].choices == ("A", "B", "C")
    (last,) = running.send([Completion("B", prompt_tokens=5)])
    assert (last.choices, last.draws) == (("A", "B"), 2)
    with pytest.raises(StopIteration) as stop:
        running.send([Completion("BA", prompt_tokens=7)])
    assert stop.value.value.ids == ("cherry", "apple", "banana")
    assert stop.value.value.usage == Usage(calls=2, prompt_tokens=12)
