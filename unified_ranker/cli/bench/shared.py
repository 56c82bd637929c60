"""What several commands of ``unified-ranker bench`` share: options, tasks by name, and words for who waits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unified_ranker.errors import OptionError, unknown_choice

if TYPE_CHECKING:
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.benchmarks.report.load import Result

Metric = Annotated[str, typer.Option("--metric", help="A measure, such as RR or nDCG@10.")]
BuiltData = Annotated[
    Path | None, typer.Option("--data", help="Folder of built tasks, if it is not where the run found it.")
]


def open_tasks(wanted: str, data: Path, *, edition: str) -> list[BuiltTask]:
    """Open tasks by their names, comma-separated; ``all`` for the nine.

    Raises:
        OptionError: a task is not known, or is of another edition.
        MissingSourceError: a task was not built.
    """
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.tasks.base import EDITIONS
    from unified_ranker.tasks.registry import NINE

    if edition not in EDITIONS:
        raise unknown_choice("edition", edition, EDITIONS)
    tasks = [BuiltTask.open(data, name) for name in (NINE if wanted == "all" else names(wanted))]
    for task in tasks:
        if task.card["edition"] != edition:
            raise OptionError(f"--edition {edition}: {str(task.folder)!r} holds the edition {task.card['edition']}")
    if not tasks:
        raise OptionError(f"--tasks {wanted!r} names no task")
    return tasks


def results_of(runs: list[Path], *, data: Path | None, task: str | None) -> list[Result]:
    """Load what runs have ranked, of one task if one is named.

    Raises:
        OptionError: the runs do not have the task.
        DataError: the runs cannot be read together.
    """
    from unified_ranker.benchmarks.report.load import load_results

    results = [result for result in load_results(runs, data=data) if task is None or result.task.name == task]
    if not results:
        raise OptionError(f"--task {task!r} is in none of the runs")
    return results


def say(line: str) -> None:
    """Tell who waits, on stderr: stdout is for what was asked."""
    print(line, file=sys.stderr, flush=True)


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list."""
    return [name.strip() for name in text.split(",") if name.strip()]
