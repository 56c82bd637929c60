"""Setwise: which sets are shown, how many of them, and what the sorts come to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Critic, best_first, counting, erratic, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError, OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import places_below
from unified_ranker.strategies.base import listing

SORTS = ("heapsort", "bubblesort", "insertion")
EACH_SORT = pytest.mark.parametrize("sort", SORTS)


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, method="setwise", **options).rank("fruit", items(n)), backend


def ideal(n: int) -> dict[str, float]:
    """Return the worth of a list that is already in order."""
    return {str(number): float(n - number) for number in range(n)}


def up(n: int, by: int) -> int:
    """Return n / by, rounded up."""
    return -(-n // by)


def sets(backend: ScriptedBackend) -> list[list[str]]:
    return [ids_listed(request) for request in backend.requests]


# What a judge that knows the worth comes to

lists = st.builds(mixed, st.integers(1, 36), st.integers(0, 99))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    worth=lists,
    sort=st.sampled_from(SORTS),
    size=st.integers(2, 22),
    places=st.integers(1, 40),
    ask_for=st.sampled_from(["best", "worst"]),
)
def test_the_first_places_are_right_and_the_rest_keeps_the_order_of_the_list(
    worth: dict[str, float], sort: str, size: int, places: int, ask_for: str
) -> None:
    ranking, backend = ask(Critic(worth), len(worth), sort=sort, set_size=size, places=places, ask=ask_for)
    top = best_first(worth)[:places]
    assert ranking.ids == (*top, *(id for id in worth if id not in top))
    assert ranking.scores == places_below(len(worth))
    assert all(2 <= len(shown) <= size for shown in sets(backend))
    assert len(ranking.steps) == ranking.usage.calls == len(backend.requests)
    assert [step.index for step in ranking.steps] == list(range(len(ranking.steps)))


@EACH_SORT
@pytest.mark.parametrize("options", [{}, {"style": "compact"}, {"reasoning": True}, {"unguided": True}])
def test_every_form_of_the_question_comes_to_the_same(sort: str, options: dict[str, Any]) -> None:
    worth = mixed(17, seed=3)
    if options.get("unguided"):
        options = {**options, "style": "natural"}
    ranking, _ = ask(Critic(worth), 17, sort=sort, set_size=5, places=6, **options)
    assert ranking.ids[:6] == best_first(worth)[:6]
    assert ranking.method == "setwise"
    assert ranking.usage.failed_steps == ranking.usage.repaired_steps == 0


def test_the_default_is_a_heap_of_sets_of_twenty_for_ten_places() -> None:
    worth = mixed(40)
    plain, one = ask(Critic(worth), 40)
    told, other = ask(Critic(worth), 40, sort="heapsort", set_size=20, places=10, ask="best")
    assert plain.ids == told.ids
    assert one.requests == other.requests


@EACH_SORT
def test_one_candidate_is_ranked_without_a_call(sort: str) -> None:
    ranking, backend = ask([], 1, sort=sort)
    assert (ranking.ids, ranking.scores, ranking.steps, backend.requests) == (("0",), (0.0,), (), [])


# How many comparisons


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 40), size=st.integers(2, 22), places=st.integers(1, 45), sense=st.booleans())
def test_bubblesort_takes_exactly_the_documented_number(n: int, size: int, places: int, sense: bool) -> None:
    _, backend = ask(Critic(mixed(n)) if sense else erratic, n, sort="bubblesort", set_size=size, places=places)
    assert len(backend.requests) == sum(up(n - i - 1, size - 1) for i in range(min(places, n)))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 26), more=st.integers(0, 9), places=st.integers(1, 30), sense=st.booleans())
def test_a_heap_that_is_one_set_takes_a_comparison_a_place(n: int, more: int, places: int, sense: bool) -> None:
    _, backend = ask(Critic(mixed(n)) if sense else erratic, n, set_size=max(2, n + more), places=places)
    assert len(backend.requests) == min(places, n - 1)


def depth_below(place: int, n: int, children: int) -> int:
    """Return how often the candidate at a place of a heap can go down."""
    found = 0
    while children * place + 1 < n:
        place, found = children * place + 1, found + 1
    return found


@settings(max_examples=30, deadline=None, derandomize=True)
@given(n=st.integers(2, 40), size=st.integers(2, 12), places=st.integers(1, 40), sense=st.booleans())
def test_a_heap_takes_no_less_and_no_more_than_the_documented_number(
    n: int, size: int, places: int, sense: bool
) -> None:
    script = Critic(mixed(n)) if sense else erratic
    _, built = ask(script, n, set_size=size, places=1)
    assert up(n - 1, size - 1) <= len(built.requests) <= sum(depth_below(p, n, size - 1) for p in range(n))
    _, whole = ask(script, n, set_size=size, places=places)
    further = min(places, n) - 1
    # Each further place takes one comparison at least, but for the last of all, whom nobody is left to be set beside.
    least = min(further, n - 2)
    assert least <= len(whole.requests) - len(built.requests) <= further * depth_below(0, n, size - 1)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 40), size=st.integers(2, 22), places=st.integers(1, 22))
def test_insertion_dismisses_an_ideal_list_set_by_set(n: int, size: int, places: int) -> None:
    places = min(places, size)
    _, backend = ask(Critic(ideal(n)), n, sort="insertion", set_size=size, places=places)
    top = min(places, n)
    assert len(backend.requests) == top - 1 + up(n - top, size - 1)
    _, other = ask(erratic, n, sort="insertion", set_size=size, places=places)
    assert len(other.requests) >= len(backend.requests)


# Which sets


def test_a_bubble_rises_through_sets_that_overlap_by_one() -> None:
    # Item 5 is the best, and item 3 the best of those above it.
    worth = {"0": 1.0, "1": 2.0, "2": 0.0, "3": 5.0, "4": 3.0, "5": 6.0, "6": 4.0}
    ranking, backend = ask(Critic(worth), 7, sort="bubblesort", set_size=3, places=2)
    assert sets(backend) == [
        ["4", "5", "6"],
        ["2", "3", "5"],
        ["0", "1", "5"],
        # The line now is 5 0 1 2 3 4 6: whoever was passed keeps the order.
        ["3", "4", "6"],
        ["1", "2", "3"],
        ["0", "3"],
    ]
    assert ranking.ids == ("5", "3", "0", "1", "2", "4", "6")
    assert [step.chosen for step in ranking.steps] == [("5",), ("5",), ("5",), ("3",), ("3",), ("3",)]
    assert [step.in_play for step in ranking.steps] == [3, 3, 3, 3, 3, 2]


def test_a_heap_sets_each_parent_beside_all_of_its_children() -> None:
    # Children of 0: 1, 2; of 1: 3, 4; of 2: 5, 6.
    worth = {"0": 3.0, "1": 0.0, "2": 6.0, "3": 1.0, "4": 5.0, "5": 4.0, "6": 2.0}
    ranking, backend = ask(Critic(worth), 7, set_size=3, places=2)
    assert sets(backend) == [
        ["1", "3", "4"],
        ["2", "5", "6"],
        # Item 4 rose to the place of item 1; then item 2 rises to the top, and item 0 goes down in its place.
        ["0", "4", "2"],
        ["0", "5", "6"],
        # Item 2 is found; the last of the heap, 6, takes the top and sinks below 4 and then below 3.
        ["6", "4", "5"],
        ["6", "3", "1"],
    ]
    assert backend.batches == [2, 1, 1, 1, 1]
    assert ranking.ids == ("2", "4", "0", "1", "3", "5", "6")


def test_whoever_challenges_and_wins_is_put_into_place_by_halving() -> None:
    # The first three are sorted 1 > 0 > 2; then 3 and 4 challenge 2, and so on.
    worth = {"0": 5.0, "1": 6.0, "2": 3.0, "3": 0.0, "4": 5.5, "5": 2.0, "6": 7.0}
    ranking, backend = ask(Critic(worth), 7, sort="insertion", set_size=3, places=3)
    assert sets(backend) == [
        ["0", "1", "2"],
        ["2", "0"],
        ["2", "3", "4"],
        # Item 4 beats the last one; it is set beside the middle, 0, and then beside 1; 2 leaves the top.
        ["0", "4"],
        ["1", "4"],
        ["0", "3"],
        ["0", "5", "6"],
        ["4", "6"],
        ["1", "6"],
        ["4", "5"],
    ]
    assert ranking.ids == ("6", "1", "4", "0", "2", "3", "5")


def test_subtrees_that_share_nothing_are_asked_about_at_once() -> None:
    # 100 candidates under 19 children a node: the places 1 to 5 have children.
    _, backend = ask(Critic(ideal(100)), 100, places=1)
    assert backend.batches == [5, 1]
    # With two children a node, depth by depth: 31 candidates are 8, 4, 2, 1 parents.
    _, deep = ask(Critic(ideal(31)), 31, set_size=3, places=1)
    assert deep.batches == [8, 4, 2, 1]
    assert sets(deep)[:2] == [["7", "15", "16"], ["8", "17", "18"]]


def test_lists_share_batches() -> None:
    backend = ScriptedBackend(Critic(ideal(30)))
    examples = [RankingExample(id=f"list {n}", query="q", candidates=tuple(items(n))) for n in (30, 5, 30)]
    rankings = list(Ranker(backend, method="setwise", set_size=11, places=1).rank_batch(examples))
    assert backend.batches == [2 + 1 + 2, 1 + 1]
    assert [ranking.example_id for ranking in rankings] == ["list 30", "list 5", "list 30"]


@EACH_SORT
def test_the_list_is_shuffled_before_it_is_sorted(sort: str) -> None:
    worth = mixed(12)
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(12))), 4)]
    assert shown != list(worth)
    ranking, backend = ask(Critic(worth), 12, sort=sort, set_size=12, places=3, shuffle_seed=4)
    top = best_first(worth)[:3]
    assert ranking.ids == (*top, *(id for id in shown if id not in top))
    if sort != "insertion":
        assert sets(backend)[0] == shown


# Replies that cannot be used


@EACH_SORT
@pytest.mark.parametrize("size", [2, 3, 20])
def test_where_every_comparison_fails_the_list_stays_as_it_is(sort: str, size: int) -> None:
    n = 9
    ranking, backend = ask(lambda request: "?", n, sort=sort, set_size=size, places=n)
    assert ranking.ids == tuple(map(str, range(n)))
    assert {step.outcome for step in ranking.steps} == {"failed"}
    assert ranking.usage.failed_steps == len(ranking.steps) == len(backend.requests)


@EACH_SORT
def test_while_nobody_is_found_yet_a_failed_comparison_leaves_the_first_ahead(sort: str) -> None:
    ranking, backend = ask(lambda request: "?", 9, sort=sort, set_size=3, places=1)
    assert ranking.ids == tuple(map(str, range(9)))
    assert [step.chosen for step in ranking.steps] == [(shown[0],) for shown in sets(backend)]
    assert ranking.usage.failed_steps == len(ranking.steps) == len(backend.requests)


def test_a_failed_comparison_is_won_by_the_one_shown_first_and_counted() -> None:
    ranking, backend = ask(["B", "nonsense", "[C]."], 7, sort="bubblesort", set_size=3, places=1)
    assert sets(backend) == [["4", "5", "6"], ["2", "3", "5"], ["0", "1", "2"]]
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "repaired"]
    assert [step.reason for step in ranking.steps] == ["", "no label in play in 'nonsense'", "more than the bare label"]
    assert (ranking.usage.failed_steps, ranking.usage.repaired_steps) == (1, 1)
    assert ranking.ids[0] == "2"


def test_raise_names_the_example_the_step_and_the_reply() -> None:
    with pytest.raises(ReplyError, match=r"example 'query', step 1: .*; the reply was 'nonsense'"):
        ask(["B", "nonsense"], 7, sort="bubblesort", set_size=3, places=1, on_error="raise")


def test_retry_asks_again_and_counts_its_attempts() -> None:
    ranking, backend = ask(["?", "!", "B", "A"], 3, set_size=2, sort="bubblesort", places=1, on_error="retry", seed=5)
    assert [request.seed for request in backend.requests] == [5, 6, 7, 5]
    assert [request.temperature for request in backend.requests] == [0.0, 0.7, 0.7, 0.0]
    assert [step.attempts for step in ranking.steps] == [3, 1]
    assert ranking.usage.calls == 4
    assert ranking.usage.failed_steps == 0


# What is asked


def test_every_sampling_option_reaches_every_request() -> None:
    given = {"temperature": 0.4, "top_p": 0.8, "seed": 3, "max_tokens": 9}
    _, backend = ask(Critic(mixed(9)), 9, set_size=3, **given)
    assert len(backend.requests) > 3
    for request in backend.requests:
        assert {name: getattr(request, name) for name in given} == given
        assert (request.session, request.reply_prefix, request.draws, request.stop) == ("", "", 1, ())
        assert len(request.choices) == len(ids_listed(request))


def test_unguided_requests_have_no_choices() -> None:
    _, backend = ask(Critic(mixed(6)), 6, unguided=True)
    assert {request.choices for request in backend.requests} == {()}
    assert {request.stop for request in backend.requests} == {()}


def test_reasoning_asks_for_thoughts_and_reads_the_answer() -> None:
    reply = "<think>because</think><answer>B</answer>"
    ranking, backend = ask([reply, reply], 3, places=2, reasoning=True)
    assert ranking.ids == ("1", "0", "2")
    assert {request.stop for request in backend.requests} == {("</answer>",)}
    assert {request.choices for request in backend.requests} == {()}
    assert {request.max_tokens for request in backend.requests} == {1024}
    assert all("<think> </think>" in request.messages[-1].content for request in backend.requests)
    assert [step.reasoning for step in ranking.steps] == ["because", "because"]
    assert {step.outcome for step in ranking.steps} == {"ok"}


def test_the_best_is_asked_for_with_the_prompt_of_a_selection() -> None:
    _, backend = ask(Critic(mixed(4)), 4)
    assert "Name the passage that helps most with the query." in backend.requests[0].messages[-1].content


def test_what_it_costs_and_what_was_cut_is_added_up() -> None:
    paid: list[Completion] = []
    ranking, backend = ask(counting(Critic(mixed(9)), paid), 9, set_size=4, on_error="retry")
    assert ranking.usage.calls == len(paid) == len(backend.requests)
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    assert ranking.usage.reused_tokens == sum(entry.reused_tokens for entry in paid)
    assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)
    backend = ScriptedBackend(lambda request: "A")
    long = Ranker(backend, method="setwise", set_size=3, places=1, sort="bubblesort", token_budget=120)
    assert long.rank("q", ["word " * 90] * 5).usage.truncated_candidates == 3 + 3


def test_log_probabilities_and_labels_are_told_by_candidate() -> None:
    replies = [Completion("B", {"A": -1.0, "B": -0.5}), Completion("A", {"A": -0.1, "B": -2.0})]
    ranking, _ = ask(replies, 3, sort="bubblesort", set_size=2, places=1)
    assert [step.logprobs for step in ranking.steps] == [{"1": -1.0, "2": -0.5}, {"0": -0.1, "2": -2.0}]
    assert [step.labels for step in ranking.steps] == [{"A": "1", "B": "2"}, {"A": "0", "B": "2"}]


# ask="worst"


def test_the_worst_is_asked_for_with_the_prompt_of_an_elimination_and_the_least_likely_wins() -> None:
    reply = Completion("B", {"A": -2.0, "B": -0.2, "C": -3.0})
    ranking, (request,) = (lambda found: (found[0], found[1].requests))(ask([reply], 3, places=1, ask="worst"))
    assert ranking.ids == ("2", "0", "1")
    assert ranking.steps[0].chosen == ("2",)
    assert "Name the passage that helps least with the query." in request.messages[-1].content
    assert request.choices == ("A", "B", "C")


def test_of_two_that_are_equally_unlikely_the_one_shown_first_wins() -> None:
    reply = Completion("A", {"A": -0.1, "B": -3.0, "C": -3.0})
    assert ask([reply], 3, places=1, ask="worst")[0].ids == ("1", "0", "2")


@pytest.mark.parametrize("logprobs", [{}, {"A": -1.0, "C": -1.0}])
def test_a_backend_that_does_not_tell_is_named_with_the_mend(logprobs: dict[str, float]) -> None:
    with pytest.raises(BackendError, match=r"told no log-probability of \d of 3 labels .*use labels of one token"):
        ask([Completion("A", logprobs)], 3, places=1, ask="worst")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ask": "worst", "reasoning": True}, "ask='worst' .*without reasoning=True"),
        ({"ask": "worst", "unguided": True}, "ask='worst' .*without unguided=True"),
        ({"ask": "worst", "temperature": 0.5}, "ask='worst' .*temperature=0.5"),
        ({"ask": "middle"}, "ask='middle' is not known"),
        ({"sort": "heapsrt"}, "sort='heapsrt' is not known; did you mean 'heapsort'"),
        ({"set_size": 1}, "set_size=1 must be ≥ 2"),
        ({"set_size": 2.5}, "set_size=2.5 must be ≥ 2"),
        ({"places": 0}, "places=0 must be ≥ 1"),
        ({"places": True}, "places=True must be ≥ 1"),
        ({"places": "3"}, "places='3' must be ≥ 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="setwise", **options)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(n=st.integers(1, 30), sort=st.sampled_from(SORTS), size=st.integers(2, 8), places=st.integers(1, 30))
def test_a_judge_without_sense_comes_to_an_end_with_a_permutation(n: int, sort: str, size: int, places: int) -> None:
    ranking, backend = ask(erratic, n, sort=sort, set_size=size, places=places)
    assert sorted(ranking.ids, key=int) == [str(number) for number in range(n)]
    again, other = ask(erratic, n, sort=sort, set_size=size, places=places)
    assert replace(again.usage, seconds=0.0) == replace(ranking.usage, seconds=0.0)
    assert (again.ids, other.requests) == (ranking.ids, backend.requests)


def test_the_label_of_a_reply_is_read_in_the_prompt_it_answers() -> None:
    # Labels are given afresh for each set: A is another candidate each time.
    shown: list[Request] = []

    def first(request: Request) -> str:
        shown.append(request)
        return "A"

    ask(first, 5, sort="bubblesort", set_size=2, places=1)
    assert [request.choices for request in shown] == [("A", "B")] * 4
    assert [ids_listed(request) for request in shown] == [["3", "4"], ["2", "3"], ["1", "2"], ["0", "1"]]
