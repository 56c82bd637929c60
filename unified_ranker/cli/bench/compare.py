"""``unified-ranker bench compare``: how far two differ on each task, and the lists on which they differ most."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unified_ranker.cli.bench.shared import BuiltData, Metric, results_of
from unified_ranker.errors import OptionError


def compare(
    first: Annotated[str, typer.Argument(help="A name as reports show it, such as tiny/iranker or bm25.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    runs: Annotated[list[Path], typer.Option("--run", help="A folder that bench run wrote; repeatable.")],
    data: BuiltData = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    metric: Metric = "RR",
    top: Annotated[int, typer.Option("--top", help="How many lists of either kind to show.")] = 5,
) -> None:
    """Show the means of two on each task, and the lists on which they differ most, with the first places of both.

    p is that of a paired randomisation test, of each task by itself.
    """
    from unified_ranker.benchmarks.report.differences import differences
    from unified_ranker.benchmarks.report.load import named
    from unified_ranker.benchmarks.report.significance import compare_by_task

    if top < 1:
        raise OptionError(f"--top {top} must be ≥ 1")
    results = results_of(runs, data=data, task=task)
    one, other = named(results, first), named(results, second)
    found = differences(one, other, metric=metric)
    better = [entry for entry in found if entry.first != entry.second]
    print(f"{len(found)} lists; {first} and {second} differ in {metric} on {len(better)}")
    for pair in compare_by_task(one, other, metric=metric):
        sample = "" if pair.p is None else f", p = {pair.p:.4f}"
        counted = zip((first, second), pair.missing, strict=True)
        missing = "".join(f"; {name} has not ranked {count}" for name, count in counted if count)
        print(
            f"  {pair.task} ({pair.edition}), {pair.lists} lists: {metric} {pair.first:.4f} and {pair.second:.4f}, "
            f"difference {pair.first - pair.second:+.4f}{sample}{missing}"
        )
    ahead = [entry for entry in found[:top] if entry in better]
    behind = [entry for entry in reversed(found[-top:]) if entry in better and entry not in ahead]
    for entry in (*ahead, *behind):
        _show_difference(entry, first, second, metric)


def _show_difference(entry: Any, first: str, second: str, metric: str) -> None:
    from unified_ranker.cli.data import printable

    example = entry.example
    print(printable(f"\n{entry.task}, {example.id}: {example.query}"))
    if example.context:
        print(printable(f"  history: {' · '.join(example.context)}"))
    names = {candidate.id: candidate.called for candidate in example.candidates}
    for name, value, order in ((first, entry.first, entry.orders[0]), (second, entry.second, entry.orders[1])):
        print(f"  {name}: {metric} {value:.3f}")
        for place, id in enumerate(order[:5], start=1):
            mark = "*" if id in entry.relevant else " "
            print(printable(f"   {place} {mark} {names[id][:100]}"))
