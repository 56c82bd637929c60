"""``unified-ranker bench seeds``: one recipe over several training seeds, with an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified_ranker.cli.bench.shared import BuiltData, Metric, results_of
from unified_ranker.errors import OptionError

if TYPE_CHECKING:
    from unified_ranker.benchmarks.report.load import Result


def seeds(
    name: Annotated[str, typer.Argument(help="A name that all runs have, such as tiny/iranker.")],
    runs: Annotated[
        list[Path], typer.Option("--run", help="A folder that bench run wrote for the model of one seed; repeatable.")
    ],
    data: BuiltData = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    metric: Metric = "RR",
) -> None:
    """Show a measure of each run on each task, their mean, and Student's 95% interval of it over the runs.

    Each run ranked the same lists with a model of another training seed, under the same name.
    """
    from unified_ranker.benchmarks.report.seeds import left_out, over_seeds, seeds_table

    loaded: dict[str, list[Result]] = {}
    for run in runs:
        if run.resolve() in {Path(known).resolve() for known in loaded}:
            raise OptionError(f"--run {run} is given twice; each seed has a run of its own")
        loaded[str(run)] = results_of([run], data=data, task=task)
    rows = over_seeds(loaded, name, metric=metric)
    print(f"{name}; {len(runs)} runs, of one seed each\n")
    print(seeds_table(rows, list(loaded), metric=metric), end="")
    if missing := left_out(loaded, name):
        print(f"\nNot ranked in every run, and left out: {', '.join(missing)}.")
