from __future__ import annotations

import sys
from itertools import product
from random import Random

import numpy
import pytest
from scipy.stats import permutation_test
from toy_runs import result, unbuilt
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.significance import Comparison, Paired, compare_all, compare_by_task

from unified_ranker.errors import MissingExtraError, OptionError

FIRST = [1.0, 0.5, 1.0, 1.0, 0.25, 1.0]
SECOND = [0.5, 0.5, 0.25, 1.0, 0.2, 0.1]


def exact(one: list[float], other: list[float]) -> float:
    """Return the share of all sign patterns whose mean is as far from 0 as the one found."""
    differences = [x - y for x, y in zip(one, other, strict=True)]
    found = abs(sum(differences))
    means = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(mean >= found - 1e-12 for mean in means) / len(means)


def by_names(results: list[Result], *, metric: str = "RR") -> dict[frozenset[str], Comparison]:
    return {frozenset((found.better, found.worse)): found for found in compare_all(results, metric=metric)}


def test_a_pair_of_few_lists_is_tested_over_all_sign_patterns() -> None:
    (found,) = compare_all([result("a", FIRST), result("b", SECOND)])
    assert exact(FIRST, SECOND) == pytest.approx(4 * 2 / 2**6)
    assert (found.better, found.worse) == ("a", "b")
    assert found.difference == pytest.approx((0.5 + 0.75 + 0.05 + 0.9) / 6)
    assert found.p == pytest.approx(exact(FIRST, SECOND))


@pytest.mark.parametrize("seed", range(6))
def test_any_small_pair_is_tested_over_all_sign_patterns(seed: int) -> None:
    rng = Random(seed)
    one, other = ([1 / rng.randint(1, 5) for _ in range(8)] for _ in range(2))
    (found,) = compare_all([result("a", one), result("b", other)])
    assert found.p == pytest.approx(exact(one, other))


def test_a_pair_of_many_lists_is_tested_as_scipy_does() -> None:
    rng = Random(5)
    one = numpy.array([rng.random() for _ in range(60)])
    other = numpy.array([value - 0.04 + rng.gauss(0, 0.2) for value in one])
    (found,) = compare_all([result("a", one.tolist()), result("b", other.tolist())], seed=3)
    # The signs of the differences themselves, under the seed of another draw: near, and never the same patterns.
    theirs = permutation_test(
        (one, other), lambda x, y: float(numpy.mean(x - y)), permutation_type="samples", n_resamples=2999, rng=11
    )
    assert 0.01 < found.p < 0.9
    assert found.p == pytest.approx(float(theirs.pvalue), abs=0.03)


def test_the_smallest_p_before_the_correction_is_that_of_the_number_of_resamples() -> None:
    (found,) = compare_all([result("a", [1.0] * 40), result("b", [0.0] * 40)], resamples=99)
    assert found.p == pytest.approx(2 / 100)


@pytest.mark.parametrize("values", [FIRST, [0.0, 0.0], [1.0]])
def test_identical_results_do_not_differ(values: list[float]) -> None:
    assert compare_all([result("a", values), result("b", list(values))]) == [Comparison("a", "b", 0.0, 1.0)]


def test_equal_means_of_different_lists_are_no_difference() -> None:
    (found,) = compare_all([result("a", [1.0, 0.0, 0.5]), result("b", [0.0, 1.0, 0.5])])
    assert (found.difference, found.p) == (0.0, 1.0)


def test_holm_multiplies_each_p_by_the_number_of_those_that_are_no_smaller() -> None:
    values = {"a": [1.0] * 8, "b": [0.5] * 7 + [1.0], "c": [0.5, 0.25, 0.9, 0.5, 0.25, 0.9, 0.75, 0.8]}
    raw = {
        frozenset((one, other)): exact(values[one], values[other])
        for one, other in (("a", "b"), ("a", "c"), ("b", "c"))
    }
    ordered = sorted(raw, key=raw.__getitem__)
    expected, highest = {}, 0.0
    for place, pair in enumerate(ordered):
        highest = max(highest, min(1.0, raw[pair] * (3 - place)))
        expected[pair] = highest
    found = by_names([result(name, given) for name, given in values.items()])
    assert {pair: comparison.p for pair, comparison in found.items()} == {
        pair: pytest.approx(p) for pair, p in expected.items()
    }
    assert {raw[ordered[0]], raw[ordered[1]]} == {2 / 2**8, 2 / 2**7}
    assert [expected[pair] for pair in ordered[:2]] == pytest.approx([3 * 2 / 2**8, 2 * 2 / 2**7])


def test_the_better_comes_first_whichever_stands_first() -> None:
    for results in ([result("a", FIRST), result("b", SECOND)], [result("b", SECOND), result("a", FIRST)]):
        (found,) = compare_all(results)
        assert (found.better, found.worse) == ("a", "b")
        assert found.difference > 0


