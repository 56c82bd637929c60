"""``unified-ranker bench``: measure a model on built tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options

app = typer.Typer(help="Measure rankers.", no_args_is_help=True)


@app.callback()
def _bench() -> None:
    """Measure rankers."""


@app.command()
def run(
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names; all for the nine.")] = "all",
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    out: Annotated[Path | None, typer.Option("--out", help="Folder for rankings and tables.")] = None,
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many lists of each task.")] = None,
    model: options.Model = None,
    method: options.Method = None,
    backend: options.BackendName = "transformers",
    layout: options.Layout = None,
    style: options.Style = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Rank the lists of tasks; print MRR and nDCG@10 with 95% intervals beside the expectation of random order."""
    from unified_ranker.benchmarks.evaluate import as_markdown, evaluate_task, write_results
    from unified_ranker.tasks import NINE, task_named

    names = list(NINE) if tasks == "all" else [name.strip() for name in tasks.split(",")]
    for name in names:
        task_named(name)
    ranker = options.load_ranker(model, method=method, backend=backend, layout=layout, style=style, device=device)
    rows = []
    for name in names:
        rows.append(evaluate_task(ranker, name, data=data, split=split, limit=limit, out=out))
        if out is not None:
            write_results(rows, out)
    print(json.dumps(rows) if as_json else as_markdown(rows), end="\n" if as_json else "")
