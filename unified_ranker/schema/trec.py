"""TREC run and qrels files: the exchange formats of the retrieval field."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unified_ranker.errors import DataError

if TYPE_CHECKING:
    from unified_ranker.schema.types import Ranking, RankingExample


def check_id(value: str, *, field: str) -> str:
    """Return ``value`` if a TREC file can hold it.

    Raises:
        DataError: it is empty or holds white space.
    """
    if not value or value.split() != [value]:
        raise DataError(
            f"{field} {value!r} is empty or holds white space, which TREC files cannot express; rename it or write JSON"
        )
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{field} {value!r} holds a lone surrogate; rename it") from error
    return value


def run_lines(ranking: Ranking, *, tag: str) -> str:
    """Return the lines of one query; scores strictly decrease, since trec_eval sorts by score and ignores the rank."""
    query = check_id(ranking.example_id, field="example id")
    check_id(tag, field="tag")
    return "".join(
        f"{query} Q0 {check_id(place.id, field='candidate id')} {place.rank} {float(place.score)!r} {tag}\n"
        for place in ranking
    )


def qrels_lines(example: RankingExample) -> str:
    """Return ``query 0 document grade`` for each judged candidate.

    Raises:
        DataError: an id holds white space, or a grade is no whole number (qrels hold integers).
    """
    query = check_id(example.id, field="example id")
    lines = []
    for key, grade in example.relevance.items():
        if not float(grade).is_integer():
            raise DataError(
                f"example {example.id!r}: grade {grade!r} of {key!r} is no whole number, and qrels hold "
                "integers; scale the grades"
            )
        lines.append(f"{query} 0 {check_id(key, field='candidate id')} {int(grade)}\n")
    return "".join(lines)


def write_run(path: str | Path, rankings: Iterable[Ranking], *, tag: str = "unified-ranker") -> None:
    """Write a run file."""
    with Path(path).open("w", encoding="utf-8") as file:
        for ranking in rankings:
            file.write(run_lines(ranking, tag=tag))


def write_qrels(path: str | Path, examples: Iterable[RankingExample]) -> None:
    """Write a qrels file."""
    with Path(path).open("w", encoding="utf-8") as file:
        for example in examples:
            file.write(qrels_lines(example))


def _fields(path: str | Path, width: int, names: str) -> Iterable[tuple[str, list[str]]]:
    with Path(path).open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            parts = line.split()
            if len(parts) != width:
                raise DataError(f"{path}, row {number}: {len(parts)} columns; expected {width} ({names})")
            yield f"{path}, row {number}", parts


def read_qrels(path: str | Path) -> dict[str, dict[str, float]]:
    """Read grades by query and document.

    Raises:
        DataError: naming the file, row and column; a document judged twice for a query is refused.
    """
    grades: dict[str, dict[str, float]] = {}
    for where, (query, _, document, grade) in _fields(path, 4, "query iteration document grade"):
        judged = grades.setdefault(query, {})
        if document in judged:
            raise DataError(f"{where}: column 'document': {document!r} is judged twice for query {query!r}")
        try:
            judged[document] = float(int(grade))
        except ValueError as error:
            raise DataError(f"{where}: column 'grade' is {grade!r}; it must be a whole number") from error
    return grades


def read_run(path: str | Path) -> Mapping[str, list[tuple[str, float]]]:
    """Read documents with scores by query, best first (by score, as trec_eval does).

    Raises:
        DataError: naming the file, row and column.
    """
    found: dict[str, dict[str, float]] = {}
    for where, (query, _, document, _, score, _) in _fields(path, 6, "query Q0 document rank score tag"):
        scores = found.setdefault(query, {})
        if document in scores:
            raise DataError(f"{where}: column 'document': {document!r} stands twice for query {query!r}")
        try:
            value = float(score)
        except ValueError as error:
            raise DataError(f"{where}: column 'score' is {score!r}; it must be a number") from error
        if value != value:
            raise DataError(f"{where}: column 'score' is NaN; it must be a number")
        scores[document] = value
    return {query: sorted(scores.items(), key=lambda pair: -pair[1]) for query, scores in found.items()}
