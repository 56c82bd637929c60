"""What specialists say of training lists that they were not fitted on: soft targets in place of measured grades.

Which LLM answered a question right is as much chance as it is the question; a model that is told nothing else learns
the chance by heart. A specialist's estimate is smooth. It is asked only about lists of folds that it did not see
(cross-fitting), since what it was fitted on it would know by heart, too. What two of them say is smoother yet.

A softmax of probabilities says next to nothing of candidates behind a clear first: at a temperature of .1, one of .8
takes all, and .1 and .05 are as good as alike. The softmax of their log odds keeps what tells them apart.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unified_ranker.errors import RecipeError
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.distil import soft_target
from unified_ranker.training.recipe import TeacherPart

FOLDS = 5
#: Scores, or shares of a distribution over a list's candidates, by the ids of lists and candidates.
Taught = Mapping[str, Mapping[str, float]]
# Probabilities nearer to 0 or 1 count as this near: a regression's are not surer than that.
SURE = 0.001


def taught_targets(data: Path, task: str, part: TeacherPart, *, seed: int, scratch: Path) -> Taught:
    """Return the distribution over the candidates of each training list that the teachers of a task have.

    Args:
        data: Folder of built tasks.
        task: The task.
        part: Who teaches, and how scores become a distribution.
        seed: Of the teachers' training.
        scratch: Folder for what the teachers keep.

    Raises:
        RecipeError: a teacher cannot teach the task, or its scores are to be probabilities and are not.
        OptionError: there is no such baseline, or it does not take an option.
        MissingExtraError: its library is not installed.
    """
    told = [
        taught_scores(data, task, teacher=name, options=options, seed=seed, scratch=scratch)
        for teacher in part.of
        for name, options in teacher.items()
    ]
    if part.odds:
        _check_probabilities(told, task)
    found: dict[str, dict[str, float]] = {}
    for id, first in told[0].items():
        scores = [fmean(scores[id][candidate] for scores in told) for candidate in first]
        if part.odds:
            scores = [_log_odds(score) for score in scores]
        found[id] = dict(zip(first, soft_target(scores, temperature=part.temperature), strict=True))
    return found


def _check_probabilities(told: Sequence[Taught], task: str) -> None:
    # Each teacher's own: the mean of 1.4 and .2 looks like one.
    for score in (score for scores in told for entry in scores.values() for score in entry.values()):
        if not 0 <= score <= 1:
            raise RecipeError(
                f"words.teachers.{task}.odds=True, but a teacher scored {score!r}, which is no probability; choose one "
                "that says probabilities, such as logistic-router, or odds=false"
            )


def _log_odds(probability: float) -> float:
    sure = min(max(probability, SURE), 1 - SURE)
    return math.log(sure / (1 - sure))


def taught_scores(
    data: Path, task: str, *, teacher: str, options: Mapping[str, Any], seed: int, scratch: Path
) -> Taught:
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
