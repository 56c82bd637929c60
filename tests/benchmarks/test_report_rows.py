from __future__ import annotations

import json
from typing import Any

import pytest
from toy_runs import bounded, graded, result, unbuilt
from unified_ranker.benchmarks.measures import with_interval
from unified_ranker.benchmarks.outcome import EFFECTIVENESS, ROUTING
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.rows import as_rows
from unified_ranker.tasks import NINE

KEYS = [
    "model", "method", "task", "domain", "edition", "metric", "value", "low", "high", "queries", "failed_share",
    "seconds_per_query",
]  # fmt: skip


def one(rows: list[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    (found,) = (row for row in rows if all(row[key] == value for key, value in wanted.items()))
    return found


def of_nine(name: str, *, edition: str = "open", leave_out: str = "") -> list[Result]:
    return [
        result(name, [n / 10, 0.5, 1.0], task=unbuilt(task, edition=edition))
        for n, task in enumerate(NINE)
        if task != leave_out
    ]


def test_a_row_holds_the_twelve_keys_in_their_order() -> None:
    rows = as_rows([*bounded(result("toy/one", [0.0, 1.0])), *of_nine("toy/two")])
    assert all(list(row) == KEYS for row in rows)


def test_a_result_has_a_row_for_each_measure() -> None:
    rows = as_rows(bounded(result("toy/one", [0.0, 1.0])))
    assert [(row["model"], row["metric"]) for row in rows] == [
        (model, metric) for model in ("random", "toy", "oracle") for metric in EFFECTIVENESS
    ]


def test_a_router_has_rows_for_what_its_choice_is_worth() -> None:
    rows = as_rows([result("toy/one", [0.0, 1.0], task=unbuilt("router-cost"))])
    assert [row["metric"] for row in rows] == [*EFFECTIVENESS, *ROUTING]
    assert {row["domain"] for row in rows} == {"routing"}


def test_a_row_says_whose_figure_it_is_and_how_sure() -> None:
    values = [0.0, 0.5, 1.0, 1.0]
    row = one(as_rows([result("toy/one", [0.25] * 4, task=unbuilt("movie", edition="paper"), RR=values)]), metric="RR")
    figure = with_interval(values)
    assert row == {
        "model": "toy",
        "method": "one",
        "task": "movie",
        "domain": "recommendation",
        "edition": "paper",
        "metric": "RR",
        "value": pytest.approx(0.625),
        "low": figure.low,
        "high": figure.high,
        "queries": 4,
        "failed_share": 0.0,
        "seconds_per_query": 0.5,
    }
    assert row["low"] < row["value"] < row["high"]


@pytest.mark.parametrize("name", ["bm25", "random", "oracle"])
def test_the_model_and_the_method_of_a_baseline_are_both_its_name(name: str) -> None:
    rows = as_rows([result(name, [0.0, 1.0])])
    assert {(row["model"], row["method"]) for row in rows} == {(name, name)}


def test_rows_are_plain_json() -> None:
    rows = as_rows([*of_nine("toy/one"), *of_nine("random")])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_whoever_ranked_all_nine_has_a_mean_of_them() -> None:
    rows = as_rows([*of_nine("toy/one"), *of_nine("bm25", leave_out="game"), *of_nine("random")])
    means = [row for row in rows if row["task"] == "macro"]
    assert [(row["model"], row["metric"]) for row in means] == [
        (model, metric) for model in ("toy", "random") for metric in EFFECTIVENESS
    ]
    row = one(rows, model="toy", task="macro", metric="RR")
    assert row["value"] == pytest.approx((sum(range(9)) / 10 / 9 + 1.5) / 3)
    assert (row["domain"], row["edition"], row["method"], row["queries"]) == ("all", "open", "one", 27)
    assert row["low"] < row["value"] < row["high"]


def test_a_mean_counts_the_editions_apart() -> None:
    rows = as_rows([*of_nine("toy/one", edition="paper"), *of_nine("toy/one", leave_out="movie")])
    assert {row["edition"] for row in rows if row["task"] == "macro"} == {"paper"}


def test_results_of_both_editions_together_are_no_nine() -> None:
    first = [found for found in of_nine("toy/one", edition="paper") if found.task.name in NINE[:5]]
    second = [found for found in of_nine("toy/one") if found.task.name in NINE[5:]]
    assert all(row["task"] != "macro" for row in as_rows([*first, *second]))


def test_methods_of_one_model_have_means_of_their_own() -> None:
    first = [found for found in of_nine("toy/one") if found.task.name in NINE[:5]]
    second = [found for found in of_nine("toy/two") if found.task.name in NINE[5:]]
    assert all(row["task"] != "macro" for row in as_rows([*first, *second]))


def partly(task: str, *, missing: bool) -> Result:
    examples = [graded(f"q{n}", {"a": 1, "b": 0}, task=task) for n in range(2)]
    orders = {} if missing else {example.id: ["a", "b"] for example in examples}
    return result("toy/one", [0.0, 1.0], task=unbuilt(task), examples=examples, orders=orders)


def test_the_mean_of_failed_shares_and_seconds_goes_over_the_nine() -> None:
    results = [partly(name, missing=name == "game") for name in NINE]
    row = one(as_rows(results), task="macro", metric="RR")
    assert row["failed_share"] == pytest.approx(1 / 9)
    assert row["seconds_per_query"] == pytest.approx(8 * 0.5 / 9)


def test_tasks_besides_the_nine_do_not_count_in_the_mean() -> None:
    nine = [partly(name, missing=False) for name in NINE]
    expected = [row for row in as_rows(nine) if row["task"] == "macro"]
    more = as_rows([*nine, partly("trec-dl-2019", missing=True)])
    assert [row for row in more if row["task"] == "macro"] == expected
