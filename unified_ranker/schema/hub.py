"""The layout of the hub data set ``ulab-ai/Ranking-bench``: ``problem``, ``gt``, ``candidates``, ``task_name``.

It names candidates by their text alone, so that two candidates with one text cannot be told apart: reading
gives each candidate its position as id, and a truth that stands for several of them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.schema.validate import check_example


def to_hub(example: RankingExample) -> dict[str, Any]:
    """Return an example in the hub's layout.

    Raises:
        DataError: the layout cannot express it: more or fewer than one best candidate, or the best
            candidate's text stands twice.
    """
    best = max((example.grade(c.id) for c in example.candidates), default=0.0)
    winners = [c for c in example.candidates if best > 0 and example.grade(c.id) == best]
    if len(winners) != 1:
        raise DataError(f"example {example.id!r}: the hub layout holds exactly one truth, this list has {len(winners)}")
    texts = [c.called for c in example.candidates]
    truth = winners[0].called
    if texts.count(truth) != 1:
        raise DataError(
            f"example {example.id!r}: the truth {truth!r} stands {texts.count(truth)} times among the texts"
        )
    lines = [f"- {entry}" for entry in example.context]
    problem = "\n".join([example.query, *lines])
    return {"problem": problem, "gt": truth, "candidates": texts, "task_name": example.task}


def from_hub(
    record: Mapping[str, Any], *, id: str, domain: str, split: str = "test", where: str = ""
) -> RankingExample:
    """Read one record of the hub's layout.

    Args:
        record: Holds ``problem``, ``gt`` and ``candidates``.
        id: Id for the example; the layout has none.
        domain: One of the three domains; the layout names only the task.
        split: Split of the example.
        where: What to call the record in a message.

    Raises:
        DataError: a field is missing, or ``gt`` is not exactly one of the candidates.
    """
    where = where or f"record {id!r}"
    for name in ("problem", "gt", "candidates"):
        if name not in record:
            raise DataError(f"{where}: field {name!r} is missing")
    if not isinstance(record["problem"], str):
        raise DataError(f"{where}: field 'problem' is {record['problem']!r}; it must be a string")
    if isinstance(record["candidates"], str) or not isinstance(record["candidates"], Iterable):
        raise DataError(f"{where}: field 'candidates' is {record['candidates']!r}; it must be a list of strings")
    texts = list(record["candidates"])
    truth = record["gt"]
    if texts.count(truth) != 1:
        raise DataError(
            f"{where}: field 'gt' is {truth!r}, which stands {texts.count(truth)} times among the candidates; "
            "it must stand once"
        )
    candidates = tuple(Candidate(id=str(position), text=text) for position, text in enumerate(texts))
    return check_example(
        RankingExample(
            id=id,
            query=record["problem"],
            candidates=candidates,
            task=str(record.get("task_name") or ""),
            domain=domain,
            relevance={str(texts.index(truth)): 1.0},
            split=split,
            group=id,
        ),
        where=where,
    )
