"""What a candidate list must satisfy; every message names the place, the field, the value and the mend."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from unified_ranker.errors import DataError
from unified_ranker.schema.types import DOMAINS, SPLITS, Candidate, RankingExample


def check_candidates(candidates: Iterable[Candidate], *, where: str) -> None:
    """Check a list of candidates.

    Args:
        candidates: The list.
        where: What to call it in a message, such as ``"lists.jsonl, row 3"``.

    Raises:
        DataError: the list is empty, an id repeats or is not a string, or a text is not a string.
    """
    seen = list(candidates)
    if not seen:
        raise DataError(f"{where}: field 'candidates' is empty; a list needs at least one candidate")
    for position, candidate in enumerate(seen):
        for name in ("id", "text", "title"):
            value = getattr(candidate, name)
            if not isinstance(value, str):
                raise DataError(
                    f"{where}: field 'candidates[{position}].{name}' is {value!r} "
                    f"({type(value).__name__}); it must be a string"
                )
        if not candidate.id:
            raise DataError(f"{where}: field 'candidates[{position}].id' is empty; give each candidate an id")
    double = [key for key, count in Counter(c.id for c in seen).items() if count > 1]
    if double:
        raise DataError(
            f"{where}: field 'candidates' holds the id {double[0]!r} {Counter(c.id for c in seen)[double[0]]} times; "
            "ids must differ (texts may repeat)"
        )


def check_example(example: RankingExample, *, where: str = "") -> RankingExample:
    """Check an example and return it.

    Args:
        example: The example.
        where: What to call it in a message; its id by default.

    Raises:
        DataError: naming the field and value that break the format.
    """
    where = where or f"example {example.id!r}"
    for name in ("id", "query", "task", "domain", "split", "group"):
        value = getattr(example, name)
        if not isinstance(value, str):
            raise DataError(f"{where}: field {name!r} is {value!r} ({type(value).__name__}); it must be a string")
    if not example.id:
        raise DataError(f"{where}: field 'id' is empty; give each example an id")
    if example.domain not in DOMAINS:
        raise DataError(f"{where}: field 'domain' is {example.domain!r}; it must be one of {', '.join(DOMAINS)}")
    if example.split not in SPLITS:
        raise DataError(f"{where}: field 'split' is {example.split!r}; it must be one of {', '.join(SPLITS)}")
    if isinstance(example.context, str):
        raise DataError(f"{where}: field 'context' is {example.context!r}; it must be a list of strings")
    for position, entry in enumerate(example.context):
        if not isinstance(entry, str):
            raise DataError(f"{where}: field 'context[{position}]' is {entry!r}; it must be a string")
    check_candidates(example.candidates, where=where)
    known = {c.id for c in example.candidates}
    for key, grade in example.relevance.items():
        if key not in known:
            raise DataError(f"{where}: field 'relevance' grades {key!r}, which is not among the candidates")
        if isinstance(grade, bool) or not isinstance(grade, (int, float)):
            raise DataError(f"{where}: field 'relevance[{key!r}]' is {grade!r}; it must be a number")
        if not _is_grade(grade):
            raise DataError(f"{where}: field 'relevance[{key!r}]' is {grade!r}; it must be finite and ≥ 0")
    return example


def _is_grade(value: float) -> bool:
    try:
        return math.isfinite(value) and value >= 0
    except OverflowError:  # a whole number beyond all floats
        return False


def check_unique(examples: Iterable[RankingExample], *, where: str) -> None:
    """Check that no two examples share an id.

    Raises:
        DataError: naming the id.
    """
    seen: set[str] = set()
    for example in examples:
        if example.id in seen:
            raise DataError(f"{where}: two examples have the id {example.id!r}; ids must differ")
        seen.add(example.id)
