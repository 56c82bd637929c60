"""Windows: where they stand, what they come to, and that nobody is left out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Judge, best_first, counting, erratic, ids_by_label, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import places_below
from unified_ranker.strategies.base import listing
from unified_ranker.strategies.window import starts

ORDERS = ("bottom_up", "partition")


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, method="window", **options).rank("fruit", items(n)), backend


def content(request: Request) -> str:
    """Leave the list as it is shown."""
    return " > ".join(ids_by_label(request))


def reversing(request: Request) -> str:
    return " > ".join(reversed(list(ids_by_label(request))))


def windows(backend: ScriptedBackend) -> list[list[str]]:
    return [ids_listed(request) for request in backend.requests]


@st.composite
def shapes(draw: st.DrawFn, most: int = 60, largest: int = 30) -> tuple[int, int, int]:
    size = draw(st.integers(2, largest))
    return draw(st.integers(1, most)), size, draw(st.integers(1, size))


# Where the windows stand


@settings(max_examples=400, deadline=None, derandomize=True)
@given(shape=shapes(300))
def test_every_candidate_is_in_a_window_and_windows_that_meet_leave_no_gap(shape: tuple[int, int, int]) -> None:
    n, size, step = shape
    found = starts(n, size=size, step=step)
    assert {place for start in found for place in range(start, min(start + size, n))} == set(range(n))
    assert found[0] == max(0, n - size)
    assert found[-1] == 0
    assert all(step >= low - high > 0 for low, high in pairwise(found))
    assert len(found) == (1 if n <= size else 1 + -(-(n - size) // step))


@pytest.mark.parametrize(
    ("n", "size", "step", "expected"),
    [
        (45, 20, 10, [25, 15, 5, 0]),
        (100, 20, 10, [80, 70, 60, 50, 40, 30, 20, 10, 0]),
        (20, 20, 10, [0]),
        (21, 20, 10, [1, 0]),
        (1, 2, 1, [0]),
        (6, 2, 2, [4, 2, 0]),
        (7, 2, 2, [5, 3, 1, 0]),
        (5, 3, 1, [2, 1, 0]),
    ],
)
def test_where_windows_begin(n: int, size: int, step: int, expected: list[int]) -> None:
    assert starts(n, size=size, step=step) == expected


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=shapes(45, 12))
def test_the_windows_that_are_asked_are_those_places_of_the_list(shape: tuple[int, int, int]) -> None:
    n, size, step = shape
    ranking, backend = ask(content, n, size=size, step=step)
    ids = [str(number) for number in range(n)]
    expected = [ids[start : start + size] for start in starts(n, size=size, step=step)]
    # A single candidate needs no question.
    assert windows(backend) == ([] if n == 1 else expected)
    assert backend.batches == [1] * len(backend.requests)
    assert ranking.ids == tuple(ids)


def test_a_window_shows_the_list_as_the_one_before_left_it() -> None:
    ranking, backend = ask(reversing, 6, size=3, step=2)
    assert windows(backend) == [["3", "4", "5"], ["1", "2", "5"], ["0", "5", "2"]]
    assert ranking.ids == ("2", "5", "0", "1", "4", "3")


def by_hand(worth: dict[str, float], size: int, step: int, passes: int) -> tuple[str, ...]:
    line = list(worth)
    for _ in range(passes):
        at = max(0, len(line) - size)
        while True:
            line[at : at + size] = sorted(line[at : at + size], key=worth.__getitem__, reverse=True)
            if at == 0:
                break
            at = max(0, at - step)
    return tuple(line)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(shape=shapes(50, 12), seed=st.integers(0, 99), passes=st.integers(1, 4))
def test_each_pass_of_a_judge_that_knows_brings_so_many_places_into_order(
    shape: tuple[int, int, int], seed: int, passes: int
) -> None:
    n, size, step = shape
    worth = mixed(n, seed)
    ranking, _ = ask(Judge(worth), n, size=size, step=step, passes=passes)
    sure = n if n <= size else passes * (size - step)
    assert ranking.ids[:sure] == best_first(worth)[:sure]
    assert ranking.ids == by_hand(worth, size, step, passes)
    assert ranking.scores == places_below(n)
    assert ranking.method == "window"


def test_the_default_is_twenty_by_ten_in_one_pass_with_one_reply_a_window() -> None:
    _, plain = ask(content, 45)
    _, told = ask(content, 45, size=20, step=10, passes=1, order="bottom_up", inner="dranker")
    assert plain.requests == told.requests
    assert len(plain.requests) == 4


@pytest.mark.parametrize("passes", [1, 2, 3])
def test_passes_repeat_the_whole_and_steps_are_numbered_through(passes: int) -> None:
    ranking, backend = ask(content, 7, size=3, step=2, passes=passes)
    assert windows(backend) == [["4", "5", "6"], ["2", "3", "4"], ["0", "1", "2"]] * passes
    assert [step.index for step in ranking.steps] == list(range(3 * passes))
    assert ranking.usage.calls == 3 * passes


def test_a_second_pass_begins_with_what_the_first_one_left() -> None:
    worth = mixed(12, seed=2)
    first, _ = ask(Judge(worth), 12, size=4, step=2)
    _, backend = ask(Judge(worth), 12, size=4, step=2, passes=2)
    assert windows(backend)[5] == list(first.ids[8:])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 2, 19, 20])
def test_a_list_that_fits_into_one_window_is_what_the_inner_method_makes_of_it(order: str, n: int) -> None:
    ranking, backend = ask(erratic, n, order=order)
    other = ScriptedBackend(erratic)
    plain = Ranker(other, method="dranker").rank("fruit", items(n))
    assert (ranking.ids, ranking.steps) == (plain.ids, plain.steps)
    assert backend.requests == other.requests


def test_the_list_is_shuffled_once_before_the_windows() -> None:
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(9))), 5)]
    assert shown != [c.id for c in items(9)]
    ranking, backend = ask(content, 9, size=4, step=2, shuffle_seed=5, passes=2)
    assert windows(backend) == [shown[5:], shown[3:7], shown[1:5], shown[:4]] * 2
    assert ranking.ids == tuple(shown)


def test_windows_of_different_queries_go_out_together() -> None:
    backend = ScriptedBackend(content)
    lengths = (45, 20, 100, 1, 35)
    examples = [RankingExample(id=f"list {n}", query="q", candidates=tuple(items(n))) for n in lengths]
    rankings = list(Ranker(backend, method="window").rank_batch(examples))
    # 4, 1, 9, 0 and 3 windows.
    assert backend.batches == [4, 3, 3, 2, 1, 1, 1, 1, 1]
    assert [ranking.ids for ranking in rankings] == [tuple(map(str, range(n))) for n in lengths]


@pytest.mark.parametrize(
    ("inner", "calls"),
    [
        ("dranker", 4),
        ("iranker", 4 * 5),
        ({"method": "iranker", "max_steps": 2}, 4 * 2),
        ({"method": "setwise", "places": 3}, 4 * 3),
        ("first_token", 4),
        ("pointwise", 4 * 6),
    ],
    ids=str,
)
def test_any_method_ranks_a_window(inner: Any, calls: int) -> None:
    def told(request: Request) -> Completion:
        return Completion("?", dict.fromkeys(request.choices, -1.0))

    ranking, backend = ask(told, 15, size=6, step=3, inner=inner)
    assert len(backend.requests) == calls
    assert [step.index for step in ranking.steps] == list(range(calls))


def test_what_all_windows_cost_is_added_up() -> None:
    for order in ORDERS:
        paid: list[Completion] = []
        ranking, backend = ask(counting(Judge(mixed(30)), paid), 30, size=6, order=order, passes=2)
        assert ranking.usage.calls == len(paid) == len(backend.requests)
        assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
        assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)


def test_a_window_whose_reply_says_nothing_stays_as_it_is_and_is_counted() -> None:
    # The window in the middle stays 2 3 5.
    ranking, backend = ask(["C > B > A", "no idea", "B > A"], 7, size=3, step=2)
    assert windows(backend) == [["4", "5", "6"], ["2", "3", "6"], ["0", "1", "2"]]
    assert ranking.ids == ("1", "0", "2", "3", "6", "5", "4")
    assert [step.outcome for step in ranking.steps] == ["ok", "failed", "repaired"]
    assert (ranking.usage.failed_steps, ranking.usage.repaired_steps) == (1, 1)
    with pytest.raises(ReplyError, match="no idea"):
        ask(["C > B > A", "no idea"], 7, size=3, step=2, on_error="raise")


# Partition


def test_only_those_above_the_pivot_go_on() -> None:
    # Item 3 is the second of the first window; 6 and 8 are better.
    worth = dict(zip("0123456789", [3.0, 1.0, 8.0, 6.0, 0.0, 5.0, 7.0, 4.0, 9.0, 2.0], strict=True))
    ranking, backend = ask(Judge(worth), 10, order="partition", size=4)
    assert windows(backend) == [["0", "1", "2", "3"], ["3", "4", "5", "6"], ["3", "7", "8", "9"], ["2", "6", "8"]]
    assert backend.batches == [1, 2, 1]
    # Above the pivot, the pivot, what was below it in the first window, and then in the others.
    assert ranking.ids == ("8", "2", "6", "3", "0", "1", "5", "4", "7", "9")
    assert [step.index for step in ranking.steps] == [0, 1, 2, 3]


def test_an_ideal_list_takes_one_pass_of_windows() -> None:
    worth = {str(number): float(-number) for number in range(100)}
    ranking, backend = ask(Judge(worth), 100, order="partition")
    # 80 candidates beside the pivot, 19 at a time; nobody rises above it.
    assert backend.batches == [1, 5]
    assert ranking.ids == best_first(worth)


@pytest.mark.parametrize(("pivot", "beside"), [(None, "2"), (1, "0"), (3, "2"), (5, "4")])
def test_the_pivot_is_the_one_at_its_place_in_the_first_window(pivot: int | None, beside: str) -> None:
    worth = {str(number): float(-number) for number in range(16)}
    _, backend = ask(Judge(worth), 16, order="partition", size=6, pivot=pivot)
    assert [window[0] for window in windows(backend)[1:]] == [beside, beside]


@settings(max_examples=45, deadline=None, derandomize=True)
@given(n=st.integers(1, 60), size=st.integers(2, 14), seed=st.integers(0, 99), data=st.data())
def test_a_judge_that_knows_gets_the_places_down_to_the_pivot_right(
    n: int, size: int, seed: int, data: st.DataObject
) -> None:
    pivot = data.draw(st.none() | st.integers(1, size - 1))
    worth = mixed(n, seed)
    ranking, backend = ask(Judge(worth), n, order="partition", size=size, pivot=pivot)
    sure = n if n <= size else (pivot or size // 2)
    assert ranking.ids[:sure] == best_first(worth)[:sure]
    assert sorted(ranking.ids, key=int) == list(worth)
    assert all(2 <= len(window) <= size for window in windows(backend))
    assert {id for window in windows(backend) for id in window} == (set(worth) if n > 1 else set())


def drawn(seed: int) -> Any:
    """Return a judge who changes its mind with each prompt."""

    def judge(request: Request) -> str:
        return " > ".join(
            sorted(ids_by_label(request), key=lambda label: crc32(f"{seed}{label}{ids_listed(request)}".encode()))
        )

    return judge


def pivot_last(request: Request) -> str:
    """Put whoever is shown first below all others: everyone rises above the pivot."""
    first, *others = ids_by_label(request)
    return " > ".join([*others, first])


@settings(max_examples=35, deadline=None, derandomize=True)
@given(
    n=st.integers(1, 70),
    size=st.integers(2, 12),
    order=st.sampled_from(ORDERS),
    passes=st.integers(1, 3),
    judge=st.one_of(st.integers(0, 99).map(drawn), st.sampled_from([reversing, content, pivot_last])),
    data=st.data(),
)
def test_any_judge_comes_to_an_end_with_a_permutation(
    n: int, size: int, order: str, passes: int, judge: Any, data: st.DataObject
) -> None:
    pivot = data.draw(st.none() | st.integers(1, size - 1)) if order == "partition" else None
    step = data.draw(st.integers(1, size)) if order == "bottom_up" else None
    ranking, backend = ask(judge, n, size=size, step=step, order=order, passes=passes, pivot=pivot)
    assert sorted(ranking.ids, key=int) == [str(number) for number in range(n)]
    assert len(ranking.steps) == len(backend.requests)
    if order == "partition":
        # Each turn leaves the pivot and one more behind at least.
        assert len(backend.requests) <= passes * sum(2 + m for m in range(n, 0, -2))


@pytest.mark.parametrize("judge", [reversing, pivot_last])
@pytest.mark.parametrize("size", [2, 5])
def test_a_long_list_whose_every_window_is_turned_round_comes_to_an_end(judge: Any, size: int) -> None:
    ranking, _ = ask(judge, 70, size=size, order="partition")
    assert sorted(ranking.ids, key=int) == [str(number) for number in range(70)]


def test_the_parts_of_several_queries_go_out_together() -> None:
    worth = {str(number): float(-number) for number in range(100)}
    backend = ScriptedBackend(Judge(worth))
    examples = [RankingExample(id=f"list {n}", query="q", candidates=tuple(items(n))) for n in (100, 39, 20)]
    list(Ranker(backend, method="window", order="partition").rank_batch(examples))
    assert backend.batches == [3, 5 + 1]


# Options


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"step": 0}, "step=0 must be ≥ 1"),
        ({"step": 21}, "step=21 must be ≤ size=20; a window that moves farther leaves candidates out"),
        ({"size": 1}, "size=1 must be ≥ 2"),
        ({"size": "20"}, "size='20' must be ≥ 2"),
        ({"passes": 0}, "passes=0 must be ≥ 1"),
        ({"passes": True}, "passes=True must be ≥ 1"),
        ({"order": "top_down"}, "order='top_down' is not known. Choose one of: bottom_up, partition"),
        ({"pivot": 3}, "pivot=3 goes with order='partition'"),
        ({"order": "partition", "pivot": 0}, "pivot=0 must be ≥ 1"),
        ({"order": "partition", "pivot": 20}, "pivot=20 must be below size=20"),
        ({"inner": "drankr"}, "inner='drankr' is not known; did you mean 'dranker'"),
        ({"inner": 3}, "inner=3 must be the name of a method, or a mapping"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="window", **options)


def test_a_step_of_the_whole_size_is_allowed() -> None:
    _, backend = ask(content, 7, size=3, step=3)
    assert windows(backend) == [["4", "5", "6"], ["1", "2", "3"], ["0", "1", "2"]]


def test_partition_has_no_use_for_a_step() -> None:
    ranking, backend = ask(content, 8, size=5, order="partition")
    assert ranking.ids == tuple(map(str, range(8)))
    assert len(backend.requests) == 2


def test_the_sampling_options_reach_every_window() -> None:
    given = {"temperature": 0.4, "top_p": 0.8, "seed": 3, "max_tokens": 9}
    for order in ORDERS:
        _, backend = ask(content, 30, size=12, order=order, **given)
        assert len(backend.requests) >= 3
        for request in backend.requests:
            assert {name: getattr(request, name) for name in given} == given


def test_the_same_is_asked_and_found_again() -> None:
    for order in ORDERS:
        (first, one), (second, two) = (ask(erratic, 40, size=12, order=order) for _ in range(2))
        assert (first.ids, one.requests) == (second.ids, two.requests)
        assert replace(first.usage, seconds=0) == replace(second.usage, seconds=0)
