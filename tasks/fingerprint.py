"""Hashes that tell whether two built tasks hold the same, whatever file format holds them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from unified_ranker.tasks.beside import HISTORIES, History, read_histories
from unified_ranker.tasks.build import read_split

from unified_ranker.schema.jsonl import dump_line, example_to_dict
from unified_ranker.schema.types import RankingExample

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


def task_fingerprints(data: Path, task: str, *, splits: Iterable[str]) -> dict[str, str]:
    """Return the hash of each split of a built task that holds lists, and of its ``histories``, where it has any.

    Args:
        data: Folder of built tasks.
        task: Name of a task.
        splits: Names of splits.

    Raises:
        MissingSourceError: the task is not built in ``data``.
        DataError: a file of it is malformed.
    """
    found = {}
    for split in splits:
        examples = tuple(read_split(data, task, split))
        if examples:
            found[split] = lists_fingerprint(examples)
    if (data / task / HISTORIES).is_file():
        found["histories"] = histories_fingerprint(read_histories(data / task))
    return found
