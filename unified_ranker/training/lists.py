"""The lists that a model is trained on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.tasks.build import read_split


def drawn_tasks(tasks: Mapping[str, float]) -> dict[str, float]:
    """Return the tasks of a recipe that a run draws lists of, with their weights: those whose weight is not 0."""
    return {task: weight for task, weight in tasks.items() if weight > 0}


def training_lists(data: Path, task: str) -> list[RankingExample]:
    """Return the training lists of a task that can teach: those whose candidates are not all equal.

    Raises:
        MissingSourceError: the task is not built in ``data``.
        DataError: it has no such list.
    """
    found = [e for e in read_split(data, task, "train") if len({e.grade(c.id) for c in e.candidates}) > 1]
    if not found:
        raise DataError(
            f"task {task!r} has no training lists in {str(data / task)!r}; leave it out of the recipe's tasks"
        )
    return found


def best_and_others(example: RankingExample) -> tuple[list[Candidate], list[Candidate]]:
    """Return the candidates of a list's best grade, and those below it."""
    best = max(example.grade(candidate.id) for candidate in example.candidates)
    winners = [c for c in example.candidates if example.grade(c.id) == best]
    return winners, [c for c in example.candidates if example.grade(c.id) < best]


def case_of(example: RankingExample, k: int, rng: random.Random) -> RankingExample:
    """Return a case of a list: one of its best candidates and ``k`` random worse ones, in the order of the list.

    R1-Ranker's construction (arXiv 2506.21638): a state of an elimination in which nothing has gone wrong yet.
    """
    winners, others = best_and_others(example)
    kept = {rng.choice(winners).id, *(c.id for c in rng.sample(others, k))}
    drawn = tuple(c for c in example.candidates if c.id in kept)
    return replace(example, candidates=drawn, relevance={c.id: example.grade(c.id) for c in drawn})


def random_case(example: RankingExample, rng: random.Random) -> RankingExample:
    """Return a case of random size; a list of equals comes back as it is."""
    _, others = best_and_others(example)
    return case_of(example, rng.randint(1, len(others)), rng) if others else example


def balanced(example: RankingExample, rng: random.Random) -> Candidate:
    """Return a random candidate, as often one of the best as one of the others."""
    winners, others = best_and_others(example)
    return rng.choice(winners if not others or rng.random() < 0.5 else others)
