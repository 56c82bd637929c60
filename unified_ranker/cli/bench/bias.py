"""``unified-ranker bench bias``: where a ranker errs, by place in the list, length, popularity, query and history."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli.bench.shared import BuiltData, Metric, results_of


def bias(
    name: Annotated[str, typer.Argument(help="A name as reports show it, such as tiny/iranker or bm25.")],
    runs: Annotated[list[Path], typer.Option("--run", help="A folder that bench run wrote; repeatable.")],
    data: BuiltData = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    metric: Metric = "RR",
) -> None:
    """Show what stands first beside what is relevant, and the measure by thirds of what the relevant have.

    place is 0 for the first of the list and 1 for the last; length and query are words; popularity is the number of
    training lists in which a candidate is relevant; history is entries. rho is Spearman's correlation.
    """
    from unified_ranker.benchmarks.report.bias import biases
    from unified_ranker.benchmarks.report.load import named

    results = results_of(runs, data=data, task=task)
    told = ""
    for found in biases(named(results, name), metric=metric):
        heading = f"{found.task} ({found.edition}), {found.lists} lists"
        if heading != told:
            print(heading)
            told = heading
        parts = " / ".join("-" if mean is None else f"{mean:.3f}" for _, mean in found.parts)
        p = "" if found.correlation is None or found.p is None else f", rho {found.correlation:+.3f}, p = {found.p:.4f}"
        print(
            f"  {found.trait:<10} first {found.first:.3g}, relevant {found.relevant:.3g}, all {found.all:.3g}; "
            f"{metric} {parts}{p}"
        )
