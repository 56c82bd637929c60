from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from typing import Any

import pytest
from toy_runs import bounded, result, unbuilt
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.seeds import MEAN_OF_NINE, left_out, over_seeds, seeds_table
from unified_ranker.tasks import NINE

from unified_ranker.errors import DataError, OptionError

# Student's 97.5% quantile with two degrees of freedom, from a printed table.
QUANTILE = 4.30265


def ranked(
    values: Sequence[float], *, task: str = "passage-5", edition: str = "open", name: str = "toy/one", **facts: Any
) -> list[Result]:
    """Return what one run has of one task, between random order and the oracle."""
    found = result(name, values, task=unbuilt(task, edition=edition))
    same = {"split": "test", "data_hash": "abc", "queries": len(values), **facts}
    return bounded(replace(found, facts={**found.facts, **same}))


def test_the_interval_is_students_over_the_runs() -> None:
    runs = {"a": ranked([1.0, 0.0]), "b": ranked([1.0, 0.2]), "c": ranked([0.5, 0.3])}
    (row,) = over_seeds(runs, "toy/one")
    assert (row.task, row.edition, row.lists, row.random) == ("passage-5", "open", 2, 0.25)
    assert row.values == pytest.approx((0.5, 0.6, 0.4))
    assert row.mean == pytest.approx(0.5)
    # Values .1 apart spread by .1.
    half = QUANTILE * 0.1 / sqrt(3)
    assert (row.low, row.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-5)


def test_runs_that_do_not_differ_have_an_interval_of_no_width() -> None:
    (row,) = over_seeds({"a": ranked([0.5, 0.3]), "b": ranked([0.3, 0.5])}, "toy/one")
    assert row.mean == row.low == row.high == pytest.approx(0.4)


def test_the_mean_of_the_nine_is_taken_seed_by_seed_before_its_interval() -> None:
    # Two seeds that are good at opposite ends are alike in the mean.
    runs = {
        run: [found for place, task in enumerate(NINE) for found in ranked([0.5 + sign * (place - 4) / 10], task=task)]
        for run, sign in (("a", 1), ("b", -1))
    }
    *rows, mean = over_seeds(runs, "toy/one")
    assert [row.task for row in rows] == list(NINE)
    assert rows[0].mean == pytest.approx(0.5)
    assert rows[0].low < 0.1 < 0.9 < rows[0].high
    assert (mean.task, mean.lists, mean.random) == (MEAN_OF_NINE, 9, 0.25)
    assert mean.values == pytest.approx((0.5, 0.5))
    assert (mean.low, mean.high) == pytest.approx((0.5, 0.5))
    assert [row.task for row in over_seeds({run: found[3:] for run, found in runs.items()}, "toy/one")] == list(
        NINE[1:]
    )


def test_editions_are_told_apart() -> None:
    both = [*ranked([0.5]), *ranked([0.7], edition="paper")]
    rows = over_seeds({"a": both, "b": both}, "toy/one")
    assert [(row.edition, row.mean) for row in rows] == [("open", 0.5), ("paper", 0.7)]
    table = seeds_table(rows, ["a", "b"], metric="RR")
    assert "| passage-5, open | 1 |" in table and "| passage-5, paper | 1 |" in table


def test_another_measure_is_asked_for_by_its_name() -> None:
    found = ranked([0.5])
    found[1] = replace(found[1], values={**found[1].values, "nDCG@10": (0.75,)})
    (row,) = over_seeds({"a": found, "b": found}, "toy/one", metric="nDCG@10")
    assert row.mean == 0.75
    with pytest.raises(OptionError, match="did you mean 'nDCG@10'"):
        over_seeds({"a": found, "b": found}, "toy/one", metric="nDCG@1")


def test_tasks_that_not_all_runs_have_are_left_out_by_name() -> None:
    more = [*ranked([0.5]), *ranked([0.5], task="movie")]
    runs = {"a": more, "b": ranked([0.5])}
    assert [row.task for row in over_seeds(runs, "toy/one")] == ["passage-5"]
    assert left_out(runs, "toy/one") == left_out(dict(reversed(runs.items())), "toy/one") == ["movie"]
    assert left_out({"a": more, "b": more}, "toy/one") == []


def test_lists_without_a_ranking_are_counted() -> None:
    whole = ranked([0.5, 0.5, 0.5])
    less = [replace(one, records={}) if one.name == "toy/one" else one for one in whole]
    rows = over_seeds({"a": whole, "b": less}, "toy/one")
    assert rows[0].missing == (0, 3)
    table = seeds_table(rows, ["a", "b"], metric="RR")
    assert table.endswith("b has not ranked 3 of the 3 lists of passage-5; they count as ranked worst.\n")
    assert "a has not ranked" not in table


def test_the_table_has_a_column_for_each_run() -> None:
    runs = {"a": ranked([0.5] * 2000), "b": ranked([0.5] * 2000)}
    assert seeds_table(over_seeds(runs, "toy/one"), list(runs), metric="RR").splitlines() == [
        "| RR | lists | a | b | mean (95% interval) | random order |",
        "|---|--:|--:|--:|--:|--:|",
        "| passage-5 | 2,000 | .500 | .500 | .500 (.500 – .500) | .250 |",
    ]


@pytest.mark.parametrize(
    ("runs", "error", "words"),
    [
        ({"a": ranked([0.5])}, OptionError, "--run a: one run has no interval"),
        ({"a": ranked([0.5]), "b": ranked([0.5], name="toy/two")}, OptionError, "did you mean 'toy/two'"),
        ({"a": ranked([0.5]), "b": ranked([0.5], task="movie")}, DataError, "a, b: no task was ranked in each"),
        (
            {"a": ranked([0.5]), "b": ranked([0.5], data_hash="other")},
            DataError,
            "b: data_hash of passage-5 is 'other', but in a it is 'abc'",
        ),
        (
            {"a": ranked([0.5]), "b": ranked([0.5], split="validation")},
            DataError,
            "b: split of passage-5 is 'validation'",
        ),
        ({"a": ranked([0.5, 0.5]), "b": ranked([0.5])}, DataError, "b: queries of passage-5 is 1"),
    ],
)
def test_runs_that_cannot_be_set_side_by_side_are_refused(
    runs: dict[str, list[Result]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        over_seeds(runs, "toy/one")
