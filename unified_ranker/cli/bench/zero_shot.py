"""``unified-ranker bench zero-shot``: train without a domain, test on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli.bench.shared import Metric, names, open_tasks, say
from unified_ranker.errors import OptionError, unknown_choice


def zero_shot(
    out: Annotated[Path, typer.Option("--out", help="Folder of the experiment; an interrupted one goes on in it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="sft.KEY=VALUE or rl.KEY=VALUE for the recipes, such as sft.tokens=500000 rl.steps=40."),
    ] = None,
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="What to test on; all for the nine.")] = "all",
    regimes: Annotated[
        str | None, typer.Option("--regimes", help="Comma-separated: what each model is trained on; every one.")
    ] = None,
    stages: Annotated[str, typer.Option("--stages", help="sft, or sft,rl.")] = "sft,rl",
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe of supervised training.")] = "start-tiny",
    rl_recipe: Annotated[str, typer.Option("--rl-recipe", help="Recipe of reinforcement learning.")] = "iranker-tiny",
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many test lists of a task.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    metric: Metric = "RR",
) -> None:
    """Train without a domain, test on it: all regimes by the same recipe and budget, one matrix of the outcome."""
    from unified_ranker.benchmarks.outcome import EFFECTIVENESS
    from unified_ranker.benchmarks.report.load import load_results
    from unified_ranker.benchmarks.zero_shot.matrix import as_markdown, draw, matrix
    from unified_ranker.benchmarks.zero_shot.regimes import REGIMES, regime_named
    from unified_ranker.benchmarks.zero_shot.run import run_zero_shot

    if metric not in EFFECTIVENESS:
        raise unknown_choice("metric", metric, EFFECTIVENESS)
    folder = data or Path("data") / edition
    chosen = list(REGIMES.values()) if regimes is None else [regime_named(name) for name in names(regimes)]
    if not chosen:
        raise OptionError(f"--regimes {regimes!r} names none")
    own: dict[str, list[str]] = {"sft": [], "rl": []}
    for override in overrides or ():
        part, _, rest = override.partition(".")
        if part not in own or not rest:
            raise OptionError(f"{override!r}: begin with sft. or rl., such as sft.tokens=500000")
        own[part].append(rest)
    results = run_zero_shot(
        chosen,
        open_tasks(tasks, folder, edition=edition),
        data=folder,
        out=out,
        sft_recipe=recipe,
        rl_recipe=rl_recipe,
        sft=own["sft"],
        rl=own["rl"],
        stages=names(stages),
        limit=limit,
        concurrency=concurrency,
        say=say,
    )
    found = matrix(load_results([results], data=folder), metric=metric)
    text = as_markdown(found, metric=metric)
    (out / "matrix.md").write_text(text, encoding="utf-8")
    plain = {name: {column: asdict(figure) for column, figure in row.items()} for name, row in found.items()}
    (out / "matrix.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    draw(found, out / "matrix.png", metric=metric)
