from __future__ import annotations

from typing import Any

import pytest

from unified_ranker import Candidate, Ranker, Ranking
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion, Request

FRUIT = [Candidate(name, f"text of {name}") for name in ("apple", "banana", "cherry", "date")]


def ask(replies: Any, candidates: Any = FRUIT, **options: Any) -> tuple[Ranking, list[Request]]:
    backend = ScriptedBackend(replies)
    return Ranker(backend, method="iranker", **options).rank("fruit", candidates), backend.requests


def listed(request: Request) -> list[str]:
    """Return the names of the candidates that a prompt shows."""
    return [c.id for c in FRUIT if c.text in request.messages[-1].content]


def test_append_is_the_layout_by_default() -> None:
    _, requests = ask(["B", "D", "A"])
    assert requests[1].reply_prefix == "B\n"


@pytest.mark.parametrize(("layout", "replies"), [("append", ["B", "D", "A"]), ("rounds", ["B", "C", "A"])])
def test_the_order_is_the_reverse_of_the_eliminations(layout: str, replies: list[str]) -> None:
    ranking, requests = ask(replies, layout=layout)
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert [step.chosen for step in ranking.steps] == [("banana",), ("date",), ("apple",)]
    assert ranking.scores == (3.0, 2.0, 1.0, 0.0)
    assert ranking.method == "iranker"
    assert len(requests) == ranking.usage.calls == 3


@pytest.mark.parametrize("layout", ["append", "rounds"])
@pytest.mark.parametrize("n", [1, 2, 3, 20, 26, 27])
def test_a_list_of_n_takes_n_minus_1_calls(layout: str, n: int) -> None:
    candidates = [f"text {i}" for i in range(n)]
    ranking, requests = ask(lambda request: request.choices[-1], candidates, layout=layout)
    assert len(requests) == len(ranking.steps) == ranking.usage.calls == n - 1
    assert ranking.ids == tuple(str(i) for i in range(n))
    assert [step.in_play for step in ranking.steps] == list(range(n, 1, -1))
    assert [step.index for step in ranking.steps] == list(range(n - 1))


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_one_candidate_is_ranked_without_a_call(layout: str) -> None:
    ranking, requests = ask([], FRUIT[:1], layout=layout)
    assert requests == []
    assert ranking.ids == ("apple",)
    assert ranking.steps == ()
    assert ranking.scores == (0.0,)


def test_rounds_list_only_what_is_left_under_fresh_labels() -> None:
    _, requests = ask(["B", "C", "A"], layout="rounds")
    assert [listed(request) for request in requests] == [
        ["apple", "banana", "cherry", "date"],
        ["apple", "cherry", "date"],
        ["apple", "cherry"],
    ]
    assert [request.choices for request in requests] == [("A", "B", "C", "D"), ("A", "B", "C"), ("A", "B")]
    assert "[B] text of cherry" in requests[1].messages[-1].content


def test_rounds_stand_alone() -> None:
    _, requests = ask(["B", "C", "A"], layout="rounds")
    assert {request.session for request in requests} == {""}
    assert {request.reply_prefix for request in requests} == {""}


def test_append_keeps_the_messages_and_grows_the_reply() -> None:
    _, requests = ask(["B", "D", "A"], layout="append")
    assert len({request.messages for request in requests}) == 1
    assert listed(requests[0]) == ["apple", "banana", "cherry", "date"]
    assert [request.reply_prefix for request in requests] == ["", "B\n", "B\nD\n"]
    assert [request.choices for request in requests] == [("A", "B", "C", "D"), ("A", "C", "D"), ("A", "C")]


def test_append_has_a_session_that_ends_with_its_last_request() -> None:
    _, requests = ask(["B", "D", "A"], layout="append")
    assert len({request.session for request in requests}) == 1
    assert requests[0].session
    assert [request.last for request in requests] == [False, False, True]


