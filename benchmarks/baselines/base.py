"""What a baseline is: prepared on a task's training side, it scores the candidates of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from unified_ranker.benchmarks.built import BuiltTask

from unified_ranker.schema.types import SPLITS, Candidate, RankingExample


class Scorer(Protocol):
    """A baseline that is ready for one task."""

    def score(self, example: RankingExample) -> Sequence[float]:
        """Return one score a candidate, higher is better. It may not look at ``example.relevance``."""


class Baseline(Protocol):
    """One entry of the registry.

    Attributes:
        name: Such as ``"bm25"``.
        domains: Where it applies.
        trained: Whether it learns from the training split, or from what users chose.
    """

    name: str
    domains: tuple[str, ...]
    trained: bool

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> Scorer:
        """Make it ready for a task; only training and validation splits are looked at.

        Args:
            task: The task.
            seed: Makes training repeatable.
            scratch: Folder that outlives the call, for models and indices.

        Raises:
            MissingExtraError: its library is not installed.
        """

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return what the baseline chose on validation, for the result's file."""


class Fixed:
    """A baseline without anything to choose."""

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return nothing."""
        return {}


def text_of(candidate: Candidate) -> str:
    """Return a candidate as one text."""
    return f"{candidate.title} {candidate.text}".strip()


def query_of(example: RankingExample) -> str:
    """Return what the candidates are matched with: the query, or a user's history where there is one.

    The query of a recommendation is the same for all users; it says nothing about any candidate.
    """
    return " ".join(example.context) if example.context else example.query


def candidate_texts(task: BuiltTask, *splits: str) -> list[str]:
    """Return the different texts of all candidates of some splits, in their order."""
    return list(
        dict.fromkeys(
            text_of(candidate) for split in splits for example in task.lists(split) for candidate in example.candidates
        )
    )


def corpus(task: BuiltTask) -> list[str]:
    """Return the texts that word statistics are taken from: all documents of the task, as a search engine's index has.

    Documents alone are seen, never which of them is relevant.
    """
    return candidate_texts(task, *(split for split in SPLITS if task.card["splits"].get(split, {}).get("lists")))
