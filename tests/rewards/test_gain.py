from __future__ import annotations

from math import log2
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unified_ranker.rewards.gain import MEASURES, Measure, attainable, check_measure, cost_of_removal, discount, worth

from unified_ranker.errors import OptionError

CHECKED = settings(deadline=None, derandomize=True, max_examples=300)
# Discounts of places 1 to 4, written out.
D = [1 / log2(2), 1 / log2(3), 1 / log2(4), 1 / log2(5)]

grades = st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 7.25]), min_size=1, max_size=12)


def close(value: Any) -> Any:
    return pytest.approx(value, rel=0, abs=1e-12)


@pytest.mark.parametrize(("rank", "expected"), [(1, 1), (3, 0.5), (7, 1 / 3), (15, 0.25), (2, 0.6309297535714574)])
def test_a_discount_is_that_of_the_rank(rank: int, expected: float) -> None:
    assert discount(rank) == close(expected)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], 0),
        ([0, 0], 0),
        ([1], 1),
        ([0, 0, 1], 1),
        ([1, 3], 3 + D[1]),
        ([0, 2, 1, 2], 2 + 2 * D[1] + D[2]),
        ([0.5, 0.5, 0.5, 0.5], 0.5 * sum(D)),
    ],
)
def test_the_best_order_is_what_can_be_attained(found: list[float], expected: float) -> None:
    assert attainable(found) == close(expected)


@pytest.mark.parametrize(
    ("order", "among", "rr", "ndcg"),
    [
        ([1, 0, 0], [0, 1, 0], 1, 1),
        ([0, 1, 0], [0, 1, 0], 1 / 2, D[1]),
        ([0, 0, 1], [0, 1, 0], 1 / 3, D[2]),
        ([3, 2, 0], [3, 2, 0], 1, 1),
        ([2, 3, 0], [3, 2, 0], 1 / 2, (2 + 3 * D[1]) / (3 + 2 * D[1])),
        ([0, 2, 3], [3, 2, 0], 1 / 3, (2 * D[1] + 3 * D[2]) / (3 + 2 * D[1])),
        ([1, 2, 2, 0], [2, 1, 0, 2], 1 / 2, (1 + 2 * D[1] + 2 * D[2]) / (2 + 2 * D[1] + D[2])),
        # What is left out of the order adds nothing.
        ([], [1, 0], 0, 0),
        ([0, 0], [1, 0, 0], 0, 0),
        ([2], [3, 2, 0], 0, 2 / (3 + 2 * D[1])),
        ([0, 3], [3, 2, 0], 1 / 2, 3 * D[1] / (3 + 2 * D[1])),
        # No order is better than another.
        ([2, 2], [2, 2], 1, 1),
        ([0, 0, 0], [0, 0, 0], 1, 1),
        ([5], [5], 1, 1),
    ],
)
def test_a_ranking_is_worth_its_measure(order: list[float], among: list[float], rr: float, ndcg: float) -> None:
    assert worth(order, among=among, measure="rr") == close(rr)
    assert worth(order, among=among, measure="ndcg") == close(ndcg)


