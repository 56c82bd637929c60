"""MS MARCO QA: queries with passages, each marked whether a reader used it; from local files or the hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified_ranker.tasks.base import BuildOptions, Source
from unified_ranker.tasks.sources.reading import record

from unified_ranker.errors import DataError, MissingSourceError

SOURCE = Source(
    folder="ms_marco",
    title="MS MARCO QA v1.1",
    url="https://huggingface.co/datasets/microsoft/ms_marco",
    licence="non-commercial research only",
    note="Files train, validation and test as .jsonl or .parquet, with query, query_id and "
    "passages{is_selected, passage_text}; or give --from-hub.",
)

SPLITS = ("train", "validation", "test")


def read(options: BuildOptions) -> list[dict[str, object]]:
    """Read all splits as records with ``id``, ``query``, ``texts``, ``selected`` and ``split``.

    Raises:
        MissingSourceError: there are no files, or the hub cannot be reached.
        DataError: a record is malformed.
    """
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError

    records = []
    for split in SPLITS:
        if options.from_hub:
            rows = _from_hub(split)
        else:
            path = options.find(SOURCE, f"{split}.jsonl", f"{split}.parquet")
            kind = "parquet" if path.suffix == ".parquet" else "json"
            try:
                rows = load_dataset(kind, data_files=str(path), split="train")
            except (DatasetGenerationError, ValueError) as error:
                raise DataError(f"{path} cannot be read: {error}") from error
        records += [_record(row, split, number) for number, row in enumerate(rows)]
    return records


def _from_hub(split: str) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset("microsoft/ms_marco", "v1.1", split=split)
    except (OSError, ValueError) as error:
        raise MissingSourceError(
            f"{SOURCE.title} could not be read from the hub ({error}). With a network, try again; without "
            "one, put the files into "
            f"DATA_DIR/{SOURCE.folder} and leave --from-hub out"
        ) from error


def _record(row: Mapping[str, Any], split: str, number: int) -> dict[str, object]:
    where = f"{SOURCE.title}, {split}"
    with record(where, number + 1):
        passages = row["passages"]
        if not isinstance(passages, Mapping):
            raise DataError(f"{where}, row {number + 1}: field 'passages' is {passages!r}; it must be a mapping")
        texts, selected = list(passages["passage_text"]), [int(value) for value in passages["is_selected"]]
        found = {
            "id": str(row["query_id"]),
            "query": row["query"],
            "texts": texts,
            "selected": selected,
            "split": split,
        }
    if len(texts) != len(selected):
        raise DataError(f"{where}, row {number + 1}: {len(texts)} passages but {len(selected)} marks")
    return found
