"""``unified-ranker bench``: measure a model on built tasks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.errors import OptionError

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
    option: options.MethodOptions = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
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
    ranker = options.load_ranker(
        model,
        method=method,
        backend=backend,
        backend_options=backend_option,
        method_options=option,
        layout=layout,
        style=style,
        device=device,
    )
    rows = []
    for name in names:
        rows.append(evaluate_task(ranker, name, data=data, split=split, limit=limit, out=out))
        if out is not None:
            write_results(rows, out)
    print(json.dumps(rows) if as_json else as_markdown(rows), end="\n" if as_json else "")


@app.command()
def speed(
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    task: Annotated[str, typer.Option("--task", help="Whose lists are ranked.")] = "movie",
    model: Annotated[str | None, typer.Option("--model", help="A folder; the embedded model by default.")] = None,
    backends: Annotated[
        str, typer.Option("--backends", help="Comma-separated; references and ratios need vllm.")
    ] = "vllm,vllm-async,transformers",
    queries: Annotated[int, typer.Option("--queries", help="How many lists.")] = 64,
    candidates: Annotated[int, typer.Option("--candidates", help="How many candidates each has.")] = 20,
    repeats: Annotated[int, typer.Option("--repeats", help="How often each arm runs.")] = 5,
    growth: Annotated[
        str, typer.Option("--growth", help="Comma-separated sizes of lists for the growth of cost; empty for none.")
    ] = "5,10,20,50,100,200",
    growth_queries: Annotated[int, typer.Option("--growth-queries", help="Lists of each size.")] = 4,
    growth_repeats: Annotated[int, typer.Option("--growth-repeats", help="Repeats at each size.")] = 3,
    backend_option: options.BackendOptions = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for speed.json, speed.md and speed.png.")] = None,
) -> None:
    """Compare strategies, layouts and backends with the published loops: speed, tokens and effectiveness."""
    from unified_ranker.benchmarks.speed.report import as_markdown, draw
    from unified_ranker.benchmarks.speed.run import measure_speed

    found = measure_speed(
        data=data,
        task=task,
        model=model,
        backends=_names(backends),
        queries=queries,
        candidates=candidates,
        repeats=repeats,
        growth=_sizes(growth),
        growth_queries=growth_queries,
        growth_repeats=growth_repeats,
        backend_options=options.parse_pairs(backend_option or (), flag="--backend-option"),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    text, table = json.dumps(found, indent=1) + "\n", as_markdown(found)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "speed.json").write_text(text, encoding="utf-8")
        (out / "speed.md").write_text(table, encoding="utf-8")
    # The picture comes last: it alone can fail when all is measured, for want of a package.
    print(table, end="")
    if out is not None:
        draw(found, out / "speed.png")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in _names(text)]
    except ValueError as error:
        raise OptionError(f"--growth {text!r} must be whole numbers with commas between them") from error