def test_two_lists_never_share_a_session() -> None:
    _, first = ask(["B", "D", "A"])
    _, second = ask(["B", "D", "A"])
    assert first[0].session != second[0].session


def test_append_joins_labels_without_a_separator_where_the_template_has_none() -> None:
    _, requests = ask(["B", "D", "A"], style="compact")
    assert [request.reply_prefix for request in requests] == ["", "B", "BD"]


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_unguided_requests_have_no_choices(layout: str) -> None:
    replies = ["A", "C", "B"] if layout == "append" else ["A", "B", "A"]
    ranking, requests = ask(replies, layout=layout, unguided=True)
    assert ranking.ids == ("date", "banana", "cherry", "apple")
    assert {request.choices for request in requests} == {()}
    assert ranking.usage.failed_steps == 0


def test_an_unguided_reply_that_runs_on_counts_by_its_first_line() -> None:
    ranking, requests = ask(["B\nD\nA\n", "\nD\nC", "A"], unguided=True)
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.usage.failed_steps == 0
    assert [request.reply_prefix for request in requests] == ["", "B\n", "B\nD\n"]


def test_an_unguided_reply_that_runs_on_without_a_separator_is_not_lost() -> None:
    # The compact style writes label after label with nothing between; max_tokens leaves room for several.
    ranking, _ = ask(["BDA", "DA", "A"], unguided=True, style="compact")
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.usage.failed_steps == 0


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_reasoning_asks_for_thoughts_and_reads_the_answer(layout: str) -> None:
    answers = ["B", "A", "C" if layout == "append" else "A"]
    replies = [f"<think>because of {name}</think><answer>{name}</answer>" for name in answers]
    ranking, requests = ask(replies, layout=layout, reasoning=True)
    assert {request.stop for request in requests} == {("</answer>",)}
    assert {request.choices for request in requests} == {()}
    assert {request.max_tokens for request in requests} == {1024}
    assert ranking.ids == ("date", "cherry", "apple", "banana")
    assert ranking.steps[0].reasoning == "because of B"
    assert {step.outcome for step in ranking.steps} == {"ok"}
    assert "<think>" in requests[0].messages[-1].content


def test_reasoning_in_one_reply_carries_the_thoughts_on() -> None:
    replies = [f"<think>not {name}</think><answer>{name}</answer>" for name in ("B", "A", "C")]
    _, requests = ask(replies, layout="append", reasoning=True)
    assert requests[1].reply_prefix == "<think>not B</think><answer>B</answer>\n"
    assert requests[2].reply_prefix == requests[1].reply_prefix + "<think>not A</think><answer>A</answer>\n"


def test_a_malformed_thought_is_carried_on_in_settled_form() -> None:
    replies = ["so: <answer>B", "<think>x</think><answer>A</answer>", "<think>y</think><answer>C</answer>"]
    ranking, requests = ask(replies, layout="append", reasoning=True)
    assert ranking.steps[0].outcome == "repaired"
    assert requests[1].reply_prefix == "<think></think><answer>B</answer>\n"


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_a_failed_step_eliminates_the_last_listed_in_play(layout: str) -> None:
    ranking, _ = ask(["D", "nonsense", "A"], layout=layout)
    assert [step.chosen for step in ranking.steps] == [("date",), ("cherry",), ("apple",)]
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "ok"]
    assert ranking.usage.failed_steps == 1
    assert ranking.usage.repaired_steps == 0
    assert ranking.steps[1].reply == "nonsense"
    assert "nonsense" in ranking.steps[1].reason


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_the_given_order_stands_where_every_step_fails(layout: str) -> None:
    ranking, _ = ask(lambda request: "?", layout=layout)
    assert ranking.ids == tuple(c.id for c in FRUIT)
    assert ranking.usage.failed_steps == 3


def test_a_candidate_that_has_left_is_no_answer() -> None:
    ranking, _ = ask(["B", "B", "A"], layout="append")
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "ok"]


