"""Examples and rankings as JSON lines, exactly: what is written reads back equal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, Ranking, RankingExample
from unified_ranker.schema.validate import check_example

_EXAMPLE_FIELDS = {"id", "query", "candidates", "task", "domain", "context", "relevance", "split", "group"}


def example_to_dict(example: RankingExample) -> dict[str, Any]:
    """Return an example as plain types."""
    return {
        "id": example.id,
        "task": example.task,
        "domain": example.domain,
        "split": example.split,
        "group": example.group,
        "query": example.query,
        "context": list(example.context),
        "candidates": [{"id": c.id, "title": c.title, "text": c.text} for c in example.candidates],
        "relevance": {key: float(grade) for key, grade in example.relevance.items()},
    }


def candidate_from_dict(record: Mapping[str, Any], *, where: str) -> Candidate:
    """Read one candidate.

    Raises:
        DataError: a field is missing, unknown or of the wrong type.
    """
    unknown = set(record) - {"id", "text", "title"}
    if unknown:
        raise DataError(f"{where}: field {sorted(unknown)[0]!r} is not known; a candidate has id, text, title")
    for name in ("id", "text"):
        if name not in record:
            raise DataError(f"{where}: field {name!r} is missing")
    return Candidate(id=record["id"], text=record["text"], title=record.get("title", ""))


def example_from_dict(record: Any, *, where: str) -> RankingExample:
    """Read and check one example.

    Args:
        record: A mapping with at least ``id``, ``query`` and ``candidates``.
        where: What to call it in a message, such as ``"lists.jsonl, row 3"``.

    Raises:
        DataError: the record breaks the format.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: expected an object, found {type(record).__name__}")
    unknown = set(record) - _EXAMPLE_FIELDS
    if unknown:
        raise DataError(
            f"{where}: field {sorted(unknown)[0]!r} is not known; known are {', '.join(sorted(_EXAMPLE_FIELDS))}"
        )
    for name in ("id", "query", "candidates"):
        if name not in record:
            raise DataError(f"{where}: field {name!r} is missing")
    if not isinstance(record["candidates"], (list, tuple)):
        raise DataError(f"{where}: field 'candidates' is {type(record['candidates']).__name__}; it must be a list")
    candidates = []
    for position, entry in enumerate(record["candidates"]):
        if not isinstance(entry, Mapping):
            raise DataError(f"{where}: field 'candidates[{position}]' is {entry!r}; it must be an object")
        candidates.append(candidate_from_dict(entry, where=f"{where}, candidates[{position}]"))
    context = record.get("context", ())
    if not isinstance(context, (list, tuple)):
        raise DataError(f"{where}: field 'context' is {context!r}; it must be a list of strings")
    relevance = record.get("relevance")
    relevance = {} if relevance is None else relevance
    if not isinstance(relevance, Mapping):
        raise DataError(f"{where}: field 'relevance' is {relevance!r}; it must map candidate ids to grades")
    return check_example(
        RankingExample(
            id=record["id"],
            query=record["query"],
            candidates=tuple(candidates),
            task=record.get("task", ""),
            domain=record.get("domain", "passage"),
            context=tuple(context),
            relevance=dict(relevance),
            split=record.get("split", "test"),
            group=record.get("group", ""),
        ),
        where=where,
    )


def parse_line(line: str, *, where: str) -> Any:
    """Decode one JSON line.

    Raises:
        DataError: the line is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON object: {error}") from error


def iter_jsonl(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield ``(row number from 1, line)`` for each line that is not blank.

    Raises:
        DataError: a line is not UTF-8.
    """
    # Read as bytes, which split at "\n" only: JSON may hold U+2028 and its like, at which text would be cut in two.
    with Path(path).open("rb") as lines:
        for number, raw in enumerate(lines, start=1):
            try:
                line = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"{path}, row {number}: not UTF-8: {error}") from error
            if line.strip():
                yield number, line


def read_examples(path: str | Path) -> Iterator[RankingExample]:
    """Read examples one by one.

    Raises:
        DataError: naming the file, row and field.
    """
    for number, line in iter_jsonl(path):
        where = f"{path}, row {number}"
        yield example_from_dict(parse_line(line, where=where), where=where)


def ranked_id(line: str, *, where: str) -> str:
    """Return the id of the list that a line of rankings ranks.

    Raises:
        DataError: the line holds no ranking.
    """
    record = parse_line(line, where=where)
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise DataError(f"{where}: no ranking, a JSON object with an 'id'; choose another --output")
    found: str = record["id"]
    return found


def dump_line(record: Mapping[str, Any]) -> str:
    """Return one JSON line. Lone surrogates are kept as escapes.

    Raises:
        DataError: the record holds NaN, an infinity or a pair of surrogates, which JSON cannot express.
    """
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        text = json.dumps(record, ensure_ascii=True, allow_nan=False)
        if json.loads(text) != record:
            # Two surrogates side by side read back as the one character that they encode.
            raise DataError(
                f"record {record.get('id')!r} holds a pair of surrogates, which JSON cannot keep apart"
            ) from error
    except ValueError as error:
        raise DataError(f"record {record.get('id')!r} holds a number that JSON cannot express: {error}") from error
    return text + "\n"


def write_examples(path: str | Path, examples: Iterable[RankingExample]) -> int:
    """Write examples, one a line, and return how many."""
    count = 0
    with Path(path).open("w", encoding="utf-8", newline="\n") as file:
        for example in examples:
            file.write(dump_line(example_to_dict(example)))
            count += 1
    return count


def ranking_to_dict(ranking: Ranking) -> dict[str, Any]:
    """Return a ranking as plain types: the shown places, the trace and the usage."""
    usage = ranking.usage
    return {
        "id": ranking.example_id,
        "method": ranking.method,
        "ranking": [
            {
                "rank": place.rank,
                "id": place.id,
                "title": place.candidate.title,
                "text": place.text,
                "score": place.score,
            }
            for place in ranking
        ],
        "steps": [
            {
                "index": step.index,
                "outcome": step.outcome,
                "reason": step.reason,
                "chosen": list(step.chosen),
                "in_play": step.in_play,
                "reply": step.reply,
                "reasoning": step.reasoning,
                "logprobs": dict(step.logprobs),
                "attempts": step.attempts,
            }
            for step in ranking.steps
        ],
        "usage": {
            "calls": usage.calls,
            "prompt_tokens": usage.prompt_tokens,
            "computed_tokens": usage.computed_tokens,
            "reused_tokens": usage.reused_tokens,
            "generated_tokens": usage.generated_tokens,
            "repaired_steps": usage.repaired_steps,
            "failed_steps": usage.failed_steps,
            "truncated_candidates": usage.truncated_candidates,
            "dropped_history": usage.dropped_history,
            "truncated_queries": usage.truncated_queries,
            "seconds": usage.seconds,
        },
    }