@pytest.mark.parametrize(
    ("grade", "in_play", "among", "rr", "ndcg"),
    [
        # The only positive falls to place 4, 3, 2.
        (1, [1, 0, 0, 0], [1, 0, 0, 0], 3 / 4, 1 - D[3]),
        (1, [0, 1, 0], [1, 0, 0, 0], 2 / 3, 1 - D[2]),
        (1, [0, 1], [1, 0, 0, 0], 1 / 2, 1 - D[1]),
        (0, [1, 0, 0, 0], [1, 0, 0, 0], 0, 0),
        (0, [0, 0, 0], [1, 0, 0, 0], 0, 0),
        # The second of two positives goes, then the first.
        (2, [3, 2, 0], [3, 2, 0], 0, (2 * D[1] - 2 * D[2]) / (3 + 2 * D[1])),
        (3, [3, 0], [3, 2, 0], 1 / 2, (3 - 3 * D[1]) / (3 + 2 * D[1])),
        (3, [3, 2, 0], [3, 2, 0], 2 / 3, (3 + 2 * D[1] - 2 - 3 * D[2]) / (3 + 2 * D[1])),
        (2, [2, 0], [3, 2, 0], 0, (2 - 2 * D[1]) / (3 + 2 * D[1])),
        # One of two equals goes: reciprocal rank loses nothing as long as the other stands.
        (2, [2, 2, 0], [2, 2, 0], 0, (2 * D[1] - 2 * D[2]) / (2 + 2 * D[1])),
        (2, [2, 0], [2, 2, 0], 1 / 2, (2 - 2 * D[1]) / (2 + 2 * D[1])),
        # No order is better than another.
        (2, [2, 2, 2], [2, 2, 2], 0, 0),
        (0, [0, 0], [0, 0], 0, 0),
        # The last one standing costs nothing.
        (1, [1], [1, 0], 0, 0),
    ],
)
def test_a_removal_costs_what_is_lost_for_good(
    grade: float, in_play: list[float], among: list[float], rr: float, ndcg: float
) -> None:
    assert cost_of_removal(grade, in_play=in_play, among=among, measure="rr") == close(rr)
    assert cost_of_removal(grade, in_play=in_play, among=among, measure="ndcg") == close(ndcg)


def test_the_lists_that_are_given_stay_as_they_were() -> None:
    in_play, among = [1.0, 0.0, 2.0], [0.0, 2.0, 1.0]
    cost_of_removal(1.0, in_play=in_play, among=among, measure="ndcg")
    attainable(among)
    assert (in_play, among) == ([1.0, 0.0, 2.0], [0.0, 2.0, 1.0])


