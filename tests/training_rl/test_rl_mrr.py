from __future__ import annotations

import pytest
from toy_tasks import oracle, toy_list, worst

from unified_ranker import Ranker
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError
from unified_ranker.training.mrr import reciprocal_rank, reciprocal_ranks, with_macro


@pytest.mark.parametrize(
    ("grades", "rule", "rank"),
    [
        ([1, 0, 0], "positive", 1.0),
        ([0, 0, 0.5], "positive", 1 / 3),
        ([0, 1, 1], "positive", 0.5),
        ([1, 2, 3], "top", 1 / 3),
        ([2, 3, 3], "top", 0.5),
        ([0, 0], "top", 0.0),
        ([1, 1, 2], "2", 1 / 3),
        ([1, 3, 2], "2", 0.5),
        ([1, 1], "2", 0.0),
        ([0, 0, 0], "positive", 0.0),
        ([], "positive", 0.0),
    ],
)
def test_the_reciprocal_rank_is_that_of_the_first_relevant(grades: list[float], rule: str, rank: float) -> None:
    assert reciprocal_rank(grades, rule=rule) == rank
    assert reciprocal_rank(iter(grades), rule=rule) == rank


def test_an_unknown_kind_of_relevance_is_refused() -> None:
    with pytest.raises(OptionError, match="binary='some'"):
        reciprocal_rank([1.0], rule="some")


# Each task counts relevance its own way: any grade above 0, the best of the list, a grade of 2 and above.
LISTS = {
    "movie": [toy_list("m0", (0, 1, 0), task="movie"), toy_list("m1", (1, 0), task="movie")],
    "router-cost": [toy_list("r0", (1, 2, 3), task="router-cost")],
    "trec-dl-2019": [toy_list("t0", (1, 1, 2, 0), task="trec-dl-2019"), toy_list("t1", (1, 1), task="trec-dl-2019")],
}


def test_a_ranker_that_knows_the_grades_has_the_best_ranks() -> None:
    found = reciprocal_ranks(Ranker(ScriptedBackend(oracle), method="iranker"), LISTS)
    assert found == {"movie": [1.0, 1.0], "router-cost": [1.0], "trec-dl-2019": [1.0, 0.0]}


def test_a_ranker_that_errs_on_purpose_has_the_worst_ranks() -> None:
    found = reciprocal_ranks(Ranker(ScriptedBackend(worst), method="iranker"), LISTS)
    assert found == {"movie": [1 / 3, 0.5], "router-cost": [1 / 3], "trec-dl-2019": [0.25, 0.0]}


def test_tasks_without_lists_stay_empty_and_are_left_out_of_the_mean() -> None:
    found = reciprocal_ranks(Ranker(ScriptedBackend(oracle), method="iranker"), {"movie": [], "game": LISTS["movie"]})
    assert found == {"movie": [], "game": [1.0, 1.0]}
    assert with_macro(found) == {"game": 1.0, "macro": 1.0}


@pytest.mark.parametrize(
    ("ranks", "means"),
    [
        ({}, {}),
        ({"a": []}, {}),
        ({"a": [1.0, 0.5]}, {"a": 0.75, "macro": 0.75}),
        # The mean of tasks, whatever their sizes.
        ({"a": [1.0, 1.0, 1.0, 1.0], "b": [0.0]}, {"a": 1.0, "b": 0.0, "macro": 0.5}),
        ({"a": [0.0], "b": [0.25], "c": []}, {"a": 0.0, "b": 0.25, "macro": 0.125}),
    ],
)
def test_means_of_tasks(ranks: dict[str, list[float]], means: dict[str, float]) -> None:
    assert with_macro(ranks) == means
