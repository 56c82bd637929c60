"""Tasks that stand in memory, and arms that note what they were asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from toy_tasks import toy_list
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import Estimate, RankedList
from unified_ranker.benchmarks.runner.arms import ranking_by
from unified_ranker.tasks import task_named

from unified_ranker.schema.types import SPLITS, RankingExample

WALL = 0.25


class ToyTask(BuiltTask):
    """A task whose lists were never written."""

    def __init__(self, name: str, *, edition: str = "open", **splits: Sequence[Sequence[int]]) -> None:
        super().__init__(task_named(name), Path("nowhere") / name)
        self.__dict__["card"] = {
            "edition": edition,
            "splits": {split: {"lists": len(splits.get(split, ()))} for split in SPLITS},
        }
        for split, lists in splits.items():
            self._lists[split] = tuple(
                toy_list(f"{split}{n}", grades, task=name, split=split) for n, grades in enumerate(lists)
            )


class Interrupted(Exception):
    """The arm was stopped before a list."""


@dataclass
class LogArm:
    """Leaves lists as they are, slowly where asked to, and logs each list before it is ranked."""

    log: Path
    model: str = "toy"
    method: str = "as-listed"
    given: dict[str, Any] = field(default_factory=dict)
    pause: float = 0.0
    refusal: str = ""
    stop_at: str = ""
    opened: list[str] = field(default_factory=list)

    def refuses(self, task: BuiltTask) -> str:
        return self.refusal

    def settings(self, task: BuiltTask) -> Mapping[str, Any]:
        return self.given

    def open(self, task: BuiltTask) -> Mapping[str, Any]:
        self.opened.append(task.name)
        return {"chosen": f"for {task.name}"}

    def rank(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Iterator[RankedList]:
        for example in examples:
            if example.id == self.stop_at:
                raise Interrupted
            with self.log.open("a", encoding="utf-8") as log:
                log.write(f"{example.id}\n")
            time.sleep(self.pause)
            yield RankedList(ranking_by(example, [0.0] * len(example.candidates), method=self.method), WALL)

    def estimate(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Estimate:
        return Estimate(len(examples), 0, 0)


def logged(log: Path) -> list[str]:
    """Return the lists that were begun, in their order."""
    return log.read_text(encoding="utf-8").split() if log.exists() else []
