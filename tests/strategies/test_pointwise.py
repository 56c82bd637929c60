"""Pointwise: what a grade is worth, what is asked for it, and what becomes of replies without one."""

from __future__ import annotations

import re
from math import log
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import counting, ids_listed, items

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError, OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.strategies.base import listing

GRADES = ("0", "1", "2", "3", "4")


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, method="pointwise", **options).rank("fruit", items(n)), backend


def id_of(request: Request) -> str:
    """Return the id of the one candidate that a prompt shows."""
    (found,) = re.findall(r"\bitem(\d+)\b", request.messages[-1].content)
    return str(found)


def told(text: str, *shares: float, answers: tuple[str, ...] = GRADES) -> Completion:
    """Return a reply, and the probability of each answer."""
    return Completion(text, {name: log(share) for name, share in zip(answers, shares, strict=True)})


# Of three candidates, the first has the highest grade, the second the highest mean, the third the surest grade.
SHARES = [
    told("4", 0.3, 0.2, 0.1, 0.0 + 1e-9, 0.4),
    told("3", 0.05, 0.05, 0.1, 0.45, 0.35),
    told("2", 0.01, 0.02, 0.94, 0.02, 0.01),
]


@pytest.mark.parametrize(
    ("score", "worth"),
    [
        # 0.2 + 2·0.1 + 4·0.4; 0.05 + 2·0.1 + 3·0.45 + 4·0.35; 0.02 + 2·0.94 + 3·0.02 + 4·0.01.
        ("expectation", {"0": 2.0, "1": 3.0, "2": 2.0}),
        # 4·0.4; 3·0.45; 2·0.94.
        ("likely", {"0": 1.6, "1": 1.35, "2": 1.88}),
        ("grade", {"0": 4.0, "1": 3.0, "2": 2.0}),
    ],
)
def test_a_grade_is_worth_its_mean_its_share_or_itself(score: str, worth: dict[str, float]) -> None:
    ranking, _ = ask(SHARES, 3, score=score)
    found = dict(zip(ranking.ids, ranking.scores, strict=True))
    assert found == {id: pytest.approx(value, abs=1e-7) for id, value in worth.items()}
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert ranking.method == "pointwise"


def test_the_mean_is_what_is_taken_where_nothing_is_said() -> None:
    assert ask(SHARES, 3)[0].scores == ask(SHARES, 3, score="expectation")[0].scores


@pytest.mark.parametrize(
    ("score", "scores"), [("expectation", (0.9, 0.6, 0.2)), ("likely", (0.9, 0.6, 0.0)), ("grade", None)]
)
def test_yes_or_no_is_worth_the_share_of_yes(score: str, scores: tuple[float, ...] | None) -> None:
    replies = [
        told(text, 1 - yes, yes, answers=("no", "yes")) for text, yes in (("no", 0.2), ("yes", 0.6), ("yes", 0.9))
    ]
    ranking, backend = ask(replies, 3, scale="yes_no", score=score)
    assert {request.choices for request in backend.requests} == {("no", "yes")}
    if scores is None:
        assert ranking.ids == ("1", "2", "0")
        assert ranking.scores == pytest.approx((1.0, 1.0, 0.0))
    else:
        assert ranking.ids == ("2", "1", "0")
        assert ranking.scores == pytest.approx(scores)
    assert "Does the passage answer the query? Reply with yes or no alone." in backend.requests[0].messages[-1].content


@pytest.mark.parametrize(("top", "answers"), [(None, GRADES), (1, ("0", "1")), (10, tuple(map(str, range(11))))])
def test_grades_go_up_to_the_top_grade_and_the_prompt_says_so(top: int | None, answers: tuple[str, ...]) -> None:
    options = {} if top is None else {"top_grade": top}
    ranking, backend = ask(lambda request: answers[int(id_of(request)) % len(answers)], 12, score="grade", **options)
    assert {request.choices for request in backend.requests} == {answers}
    assert f"from 0 (not at all) to {answers[-1]} (as well as can be)" in backend.requests[0].messages[-1].content
    worth = {str(number): number % len(answers) for number in range(12)}
    assert ranking.ids == tuple(sorted(worth, key=lambda id: -worth[id]))


def test_each_prompt_shows_one_candidate_without_a_label() -> None:
    _, backend = ask(lambda request: "0", 3, score="grade")
    assert [id_of(request) for request in backend.requests] == ["0", "1", "2"]
    assert "Passage:\nitem0\n" in backend.requests[0].messages[-1].content
    _, compact = ask(lambda request: "0", 3, score="grade", style="compact")
    assert [ids_listed(request) for request in compact.requests] == [["0"], ["1"], ["2"]]
    assert compact.requests[0].messages[-1].content == "fruit <|list|> item0 <|again|> fruit A grade"


