from __future__ import annotations

from typing import Any

import pytest

from unified_ranker import Candidate, Ranker, Ranking
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Request

FRUIT = [Candidate(name, f"text of {name}") for name in ("apple", "banana", "cherry", "date")]


def ask(
    replies: Any, candidates: Any = FRUIT, labels: tuple[str, ...] = (), **options: Any
) -> tuple[Ranking, list[Request]]:
    backend = ScriptedBackend(replies, text=WordTools(labels=labels))
    return Ranker(backend, method="dranker", **options).rank("fruit", candidates), backend.requests


def test_one_reply_gives_the_whole_order() -> None:
    ranking, requests = ask(["C > A > D > B"])
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.scores == (3.0, 2.0, 1.0, 0.0)
    assert ranking.method == "dranker"
    assert len(requests) == ranking.usage.calls == 1
    (step,) = ranking.steps
    assert step.chosen == ranking.ids
    assert step.outcome == "ok"
    assert step.in_play == 4


def test_the_request_stands_alone_and_has_room_for_the_answer() -> None:
    _, (request,) = ask(["C > A > D > B"])
    assert request.session == request.reply_prefix == ""
    assert request.choices == request.stop == ()
    assert request.max_tokens >= len(["C", ">", "A", ">", "D", ">", "B"])
    assert "[D] text of date" in request.messages[-1].content


def test_one_candidate_is_ranked_without_a_call() -> None:
    ranking, requests = ask([], FRUIT[:1])
    assert requests == []
    assert ranking.ids == ("apple",)
    assert ranking.scores == (0.0,)
    assert ranking.method == "dranker"


def test_labels_left_out_follow_in_the_order_in_which_they_were_listed() -> None:
    ranking, _ = ask(["D > B"])
    assert ranking.ids == ("date", "banana", "apple", "cherry")
    assert ranking.steps[0].outcome == "repaired"
    assert ranking.steps[0].reason == "2 missing"
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (1, 0)


@pytest.mark.parametrize("reply", ["", "no idea", "X > Y > Z"])
def test_a_reply_without_a_label_keeps_the_given_order_and_counts_as_failed(reply: str) -> None:
    ranking, _ = ask([reply])
    assert ranking.ids == tuple(c.id for c in FRUIT)
    assert ranking.steps[0].outcome == "failed"
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (0, 1)


def test_reasoning_asks_for_thoughts_and_reads_the_answer() -> None:
    ranking, (request,) = ask(["<think>red first</think><answer>C > A > D > B</answer>"], reasoning=True)
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.steps[0].reasoning == "red first"
    assert ranking.steps[0].outcome == "ok"
    assert request.stop == ("</answer>",)
    assert request.max_tokens == 1024
    assert "<think>" in request.messages[-1].content


@pytest.mark.parametrize(("style", "reply"), [("natural", "<3> > <1> > <4> > <2>"), ("compact", "<3><1><4><2>")])
def test_labels_of_the_model_itself_are_read(style: str, reply: str) -> None:
    ranking, _ = ask([reply], labels=("<1>", "<2>", "<3>", "<4>"), style=style)
    assert ranking.ids == ("cherry", "apple", "date", "banana")
    assert ranking.steps[0].outcome == "ok"


def test_letters_without_a_separator_are_read_in_the_compact_style() -> None:
    # The compact template has nothing between labels, also for models without labels of their own.
    ranking, _ = ask(["CADB"], style="compact")
    assert ranking.ids == ("cherry", "apple", "date", "banana")


def test_raise_names_the_example_and_the_reply() -> None:
    with pytest.raises(ReplyError, match=r"example 'query', step 0: .*; the reply was 'no idea'"):
        ask(["no idea"], on_error="raise")


def test_raise_lets_a_repaired_reply_pass() -> None:
    ranking, _ = ask(["D > B"], on_error="raise")
    assert ranking.usage.repaired_steps == 1


def test_retry_asks_again_with_another_temperature_and_seed() -> None:
    ranking, requests = ask(["?", "!", "C > A > D > B"], on_error="retry", seed=5)
    assert [request.seed for request in requests] == [5, 6, 7]
    assert requests[0].temperature == 0
    assert requests[1].temperature == requests[2].temperature > 0
    assert ranking.steps[0].attempts == ranking.usage.calls == 3
    assert ranking.usage.failed_steps == 0


def test_retry_repairs_when_its_attempts_are_spent() -> None:
    ranking, requests = ask(["?", "!"], on_error="retry", retries=1)
    assert len(requests) == 2
    assert ranking.steps[0].attempts == 2
    assert ranking.usage.failed_steps == 1


def test_candidates_with_the_same_text_stay_two() -> None:
    ranking, _ = ask(["B > C > A"], ["same", "same", "other"])
    assert ranking.ids == ("1", "2", "0")


def test_a_layout_is_refused() -> None:
    with pytest.raises(OptionError, match="layout='append': the method 'dranker' does not take it"):
        ask([], layout="append")