def test_a_repaired_step_is_counted() -> None:
    ranking, _ = ask(["[B].", "D", "A"])
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.usage.repaired_steps == 1
    assert ranking.steps[0].reason == "more than the bare label"


def test_raise_names_the_example_the_step_and_the_reply() -> None:
    with pytest.raises(ReplyError, match=r"example 'query', step 1: .*; the reply was 'nonsense'"):
        ask(["B", "nonsense"], on_error="raise")


def test_raise_lets_a_repaired_reply_pass() -> None:
    ranking, _ = ask(["[B].", "D", "A"], on_error="raise")
    assert ranking.usage.repaired_steps == 1


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_retry_asks_again_with_another_temperature_and_seed(layout: str) -> None:
    ranking, requests = ask(["?", "!", "D", "C", "B"], layout=layout, on_error="retry", seed=5)
    assert [request.seed for request in requests[:3]] == [5, 6, 7]
    assert requests[0].temperature == 0
    assert requests[1].temperature == requests[2].temperature > 0
    assert requests[3].temperature == 0
    assert {request.messages for request in requests[:3]} == {requests[0].messages}
    assert [step.attempts for step in ranking.steps] == [3, 1, 1]
    assert ranking.usage.calls == 5
    assert ranking.usage.failed_steps == 0


def test_retry_keeps_a_temperature_that_was_given() -> None:
    _, requests = ask(["?", "D", "C", "B"], on_error="retry", temperature=0.3)
    assert {request.temperature for request in requests} == {0.3}


def test_retry_repairs_when_its_attempts_are_spent() -> None:
    ranking, requests = ask(["?", "?", "C", "B"], on_error="retry", retries=1)
    assert len(requests) == 4
    assert ranking.steps[0].attempts == 2
    assert ranking.steps[0].outcome == "failed"
    assert ranking.steps[0].chosen == ("date",)
    assert ranking.usage.failed_steps == 1


def test_repair_never_asks_twice() -> None:
    ranking, requests = ask(["?", "?", "?"], on_error="repair", retries=5)
    assert len(requests) == 3
    assert {step.attempts for step in ranking.steps} == {1}


def test_usage_adds_up_over_all_requests() -> None:
    costs = [Completion(text, {}, 100 + i, 10 * i, 1 + i) for i, text in enumerate(["?", "B", "D", "A"])]
    ranking, _ = ask(costs, on_error="retry")
    assert ranking.usage.prompt_tokens == 406
    assert ranking.usage.reused_tokens == 60
    assert ranking.usage.computed_tokens == 346
    assert ranking.usage.generated_tokens == 10


def test_log_probabilities_are_told_by_candidate() -> None:
    replies = [Completion("B", {"A": -1.0, "B": -0.5, "C": -2.0, "D": -3.0}), "D", "A"]
    ranking, _ = ask(replies)
    assert ranking.steps[0].logprobs == {"apple": -1.0, "banana": -0.5, "cherry": -2.0, "date": -3.0}
    assert ranking.steps[1].logprobs == {}


def test_candidates_with_the_same_text_stay_two() -> None:
    for layout in ("append", "rounds"):
        ranking, _ = ask(["B", "A"], ["same", "same", "other"], layout=layout)
        assert ranking.ids == ("2", "0", "1")


def test_cuts_are_counted_in_each_prompt_that_is_written() -> None:
    long = [Candidate(str(i), "word " * 200) for i in range(4)]
    _, requests = ask(lambda request: request.choices[0], long)
    budget = 500
    append, _ = ask(lambda request: request.choices[0], long, token_budget=budget)
    rounds, _ = ask(lambda request: request.choices[0], long, token_budget=budget, layout="rounds")
    assert append.usage.truncated_candidates == 4
    assert rounds.usage.truncated_candidates == 4 + 3
    assert len(requests[0].messages[-1].content.split()) > budget


def test_an_unknown_layout_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionError, match="did you mean 'append'"):
        ask([], layout="apend")
