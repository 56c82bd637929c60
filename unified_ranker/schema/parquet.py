"""Examples as parquet, through ``datasets``, with declared features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unified_ranker.errors import DataError
from unified_ranker.schema.jsonl import example_from_dict, example_to_dict
from unified_ranker.schema.types import RankingExample

if TYPE_CHECKING:
    import datasets


def features() -> datasets.Features:
    """Return the declared columns. Relevance is a list of pairs, since parquet has no open mappings."""
    from datasets import Features, List, Value

    text = Value("string")
    return Features(
        {
            "id": text,
            "task": text,
            "domain": text,
            "split": text,
            "group": text,
            "query": text,
            "context": List(text),
            "candidates": List({"id": text, "title": text, "text": text}),
            "relevance": List({"id": text, "grade": Value("float64")}),
        }
    )


def _to_row(example: RankingExample) -> dict[str, Any]:
    row = example_to_dict(example)
    row["relevance"] = [{"id": key, "grade": grade} for key, grade in row["relevance"].items()]
    return row


def write_parquet(path: str | Path, examples: Iterable[RankingExample]) -> int:
    """Write examples and return how many. The same examples give the same bytes.

    Raises:
        DataError: a text holds a lone surrogate, which UTF-8 cannot express (JSON lines can).
    """
    import datasets

    rows = [_to_row(example) for example in examples]
    for row in rows:
        texts = [row[name] for name in ("id", "task", "domain", "split", "group", "query")]
        for value in (*texts, *row["context"], *(text for c in row["candidates"] for text in c.values())):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError as error:
                raise DataError(
                    f"example {row['id']!r}: {value!r} holds a lone surrogate, which parquet cannot store; "
                    "replace it or write JSON lines"
                ) from error
    columns = {name: [row[name] for row in rows] for name in features()}
    table = datasets.Dataset.from_dict(columns, features=features())
    write_quietly(table, path)
    return len(rows)


def write_quietly(table: datasets.Dataset, path: str | Path) -> None:
    """Write a data set as parquet without a progress bar, which for lists like ours is gone before it can be read."""
    import datasets

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        table.to_parquet(str(path))
    finally:
        if shown:
            datasets.enable_progress_bars()


def read_parquet(path: str | Path) -> Iterator[RankingExample]:
    """Read examples one by one, checked.

    Raises:
        DataError: naming the file, row and field.
    """
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        file = parquet.ParquetFile(Path(path))
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise DataError(f"{path}: not a parquet file: {error}") from error
    missing = set(features()) - set(file.schema_arrow.names)
    if missing:
        raise DataError(
            f"{path}: column {sorted(missing)[0]!r} is missing; it has {', '.join(file.schema_arrow.names)}"
        )
    number = 0
    for batch in file.iter_batches(batch_size=256):
        for row in batch.to_pylist():
            number += 1
            yield example_from_row(row, where=f"{path}, row {number}")


def example_from_row(row: Mapping[str, Any], *, where: str) -> RankingExample:
    """Return one row as an example, checked.

    Raises:
        DataError: naming ``where`` and the field.
    """
    pairs = row.get("relevance") or []
    if not isinstance(pairs, list) or not all(isinstance(p, dict) and {"id", "grade"} <= set(p) for p in pairs):
        raise DataError(f"{where}: field 'relevance' is {pairs!r}; it must be a list of id and grade")
    if len({pair["id"] for pair in pairs}) != len(pairs):
        raise DataError(f"{where}: field 'relevance' grades a candidate twice")
    return example_from_dict({**row, "relevance": {p["id"]: p["grade"] for p in pairs}}, where=where)
