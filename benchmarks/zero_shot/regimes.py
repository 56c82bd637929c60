"""What each model of the experiment is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from unified_ranker.tasks.build import read_card, read_split
from unified_ranker.tasks.registry import NINE, TASKS

from unified_ranker.errors import DataError, unknown_choice
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import DOMAINS, SPLITS


@dataclass(frozen=True, slots=True)
class Regime:
    """One model of the experiment.

    Attributes:
        name: What it is called in results.
        tasks: What it is trained on.
        trained: Whether it is trained at all.
        groups: Only lists whose group begins so, such as ``"scifact:"``; empty for all.
        summary: What it is there for.
    """

    name: str
    tasks: tuple[str, ...]
    summary: str
    trained: bool = True
    groups: str = ""


def _of(*domains: str) -> tuple[str, ...]:
    return tuple(name for name in NINE if TASKS[name].domain in domains)


#: The published protocol (R1-Ranker, arXiv 2506.21638, zero-shot across task families) holds a family of tasks out.
REGIMES: dict[str, Regime] = {
    regime.name: regime
    for regime in (
        Regime("untrained", NINE, "the starting weights", trained=False),
        Regime("all", NINE, "all nine tasks"),
        *(
            Regime(f"without-{domain}", _of(*(other for other in DOMAINS if other != domain)), f"no list of {domain}")
            for domain in DOMAINS
        ),
        Regime("movie-only", ("movie",), "transfer inside recommendation"),
        Regime(
            "scifact-only",
            ("passage-5", "passage-7", "passage-9"),
            "transfer inside passage ranking, to TREC",
            groups="scifact:",
        ),
    )
}


def regime_named(name: str) -> Regime:
    """Return a regime.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in REGIMES:
        raise unknown_choice("regime", name, REGIMES)
    return REGIMES[name]


def training_data(regime: Regime, data: Path, out: Path) -> Path:
    """Return the folder of built tasks that a regime is trained on; one that takes a part gets a folder of its own.

    Raises:
        DataError: no training list of a task is left.
    """
    if not regime.groups:
        return data
    for task in regime.tasks:
        folder = out / task
        if (folder / "card.json").is_file():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        for split in SPLITS:
            kept = [example for example in read_split(data, task, split) if example.group.startswith(regime.groups)]
            if split == "train" and not kept:
                raise DataError(f"task {task!r} has no training list of a group {regime.groups!r}")
            write_parquet(folder / f"{split}.parquet", kept)
        read_card(data / task)
        # Last, so that a folder that was cut short is filled anew.
        (folder / "card.json").write_bytes((data / task / "card.json").read_bytes())
    return out


def task_weights(regime: Regime, weights: Mapping[str, float]) -> list[str]:
    """Return overrides of a recipe that leave the regime's tasks with the weights they have, and others none."""
    # Never in exponents: YAML takes 1e-05 for a text.
    return [f"tasks.{task}={float(weights.get(task, 0) if task in regime.tasks else 0):.12f}" for task in NINE]
