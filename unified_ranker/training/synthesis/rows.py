"""From what a teacher said to rows: conversations with reasoning, and lists without."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.parquet import write_parquet, write_quietly
from unified_ranker.schema.types import RankingExample
from unified_ranker.tasks.build import read_card, read_split
from unified_ranker.tasks.card import split_facts
from unified_ranker.training.synthesis.keep import verdict
from unified_ranker.training.synthesis.setting import Synthesis
from unified_ranker.training.synthesis.teacher import Teacher


def grades_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the teacher's grade of each candidate of a record; 0 where it gave none."""
    return {name: float(said["grade"] or 0) for name, said in record["grades"].items()}


def settled(reasoning: str, answer: str, *, tags: bool) -> str:
    """Return a reply in exactly the form that is asked for."""
    return f"<think>{reasoning}</think><answer>{answer}</answer>" if tags else answer


def conversations(
    record: Mapping[str, Any], number: int, *, setting: Synthesis, teacher: Teacher
) -> list[list[dict[str, str]]]:
    """Return the conversations that a kept record teaches.

    Args:
        record: What the teacher said.
        number: Which of its orders was kept.
        setting: Says which methods are taught.
        teacher: Writes the prompts again, as they were asked.
    """
    example = example_from_dict(record["example"], where=str(record["id"]))
    rows = []
    if "dranker" in setting.methods:
        order = record["orders"][number]
        by_id = {candidate: name for name, candidate in order["labels"].items()}
        separator = teacher.separator(example)
        answer = separator.join(by_id[name] for name in order["ids"])
        reply = settled(teacher.plain(order["reasoning"]), answer, tags=setting.reasoning)
        rows.append([*teacher.messages(example), {"role": "assistant", "content": reply}])
    if "pointwise" in setting.methods:
        for name, said in record["grades"].items():
            if said["grade"] is None or said["outcome"] != "ok":
                continue
            reply = settled(teacher.plain(said["reasoning"]), str(said["grade"]), tags=setting.reasoning)
            rows.append([*teacher.messages(example, name), {"role": "assistant", "content": reply}])
    return rows


def split_of(example: RankingExample, setting: Synthesis) -> str:
    """Return the split of a list, the same for all lists of its group."""
    drawn = random.Random(f"{setting.seed}/{example.group or example.id}").random()
    return "validation" if drawn < setting.validation else "train"


def write_rows(
    records: Iterable[Mapping[str, Any]], out: Path, *, data: Path, setting: Synthesis, teacher: Teacher
) -> dict[str, Any]:
    """Write ``sft.parquet`` and the folder ``lists`` of built tasks, and return what was kept and dropped.

    The relevance of a list is the teacher's grades; its test split is that of ``data``, with the known relevance.
    """
    from dataclasses import replace

    lists: dict[str, dict[str, list[RankingExample]]] = {
        task: {"train": [], "validation": []} for task in setting.tasks
    }
    rows: list[list[dict[str, str]]] = []
    dropped: dict[str, int] = {}
    kept = 0
    for record in records:
        example = example_from_dict(record["example"], where=str(record["id"]))
        grades = grades_of(record)
        orders = [order["ids"] if order["outcome"] == "ok" else None for order in record["orders"]]
        number, reason = verdict(setting, example, grades, orders)
        if number is None:
            dropped[reason] = dropped.get(reason, 0) + 1
            continue
        kept += 1
        split = split_of(example, setting)
        # A conversation may be worth learning from where the grades are not.
        if len(set(grades.values())) > 1:
            lists[example.task][split].append(replace(example, relevance=grades, split=split))
        if split == "train":
            rows += conversations(record, number, setting=setting, teacher=teacher)
    _write_conversations(rows, out / "sft.parquet")
    for task, splits in lists.items():
        _write_task(out / "lists", task, splits, data=data, setting=setting)
    return {"kept": kept, "dropped": dropped, "conversations": len(rows)}


def _write_conversations(rows: Sequence[Sequence[Mapping[str, str]]], path: Path) -> None:
    from datasets import Dataset, Features, List, Value

    features = Features({"messages": List({"role": Value("string"), "content": Value("string")})})
    table = Dataset.from_dict({"messages": [[dict(entry) for entry in row] for row in rows]}, features=features)
    write_quietly(table, path)


def _write_task(
    folder: Path, task: str, splits: Mapping[str, Sequence[RankingExample]], *, data: Path, setting: Synthesis
) -> None:
    place = folder / task
    place.mkdir(parents=True, exist_ok=True)
    for split, examples in splits.items():
        write_parquet(place / f"{split}.parquet", examples)
    write_parquet(place / "test.parquet", read_split(data, task, "test"))
    known = read_card(data / task)
    facts = {split: split_facts(examples, binary=known["binary"]) for split, examples in splits.items()}
    card = {**known, "splits": {**known["splits"], **facts}, "synthesis": setting.to_dict()}
    (place / "card.json").write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
