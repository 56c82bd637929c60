"""The order in which the list came: what a reranker has to improve on."""

from __future__ import annotations

from pathlib import Path

from unified_ranker.benchmarks.baselines.base import Fixed
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.errors import DataError
from unified_ranker.schema.types import RankingExample


class FirstStage(Fixed):
    """BM25's order of the TREC lists. The nine tasks shuffle their lists, so that they have no such order."""

    name = "first-stage"
    domains = ("passage",)
    trained = False

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> FirstStage:
        """Check that the lists come in a first stage's order.

        Raises:
            DataError: they are shuffled.
        """
        if not self.ordered(task):
            raise DataError(f"task {task.name!r} has no first-stage order: its lists are shuffled")
        return self

    @staticmethod
    def ordered(task: BuiltTask) -> bool:
        """Tell whether a task keeps the order of a first stage."""
        return task.name.startswith("trec-dl-")

    def score(self, example: RankingExample) -> list[float]:
        """Return the places, best first."""
        return [float(-place) for place in range(len(example.candidates))]
