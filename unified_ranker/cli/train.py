"""``unified-ranker train``: supervised fine-tuning and reinforcement learning by recipe, and exporting."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from unified_ranker.cli import options

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
    from unified_ranker.training.recipe import parse_recipe
    from unified_ranker.training.recipe_file import read_recipe

    record = read_recipe(recipe, overrides or (), package="unified_ranker.training", whole=("verl",))
    if "trainer" in record:
        _verl_sft(record, data=data, out=out, device=device, dry_run=dry_run)
        return
    chosen = parse_recipe(record)
    if dry_run:
        print(json.dumps(chosen.to_dict(), indent=1))
        return
    from unified_ranker.training.curve import draw_curve
    from unified_ranker.training.sft import Trainer

    trainer = Trainer(chosen, data=data, out=out, device=device, on_log=_say)
    folder = trainer.run()
    draw_curve(out / "log.jsonl", out / "curve.png")
    print(folder)


def _verl_sft(record: dict[str, Any], *, data: Path, out: Path, device: str | None, dry_run: bool) -> None:
    from unified_ranker.errors import OptionError
    from unified_ranker.training import verl_sft

    chosen = verl_sft.parse(record)
    if device is not None:
        raise OptionError(
            f"device={device!r}: with trainer: verl the recipe's platform says where; set platform=cpu or gpu"
        )
    if dry_run:
        config, _, _ = verl_sft.plan(chosen, data=data, out=out)
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config, resolve=True))
        return
    print(verl_sft.run(chosen, data=data, out=out, say=lambda line: print(line, flush=True)))


@app.command()
def rl(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="key=value, such as steps=20, or a setting of verl: verl.actor_rollout_ref.actor.optim.lr=1e-5."
        ),
    ] = None,
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe, or a .yaml file.")] = "iranker-tiny",
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; resumed if it exists.")] = Path("runs/rl"),
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", help="A Ray cluster that runs already, such as auto or HOST:6379.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print verl's whole configuration and stop; nothing starts.")
    ] = False,
) -> None:
    """Train a model by reinforcement learning with verl; writes OUT/model, OUT/summary.json and OUT/curve.png."""
    from unified_ranker.training.rl.recipe import load_recipe

    chosen = load_recipe(recipe, overrides or ())
    if dry_run:
        from unified_ranker.training.rl.launch import resolved

        print(resolved(chosen, data=data, out=out, ray_address=ray_address))
        return
    from unified_ranker.training.rl.launch import run

    summary = run(chosen, data=data, out=out, ray_address=ray_address, say=lambda line: print(line, flush=True))
    before, after = summary["mrr_start"]["macro"], summary["mrr_end"]["macro"]
    print(f"test MRR, mean over tasks: {before:.4f} before, {after:.4f} after ({after / before - 1:+.1%})")
    print(out / "model")


@app.command()
def export(
    checkpoints: Annotated[Path, typer.Argument(help="Folder of a run of train rl.")],
    to: Annotated[Path, typer.Option("--to", help="Folder to write.")],
    step: Annotated[int | None, typer.Option("--step", help="Step of the checkpoint; the last one by default.")] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", help="float32 or bfloat16; that of the weights.")] = None,
) -> None:
    """Turn a verl checkpoint into a plain transformers folder."""
    from unified_ranker.training.rl.export import export_run

    print(export_run(checkpoints, to, step=step, dtype=dtype))


@app.command()
def synthesize(
    tasks: Annotated[str, typer.Option("--tasks", help="Tasks, separated by commas.")],
    model: Annotated[str | None, typer.Option("--model", help="The teacher: a folder, or a model's name.")] = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    style: Annotated[str, typer.Option("--style", help="Style of the prompts: natural or compact.")] = "natural",
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    out: Annotated[Path, typer.Option("--out", help="Folder to write; resumed if it exists.")] = Path("runs/synthesis"),
    limit: Annotated[int | None, typer.Option("--limit", help="Lists of each task.")] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="consistent (ReasonRank), or promoting (GR2's rejection sampling).")
    ] = "consistent",
    threshold: Annotated[float, typer.Option("--threshold", help="Least nDCG@10 of --keep consistent.")] = 0.4,
    samples: Annotated[int, typer.Option("--samples", help="Orders to ask for, of which the best is kept.")] = 1,
    methods: Annotated[str, typer.Option("--methods", help="Rows to write: dranker, pointwise or both.")] = "dranker",
    negatives: Annotated[str, typer.Option("--negatives", help="listed, or hard (BM25).")] = "listed",
    top_grade: Annotated[int, typer.Option("--top-grade", help="Highest grade.")] = 4,
    reasoning: Annotated[bool, typer.Option("--reasoning/--no-reasoning", help="Ask for thoughts.")] = True,
    temperature: options.Temperature = 0.0,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Most tokens of one reply.")] = 2048,
    validation: Annotated[float, typer.Option("--validation", help="Share of groups held out.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", help="Seed.")] = 0,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists asked about at the same time.")] = 64,
    prompt_price: Annotated[float | None, typer.Option("--prompt-price", help="Of a million prompt tokens.")] = None,
    reply_price: Annotated[float | None, typer.Option("--reply-price", help="Of a million reply tokens.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and ask nothing.")] = False,
) -> None:
    """Make training data with a teacher; writes OUT/sft.parquet and OUT/lists."""
    from unified_ranker.training.synthesis.setting import Synthesis

    setting = Synthesis(
        tasks=tuple(name.strip() for name in tasks.split(",") if name.strip()),
        limit=limit,
        keep=keep,
        threshold=threshold,
        samples=samples,
        methods=tuple(name.strip() for name in methods.split(",") if name.strip()),
        negatives=negatives,
        top_grade=top_grade,
        reasoning=reasoning,
        temperature=temperature,
        max_tokens=max_tokens,
        validation=validation,
        seed=seed,
    )
    from unified_ranker.backends import load_backend
    from unified_ranker.model_settings import embedded_path
    from unified_ranker.training.synthesis.run import missing_lists, plan, priced, run
    from unified_ranker.training.synthesis.teacher import Teacher

    given = options.parse_pairs(backend_option or (), flag="--backend-option")
    loaded = load_backend(backend, model or str(embedded_path()), **given)
    teacher = Teacher(loaded, setting, settings=loaded.settings, style=style)
    if dry_run:
        print(priced(plan(setting, teacher, missing_lists(setting, data, out)), prompt=prompt_price, reply=reply_price))
        return
    run(
        setting,
        teacher,
        data=data,
        out=out,
        concurrency=concurrency,
        prompt_price=prompt_price,
        reply_price=reply_price,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(out / "lists")


def _say(record: dict[str, Any]) -> None:
    facts = "  ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in record.items()
    )
    print(facts, file=sys.stderr, flush=True)
