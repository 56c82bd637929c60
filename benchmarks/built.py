"""A built task as the benchmark sees it: its lists, what stands beside them, and fingerprints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from unified_ranker.tasks.base import Task
from unified_ranker.tasks.beside import HISTORIES, History, LLMOutcome, read_histories, read_judged, read_outcomes
from unified_ranker.tasks.build import read_card, read_split
from unified_ranker.tasks.fingerprint import histories_fingerprint, lists_fingerprint
from unified_ranker.tasks.random_order import is_relevant
from unified_ranker.tasks.registry import task_named

from unified_ranker.errors import DataError, unknown_choice
from unified_ranker.schema.types import SPLITS, RankingExample


@dataclass(frozen=True)
class BuiltTask:
    """A task that ``data build`` wrote.

    Attributes:
        task: Its entry in the registry.
        folder: Its folder.
    """

    task: Task
    folder: Path

    @classmethod
    def open(cls, data: Path, name: str) -> BuiltTask:
        """Open a task of a data folder.

        Raises:
            OptionError: there is no task of that name.
            MissingSourceError: it was not built.
        """
        found = cls(task_named(name), data / name)
        read_card(found.folder)
        return found

    @property
    def name(self) -> str:
        """The task's name."""
        return self.task.name

    @property
    def domain(self) -> str:
        """The task's domain."""
        return self.task.domain

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """The card that the build wrote."""
        return read_card(self.folder)

    @property
    def edition(self) -> str:
        """``open`` or ``paper``, and ``-popularity`` if negatives were drawn by popularity."""
        matched = "-popularity" if self.card.get("negatives") == "popularity" else ""
        return f"{self.card['edition']}{matched}"

    @cached_property
    def _lists(self) -> dict[str, tuple[RankingExample, ...]]:
        return {}

    def lists(self, split: str, *, limit: int | None = None) -> tuple[RankingExample, ...]:
        """Return the lists of a split, or the first so many.

        Raises:
            OptionError: there is no such split.
            DataError: the split is empty.
        """
        if split not in SPLITS:
            raise unknown_choice("split", split, SPLITS)
        if split not in self._lists:
            self._lists[split] = tuple(read_split(self.folder.parent, self.name, split))
        if not self._lists[split]:
            raise DataError(f"task {self.name!r} has no {split} lists in {str(self.folder)!r}; choose another")
        return self._lists[split][:limit]

    def relevant(self, example: RankingExample) -> list[str]:
        """Return the ids of what counts as relevant for RR by the task's rule, in the order of the list."""
        ids = [candidate.id for candidate in example.candidates]
        found = is_relevant([example.grade(id) for id in ids], self.task.binary)
        return [id for id, relevant in zip(ids, found, strict=True) if relevant]

    @cached_property
    def histories(self) -> tuple[History, ...]:
        """Histories of the users (recommendation)."""
        return read_histories(self.folder)

    @cached_property
    def outcomes(self) -> dict[str, dict[str, LLMOutcome]]:
        """Quality and cost of each LLM, by list (routing)."""
        return read_outcomes(self.folder)

    @cached_property
    def judged(self) -> dict[str, dict[str, float]]:
        """Grades of documents outside the lists (TREC), by list."""
        return read_judged(self.folder)

    @cached_property
    def history_fingerprint(self) -> str:
        """A hash of the histories; empty where there are none."""
        if not (self.folder / HISTORIES).is_file():
            return ""
        return histories_fingerprint(self.histories)

    def fingerprint(self, split: str) -> str:
        """Return a hash of a split's lists, whatever file format holds them."""
        return lists_fingerprint(self.lists(split))
