"""Routing without reading the question: always the same order of LLMs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean

from unified_ranker.benchmarks.baselines.base import Fixed
from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import RankingExample


def pool_of(example: RankingExample) -> tuple[str, ...]:
    """Return which LLMs a list chooses from; lists with the same ones share a pool."""
    return tuple(sorted(candidate.id for candidate in example.candidates))


def mean_utilities(task: BuiltTask) -> dict[tuple[str, ...], dict[str, float]]:
    """Return each LLM's mean training relevance, by pool."""
    found: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for example in task.lists("train"):
        for candidate in example.candidates:
            found[pool_of(example)][candidate.id].append(example.grade(candidate.id))
    return {pool: {name: fmean(values) for name, values in grades.items()} for pool, grades in found.items()}


class CheapestLLM(Fixed):
    """LLMs by what their answers to the training questions cost on average, cheapest first."""

    name = "cheapest-llm"
    domains = ("routing",)
    trained = True

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> TableScorer:
        """Take the means."""
        costs: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for example in task.lists("train"):
            for name, outcome in task.outcomes[example.id].items():
                costs[pool_of(example)][name].append(outcome.cost)
        return TableScorer(
            {pool: {name: -fmean(values) for name, values in found.items()} for pool, found in costs.items()}
        )


class BestLLM(Fixed):
    """LLMs by their mean training relevance: the best that a router can do without reading."""

    name = "best-llm"
    domains = ("routing",)
    trained = True

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> TableScorer:
        """Take the means."""
        return TableScorer(mean_utilities(task))


class TableScorer:
    """Scores from a table by pool; an LLM that it does not know scores 0."""

    def __init__(self, table: Mapping[tuple[str, ...], Mapping[str, float]]) -> None:
        self._table = table

    def score(self, example: RankingExample) -> list[float]:
        """Return the table's entries."""
        known = self._table.get(pool_of(example), {})
        return [known.get(candidate.id, 0.0) for candidate in example.candidates]
