"""``unified-ranker bench thoughts``: a ranker's thoughts in another model's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.shared import open_tasks, say


def thoughts(
    out: Annotated[Path, typer.Option("--out", help="Folder of the experiment; an interrupted one goes on in it.")],
    thinker: Annotated[str, typer.Option("--thinker", help="Folder or hub name of the ranker whose thoughts help.")],
    model: Annotated[str, typer.Option("--model", help="Folder or hub name of the model that gets them.")],
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names; all for the nine.")] = "all",
    count: Annotated[int, typer.Option("--thought-count", help="Thoughts in a prompt.")] = 3,
    collect: Annotated[int, typer.Option("--collect", help="Training lists of each task to think about.")] = 200,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many test lists of a task.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the model is called in results.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    method: options.Method = None,
    option: options.MethodOptions = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    layout: options.Layout = None,
    reasoning: options.Reasoning = False,
    max_tokens: options.MaxTokens = None,
    style: options.Style = None,
    token_budget: options.TokenBudget = None,
    device: options.Device = None,
) -> None:
    """Put a ranker's thoughts on similar training queries into another model's prompts, and measure what it gains."""
    from unified_ranker.benchmarks.report.load import by_task, load_results
    from unified_ranker.benchmarks.report.markdown import as_markdown
    from unified_ranker.benchmarks.report.significance import compare_all
    from unified_ranker.benchmarks.thoughts import run_thoughts

    shared: dict[str, Any] = {
        "backend": backend,
        "backend_options": backend_option,
        "max_tokens": max_tokens,
        "token_budget": token_budget,
        "device": device,
    }
    reader = options.ranker_arguments(
        model, method=method, method_options=option, layout=layout, reasoning=reasoning, style=style, **shared
    )
    folder = data or Path("data") / edition
    results = run_thoughts(
        options.ranker_arguments(thinker, **shared),
        reader,
        open_tasks(tasks, folder, edition=edition),
        out=out,
        count=count,
        collect=collect,
        limit=limit,
        name=name,
        concurrency=concurrency,
        say=say,
    )
    found = load_results([results], data=folder)
    text = as_markdown(found, {key: compare_all(rows) for key, rows in by_task(found).items()})
    (out / "thoughts.md").write_text(text, encoding="utf-8")
    print(text, end="")
