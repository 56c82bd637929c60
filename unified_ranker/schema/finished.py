"""What a file of results already holds: the ground on which an interrupted run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError
from unified_ranker.schema.jsonl import parse_line, ranked_id


def finished_ids(output: Path) -> set[str]:
    """Return the ids of the results in a file, after cutting off a last line that was not finished.

    Raises:
        DataError: a line before the last is malformed.
    """
    drop_unfinished(output)
    return {ranked_id(line, where=where) for where, line in _lines(output)}


def finished_records(output: Path) -> dict[str, dict[str, Any]]:
    """Return the results in a file by their id; a last line that is not finished is passed over, and left alone.

    Raises:
        DataError: a line before the last is malformed.
    """
    return {ranked_id(line, where=where): parse_line(line, where=where) for where, line in _lines(output)}


def drop_unfinished(output: Path) -> None:
    """Cut off a last line that was not finished; only whoever is going to write to the file may do so."""
    if output.exists():
        raw = output.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            with output.open("r+b") as file:
                file.truncate(whole)


def _lines(output: Path) -> Iterator[tuple[str, str]]:
    if not output.exists():
        return
    raw = output.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    try:
        lines = whole.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{output}: not UTF-8: {error}; choose another --output") from error
    for number, line in enumerate(lines, start=1):
        if line:
            yield f"{output}, row {number}", line
