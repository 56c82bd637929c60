"""What decides a synthesis, checked before the teacher is asked for anything."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.tasks.registry import task_named

KEEPS = ("consistent", "promoting")
NEGATIVES = ("listed", "hard")
METHODS = ("dranker", "pointwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """A synthesis.

    Attributes:
        tasks: Tasks whose training lists are shown to the teacher.
        limit: Lists of each task, the first ones; None for all.
        keep: ``"consistent"`` (ReasonRank, arXiv 2508.07050): an order is kept if its nDCG@10 against the teacher's own
            grades is at least ``threshold``. ``"promoting"`` (the rejection sampling of GR2, arXiv 2602.07774): if its
            nDCG@10 against the known relevance is above that of the list as shown.
        threshold: See ``keep``; in [0, 1].
        samples: Orders that are asked for, of which the best that passes is kept; more than one needs a temperature.
        methods: Of which replies rows for supervised training are written: ``"dranker"`` (orders), ``"pointwise"``
            (grades).
        negatives: ``"listed"`` shows lists as they are. ``"hard"`` replaces candidates that are not relevant by those
            of the task whose words are most like the query's (BM25); the teacher's grades decide whether they are.
        top_grade: Highest grade.
        reasoning: Ask for thoughts.
        temperature: Of orders, and of grades.
        max_tokens: Most tokens of one reply.
        validation: Share of groups (users, questions, claims) whose lists become validation lists.
        seed: Seed.
    """

    tasks: tuple[str, ...]
    limit: int | None = None
    keep: str = "consistent"
    threshold: float = 0.4
    samples: int = 1
    methods: tuple[str, ...] = ("dranker",)
    negatives: str = "listed"
    top_grade: int = 4
    reasoning: bool = True
    temperature: float = 0.0
    max_tokens: int = 2048
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.tasks:
            raise OptionError("tasks is empty; name at least one")
        for option, names in (("tasks", self.tasks), ("methods", self.methods)):
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise OptionError(f"{option}: {twice!r} is named twice")
        for name in self.tasks:
            if task_named(name).domain != "passage" and self.negatives == "hard":
                raise OptionError(
                    f"negatives='hard' goes by the words that query and candidate share; task {name!r} has no such "
                    "query, use negatives='listed'"
                )
        for option, value, known in (("keep", self.keep, KEEPS), ("negatives", self.negatives, NEGATIVES)):
            if value not in known:
                raise unknown_choice(option, value, known)
        if not self.methods:
            raise OptionError(f"methods is empty; choose among: {', '.join(METHODS)}")
        for method in self.methods:
            if method not in METHODS:
                raise unknown_choice("methods", method, METHODS)
        if not 0 <= self.threshold <= 1:
            raise OptionError(f"threshold={self.threshold} must be in [0, 1]")
        if not 0 <= self.validation < 1:
            raise OptionError(f"validation={self.validation} must be in [0, 1)")
        for name, least in (("samples", 1), ("top_grade", 1), ("max_tokens", 1)):
            if getattr(self, name) < least:
                raise OptionError(f"{name}={getattr(self, name)} must be ≥ {least}")
        if self.limit is not None and self.limit < 1:
            raise OptionError(f"limit={self.limit} must be ≥ 1")
        if self.samples > 1 and not self.temperature > 0:
            raise OptionError(
                f"samples={self.samples} at temperature=0 would be {self.samples} times the same; give a temperature"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
