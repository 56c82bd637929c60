"""A synthesis from end to end: what it will cost, asking with what was asked before, and the rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError
from unified_ranker.schema.finished import drop_unfinished, finished_records
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.lists import training_lists
from unified_ranker.training.synthesis.negatives import HardNegatives
from unified_ranker.training.synthesis.rows import write_rows
from unified_ranker.training.synthesis.setting import Synthesis
from unified_ranker.training.synthesis.teacher import Cost, Teacher

Say = Callable[[str], None]
# Lists between two lines on what it has cost.
REPORT_EVERY = 50


def lists_of(setting: Synthesis, data: Path) -> list[RankingExample]:
    """Return the lists that the teacher is shown, each with an id that is unique over all tasks.

    Raises:
        MissingSourceError: a task is not built in ``data``.
        DataError: a task has no training list.
    """
    found = []
    for task in setting.tasks:
        examples = training_lists(data, task)
        if setting.negatives == "hard":
            hard = HardNegatives(examples)
            examples = [hard.apply(example) for example in examples[: setting.limit]]
        found += [replace(example, id=f"{task}/{example.id}") for example in examples[: setting.limit]]
    return found


def plan(setting: Synthesis, teacher: Teacher, examples: Sequence[RankingExample]) -> Cost:
    """Return what asking about lists costs at most."""
    return sum((teacher.cost(example) for example in examples), Cost())


def priced(cost: Cost, *, prompt: float | None, reply: float | None, most: str = "at most ") -> str:
    """Return a cost in words.

    Args:
        cost: The cost.
        prompt: Price of a million prompt tokens; None if unknown.
        reply: Price of a million reply tokens.
        most: What stands before a bound; empty for what was spent.
    """
    words = (
        f"{cost.lists:,} lists, {cost.calls:,} calls, {cost.prompt_tokens:,} prompt tokens, "
        f"{most}{cost.reply_tokens:,} reply tokens"
    )
    if prompt is None and reply is None:
        return words
    total = (cost.prompt_tokens * (prompt or 0.0) + cost.reply_tokens * (reply or 0.0)) / 1e6
    return f"{words}: {most}{total:,.2f}"


def run(
    setting: Synthesis,
    teacher: Teacher,
    *,
    data: Path,
    out: Path,
    concurrency: int = 64,
    prompt_price: float | None = None,
    reply_price: float | None = None,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Ask the teacher about all lists, and write the rows.

    What it says goes to ``teacher.jsonl``, a line a list, as it comes: whoever starts the same synthesis again asks
    only for what is missing, and another ``threshold`` asks for nothing.

    Args:
        setting: The synthesis.
        teacher: Whom to ask.
        data: Folder of built tasks.
        out: Folder of the synthesis.
        concurrency: Lists that are asked about at the same time.
        prompt_price: Price of a million prompt tokens, for the lines that ``say`` gets.
        reply_price: Price of a million reply tokens.
        say: Gets a line before, one every so many lists, and one after.

    Returns:
        What was asked, kept and dropped, and its cost; also in ``summary.json``.

    Raises:
        DataError: ``out`` holds a synthesis that asked otherwise.
    """
    path = out / "teacher.jsonl"
    examples, done = lists_of(setting, data), finished_records(path)
    missing = [example for example in examples if example.id not in done]
    _check_same(setting, teacher, out)
    say(f"to ask: {priced(plan(setting, teacher, missing), prompt=prompt_price, reply=reply_price)}")
    # Nothing stands in the way of another start if this one comes no further.
    out.mkdir(parents=True, exist_ok=True)
    drop_unfinished(path)
    _asked(out).write_text(json.dumps(_wanted(setting, teacher), indent=1) + "\n", encoding="utf-8")
    spent = Cost()
    with path.open("a", encoding="utf-8") as file:
        for number, record in enumerate(teacher.ask(missing, concurrency=concurrency), start=1):
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            done[record["id"]] = record
            usage = record["usage"]
            spent += Cost(1, usage["calls"], usage["prompt_tokens"], usage["generated_tokens"])
            if number % REPORT_EVERY == 0 or number == len(missing):
                say(f"asked: {priced(spent, prompt=prompt_price, reply=reply_price, most='')}")
    summary = write_rows(_in_order(examples, done), out, data=data, setting=setting, teacher=teacher)
    total = {name: sum(done[e.id]["usage"][name] for e in examples) for name in _USAGE}
    summary = {"lists": len(examples), **summary, "usage": total, "setting": setting.to_dict()}
    (out / "summary.json").write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"kept {summary['kept']} of {len(examples)} lists, {summary['conversations']} conversations")
    return summary


_USAGE = ("calls", "prompt_tokens", "generated_tokens")
# What decides a question; the rest only decides what is kept of the answers.
_ASKED = ("samples", "negatives", "top_grade", "reasoning", "temperature", "max_tokens", "seed")


def _asked(out: Path) -> Path:
    return out / "asked.json"


def _wanted(setting: Synthesis, teacher: Teacher) -> dict[str, Any]:
    return {**{name: setting.to_dict()[name] for name in _ASKED}, **teacher.asks}


def _check_same(setting: Synthesis, teacher: Teacher, out: Path) -> None:
    said = out / "teacher.jsonl"
    if not _asked(out).is_file() or not said.is_file() or not said.stat().st_size:
        return
    try:
        known = json.loads(_asked(out).read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{_asked(out)}: not JSON: {error}; choose another --out") from error
    for name, value in _wanted(setting, teacher).items():
        if known.get(name) != value:
            raise DataError(
                f"{str(out)!r} holds a synthesis with {name}={known.get(name)!r}, not {value!r}; choose another --out"
            )


def missing_lists(setting: Synthesis, data: Path, out: Path) -> list[RankingExample]:
    """Return the lists that a synthesis in ``out`` has yet to ask about."""
    done = finished_records(out / "teacher.jsonl")
    return [example for example in lists_of(setting, data) if example.id not in done]


def _in_order(examples: Sequence[RankingExample], done: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for example in examples:
        yield done[example.id]
