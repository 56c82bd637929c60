"""The mean reciprocal rank of a model on built tasks, ranked through the very path that serves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import RankingExample
from unified_ranker.tasks.random_order import is_relevant
from unified_ranker.tasks.registry import task_named


def reciprocal_ranks(ranker: Ranker, lists: Mapping[str, Sequence[RankingExample]]) -> dict[str, list[float]]:
    """Return the reciprocal rank of each list, by task; 0 where nothing in it is relevant."""
    found = {}
    for task, examples in lists.items():
        rule = task_named(task).binary
        found[task] = [
            reciprocal_rank([example.grade(c.id) for c in ranking.order], rule=rule)
            for example, ranking in zip(examples, ranker.rank_batch(examples), strict=True)
        ]
    return found


def reciprocal_rank(grades: Iterable[float], *, rule: str) -> float:
    """Return the reciprocal rank of the first relevant grade of a ranking; ``rule`` is the task's ``binary``."""
    relevant = is_relevant(list(grades), rule)
    return 1 / (1 + relevant.index(True)) if any(relevant) else 0.0


def with_macro(ranks: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the mean of each task, and the mean of those as ``macro``; tasks without lists are left out.

    Example:
        >>> with_macro({"movie": [1.0, 0.5], "music": [0.25]})
        {'movie': 0.75, 'music': 0.25, 'macro': 0.5}
    """
    found = {task: sum(values) / len(values) for task, values in ranks.items() if values}
    return {**found, "macro": sum(found.values()) / len(found)} if found else {}
