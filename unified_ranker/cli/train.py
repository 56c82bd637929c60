"""``unified-ranker train``: supervised fine-tuning by recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Train ranking models.", no_args_is_help=True)


@app.callback()
def _train() -> None:
    """Train ranking models."""


@app.command()
def sft(
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value, such as optimizer.learning_rate=1e-4.")
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or a .yaml file.")] = "embedded",
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; resumed if it exists.")] = Path("runs/sft"),
    device: Annotated[str | None, typer.Option("--device", help="Such as cpu or cuda:0.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
) -> None:
    """Fine-tune a model on built tasks; writes OUT/model, OUT/log.jsonl and OUT/curve.png."""
    from unified_ranker.training.recipe import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    if dry_run:
        print(json.dumps(chosen.to_dict(), indent=1))
        return
    from unified_ranker.training.curve import draw_curve
    from unified_ranker.training.sft import Trainer

    trainer = Trainer(chosen, data=data, out=out, device=device, on_log=_say)
    folder = trainer.run()
    draw_curve(out / "log.jsonl", out / "curve.png")
    print(folder)


def _say(record: dict[str, Any]) -> None:
    facts = "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.items()
    )
    print(facts, file=sys.stderr, flush=True)
