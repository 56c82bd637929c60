"""One model by one method on one task: a file of rankings that only grows, and a file that says how they came about."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from unified_ranker.errors import DataError
from unified_ranker.files import write_whole
from unified_ranker.schema.finished import drop_unfinished, finished_records
from unified_ranker.schema.jsonl import dump_line
from unified_ranker.schema.types import Ranking

#: What must agree before rankings are added to a cell that was begun earlier.
DECIDING = ("model", "method", "task", "edition", "split", "settings", "data_hash")


@dataclass(frozen=True)
class Cell:
    """A cell of a run.

    Attributes:
        path: The file of rankings, ``RUN/MODEL--METHOD/TASK.jsonl``; facts stand beside it in ``TASK.json``.
    """

    path: Path

    @classmethod
    def of(cls, run: Path, *, model: str, method: str, task: str) -> Cell:
        """Return the cell of a run folder; nothing is read or written yet."""
        return cls(run / f"{_plain(model)}--{_plain(method)}" / f"{task}.jsonl")

    @classmethod
    def all(cls, run: Path) -> list[Cell]:
        """Return the cells of a run folder, in the order of their names.

        Raises:
            DataError: there is no such folder, or no cell in it.
        """
        found = [cls(path.with_suffix(".jsonl")) for path in sorted(run.glob("*--*/*.json"))]
        if not found:
            raise DataError(f"{str(run)!r} holds no results; make some with: unified-ranker bench run --out {run}")
        return found

    @property
    def facts_path(self) -> Path:
        """The file that says how the rankings came about."""
        return self.path.with_suffix(".json")

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """How the rankings came about.

        Raises:
            DataError: the file is malformed.
        """
        try:
            facts: dict[str, Any] = json.loads(self.facts_path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{self.facts_path}: not JSON: {error}; remove it and its .jsonl, and run again") from error
        return facts

    def records(self) -> dict[str, dict[str, Any]]:
        """Return the rankings that stand in the file, by list. A last line that is not finished is passed over.

        Raises:
            DataError: a line before the last is malformed.
        """
        return finished_records(self.path)

    def check(self, facts: Mapping[str, Any]) -> None:
        """Check that rankings made as ``facts`` say may be added.

        Raises:
            DataError: naming what differs.
        """
        if not self.facts_path.is_file():
            if self.path.is_file():
                raise DataError(
                    f"{self.path} holds rankings but {self.facts_path.name} is gone; remove it, or bring it"
                )
            return
        for name in DECIDING:
            before, now = self.facts.get(name), json.loads(json.dumps(facts.get(name)))
            if before != now:
                raise DataError(
                    f"{self.path}: {name} was {before!r} and is {now!r} now; choose another --out or --name, or "
                    "--only-missing to leave finished cells as they are"
                )

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write the facts, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.facts_path, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
        self.__dict__.pop("facts", None)

    @contextmanager
    def adding(self) -> Iterator[TextIO]:
        """Open the file of rankings to add to it, after cutting off a last line that was not finished."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        drop_unfinished(self.path)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            yield file


def line_of(ranking: Ranking, *, wall: float) -> str:
    """Return a ranking as a line: places by id, what each step came to, and what it cost.

    Args:
        ranking: The ranking.
        wall: Seconds of the run that went by for this list, so that the lines of a cell add up to its time.
    """
    record = ranking.to_dict()
    return dump_line(
        {
            "id": record["id"],
            "ranking": [place["id"] for place in record["ranking"]],
            "scores": [place["score"] for place in record["ranking"]],
            "steps": [{key: value for key, value in step.items() if key != "logprobs"} for step in record["steps"]],
            "usage": record["usage"],
            "wall": round(wall, 6),
        }
    )


def _plain(name: str) -> str:
    """Return a name as a folder's: what is no letter, digit, point, dash or underscore becomes an underscore."""
    return re.sub(r"[^\w.-]", "_", name).strip(".") or "_"
