"""Teachers that read the grades of toy lists from the prompt, and say what they make of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.backends import ScriptedBackend
from unified_ranker.exchange import Request
from unified_ranker.training.synthesis.setting import Synthesis
from unified_ranker.training.synthesis.teacher import Teacher

_NATURAL = re.compile(r"\[(\w+)\] grade (\d+) of place (\d+)")
# Behind a passage the query stands again.
_COMPACT = re.compile(r"grade (\d+) of place (\d+)(?: <\|again\|>.*?)? (\w+)(?= grade| <\||$)")
_ALONE = re.compile(r"grade (\d+) of place (\d+)")

#: Grades by label; and the place in the list of each label.
Shown = Mapping[str, int]
OrderOf = Callable[[Shown], str]
GradeOf = Callable[[int], str]


def is_order(prompt: str) -> bool:
    """Tell whether a prompt asks for an order, not for the grade of one candidate."""
    return len(_ALONE.findall(prompt)) > 1


def shown_in(prompt: str) -> dict[str, tuple[int, str]]:
    """Return the grade and the id of the candidate under each label of a prompt."""
    natural = {label: (int(grade), f"c{int(place)}") for label, grade, place in _NATURAL.findall(prompt)}
    return natural or {label: (int(grade), f"c{int(place)}") for grade, place, label in _COMPACT.findall(prompt)}


def alone_in(prompt: str) -> tuple[int, str]:
    """Return the grade and the id of the one candidate of a prompt."""
    ((grade, place),) = _ALONE.findall(prompt)
    return int(grade), f"c{int(place)}"


def best_first(shown: Shown) -> str:
    return " > ".join(sorted(shown, key=lambda label: -shown[label]))


def worst_first(shown: Shown) -> str:
    return " > ".join(sorted(shown, key=lambda label: shown[label]))


def as_shown(shown: Shown) -> str:
    return " > ".join(shown)


def thought_of(prompt: str) -> str:
    """Return thoughts that differ from prompt to prompt."""
    facts = [f"place {place} has grade {grade}" for grade, place in _ALONE.findall(prompt)]
    return f"I see that\n{', '.join(facts)}."


def thinks(order: OrderOf = best_first, grade: GradeOf = str) -> Callable[[Request], str]:
    """Return a teacher that gives its thoughts, and then what it was asked for."""

    def reply(request: Request) -> str:
        prompt = request.messages[-1].content
        answer = _answer(prompt, order, grade)
        return f"<think>\n{thought_of(prompt)}\n</think>\n<answer>{answer}</answer>"

    return reply


def bare(order: OrderOf = best_first, grade: GradeOf = str) -> Callable[[Request], str]:
    """Return a teacher that gives what it was asked for, without thoughts."""
    return lambda request: _answer(request.messages[-1].content, order, grade)


def _answer(prompt: str, order: OrderOf, grade: GradeOf) -> str:
    if is_order(prompt):
        return order({label: grade for label, (grade, _) in shown_in(prompt).items()})
    return grade(alone_in(prompt)[0])


def silent(request: Request) -> str:
    """Never to be asked."""
    raise AssertionError(f"the teacher was asked: {request.messages[-1].content}")


def setting_of(**changes: Any) -> Synthesis:
    return Synthesis(**{"tasks": ("passage-5",), "validation": 0.0, **changes})


def teacher_of(
    script: Callable[[Request], str], setting: Synthesis | None = None, *, style: str = "natural", **options: Any
) -> tuple[Teacher, ScriptedBackend]:
    backend = ScriptedBackend(script, **options)
    return Teacher(backend, setting or setting_of(), style=style), backend


def sent(requests: Sequence[Request]) -> list[list[dict[str, str]]]:
    """Return the prompts of requests, as conversations hold them."""
    return [[{"role": entry.role, "content": entry.content} for entry in request.messages] for request in requests]


def said_in(out: Path) -> dict[str, dict[str, Any]]:
    """Return the lines of ``teacher.jsonl`` by id."""
    lines = (out / "teacher.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    found = {record["id"]: record for record in records}
    assert len(found) == len(records), "a list was asked about twice"
    return found


def talks_in(out: Path) -> list[list[dict[str, str]]]:
    """Return the conversations of ``sft.parquet``."""
    from pyarrow.parquet import read_table

    return [
        [{"role": entry["role"], "content": entry["content"]} for entry in messages]
        for messages in read_table(out / "sft.parquet").column("messages").to_pylist()
    ]
