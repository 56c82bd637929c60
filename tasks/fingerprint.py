"""Hashes that tell whether two built tasks hold the same, whatever file format holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from unified_ranker.tasks.beside import History, LLMOutcome, read_histories, read_outcomes
from unified_ranker.tasks.build import read_split

from unified_ranker.schema.jsonl import dump_line, example_to_dict
from unified_ranker.schema.types import SPLITS, RankingExample

# Hexadecimal digits: 64 bits.
_DIGITS = 16


def lists_fingerprint(examples: Iterable[RankingExample]) -> str:
    """Return a hash of lists, 16 hexadecimal digits: of all that they hold, and of their order."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(dump_line(example_to_dict(example)).encode("utf-8"))
    return digest.hexdigest()[:_DIGITS]


def histories_fingerprint(histories: Iterable[History]) -> str:
    """Return a hash of users' histories, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for history in histories:
        digest.update(json.dumps([history.user, history.split, history.items]).encode("utf-8"))
    return digest.hexdigest()[:_DIGITS]


def outcomes_fingerprint(outcomes: Mapping[str, Mapping[str, LLMOutcome]]) -> str:
    """Return a hash of what each LLM answered and cost, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for id, found in outcomes.items():
        for name, outcome in found.items():
            digest.update(json.dumps([id, name, outcome.quality, outcome.cost]).encode("utf-8"))
    return digest.hexdigest()[:_DIGITS]


_BESIDE: dict[str, Callable[[Path], str]] = {
    "histories": lambda folder: histories_fingerprint(read_histories(folder)),
    "outcomes": lambda folder: outcomes_fingerprint(read_outcomes(folder)),
}


def task_fingerprints(data: Path, task: str, *, parts: Iterable[str]) -> dict[str, str]:
    """Return the hashes of parts of a built task, by their names; a part that it does not have is left out.

    Args:
        data: Folder of built tasks.
        task: Name of a task.
        parts: Splits, ``"histories"`` and ``"outcomes"``.

    Raises:
        MissingSourceError: the task is not built in ``data``.
        DataError: a file of it is malformed.
    """
    found = {}
    for part in parts:
        if part in SPLITS:
            examples = tuple(read_split(data, task, part))
            if examples:
                found[part] = lists_fingerprint(examples)
        elif (data / task / f"{part}.parquet").is_file():
            found[part] = _BESIDE[part](data / task)
    return found
