"""What a run has learned from: the hashes of its data, noted in its folder and beside its model.

A recipe and its seed say how a model is made; the note says from which data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from unified_ranker.errors import DataError
from unified_ranker.files import write_whole
from unified_ranker.schema.types import SPLITS
from unified_ranker.tasks.fingerprint import task_fingerprints
from unified_ranker.training.fresh import draws_anew
from unified_ranker.training.questions import asked_tasks
from unified_ranker.training.recipe import Recipe

NOTE = "data.yaml"
# How a run does on test lists is measured when it is over: they are not part of what it learns from.
SEEN = ("train", "validation")

#: Hashes by task, then by part: a split, ``histories`` or ``outcomes``.
Note = Mapping[str, Mapping[str, str]]


def parts_of(recipe: Recipe, drawn: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return which parts of which tasks a run of the plain trainer reads.

    Args:
        recipe: The recipe.
        drawn: The tasks that the run draws lists of.
    """
    found: dict[str, tuple[str, ...]] = {}
    for task in drawn:
        fresh = ("histories",) if draws_anew(recipe, task) else ()
        # A teacher may know what each LLM's answer cost.
        taught = ("outcomes",) if task in recipe.words.teachers else ()
        found[task] = (*SEEN, *fresh, *taught)
    for task in asked_tasks(recipe, found):
        found[task] = tuple(dict.fromkeys((*SPLITS, *found.get(task, ()))))
    return found


def note_of(data: Path, parts: Mapping[str, Iterable[str]]) -> Note:
    """Return the hashes of parts of tasks.

    Args:
        data: Folder of built tasks.
        parts: Names of parts, by task; one that a task does not have is left out.

    Raises:
        MissingSourceError: a task is not built in ``data``.
        DataError: a file of a task is malformed.
    """
    return {task: task_fingerprints(data, task, parts=named) for task, named in parts.items()}


def note_of_file(path: Path) -> Note:
    """Return the hash of a file of conversations, by its name."""
    return {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}


def to_go_on(note: Note, before: Note | None, out: Path) -> Note | None:
    """Return the note of a run that goes on: the one it was started with.

    Args:
        note: What it would read now.
        before: What it was started with; None for a run of a version that noted nothing, which has no note after
            either: nobody knows what it has read.
        out: Folder of the run, for the message.

    Raises:
        DataError: they are not the same.
    """
    if before is None:
        return None
    other = sorted(name for name in {*before, *note} if before.get(name) != note.get(name))
    if other:
        raise DataError(
            f"{str(out)!r} holds a run on other data: {', '.join(other)} {'differ' if other[1:] else 'differs'} from "
            f"{NOTE}; choose another --out, or the data it was started with"
        )
    return note


def read_note(folder: Path) -> Note | None:
    """Read the note of a folder; None where there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / NOTE
    if not path.is_file():
        return None
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not YAML: {error}; remove it, and the run goes on without a note") from error
    if not isinstance(found, dict) or not all(isinstance(parts, dict) for parts in found.values()):
        raise DataError(f"{path}: not hashes by task; remove it, and the run goes on without a note")
    return found


def write_note(note: Note | None, folder: Path) -> None:
    """Write a note into a folder; None removes what an earlier run has left there."""
    path = folder / NOTE
    if note is None:
        path.unlink(missing_ok=True)
        return
    write_whole(path, yaml.safe_dump({name: dict(found) for name, found in note.items()}))
