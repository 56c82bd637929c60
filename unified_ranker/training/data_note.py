"""What a run has learned from: the hashes of its data, noted in its folder and beside its model.

A recipe, its seed and the same data make the same model; the note says which data that was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from unified_ranker.errors import DataError
from unified_ranker.schema.types import SPLITS
from unified_ranker.tasks.fingerprint import task_fingerprints

NOTE = "data.yaml"
# What a run learns from and is validated on; how it does on test lists is measured when it is over.
SEEN = ("train", "validation")

Note = Mapping[str, Mapping[str, str]]


def note_of(data: Path, tasks: Iterable[str], *, passages: Iterable[str] = ()) -> dict[str, dict[str, str]]:
    """Return the hashes of what a run reads: by task, then by split (and ``histories``).

    Args:
        data: Folder of built tasks.
        tasks: Whose training and validation lists are read.
        passages: Tasks whose passages are read, those of test lists, too.

    Raises:
        MissingSourceError: a task is not built in ``data``.
        DataError: a file of a task is malformed.
    """
    found = {task: task_fingerprints(data, task, splits=SEEN) for task in tasks}
    return found | {task: task_fingerprints(data, task, splits=SPLITS) for task in passages}


def note_of_file(path: Path) -> dict[str, dict[str, str]]:
    """Return the hash of a file of conversations, by its name."""
    return {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}


def refuse_other_data(note: Note, out: Path) -> None:
    """Check that a folder holds no run that has seen other data.

    Raises:
        DataError: it does.
    """
    path = out / NOTE
    # A run of an older version has none.
    if not path.is_file():
        return
    before = yaml.safe_load(path.read_text(encoding="utf-8"))
    other = sorted(name for name in {*before, *note} if before.get(name) != note.get(name))
    if other:
        raise DataError(
            f"{str(out)!r} holds a run on other data: {', '.join(other)} {'differ' if other[1:] else 'differs'} from "
            f"{NOTE}; choose another --out, or the data it was started with"
        )


def write_note(note: Note, folder: Path) -> None:
    """Write the hashes into a folder."""
    (folder / NOTE).write_text(yaml.safe_dump({name: dict(found) for name, found in note.items()}), encoding="utf-8")


def copy_note(run: Path, folder: Path) -> None:
    """Copy the note of a run into the folder of its model; a run of an older version has none."""
    if (run / NOTE).is_file():
        (folder / NOTE).write_bytes((run / NOTE).read_bytes())