def test_all_candidates_of_all_queries_are_one_batch() -> None:
    backend = ScriptedBackend(lambda request: "2")
    examples = [RankingExample(id=f"list {n}", query="q", candidates=tuple(items(n))) for n in (3, 1, 7)]
    rankings = list(Ranker(backend, method="pointwise", score="grade").rank_batch(examples))
    assert backend.batches == [11]
    assert [len(ranking.order) for ranking in rankings] == [3, 1, 7]


# Ties and failures


@pytest.mark.parametrize("seed", [None, 3])
def test_candidates_of_equal_worth_keep_the_order_in_which_they_are_listed(seed: int | None) -> None:
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(9))), seed)]
    grades = {id: int(id) % 3 for id in shown}
    ranking, backend = ask(lambda request: str(grades[id_of(request)]), 9, score="grade", shuffle_seed=seed)
    assert [id_of(request) for request in backend.requests] == shown
    assert list(ranking.ids) == sorted(shown, key=lambda id: -grades[id])
    assert all(one > other for one, other in zip(ranking.scores, ranking.scores[1:], strict=False))
    assert ranking.scores == pytest.approx(tuple(float(grades[id]) for id in ranking.ids))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(grades=st.lists(st.integers(0, 4) | st.none(), min_size=1, max_size=25))
def test_a_reply_without_a_grade_goes_below_all_others_and_is_counted(grades: list[int | None]) -> None:
    ranking, _ = ask(["?" if grade is None else str(grade) for grade in grades], len(grades), score="grade")
    worth = {str(place): -1 if grade is None else grade for place, grade in enumerate(grades)}
    assert list(ranking.ids) == sorted(worth, key=lambda id: -worth[id])
    assert ranking.usage.failed_steps == grades.count(None)
    assert [step.outcome for step in ranking.steps] == ["failed" if grade is None else "ok" for grade in grades]
    assert [(step.index, step.chosen, step.in_play) for step in ranking.steps] == [
        (place, (str(place),), 1) for place in range(len(grades))
    ]


@pytest.mark.parametrize("score", ["expectation", "likely"])
def test_whoever_has_no_grade_goes_below_one_whose_grade_is_the_lowest(score: str) -> None:
    sure = told("0", 1.0, *[1e-12] * 4)
    ranking, _ = ask([Completion("?", sure.choice_logprobs), sure, Completion("so-so"), SHARES[0]], 4, score=score)
    assert ranking.ids == ("3", "1", "0", "2")
    assert ranking.usage.failed_steps == 2


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        ("3", "ok"),
        ("3.", "repaired"),
        ("[3]", "repaired"),
        ("Grade: 3", "repaired"),
        ("3 or 4", "failed"),
        ("7", "failed"),
    ],
)
def test_how_a_grade_is_read(reply: str, outcome: str) -> None:
    ranking, _ = ask([reply, "1"], 2, score="grade")
    assert ranking.steps[0].outcome == outcome
    assert ranking.ids == (("1", "0") if outcome == "failed" else ("0", "1"))
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (outcome == "repaired", outcome == "failed")


def test_raise_names_the_example_the_step_and_the_reply() -> None:
    with pytest.raises(ReplyError, match=r"example 'query', step 1: .*; the reply was 'nonsense'"):
        ask(["1", "nonsense"], 2, score="grade", on_error="raise")


def test_retry_asks_for_those_alone_that_failed() -> None:
    ranking, backend = ask(["1", "?", "2", "!", "4"], 3, score="grade", on_error="retry", seed=5)
    assert backend.batches == [3, 1, 1]
    assert [id_of(request) for request in backend.requests] == ["0", "1", "2", "1", "1"]
    assert [request.seed for request in backend.requests] == [5, 5, 5, 6, 7]
    assert [step.attempts for step in ranking.steps] == [1, 3, 1]
    assert ranking.ids == ("1", "2", "0")
    assert (ranking.usage.calls, ranking.usage.failed_steps) == (5, 0)


# Probabilities after thoughts

THOUGHT = "<think>because</think><answer>{}</answer>"


def thinking(request: Request) -> Completion:
    """Think, and tell the probabilities of the grades where it is asked for them."""
    shares = SHARES[int(id_of(request))]
    return shares if request.choices else Completion(THOUGHT.format(shares.text))


@pytest.mark.parametrize("score", ["expectation", "likely"])
def test_with_reasoning_the_probabilities_are_those_after_the_thoughts(score: str) -> None:
    ranking, backend = ask(thinking, 3, score=score, reasoning=True)
    plain, _ = ask(SHARES, 3, score=score)
    assert (ranking.ids, ranking.scores) == (plain.ids, plain.scores)
    assert backend.batches == [3, 3]
    first, second = backend.requests[:3], backend.requests[3:]
    for before, after in zip(first, second, strict=True):
        assert before.messages == after.messages
        assert (before.choices, after.choices) == ((), GRADES)
        assert (before.stop, after.stop) == (("</answer>",), ())
        assert (before.reply_prefix, after.reply_prefix) == ("", "<think>because</think><answer>")
        # Whoever fails asks no second time, so that nobody could end a session.
        assert before.session == after.session == ""
        assert before.max_tokens == 1024
        assert after.max_tokens < 10
    assert ranking.usage.calls == 6
    assert [step.reasoning for step in ranking.steps] == ["because"] * 3
    assert "Think first, inside <think> </think>; then give the number alone" in first[0].messages[-1].content


