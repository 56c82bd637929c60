"""Thoughts of one model as templates in the prompt of another: the "thoughts help others" experiment of R1-Ranker.

What is published (arXiv 2506.21638, v1 to v3): an untrained Qwen2.5-3B runs the iterative loop, and for each query the
thoughts that IRanker had on similar training queries stand in its prompt; the mean gain over the same model without
them is 21 to 23%. What is not: the retriever, how many thoughts, where they stand, and whether only those of right
exclusions. Here: the k training queries of the same domain that are nearest by MiniLM's cosine, thoughts of right steps
alone, before the query.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError, OptionError
from unified_ranker.schema.jsonl import dump_line, iter_jsonl, parse_line
from unified_ranker.schema.types import DOMAINS, RankingExample

Embed = Callable[[Sequence[str]], Any]

HEADING = "How others thought about similar questions; the candidates there were other ones:"


@dataclass(frozen=True, slots=True)
class Thought:
    """A thought that led to a right step.

    Attributes:
        domain: Domain of the list.
        group: Its group, so that a list is never helped by a thought about itself.
        query: What was asked, with the history; its embedding is what is searched.
        text: The thought.
    """

    domain: str
    group: str
    query: str
    text: str


def question_of(example: RankingExample) -> str:
    """Return what two examples are similar by: the query, and the history where there is one."""
    return "\n".join([example.query, *example.context])


def write_thoughts(path: Path, thoughts: Iterable[Thought]) -> int:
    """Write thoughts as JSON lines, and return how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for thought in thoughts:
            file.write(dump_line(asdict(thought)))
            count += 1
    return count


def read_thoughts(path: Path) -> list[Thought]:
    """Read thoughts.

    Raises:
        DataError: naming the file, row and field that are wrong.
    """
    if not path.is_file():
        raise DataError(f"thoughts file {str(path)!r} does not exist; make one with: unified-ranker bench thoughts")
    names = [entry.name for entry in fields(Thought)]
    found = []
    for number, line in iter_jsonl(path):
        record = parse_line(line, where=f"{path}, row {number}")
        for name in names:
            value = record.get(name) if isinstance(record, dict) else None
            if not isinstance(value, str):
                raise DataError(f"{path}, row {number}: field {name!r} is {json.dumps(value)}; it must be a string")
        if record["domain"] not in DOMAINS:
            raise DataError(f"{path}, row {number}: domain {record['domain']!r} is none of {', '.join(DOMAINS)}")
        found.append(Thought(**{name: record[name] for name in names}))
    if not found:
        raise DataError(f"{path} holds no thought")
    return found


class ThoughtBook:
    """Thoughts, found by the similarity of their queries.

    Args:
        thoughts: The thoughts.
        embed: Turns texts into rows of length 1; MiniLM by default.
        count: How many stand in a prompt.

    Raises:
        OptionError: ``count`` is below 1.
    """

    def __init__(self, thoughts: Sequence[Thought], *, embed: Embed | None = None, count: int = 3) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise OptionError(f"thought_count={count!r} must be a whole number ≥ 1")
        if embed is None:
            from unified_ranker.embedding import Embedder

            embed = Embedder.load()
        self._embed, self._count = embed, count
        self._thoughts = {domain: [t for t in thoughts if t.domain == domain] for domain in DOMAINS}
        self._rows = {
            domain: embed([thought.query for thought in found]) for domain, found in self._thoughts.items() if found
        }
        self._known: dict[tuple[str, str, str], list[str]] = {}

    def nearest(self, example: RankingExample) -> list[str]:
        """Return the thoughts of the nearest queries of the example's domain, nearest first, one a query.

        A query of the example's own group is passed over.
        """
        key = (example.domain, example.group, question_of(example))
        if example.domain not in self._rows:
            return []
        if key not in self._known:
            scores = self._rows[example.domain] @ self._embed([key[2]])[0]
            found: list[str] = []
            groups = {example.group} if example.group else set()
            thoughts = self._thoughts[example.domain]
            for place in sorted(range(len(thoughts)), key=lambda place: -float(scores[place])):
                group = thoughts[place].group
                if group and group in groups:
                    continue
                groups.add(group)
                found.append(thoughts[place].text)
                if len(found) == self._count:
                    break
            self._known[key] = found
        return self._known[key]
