"""What a specialist says of training lists that it was not fitted on: soft targets in place of measured grades.

Which LLM answered a question right is as much chance as it is the question; a model that is told nothing else learns
the chance by heart. A specialist's estimate is smooth. It is asked only about lists of folds that it did not see
(cross-fitting), since what it was fitted on it would know by heart, too.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_ranker.errors import RecipeError
from unified_ranker.schema.types import RankingExample

FOLDS = 5
#: Scores by the ids of lists and candidates.
TaughtScores = Mapping[str, Mapping[str, float]]


def taught_scores(
    data: Path, task: str, *, teacher: str, options: Mapping[str, Any], seed: int, scratch: Path
) -> TaughtScores:
    """Return the teacher's score of each candidate of each training list, by the ids of lists and candidates.

    The folds hold whole groups, so that a question's twin teaches nothing about it.

    Args:
        data: Folder of built tasks.
        task: The task.
        teacher: A baseline, such as ``"logistic-router"``.
        options: Its options.
        seed: Of the teacher's training.
        scratch: Folder for what the teacher keeps.

    Raises:
        OptionError: there is no such baseline, or it does not take an option.
        RecipeError: it is not for this task's domain, or does not learn from lists. Recommenders learn from histories,
            in which the choices of all folds stand.
        MissingExtraError: its library is not installed.
    """
    from unified_ranker.benchmarks.baselines.registry import baseline_named
    from unified_ranker.benchmarks.built import BuiltTask

    @dataclass(frozen=True)
    class OtherFolds(BuiltTask):
        """A task without the training lists of one fold."""

        fold: int = 0

        def lists(self, split: str, *, limit: int | None = None) -> tuple[RankingExample, ...]:
            # The whole task reads them once for all folds.
            found = whole.lists(split)
            if split == "train":
                found = tuple(example for example in found if fold_of(example) != self.fold)
            return found[:limit]

    whole = BuiltTask.open(data, task)
    baseline = baseline_named(teacher, **options)
    from_lists = baseline.trained and whole.domain != "recommendation"
    if not from_lists or whole.domain not in baseline.domains:
        raise RecipeError(
            f"words.teachers: {teacher!r} cannot teach {task!r}; choose a baseline that learns from the training lists "
            f"of {whole.domain}"
        )
    found: dict[str, dict[str, float]] = {}
    for fold in range(FOLDS):
        scorer = baseline.prepare(OtherFolds(whole.task, whole.folder, fold=fold), seed=seed, scratch=scratch)
        for example in whole.lists("train"):
            if fold_of(example) == fold:
                scores = scorer.score(example)
                found[example.id] = {c.id: float(s) for c, s in zip(example.candidates, scores, strict=True)}
    return found


def fold_of(example: RankingExample) -> int:
    """Return a training list's fold, from 0."""
    return zlib.crc32(example.group.encode("utf-8")) % FOLDS
