"""Best first: the mirror of an elimination, which may stop at the first places."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Critic, best_first, counting, erratic, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion
from unified_ranker.schema.types import places_below
from unified_ranker.strategies.base import listing

PERMUTED: dict[str, Any] = {"style": "compact", "permute": True}
WAYS: list[dict[str, Any]] = [
    {},
    {"layout": "rounds"},
    {"style": "compact"},
    {"style": "compact", "layout": "rounds"},
    PERMUTED,
    {"reasoning": True},
    {"reasoning": True, "layout": "rounds"},
    {"unguided": True},
    {"unguided": True, "layout": "rounds"},
]
EACH_WAY = pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(map(str, way)) or "plain")
EACH_LAYOUT = pytest.mark.parametrize("layout", ["append", "rounds"])


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, method="best_first", **options).rank("fruit", items(n)), backend


@EACH_WAY
@pytest.mark.parametrize("picks", [None, 1, 3, 50])
def test_a_judge_that_knows_fills_the_first_places_and_the_rest_keeps_the_order_of_the_list(
    way: dict[str, Any], picks: int | None
) -> None:
    worth = mixed(9, seed=2)
    ranking, backend = ask(Critic(worth), 9, picks=picks, **way)
    top = best_first(worth)[: min(picks or 8, 8)]
    assert ranking.ids == (*top, *(id for id in worth if id not in top))
    assert [step.chosen for step in ranking.steps] == [(id,) for id in top]
    assert [step.in_play for step in ranking.steps] == [9 - step.index for step in ranking.steps]
    assert ranking.scores == places_below(9)
    assert (ranking.method, ranking.usage.failed_steps, ranking.usage.repaired_steps) == ("best_first", 0, 0)
    assert len(backend.requests) == (1 if way.get("permute") else len(top))


@EACH_LAYOUT
@pytest.mark.parametrize("n", [1, 2, 3, 26, 27])
def test_a_list_of_n_takes_n_minus_1_calls_and_fewer_with_picks(layout: str, n: int) -> None:
    ranking, backend = ask(lambda request: request.choices[0], n, layout=layout)
    assert len(backend.requests) == len(ranking.steps) == n - 1
    assert ranking.ids == tuple(map(str, range(n)))
    _, fewer = ask(lambda request: request.choices[0], n, layout=layout, picks=2)
    assert len(fewer.requests) == min(2, n - 1)


def test_append_keeps_the_messages_and_grows_the_reply() -> None:
    ranking, backend = ask(["B", "D", "A"], 4)
    assert ranking.ids == ("1", "3", "0", "2")
    assert len({request.messages for request in backend.requests}) == 1
    assert [request.reply_prefix for request in backend.requests] == ["", "B\n", "B\nD\n"]
    assert [request.choices for request in backend.requests] == [("A", "B", "C", "D"), ("A", "C", "D"), ("A", "C")]
    assert len({request.session for request in backend.requests}) == 1
    assert backend.requests[0].session
    assert [request.last for request in backend.requests] == [False, False, True]
    assert "Pick the candidates one after another" in backend.requests[0].messages[-1].content


@pytest.mark.parametrize("picks", [1, 2])
def test_the_session_ends_with_the_last_pick(picks: int) -> None:
    _, backend = ask(lambda request: request.choices[0], 5, picks=picks)
    assert [request.last for request in backend.requests] == [False] * (picks - 1) + [True]


def test_rounds_list_only_what_is_left_under_fresh_labels() -> None:
    ranking, backend = ask(["B", "C", "A"], 4, layout="rounds")
    assert [ids_listed(request) for request in backend.requests] == [["0", "1", "2", "3"], ["0", "2", "3"], ["0", "2"]]
    assert ranking.ids == ("1", "3", "0", "2")
    assert {request.session for request in backend.requests} == {""}
    assert "Name the passage that helps most" in backend.requests[0].messages[-1].content


@pytest.mark.parametrize(("picks", "draws"), [(None, 5), (1, 1), (2, 2), (9, 5)])
def test_permute_writes_the_picks_in_one_decode(picks: int | None, draws: int) -> None:
    worth = mixed(6)
    ranking, backend = ask(Critic(worth), 6, picks=picks, **PERMUTED)
    (request,) = backend.requests
    assert (request.draws, request.max_tokens, request.choices) == (draws, draws, tuple("ABCDEF"))
    assert ranking.ids[:draws] == best_first(worth)[:draws]
    assert [step.index for step in ranking.steps] == list(range(draws))
    assert ranking.usage.calls == 1


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 20), picks=st.none() | st.integers(1, 20), seed=st.integers(0, 99))
def test_one_decode_comes_to_what_the_steps_come_to(n: int, picks: int | None, seed: int) -> None:
    worth = mixed(n, seed)
    one, _ = ask(Critic(worth), n, picks=picks, **PERMUTED)
    many, _ = ask(Critic(worth), n, picks=picks, style="compact")
    assert one.ids == many.ids
    assert [step.chosen for step in one.steps] == [step.chosen for step in many.steps]


# Replies that cannot be used


@EACH_LAYOUT
def test_a_failed_step_picks_the_first_listed_in_play(layout: str) -> None:
    ranking, _ = ask(["A", "nonsense", "B" if layout == "rounds" else "D"], 4, layout=layout)
    assert [step.chosen for step in ranking.steps] == [("0",), ("1",), ("3",)]
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "ok"]
    assert (ranking.usage.failed_steps, ranking.usage.repaired_steps) == (1, 0)
    assert ranking.steps[1].reply == "nonsense"


@EACH_WAY
@pytest.mark.parametrize("picks", [None, 2])
def test_the_given_order_stands_where_every_step_fails(way: dict[str, Any], picks: int | None) -> None:
    ranking, _ = ask(lambda request: "?", 6, picks=picks, **way)
    assert ranking.ids == tuple(map(str, range(6)))
    assert ranking.usage.failed_steps == len(ranking.steps) == (picks or 5)


def test_one_decode_that_names_a_label_twice_fails_in_that_place_alone() -> None:
    ranking, _ = ask(["CCA"], 4, **PERMUTED)
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "failed"]
    assert [step.chosen for step in ranking.steps] == [("2",), ("0",), ("1",)]
    assert ranking.ids == ("2", "0", "1", "3")


@EACH_LAYOUT
def test_raise_and_retry_do_what_they_do_in_an_elimination(layout: str) -> None:
    with pytest.raises(ReplyError, match=r"example 'query', step 1: .*; the reply was 'nonsense'"):
        ask(["B", "nonsense"], 4, layout=layout, on_error="raise")
    ranking, backend = ask(["?", "!", "D", "C", "B"], 4, layout=layout, on_error="retry", seed=5)
    assert [request.seed for request in backend.requests[:3]] == [5, 6, 7]
    assert [step.attempts for step in ranking.steps] == [3, 1, 1]
    assert (ranking.usage.calls, ranking.usage.failed_steps) == (5, 0)


@EACH_LAYOUT
def test_reasoning_asks_for_thoughts_and_carries_them_on(layout: str) -> None:
    answers = ["B", "A", "C" if layout == "append" else "A"]
    replies = [f"<think>take {name}</think><answer>{name}</answer>" for name in answers]
    ranking, backend = ask(replies, 4, layout=layout, reasoning=True)
    assert ranking.ids == ("1", "0", "2", "3")
    assert ranking.steps[0].reasoning == "take B"
    assert {request.stop for request in backend.requests} == {("</answer>",)}
    if layout == "append":
        assert backend.requests[1].reply_prefix == "<think>take B</think><answer>B</answer>\n"
    else:
        assert {request.reply_prefix for request in backend.requests} == {""}


@EACH_WAY
def test_the_order_is_drawn_once_and_the_rest_keeps_it(way: dict[str, Any]) -> None:
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(8))), 3)]
    worth = mixed(8)
    ranking, backend = ask(Critic(worth), 8, picks=2, shuffle_seed=3, **way)
    assert ids_listed(backend.requests[0]) == shown
    top = best_first(worth)[:2]
    assert ranking.ids == (*top, *(id for id in shown if id not in top))


@EACH_WAY
def test_what_it_costs_is_added_up(way: dict[str, Any]) -> None:
    paid: list[Completion] = []
    ranking, backend = ask(counting(Critic(mixed(7)), paid), 7, **way)
    assert ranking.usage.calls == len(paid) == len(backend.requests)
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(1, 12), way=st.sampled_from(WAYS), picks=st.none() | st.integers(1, 12))
def test_a_judge_without_sense_gives_a_permutation(n: int, way: dict[str, Any], picks: int | None) -> None:
    ranking, _ = ask(erratic, n, picks=picks, **way)
    assert sorted(ranking.ids, key=int) == list(map(str, range(n)))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"picks": 0}, "picks=0 must be ≥ 1"),
        ({"picks": True}, "picks=True must be ≥ 1"),
        ({"picks": 1.0}, "picks=1.0 must be ≥ 1"),
        ({"layout": "apend"}, "did you mean 'append'"),
        ({"permute": True, "layout": "rounds", "style": "compact"}, "permute=True needs layout='append'"),
        ({"permute": True, "style": "compact", "reasoning": True}, "does not go with reasoning=True"),
        ({"permute": True}, "label_separator"),
        ({"max_steps": 2}, "max_steps=2: the method 'best_first' does not take it"),
        ({"drop_per_step": 2}, "drop_per_step=2: the method 'best_first' does not take it"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="best_first", **options)


@pytest.mark.parametrize("picks", [None, 3])
def test_the_reply_of_one_prompt_has_room_for_all_picks_and_no_more(picks: int | None) -> None:
    labels = WordTools(labels=tuple(f"<{i}>" for i in range(1, 9)))
    backend = ScriptedBackend(lambda request: request.choices[0], text=labels)
    ranker = Ranker(backend, method="best_first", style="compact", permute=True, picks=picks)
    assert ranker.rank("q", items(8)).ids == tuple(map(str, range(8)))
    assert {request.max_tokens for request in backend.requests} == {picks or 7}
