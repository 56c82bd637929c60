"""The ``{"query", "documents"}`` JSON that rerank services take, and the loose forms that :meth:`Ranker.rank` takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unified_ranker.errors import DataError
from unified_ranker.schema.jsonl import candidate_from_dict
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.schema.validate import check_candidates, check_example


def as_candidates(items: Iterable[str | Mapping[str, Any] | Candidate], *, where: str) -> tuple[Candidate, ...]:
    """Read a list of strings, mappings or candidates.

    A string, or a mapping without ``id``, gets its position in the list (from 0) as id.

    Raises:
        DataError: the list is empty, an item has another type, or an id repeats.
    """
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise DataError(f"{where}: field 'candidates' is {type(items).__name__}; it must be a list")
    found = []
    for position, item in enumerate(items):
        if isinstance(item, Candidate):
            found.append(item)
        elif isinstance(item, str):
            found.append(Candidate(id=str(position), text=item))
        elif isinstance(item, Mapping):
            found.append(candidate_from_dict({"id": str(position), **item}, where=f"{where}, candidates[{position}]"))
        else:
            raise DataError(
                f"{where}: field 'candidates[{position}]' is {item!r} ({type(item).__name__}); "
                "give a string, a mapping with 'text', or a Candidate"
            )
    check_candidates(found, where=where)
    return tuple(found)


def from_documents(record: Mapping[str, Any], *, id: str, where: str = "") -> RankingExample:
    """Read ``{"query": …, "documents": […]}``.

    Raises:
        DataError: naming the field that is missing or wrong.
    """
    where = where or f"record {id!r}"
    for name in ("query", "documents"):
        if name not in record:
            raise DataError(f"{where}: field {name!r} is missing")
    candidates = as_candidates(record["documents"], where=where)
    return check_example(RankingExample(id=id, query=record["query"], candidates=candidates), where=where)


def to_documents(example: RankingExample) -> dict[str, Any]:
    """Return ``{"query": …, "documents": […]}``; ids and titles are kept."""
    documents: list[dict[str, str]] = []
    for candidate in example.candidates:
        document = {"id": candidate.id, "text": candidate.text}
        if candidate.title:
            document["title"] = candidate.title
        documents.append(document)
    return {"query": example.query, "documents": documents}
