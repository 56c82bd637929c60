from __future__ import annotations

from itertools import permutations
from math import log2

import pytest
from unified_ranker.tasks.random_order import (
    expected_ndcg,
    expected_reciprocal_rank,
    is_relevant,
    reciprocal_rank_of_random,
    relevant_count,
)

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Candidate, RankingExample

LISTS = [(1,), (0, 0), (1, 0, 0), (3, 2, 1, 0), (2, 2, 0, 0, 1), (0.5, 0.25, 1, 1, 0, 0), (0, 0, 0, 0, 5, 0, 1)]


def example(grades: tuple[float, ...]) -> RankingExample:
    candidates = tuple(Candidate(id=str(place), text="x") for place in range(len(grades)))
    judged = {str(place): grade for place, grade in enumerate(grades) if grade}
    return RankingExample(id="1", query="q", candidates=candidates, relevance=judged)


def gain(order: tuple[float, ...], cutoff: int) -> float:
    return sum(grade / log2(rank + 1) for rank, grade in enumerate(order[:cutoff], start=1))


@pytest.mark.parametrize("cutoff", [1, 3, 5, 10])
@pytest.mark.parametrize("grades", LISTS)
def test_expected_ndcg_is_the_mean_over_all_orders(grades: tuple[float, ...], cutoff: int) -> None:
    ideal = gain(tuple(sorted(grades, reverse=True)), cutoff)
    orders = list(permutations(grades))
    expected = sum(gain(order, cutoff) for order in orders) / len(orders) / ideal if ideal else 0.0
    assert expected_ndcg(example(grades), cutoff) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "relevant"), [(n, r) for n in range(1, 8) for r in range(n + 1)])
def test_the_reciprocal_rank_of_random_is_the_mean_over_all_orders(n: int, relevant: int) -> None:
    orders = list(permutations([True] * relevant + [False] * (n - relevant)))
    expected = sum(1 / (order.index(True) + 1) for order in orders if relevant) / len(orders)
    assert reciprocal_rank_of_random(n, relevant) == pytest.approx(expected)


@pytest.mark.parametrize("binary", ["positive", "top", "1", "2"])
@pytest.mark.parametrize("grades", LISTS)
def test_the_expected_reciprocal_rank_of_a_list_counts_its_relevant(grades: tuple[float, ...], binary: str) -> None:
    marks = is_relevant(grades, binary)
    orders = list(permutations(marks))
    expected = sum(1 / (order.index(True) + 1) for order in orders if any(marks)) / len(orders)
    assert expected_reciprocal_rank(example(grades), binary) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("grades", "binary", "expected"),
    [
        ((0, 1, 2), "positive", 2),
        ((0, 1, 2), "top", 1),
        ((2, 1, 2), "top", 2),
        ((0, 0), "top", 0),
        ((), "top", 0),
        ((0, 1, 2, 3), "2", 2),
        ((0.4, 0.5, 0.6), "0.5", 2),
    ],
)
def test_what_counts_as_relevant(grades: tuple[float, ...], binary: str, expected: int) -> None:
    assert relevant_count(grades, binary) == expected


def test_an_unknown_measure_of_relevance_is_refused() -> None:
    with pytest.raises(OptionError, match="binary='best' must be 'positive', 'top' or a number"):
        is_relevant([1.0], "best")
