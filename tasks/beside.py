"""What stands beside a task's lists: whole histories, what each LLM answered and cost, and judgements outside a list.

A language model ranks from the list alone. A specialist needs more, and so do some measures; ``data build`` writes it
into the task's folder, so that nobody goes back to the raw files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError, MissingSourceError

_TEXT, _NUMBER = ("string", "large_string"), ("double", "int64")
_TYPES = {
    **dict.fromkeys(("user", "split", "id", "candidate", "document"), _TEXT),
    **dict.fromkeys(("quality", "cost", "grade"), _NUMBER),
    "items": ("list<element: string>", "list<item: string>"),
}
HISTORIES = "histories.parquet"
FILES = (HISTORIES, "outcomes.parquet", "judged.parquet")


@dataclass(frozen=True, slots=True)
class History:
    """What a user chose, oldest first: all of it for a training user, else only what came before the ranked choice.

    Attributes:
        user: The user, as the lists' ``group`` names them.
        split: The user's split.
        items: Ids of the items.
    """

    user: str
    split: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LLMOutcome:
    """What an LLM made of a question.

    Attributes:
        quality: Quality of its answer, in [0, 1].
        cost: What the answer cost, > 0, in the unit of the question's pool.
    """

    quality: float
    cost: float


@dataclass(frozen=True, slots=True)
class Beside:
    """All that stands beside the lists of a task; what a domain does not have is empty.

    Attributes:
        histories: Of the users of all splits (recommendation).
        outcomes: By id of the list and of the LLM (routing).
        judged: Grades, by id of the list and of the document, of documents that the list does not hold (TREC).
    """

    histories: Sequence[History] = ()
    outcomes: Mapping[str, Mapping[str, LLMOutcome]] | None = None
    judged: Mapping[str, Mapping[str, float]] | None = None


def write_beside(folder: Path, beside: Beside) -> None:
    """Write what there is, and remove the files of an earlier build."""
    import pyarrow
    import pyarrow.parquet as parquet

    pairs = {
        "outcomes.parquet": [
            {"id": id, "candidate": name, "quality": outcome.quality, "cost": outcome.cost}
            for id, found in (beside.outcomes or {}).items()
            for name, outcome in found.items()
        ],
        "judged.parquet": [
            {"id": id, "document": name, "grade": grade}
            for id, found in (beside.judged or {}).items()
            for name, grade in found.items()
        ],
        HISTORIES: [
            {"user": history.user, "split": history.split, "items": list(history.items)} for history in beside.histories
        ],
    }
    for name, rows in pairs.items():
        (folder / name).unlink(missing_ok=True)
        if rows:
            parquet.write_table(pyarrow.Table.from_pylist(rows), folder / name)


def read_histories(folder: Path) -> tuple[History, ...]:
    """Read the histories of a built task.

    Raises:
        MissingSourceError: it has none.
        DataError: the file is malformed.
    """
    return tuple(
        History(row["user"], row["split"], tuple(row["items"]))
        for row in _rows(folder / HISTORIES, ("user", "split", "items"))
    )


def read_outcomes(folder: Path) -> dict[str, dict[str, LLMOutcome]]:
    """Read what each LLM answered and cost, by id of the list and of the LLM.

    Raises:
        MissingSourceError: the task has none.
        DataError: the file is malformed.
    """
    found: dict[str, dict[str, LLMOutcome]] = {}
    for row in _rows(folder / "outcomes.parquet", ("id", "candidate", "quality", "cost")):
        found.setdefault(row["id"], {})[row["candidate"]] = LLMOutcome(float(row["quality"]), float(row["cost"]))
    return found


def read_judged(folder: Path) -> dict[str, dict[str, float]]:
    """Read the grades of documents outside the lists; empty where the task has none.

    Raises:
        DataError: the file is malformed.
    """
    if not (folder / "judged.parquet").is_file():
        return {}
    found: dict[str, dict[str, float]] = {}
    for row in _rows(folder / "judged.parquet", ("id", "document", "grade")):
        found.setdefault(row["id"], {})[row["document"]] = float(row["grade"])
    return found


def _rows(path: Path, needed: Sequence[str]) -> list[dict[str, Any]]:
    import pyarrow
    import pyarrow.parquet as parquet

    if not path.is_file():
        raise MissingSourceError(
            f"{str(path)!r} is not there: the task was built by an older version, or comes from lists alone; build it "
            f"again with: unified-ranker data build {path.parent.name} --out {path.parent.parent}"
        )
    try:
        table = parquet.read_table(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path}: not a parquet file: {error}") from error
    for name in needed:
        if name not in table.column_names:
            raise DataError(f"{path}: column {name!r} is missing; it has {', '.join(table.column_names)}")
        wanted, found = _TYPES[name], str(table.schema.field(name).type)
        if found not in wanted:
            raise DataError(f"{path}: column {name!r} is {found}; it must be {wanted[0]}")
        if table.column(name).null_count:
            raise DataError(f"{path}: column {name!r} holds nothing in {table.column(name).null_count} rows")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows
