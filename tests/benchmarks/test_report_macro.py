from __future__ import annotations

from math import sqrt

import pytest
from toy_runs import result, unbuilt
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.macro import macro
from unified_ranker.tasks import NINE


def nine(*values: list[float]) -> list[Result]:
    return [result("toy/one", found, task=unbuilt(name)) for name, found in zip(NINE, values, strict=True)]


def test_every_task_has_the_same_weight_however_many_lists_it_has() -> None:
    figure = macro(nine([1.0, 1.0], *[[0.0] * (3 + n) for n in range(8)]), "RR")
    assert figure is not None
    assert figure.mean == pytest.approx(1 / 9)
    assert figure.queries == 2 + sum(range(3, 11))


def test_lists_are_drawn_again_within_each_task() -> None:
    # Nothing varies within a task, so nothing can vary in the mean.
    figure = macro(nine(*[[n / 10] * 4 for n in range(9)]), "RR")
    assert figure is not None
    assert (figure.mean, figure.low, figure.high) == pytest.approx((0.4, 0.4, 0.4))


def test_the_interval_is_that_of_the_normal_law_for_many_lists() -> None:
    figure = macro(nine(*[[0.0, 1.0] * 50] * 9), "RR")
    assert figure is not None
    half = 1.96 * sqrt(9 * 0.25 / 100) / 9
    assert (figure.mean, figure.queries) == (0.5, 900)
    assert figure.low == pytest.approx(0.5 - half, abs=0.004)
    assert figure.high == pytest.approx(0.5 + half, abs=0.004)


def test_one_task_that_varies_widens_the_interval_by_a_ninth_of_its_own() -> None:
    figure = macro(nine([0.0, 1.0] * 200, *[[0.5] * 3] * 8), "RR")
    assert figure is not None
    half = 1.96 * 0.5 / 20 / 9
    assert figure.mean == pytest.approx(0.5)
    assert (figure.low, figure.high) == pytest.approx((0.5 - half, 0.5 + half), abs=0.0012)


@pytest.mark.parametrize("missing", NINE)
def test_there_is_no_mean_where_a_task_is_missing(missing: str) -> None:
    results = [found for found in nine(*[[0.0, 1.0]] * 9) if found.task.name != missing]
    assert macro(results, "RR") is None


def test_tasks_besides_the_nine_do_not_count() -> None:
    results = nine(*[[0.0, 0.5, 1.0]] * 9)
    more = [*results, result("toy/one", [1.0] * 5, task=unbuilt("trec-dl-2019"))]
    assert macro(more, "RR") == macro(results, "RR")


def test_the_order_of_the_results_does_not_count() -> None:
    results = nine(*[[n / 9, 1.0, 0.0] for n in range(9)])
    assert macro(results[::-1], "RR") == macro(results, "RR")


def test_the_mean_is_of_the_measure_that_is_asked_for() -> None:
    results = [
        result("toy/one", [0.0, 0.0], task=unbuilt(name), **{"Success@3": [1.0, 0.0], "nDCG@10": [1.0, 1.0]})
        for name in NINE
    ]
    figures = [macro(results, metric) for metric in ("RR", "Success@3", "nDCG@10")]
    assert [figure.mean for figure in figures if figure] == [0.0, 0.5, 1.0]


def test_the_interval_depends_on_the_seed_alone() -> None:
    results = nine(*[[0.1, 0.5, 0.25, 1.0, 0.0, 0.33]] * 9)
    assert macro(results, "RR") == macro(results, "RR")
    assert macro(results, "RR", seed=1, resamples=60) == macro(results, "RR", seed=1, resamples=60)
    assert macro(results, "RR", seed=1, resamples=60) != macro(results, "RR", seed=2, resamples=60)


def test_a_task_of_one_list_keeps_its_value_while_others_are_drawn_again() -> None:
    figure = macro(nine([1.0], *[[0.0, 1.0, 0.0, 1.0]] * 8), "RR")
    assert figure is not None
    assert figure.mean == pytest.approx((1 + 8 / 2) / 9)
    assert 1 / 9 <= figure.low < figure.mean < figure.high <= 1.0


def test_nine_tasks_of_one_list_have_an_interval_of_one_point() -> None:
    figure = macro(nine([1.0], *[[0.5]] * 8), "RR")
    assert figure is not None
    assert (figure.mean, figure.low, figure.high, figure.queries) == pytest.approx((5 / 9, 5 / 9, 5 / 9, 9))
