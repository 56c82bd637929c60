"""Train every regime by the same recipe and budget, and rank the test lists of all tasks with each."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import ModelArm, run_benchmark
from unified_ranker.benchmarks.zero_shot.regimes import Regime, task_weights, training_data

from unified_ranker.errors import OptionError, RecipeError, unknown_choice
from unified_ranker.training.recipe import load_recipe
from unified_ranker.training.rl.recipe import load_recipe as load_rl

Say = Callable[[str], None]
STAGES = ("sft", "rl")


def run_zero_shot(
    regimes: Sequence[Regime],
    tasks: Sequence[BuiltTask],
    *,
    data: Path,
    out: Path,
    sft_recipe: str = "start-tiny",
    rl_recipe: str = "iranker-tiny",
    sft: Sequence[str] = (),
    rl: Sequence[str] = (),
    stages: Sequence[str] = STAGES,
    limit: int | None = None,
    concurrency: int = 64,
    say: Say = lambda line: None,
) -> Path:
    """Train and rank; what was done before is not done again.

    Args:
        regimes: The models of the experiment.
        tasks: What they are tested on.
        data: Folder of built tasks.
        out: Folder of the experiment: ``models/REGIME/sft`` and ``rl``, and ``results``, a run of the benchmark.
        sft_recipe: Recipe of supervised training, the same for all.
        rl_recipe: Recipe of reinforcement learning, which goes on from there.
        sft: Overrides of the first, such as ``tokens=500000``.
        rl: Overrides of the second.
        stages: ``("sft",)`` or ``("sft", "rl")``.
        limit: Only the first so many test lists of each task.
        concurrency: Lists that are ranked at the same time.
        say: Called with each line of progress.

    Returns:
        The folder of the results.

    Raises:
        OptionError: a stage is not known, or supervised training is left out.
        RecipeError: the folder holds an experiment by other recipes.
    """
    for stage in stages:
        if stage not in STAGES:
            raise unknown_choice("stage", stage, STAGES)
    if "sft" not in stages:
        raise OptionError(f"stages={tuple(stages)!r}: reinforcement learning goes on from supervised training; add sft")
    if not regimes:
        raise OptionError("regimes=[]: there is nothing to train")
    for name, value in (("limit", limit), ("concurrency", concurrency)):
        if value is not None and value < 1:
            raise OptionError(f"{name}={value} must be ≥ 1")
    # What is wrong with a recipe is told before the first model is trained.
    _claim(
        out,
        {
            "sft": load_recipe(sft_recipe, sft).to_dict(),
            "rl": load_rl(rl_recipe, rl).to_dict() if "rl" in stages else None,
        },
    )
    results = out / "results"
    for regime in regimes:
        model = _trained(regime, data, out, sft_recipe, rl_recipe, sft, rl, "rl" in stages, say)
        arm = ModelArm({"name_or_path": str(model)}, name=regime.name, concurrency=concurrency)
        run_benchmark([arm], tasks, out=results, limit=limit, say=say)
    return results


def _claim(out: Path, budget: dict[str, Any]) -> None:
    """Note the recipes of an experiment; all its models are trained by the same ones.

    Raises:
        RecipeError: the folder holds an experiment by others.
    """
    note = out / "experiment.json"
    text = json.dumps(budget, indent=1) + "\n"
    if note.is_file() and note.read_text(encoding="utf-8") != text:
        raise RecipeError(
            f"{str(out)!r} holds an experiment by other recipes, overrides or stages (experiment.json); choose another "
            "--out, so that all models are trained alike"
        )
    out.mkdir(parents=True, exist_ok=True)
    note.write_text(text, encoding="utf-8")


def _trained(
    regime: Regime,
    data: Path,
    out: Path,
    sft_recipe: str,
    rl_recipe: str,
    sft: Sequence[str],
    rl: Sequence[str],
    with_rl: bool,
    say: Say,
) -> Path:
    home = out / "models" / regime.name
    lists = training_data(regime, data, home / "data")
    start = home / "sft" / "model"
    if not (start / "ranker.json").is_file():
        from unified_ranker.training.sft import Trainer

        weights = task_weights(regime, load_recipe(sft_recipe, sft).tasks)
        # One step at a rate that is next to nothing leaves the weights where they were. Where names start is learned.
        nothing = [
            "words.lists=0",
            "words.further=0",
            "words.together=false",
            "tokens=1",
            "optimizer.learning_rate=0.000000000001",
        ]
        budget = [] if regime.trained else nothing
        say(f"{regime.name}: supervised training on {', '.join(regime.tasks) if regime.trained else 'nothing'}")
        # What is ranked, no model has read, whatever its recipe reads besides its tasks.
        unread = ["questions.share=0"]
        recipe = load_recipe(sft_recipe, [*sft, *weights, *unread, *budget])
        Trainer(recipe, data=lists, out=home / "sft", on_log=lambda record: None).run()
    if not (with_rl and regime.trained):
        return start
    from unified_ranker.training.rl.launch import run

    if not (home / "rl" / "summary.json").is_file():
        say(f"{regime.name}: reinforcement learning")
        weights = task_weights(regime, load_rl(rl_recipe, rl).tasks)
        # As JSON, which is YAML too: a folder may be called anything.
        chosen = load_rl(rl_recipe, [*rl, *weights, f"model={json.dumps(str(start.resolve()), ensure_ascii=False)}"])
        run(chosen, data=lists, out=home / "rl", say=say)
    return home / "rl" / "model"
