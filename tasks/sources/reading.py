"""Reading raw files so that whatever is wrong with one is told with its name and row."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unified_ranker.tasks.base import open_text

from unified_ranker.errors import DataError


@contextmanager
def record(path: Path | str, row: int) -> Iterator[None]:
    """Turn what a malformed record raises into a :class:`DataError` that names the file and row.

    Args:
        path: The file.
        row: The record's row, the file's first being 1.
    """
    try:
        yield
    except DataError:
        raise
    except KeyError as error:
        raise DataError(f"{path}, row {row}: field {error} is missing") from error
    except (ValueError, TypeError, AttributeError, IndexError, SyntaxError) as error:
        raise DataError(f"{path}, row {row}: {error}") from error


@contextmanager
def whole(path: Path) -> Iterator[None]:
    """Turn what a file that is not of its kind raises into a :class:`DataError` that names it."""
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def lines(path: Path, *, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Yield ``(row, line)`` without the line's end, rows counted from 1; cuts at new lines only.

    Raises:
        DataError: the file is not text of that encoding.
    """
    with whole(path), open_text(path, encoding=encoding) as file:
        yield from enumerate(file.read().replace("\r\n", "\n").removesuffix("\n").split("\n"), start=1)


def table(
    path: Path, needed: Sequence[str], *, delimiter: str = ",", quoted: bool = True, encoding: str = "utf-8"
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield ``(row, fields by column)`` of a table with a header.

    Args:
        path: The file.
        needed: Columns that it must have; a type after a colon in the header (``item_id:token``) does not count.
        delimiter: What separates fields.
        quoted: Whether fields may be quoted.
        encoding: Its encoding.

    Raises:
        DataError: the file is empty, lacks a column, or has a row of another length.
    """
    # Responses of several pages may stand in one field.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with whole(path), open_text(path, encoding=encoding) as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
        header = [column.split(":")[0] for column in next(reader, [])]
        for column in needed:
            if column not in header:
                raise DataError(f"{path}: column {column!r} is missing; it has {', '.join(header) or 'no header'}")
        for row, fields in enumerate(reader, start=2):
            if len(fields) != len(header):
                raise DataError(f"{path}, row {row}: {len(fields)} columns; the header has {len(header)}")
            yield row, dict(zip(header, fields, strict=True))


def document(path: Path) -> Any:
    """Read a file of JSON.

    Raises:
        DataError: it is not JSON.
    """
    with whole(path), open_text(path) as file:
        return json.load(file)