def test_with_reasoning_the_grade_alone_takes_one_request() -> None:
    ranking, backend = ask(thinking, 3, score="grade", reasoning=True)
    assert backend.batches == [3]
    assert {request.session for request in backend.requests} == {""}
    assert ranking.ids == ("0", "1", "2")


def test_unguided_the_probabilities_are_asked_for_in_the_place_of_the_reply() -> None:
    script = [Completion("3"), Completion("2."), SHARES[1], SHARES[2]]
    ranking, backend = ask(script, 2, unguided=True)
    assert [request.choices for request in backend.requests] == [(), (), GRADES, GRADES]
    assert {request.reply_prefix for request in backend.requests} == {""}
    assert ranking.scores == pytest.approx((3.0, 2.0))
    assert ranking.usage.repaired_steps == 1


def test_whoever_gave_no_grade_is_not_asked_for_probabilities() -> None:
    script = [Completion("no idea"), Completion(THOUGHT.format(3)), SHARES[1]]
    ranking, backend = ask(script, 2, reasoning=True)
    assert backend.batches == [2, 1]
    assert ranking.ids == ("1", "0")
    assert ranking.usage.failed_steps == 1


def test_a_reasoned_yes_is_read() -> None:
    script = [Completion(THOUGHT.format("Yes")), told("yes", 0.25, 0.75, answers=("no", "yes"))]
    ranking, backend = ask(script, 1, scale="yes_no", reasoning=True)
    assert backend.requests[1].choices == ("no", "yes")
    assert ranking.scores == pytest.approx((0.75,))
    assert ranking.steps[0].outcome == "repaired"


@pytest.mark.parametrize("score", ["expectation", "likely"])
@pytest.mark.parametrize("logprobs", [{}, {"0": -1.0, "4": -1.0}])
def test_a_backend_that_tells_no_probabilities_is_named_with_the_mend(score: str, logprobs: dict[str, float]) -> None:
    with pytest.raises(
        BackendError, match=f"score='{score}' .*0, 1, 2, 3, 4.* use score='grade', answers of one token"
    ):
        ask([Completion("4", logprobs)], 1, score=score)
    assert ask([Completion("4", logprobs)], 1, score="grade")[0].scores == (4.0,)


# Options


def test_every_sampling_option_reaches_every_request_that_draws() -> None:
    given = {"temperature": 0.4, "top_p": 0.8, "seed": 3, "max_tokens": 9}
    _, backend = ask(thinking, 3, **given)
    for request in backend.requests:
        assert {name: getattr(request, name) for name in given} == given
    _, thought = ask(thinking, 3, reasoning=True, **given)
    for request in thought.requests[:3]:
        assert {name: getattr(request, name) for name in given} == given


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"scale": "stars"}, "scale='stars' is not known"),
        ({"score": "expectaton"}, "score='expectaton' is not known; did you mean 'expectation'"),
        ({"top_grade": 0}, "top_grade=0 must be ≥ 1"),
        ({"top_grade": 4.0}, "top_grade=4.0 must be ≥ 1"),
        ({"scale": "yes_no", "top_grade": 3}, "top_grade=3 goes with scale='grades'"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="pointwise", **options)


def test_what_it_costs_and_what_was_cut_is_added_up() -> None:
    paid: list[Completion] = []
    ranking, _ = ask(counting(thinking, paid), 3, reasoning=True)
    assert ranking.usage.calls == len(paid) == 6
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)
    short = Ranker(ScriptedBackend(lambda request: "1"), method="pointwise", score="grade", token_budget=60)
    assert short.rank("q", ["word " * 90] * 3 + ["word"]).usage.truncated_candidates == 3


def test_each_domain_has_a_prompt_of_its_own() -> None:
    for style in ("natural", "compact"):
        backend = ScriptedBackend(lambda request: "1")
        ranker = Ranker(backend, method="pointwise", style=style, score="grade")
        for domain in ("passage", "recommendation", "routing"):
            ranker.rank("q", ["a", "b"], domain=domain, context=["earlier"])
            content = backend.requests[-1].messages[-1].content
            assert "earlier" in content
            assert "{" not in content
        # Compact prompts of small models differ in how often they say a history or a query, if at all.
        assert len({request.messages for request in backend.requests}) == 6
