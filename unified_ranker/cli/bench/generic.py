"""``unified-ranker bench generic``: tasks that are no ranking, through lm-evaluation-harness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.shared import names


def generic(
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; what is there is not computed again.")],
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names of lm-evaluation-harness; published.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Folder or hub name; repeatable; the embedded model.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many questions, to try out.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions that are computed at once.")] = 8,
    include: Annotated[Path | None, typer.Option("--include", help="Folder of further tasks.")] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Let tasks run what the model wrote, on this machine.")
    ] = False,
    device: options.Device = None,
) -> None:
    """Evaluate models on tasks that are no ranking, through lm-evaluation-harness."""
    from unified_ranker.benchmarks.generic import PUBLISHED, as_markdown, run_generic

    chosen = list(PUBLISHED) if tasks == "published" else names(tasks)
    models: list[str | None] = [*model] if model else [None]
    rows = run_generic(
        models, chosen, out=out, limit=limit, batch_size=batch_size, device=device, include=include, run_code=run_code
    )
    text = as_markdown(rows)
    (out / "generic.md").write_text(text, encoding="utf-8")
    print(text, end="")
