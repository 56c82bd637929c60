"""The arms that a command of ``unified-ranker bench`` names: a model by methods, and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.shared import names
from unified_ranker.errors import OptionError

if TYPE_CHECKING:
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.benchmarks.runner import Arm

Methods = Annotated[
    str | None,
    typer.Option("--method", help="Comma-separated methods; the model's own by default, 'none' for baselines alone."),
]


def model_arms(arguments: dict[str, Any], methods: str | None, *, name: str | None, concurrency: int) -> list[Arm]:
    """Return an arm a method, all with one loaded model; none for ``methods`` ``"none"``."""
    from unified_ranker.benchmarks.runner import ModelArm

    if methods == "none":
        return []
    wanted: list[str | None] = [*names(methods)] if methods else [None]
    arms: list[ModelArm] = []
    for method in wanted:
        share = arms[0] if arms else None
        arms.append(ModelArm(arguments, method=method, name=name, concurrency=concurrency, share=share))
    return [*arms]


def baseline_arms(
    wanted: str, given: list[str] | tuple[str, ...], tasks: list[BuiltTask], *, seed: int, scratch: Path
) -> list[Arm]:
    """Return an arm a baseline; of a set, those that apply to one of the tasks at least.

    Raises:
        OptionError: a baseline or an option is not known, or options come with several baselines.
    """
    from unified_ranker.benchmarks.baselines.registry import SETS, baseline_named
    from unified_ranker.benchmarks.runner import BaselineArm

    own = options.parse_pairs(given, flag="--baseline-option")
    chosen = [found for name in names(wanted) for found in SETS.get(name, (name,))]
    if own and len(chosen) != 1:
        raise OptionError("--baseline-option goes with one baseline; run the others by a command of their own")
    arms = []
    for name in dict.fromkeys(chosen):
        arm = BaselineArm(baseline_named(name, **own), seed=seed, scratch=scratch, options=own)
        if any(not arm.refuses(task) for task in tasks) or name in names(wanted):
            arms.append(arm)
    return [*arms]
