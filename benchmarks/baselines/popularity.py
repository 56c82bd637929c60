"""How many training users chose an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from unified_ranker.benchmarks.baselines.base import Fixed
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import RankingExample


class Popularity(Fixed):
    """The same order for everyone. Among uniformly drawn negatives, most of them rare, it is strong."""

    name = "popularity"
    domains = ("recommendation",)
    trained = True

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> PopularityScorer:
        """Count the training users of each item."""
        return PopularityScorer(
            Counter(item for history in task.histories if history.split == "train" for item in history.items)
        )


class PopularityScorer:
    """Scores by count."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = counts

    def score(self, example: RankingExample) -> list[float]:
        """Return how many training users chose each candidate."""
        return [float(self._counts.get(candidate.id, 0)) for candidate in example.candidates]