@pytest.mark.parametrize("measure", MEASURES)
@CHECKED
@given(eliminated=grades)
def test_over_an_elimination_the_costs_add_up_to_what_its_ranking_lacks(
    measure: Measure, eliminated: list[float]
) -> None:
    # Grades in the order in which their candidates leave; the last one stays and comes first.
    costs = [
        cost_of_removal(grade, in_play=eliminated[step:], among=eliminated, measure=measure)
        for step, grade in enumerate(eliminated[:-1])
    ]
    assert all(0 <= cost <= 1 for cost in costs)
    assert sum(costs) == pytest.approx(1 - worth(eliminated[::-1], among=eliminated, measure=measure), abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
@CHECKED
@given(found=grades, data=st.data())
def test_a_removal_costs_nothing_exactly_where_the_best_order_keeps_it_last(
    measure: Measure, found: list[float], data: st.DataObject
) -> None:
    grade = data.draw(st.sampled_from(found))
    cost = cost_of_removal(grade, in_play=found, among=found, measure=measure)
    others = sorted(found, reverse=True)
    others.remove(grade)
    best = worth([*others, grade], among=found, measure=measure)
    assert cost == pytest.approx(1 - best, abs=1e-9)
    assert (cost < 1e-9) == (best > 1 - 1e-9)


@pytest.mark.parametrize("measure", MEASURES)
@CHECKED
@given(order=grades, place=st.integers(0, 11))
def test_a_measure_lies_between_0_and_1_and_never_falls_when_a_better_one_moves_up(
    measure: Measure, order: list[float], place: int
) -> None:
    value = worth(order, among=order, measure=measure)
    assert 0 <= value <= 1 + 1e-12
    place %= len(order)
    if place and order[place] > order[place - 1]:
        swapped = [*order[: place - 1], order[place], order[place - 1], *order[place + 1 :]]
        assert worth(swapped, among=order, measure=measure) >= value - 1e-12
    assert worth(sorted(order, reverse=True), among=order, measure=measure) == 1


@pytest.mark.parametrize(
    ("order", "among", "depth", "rr", "ndcg"),
    [
        ([1, 0, 0], [0, 1, 0], 1, 1, 1),
        ([0, 1, 0], [0, 1, 0], 1, 0, 0),
        ([0, 1, 0], [0, 1, 0], 2, 1 / 2, D[1]),
        ([0, 0, 1], [0, 1, 0], 2, 0, 0),
        ([0, 0, 1], [0, 1, 0], 3, 1 / 3, D[2]),
        # The ideal has as many places.
        ([2, 3, 1, 0], [3, 2, 1, 0], 1, 0, 2 / 3),
        ([2, 3, 1, 0], [3, 2, 1, 0], 2, 1 / 2, (2 + 3 * D[1]) / (3 + 2 * D[1])),
        ([0, 2, 3, 1], [3, 2, 1, 0], 3, 1 / 3, (2 * D[1] + 3 * D[2]) / (3 + 2 * D[1] + D[2])),
        ([1, 1, 0, 1], [1, 0, 1, 1], 2, 1, 1),
        # More places than there are.
        ([2, 3, 0], [3, 2, 0], 10, 1 / 2, (2 + 3 * D[1]) / (3 + 2 * D[1])),
        ([3], [3, 2, 0], 2, 1, 3 / (3 + 2 * D[1])),
        ([], [3, 2, 0], 2, 0, 0),
        # No order is better than another.
        ([2, 2], [2, 2], 1, 1, 1),
        ([0], [0], 5, 1, 1),
    ],
)
def test_places_beyond_the_depth_do_not_count(
    order: list[float], among: list[float], depth: int, rr: float, ndcg: float
) -> None:
    assert worth(order, among=among, measure="rr", depth=depth) == close(rr)
    assert worth(order, among=among, measure="ndcg", depth=depth) == close(ndcg)


@pytest.mark.parametrize("measure", MEASURES)
@settings(CHECKED, max_examples=60)
@given(order=grades, depth=st.integers(1, 14), place=st.integers(0, 11))
def test_a_measure_of_some_depth_is_bounded_too_and_never_falls_when_a_better_one_moves_up(
    measure: Measure, order: list[float], depth: int, place: int
) -> None:
    value = worth(order, among=order, measure=measure, depth=depth)
    assert 0 <= value <= 1
    if depth >= len(order):
        assert value == worth(order, among=order, measure=measure)
    # What stands below may stand in any order.
    beyond = [*order[:depth], *order[:depth:-1], *order[depth : depth + 1]]
    assert sorted(beyond) == sorted(order)
    assert worth(beyond, among=order, measure=measure, depth=depth) == value
    place %= len(order)
    if place and order[place] > order[place - 1]:
        swapped = [*order[: place - 1], order[place], order[place - 1], *order[place + 1 :]]
        assert worth(swapped, among=order, measure=measure, depth=depth) >= value - 1e-12
    assert worth(sorted(order, reverse=True), among=order, measure=measure, depth=depth) == 1


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("depth", [0, -1])
def test_a_depth_without_a_place_is_refused(depth: int, measure: Measure) -> None:
    with pytest.raises(OptionError, match=f"depth={depth} must be ≥ 1"):
        worth([0.0, 1.0], among=[1.0, 0.0], measure=measure, depth=depth)


@pytest.mark.parametrize("measure", ["", "NDCG", "mrr", "ndcg@10"])
def test_a_measure_that_is_not_known_is_refused_wherever_it_is_given(measure: Any) -> None:
    for call in (
        lambda: check_measure(measure),
        lambda: worth([1.0], among=[1.0, 0.0], measure=measure),
        lambda: worth([1.0], among=[1.0, 1.0], measure=measure),
        lambda: cost_of_removal(1.0, in_play=[1.0, 0.0], among=[1.0, 0.0], measure=measure),
        lambda: cost_of_removal(1.0, in_play=[1.0], among=[1.0], measure=measure),
    ):
        with pytest.raises(OptionError, match=f"measure='{measure}' is not known"):
            call()


def test_the_measures_are_these() -> None:
    assert MEASURES == ("ndcg", "rr")
    for measure in MEASURES:
        check_measure(measure)
