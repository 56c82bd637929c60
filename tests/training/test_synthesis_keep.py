"""Which orders of a teacher are kept: thresholds worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from scripted_teachers import setting_of
from toy_tasks import toy_list

from unified_ranker.training.synthesis.keep import ndcg, verdict

LOG3 = math.log2(3)
# Gains are the grades themselves, discounts 1, 1/log2(3) and 1/2.
BEST = 4 + 2 / LOG3


@pytest.mark.parametrize(
    ("order", "wanted"),
    [
        ("abc", 1.0),
        ("acb", (4 + 2 / 2) / BEST),
        ("bac", (2 + 4 / LOG3) / BEST),
        ("bca", (2 + 4 / 2) / BEST),
        ("cab", (4 / LOG3 + 2 / 2) / BEST),
        ("cba", (2 / LOG3 + 4 / 2) / BEST),
    ],
)
def test_ndcg_takes_the_grade_itself_as_gain(order: str, wanted: float) -> None:
    assert ndcg(list(order), {"a": 4.0, "b": 2.0, "c": 0.0}) == pytest.approx(wanted)


@pytest.mark.parametrize(("place", "wanted"), [(1, 1.0), (3, 0.5), (10, 1 / math.log2(11)), (11, 0.0), (12, 0.0)])
def test_ten_places_count(place: int, wanted: float) -> None:
    grades = {f"c{n}": 0.0 for n in range(1, 13)} | {f"c{place}": 3.0}
    assert ndcg([f"c{n}" for n in range(1, 13)], grades) == pytest.approx(wanted)


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_where_all_grades_are_equal_all_orders_are(order: str) -> None:
    assert ndcg(list(order), {"a": 2.0, "b": 2.0}) == 1.0


# The one candidate with a grade stands third: 1 / log2(4).
HALF = ["c1", "c2", "c0", "c3"]
GRADES = {"c0": 4.0, "c1": 0.0, "c2": 0.0, "c3": 0.0}


@pytest.mark.parametrize(
    ("threshold", "wanted"), [(0.0, (0, "")), (0.4, (0, "")), (0.5, (0, "")), (0.501, (None, "inconsistent"))]
)
def test_an_order_is_kept_from_the_threshold_on(threshold: float, wanted: tuple[int | None, str]) -> None:
    example = toy_list("list", (0, 0, 0, 1))
    assert verdict(setting_of(threshold=threshold), example, GRADES, [HALF]) == wanted


def test_consistency_goes_by_the_teachers_grades_and_not_by_the_known_relevance() -> None:
    # The order is the best against the relevance, the worst against the teacher's own grades.
    example, order = toy_list("list", (0, 1)), ["c1", "c0"]
    against = {"c0": 4.0, "c1": 0.0}
    found = verdict(setting_of(threshold=0.64), example, against, [order])
    assert found == (None, "inconsistent")
    assert verdict(setting_of(threshold=0.63), example, against, [order]) == (0, "")
    assert verdict(setting_of(keep="promoting"), example, against, [order]) == (0, "")


@pytest.mark.parametrize("grades", [{"c0": 0.0, "c1": 0.0}, {"c0": 3.0, "c1": 3.0}])
def test_equal_grades_are_dropped(grades: dict[str, float]) -> None:
    example = toy_list("list", (1, 0))
    assert verdict(setting_of(threshold=0.0), example, grades, [["c0", "c1"]]) == (None, "equal grades")


def test_equal_relevance_is_dropped_where_it_decides() -> None:
    example, grades, order = toy_list("list", (1, 1)), {"c0": 4.0, "c1": 0.0}, ["c0", "c1"]
    assert verdict(setting_of(keep="promoting"), example, grades, [order]) == (None, "equal relevance")
    assert verdict(setting_of(), example, grades, [order]) == (0, "")


@pytest.mark.parametrize("keep", ["consistent", "promoting"])
def test_an_order_that_was_repaired_is_never_taught(keep: str) -> None:
    example, grades = toy_list("list", (0, 0, 1)), {"c0": 0.0, "c1": 0.0, "c2": 4.0}
    setting = setting_of(keep=keep, threshold=0.0)
    assert verdict(setting, example, grades, [None]) == (None, "no whole order")
    assert verdict(setting, example, grades, [None, None]) == (None, "no whole order")
    # The worse one, which was not repaired.
    assert verdict(setting, example, grades, [None, ["c0", "c2", "c1"]]) == (1, "")


@pytest.mark.parametrize(
    ("relevance", "order", "wanted"),
    [
        # As shown: 1/log2(3).
        ((0, 1, 0), ["c1", "c0", "c2"], (0, "")),
        ((0, 1, 0), ["c0", "c1", "c2"], (None, "no promotion")),
        ((0, 1, 0), ["c2", "c1", "c0"], (None, "no promotion")),
        ((0, 1, 0), ["c0", "c2", "c1"], (None, "no promotion")),
        # Nothing is better than the best.
        ((2, 1, 0), ["c0", "c1", "c2"], (None, "no promotion")),
        # Not the best, but better.
        ((0, 1, 2), ["c1", "c2", "c0"], (0, "")),
    ],
)
def test_an_order_is_promoting_if_it_beats_the_list_as_shown(
    relevance: Sequence[int], order: list[str], wanted: tuple[int | None, str]
) -> None:
    example = toy_list("list", relevance)
    # The teacher's grades say nothing here, nor does the threshold.
    grades = dict.fromkeys(("c0", "c1", "c2"), 0.0)
    assert verdict(setting_of(keep="promoting", threshold=1.0), example, grades, [order]) == wanted


@pytest.mark.parametrize("keep", ["consistent", "promoting"])
@pytest.mark.parametrize(
    ("orders", "wanted"),
    [
        (("bca", "abc", "bac"), 1),
        (("abc", "acb", "abc"), 0),
        (("cba", "bca", "bac"), 2),
    ],
)
def test_of_several_orders_the_best_is_kept_and_the_first_of_equals(
    keep: str, orders: tuple[str, ...], wanted: int
) -> None:
    places = {"a": "c2", "b": "c1", "c": "c0"}
    example = toy_list("list", (0, 2, 4))
    grades = {"c0": 0.0, "c1": 2.0, "c2": 4.0}
    shown = [[places[letter] for letter in order] for order in orders]
    assert verdict(setting_of(keep=keep), example, grades, shown) == (wanted, "")


def test_the_best_of_several_has_to_pass_too() -> None:
    example = toy_list("list", (0, 0, 0, 1))
    worse = ["c1", "c2", "c3", "c0"]
    assert verdict(setting_of(threshold=0.6), example, GRADES, [worse, HALF]) == (None, "inconsistent")
    assert verdict(setting_of(threshold=0.5), example, GRADES, [worse, HALF]) == (1, "")
