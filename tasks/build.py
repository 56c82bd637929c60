"""Build tasks into a folder, and read them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_ranker.tasks.base import BuildOptions, Built
from unified_ranker.tasks.beside import write_beside
from unified_ranker.tasks.card import make_card
from unified_ranker.tasks.registry import task_named

from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.schema.parquet import read_parquet, write_parquet
from unified_ranker.schema.types import SPLITS, RankingExample
from unified_ranker.schema.validate import check_example, check_unique


def check_splits(built: Built, *, task: str) -> None:
    """Check that no group (user, question, claim) stands in two splits, and that every example holds to the format.

    Raises:
        DataError: naming the group.
    """
    home: dict[str, str] = {}
    for split, examples in built.splits.items():
        check_unique(examples, where=f"{task}, {split}")
        for example in examples:
            check_example(example)
            if home.setdefault(example.group, split) != split:
                raise DataError(f"{task}: group {example.group!r} stands in both {home[example.group]} and {split}")


def build_task(name: str, out: Path, options: BuildOptions) -> dict[str, Any]:
    """Build one task into ``out/NAME`` and return its card.

    Raises:
        MissingSourceError: a raw file is missing; the message says where to get it.
        DataError: a raw file is malformed.
    """
    task = task_named(name)
    built = task.build[options.edition](options)
    check_splits(built, task=name)
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        write_parquet(folder / f"{split}.parquet", built.splits.get(split, []))
    write_beside(folder, built.beside)
    card = make_card(task, built, options)
    (folder / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return card


def read_card(folder: Path) -> dict[str, Any]:
    """Read the card of a built task.

    Raises:
        MissingSourceError: nothing was built there.
    """
    path = folder / "card.json"
    if not path.is_file():
        raise MissingSourceError(
            f"no built task in {str(folder)!r}; build it with: unified-ranker data build {folder.name} --out "
            f"{folder.parent}"
        )
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return card


def read_split(data: Path, task: str, split: str) -> Iterator[RankingExample]:
    """Read a split of a built task.

    Raises:
        MissingSourceError: the task was not built in ``data``.
    """
    read_card(data / task)
    return read_parquet(data / task / f"{split}.parquet")
