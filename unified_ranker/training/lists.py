"""The lists that a model is trained on."""

from __future__ import annotations

from pathlib import Path

from unified_ranker.errors import DataError
from unified_ranker.schema.types import RankingExample
from unified_ranker.tasks.build import read_split


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
