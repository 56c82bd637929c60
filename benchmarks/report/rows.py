"""All results as one flat list of rows, so that anyone can check a claim with a few lines of code."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from unified_ranker.benchmarks.outcome import EFFECTIVENESS
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.benchmarks.report.macro import macro
from unified_ranker.tasks.registry import NINE

#: The task name of a mean over the nine data sets.
MACRO = "macro"


def as_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return one row for each result and measure, and the mean of the nine tasks for those who ranked all of them.

    A row holds ``model, method, task, domain, edition, metric, value, low, high, queries, failed_share,
    seconds_per_query``; ``low`` and ``high`` bound the 95% interval. A baseline's model and method are both its name.
    """
    rows = [
        _row(result, result.task.name, result.task.domain, metric, figure)
        for result in results
        for metric, figure in result.figures.items()
    ]
    whole: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        whole.setdefault((result.task.edition, result.name), []).append(result)
    for found in whole.values():
        for metric in EFFECTIVENESS:
            figure = macro(found, metric)
            if figure is not None:
                nine = [result for result in found if result.task.name in NINE]
                row = _row(found[0], MACRO, "all", metric, figure)
                row["failed_share"] = fmean(result.failed_share for result in nine)
                row["seconds_per_query"] = fmean(result.seconds_per_query for result in nine)
                rows.append(row)
    return rows


def _row(result: Result, task: str, domain: str, metric: str, figure: Any) -> dict[str, Any]:
    return {
        "model": result.model,
        "method": result.method,
        "task": task,
        "domain": domain,
        "edition": result.task.edition,
        "metric": metric,
        "value": figure.mean,
        "low": figure.low,
        "high": figure.high,
        "queries": figure.queries,
        "failed_share": result.failed_share,
        "seconds_per_query": result.seconds_per_query,
    }
