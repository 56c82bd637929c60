"""``unified-ranker bench speed``: strategies, layouts and backends beside the published loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.shared import names, say
from unified_ranker.errors import OptionError


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
        backends=names(backends),
        queries=queries,
        candidates=candidates,
        repeats=repeats,
        growth=_sizes(growth),
        growth_queries=growth_queries,
        growth_repeats=growth_repeats,
        backend_options=options.parse_pairs(backend_option or (), flag="--backend-option"),
        say=say,
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


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in names(text)]
    except ValueError as error:
        raise OptionError(f"--growth {text!r} must be whole numbers with commas between them") from error