@pytest.mark.parametrize("metric", ["cost", "regret"])
def test_the_better_of_what_is_better_where_lower_is_the_lower(metric: str) -> None:
    task = unbuilt("router-cost")
    cheap = result("cheap", [0.5] * 6, task=task, **{metric: SECOND})
    dear = result("dear", [0.5] * 6, task=task, **{metric: FIRST})
    (found,) = compare_all([dear, cheap], metric=metric)
    assert (found.better, found.worse) == ("cheap", "dear")
    assert found.difference == pytest.approx(2.2 / 6)


def test_only_lists_that_both_were_to_rank_count() -> None:
    (found,) = compare_all([result("few", FIRST[:4]), result("many", SECOND)])
    assert (found.better, found.difference) == ("few", pytest.approx(1.25 / 4))
    assert found.p == pytest.approx(exact(FIRST[:4], SECOND[:4]))


def test_one_list_can_show_no_difference() -> None:
    (found,) = compare_all([result("a", [1.0]), result("b", [0.5])])
    assert (found.better, found.difference, found.p) == ("a", 0.5, 1.0)


def test_random_order_and_the_oracle_are_not_compared() -> None:
    results = [result("random", SECOND), result("a", FIRST), result("b", SECOND), result("oracle", [1.0] * 6)]
    assert list(by_names(results)) == [frozenset("ab")]


@pytest.mark.parametrize("model", ["random", "oracle"])
def test_a_model_that_is_called_as_a_bound_is_compared_all_the_same(model: str) -> None:
    assert len(compare_all([result(f"{model}/one", FIRST), result("b", SECOND)])) == 1


@pytest.mark.parametrize("names", [[], ["a"]])
def test_fewer_than_two_are_not_compared(names: list[str]) -> None:
    assert compare_all([result(name, FIRST) for name in ("random", *names, "oracle")]) == []


def test_every_pair_is_compared_once() -> None:
    names = ["m/one", "m/two", "bm25", "minilm"]
    results = [result(name, [n / 10, 0.5, 1.0, 0.0]) for n, name in enumerate(names)]
    assert set(by_names(results)) == {frozenset((a, b)) for a in names for b in names if a < b}
    assert len(compare_all(results)) == 6


def test_the_measure_that_is_asked_for_is_compared() -> None:
    first, second = (result(name, FIRST, **{"nDCG@10": values}) for name, values in (("a", SECOND), ("b", FIRST)))
    assert compare_all([first, second])[0].p == 1.0
    (found,) = compare_all([first, second], metric="nDCG@10")
    assert (found.better, found.difference) == ("b", pytest.approx(2.2 / 6))


def test_comparisons_depend_on_the_seed_alone() -> None:
    rng = Random(1)
    results = [result(name, [rng.random() for _ in range(30)]) for name in "abc"]
    assert compare_all(results, resamples=199) == compare_all(results, resamples=199)
    assert compare_all(results, resamples=199, seed=1) != compare_all(results, resamples=199, seed=2)


def test_without_statsmodels_the_message_names_the_extra_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "statsmodels"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    with pytest.raises(MissingExtraError, match=r"'statsmodels'.*pip install 'unified-ranker\[bench\]'"):
        compare_all([result("a", FIRST), result("b", SECOND)])


def test_two_are_compared_on_each_task_that_both_ranked_in_the_order_of_the_first() -> None:
    movie, game, cost = (unbuilt(name) for name in ("movie", "game", "router-cost"))
    one = [result("a", SECOND[:4], task=game), result("a", FIRST, task=movie)]
    other = [result("b", SECOND, task=cost), result("b", SECOND, task=movie), result("b", FIRST, task=game)]
    found = compare_by_task(one, other)
    assert [(pair.task, pair.edition, pair.lists) for pair in found] == [("game", "open", 4), ("movie", "open", 6)]
    # Of game only the four lists count that both were to rank; nothing is corrected for the other task.
    assert [(pair.first, pair.second) for pair in found] == [
        (pytest.approx(2.25 / 4), pytest.approx(3.5 / 4)),
        (pytest.approx(sum(FIRST) / 6), pytest.approx(sum(SECOND) / 6)),
    ]
    assert [pair.p for pair in found] == [
        pytest.approx(exact(SECOND[:4], FIRST[:4])),
        pytest.approx(exact(FIRST, SECOND)),
    ]


def test_by_task_what_is_computed_has_a_mean_and_no_test() -> None:
    (found,) = compare_by_task([result("a", FIRST)], [result("oracle", [1.0] * 6)])
    assert found == Paired("passage-5", "open", 6, pytest.approx(sum(FIRST) / 6), 1.0, None)


def test_by_task_means_stand_as_they_are_where_lower_is_better() -> None:
    task = unbuilt("router-cost")
    cheap, dear = (result(n, [0.5] * 6, task=task, cost=v) for n, v in (("cheap", SECOND), ("dear", FIRST)))
    (found,) = compare_by_task([cheap], [dear], metric="cost")
    assert found.first < found.second


def test_by_task_a_measure_that_is_not_known_is_told() -> None:
    with pytest.raises(OptionError, match="metric='cost' is not known"):
        compare_by_task([result("a", FIRST)], [result("b", SECOND)], metric="cost")
