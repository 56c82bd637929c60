"""The lists that are measured: a task's own, made shorter or longer where a number of candidates is asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from unified_ranker.tasks.build import read_split

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample


def speed_lists(
    data: Path, task: str, *, queries: int, candidates: int, split: str = "test", seed: int = 0
) -> list[RankingExample]:
    """Return lists of one size.

    A list that is too long loses candidates of the lowest grade, drawn at random; one that is too short gets candidates
    of other lists of the same task that it does not hold yet, which count as unjudged.

    Args:
        data: Folder of built tasks.
        task: Name of a task.
        queries: How many lists.
        candidates: How many candidates each has.
        split: Which split.
        seed: Seed of what is drawn.

    Raises:
        DataError: the task has too few lists, or too few candidates over all of them.
    """
    found = list(read_split(data, task, split))
    if len(found) < queries:
        raise DataError(f"task {task!r} has {len(found)} {split} lists, not {queries}; ask for fewer lists")
    pool: dict[tuple[str, str], Candidate] = {}
    for example in found:
        for candidate in example.candidates:
            pool.setdefault((candidate.title, candidate.text), candidate)
    return [_sized(example, list(pool.values()), candidates, seed) for example in found[:queries]]


def _sized(example: RankingExample, pool: Sequence[Candidate], size: int, seed: int) -> RankingExample:
    rng = random.Random(f"{seed}/{example.id}/{size}")
    kept = list(example.candidates)
    if len(kept) > size:
        # The best stay, so that there is something to find.
        best_first = sorted(rng.sample(kept, len(kept)), key=lambda candidate: -example.grade(candidate.id))
        chosen = {candidate.id for candidate in best_first[:size]}
        kept = [candidate for candidate in kept if candidate.id in chosen]
    shown = {(candidate.title, candidate.text) for candidate in kept}
    others = [candidate for candidate in pool if (candidate.title, candidate.text) not in shown]
    missing = size - len(kept)
    if missing > len(others):
        raise DataError(
            f"the task has only {len(others) + len(kept)} different candidates, not {size}; ask for fewer, or use "
            "another task"
        )
    added = [replace(candidate, id=f"added-{number}") for number, candidate in enumerate(rng.sample(others, missing))]
    whole = [*kept, *added]
    rng.shuffle(whole)
    return example.with_candidates(tuple(whole))
