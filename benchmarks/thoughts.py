"""The thoughts of one ranker in the prompts of another model: collected, indexed, and measured with and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import Cell, ModelArm, run_benchmark

from unified_ranker.errors import DataError, OptionError
from unified_ranker.prompts.thoughts import Thought, question_of, write_thoughts

Say = Callable[[str], None]


def thoughts_of(task: BuiltTask, cell: Cell, *, lists: int | None = None, per_list: int = 1) -> Iterator[Thought]:
    """Yield the thoughts of right eliminations: the reply was whole, and what it removed was not relevant.

    Args:
        task: The task that was ranked.
        cell: The rankings, by elimination with reasoning.
        lists: Only those on the first so many lists of the split; None for all that were ranked.
        per_list: Most thoughts of one list, earliest steps first; then most candidates are still in play.
    """
    records = cell.records()
    for example in task.lists(cell.facts["split"], limit=lists):
        if example.id not in records:
            continue
        record = records[example.id]
        relevant = set(task.relevant(example))
        kept = 0
        for step in record["steps"]:
            right = step["outcome"] == "ok" and step["chosen"] and relevant.isdisjoint(step["chosen"])
            if right and step["reasoning"].strip() and kept < per_list:
                kept += 1
                yield Thought(example.domain, example.group, question_of(example), step["reasoning"].strip())


def run_thoughts(
    thinker: Mapping[str, Any],
    reader: Mapping[str, Any],
    tasks: Sequence[BuiltTask],
    *,
    out: Path,
    count: int = 3,
    collect: int = 200,
    limit: int | None = None,
    name: str | None = None,
    concurrency: int = 64,
    say: Say = lambda line: None,
) -> Path:
    """Collect thoughts on training lists, and rank the test lists by another model with and without them.

    Args:
        thinker: Arguments of :meth:`~unified_ranker.ranker.Ranker.from_pretrained` of the model that thinks.
        reader: Those of the model that gets the thoughts.
        tasks: The tasks.
        out: Folder: ``thinking`` and ``results`` are runs of the benchmark, ``thoughts.jsonl`` what was collected.
        count: How many thoughts stand in a prompt.
        collect: Training lists of each task that the thinker ranks.
        limit: Only the first so many test lists of each task.
        name: What the reader is called in results; ``+thoughts`` is added where it has them.
        concurrency: Lists that are ranked at the same time.
        say: Called with each line of progress.

    Returns:
        The folder of the results.

    Raises:
        OptionError: a number is below 1.
        DataError: the thinker thought nothing that was right.
    """
    numbers = {"collect": collect, "count": count, "limit": limit, "concurrency": concurrency}
    for option, value in numbers.items():
        if value is not None and value < 1:
            raise OptionError(f"{option}={value} must be ≥ 1")
    # One thought a step needs a step a reply.
    thinking = {"layout": "rounds", **thinker, "reasoning": True}
    arm = ModelArm(thinking, method="iranker", concurrency=concurrency)
    cells = run_benchmark([arm], tasks, out=out / "thinking", split="train", limit=collect, say=say)
    book = out / "thoughts.jsonl"
    found = [
        thought for task, cell in zip(tasks, cells, strict=True) for thought in thoughts_of(task, cell, lists=collect)
    ]
    if not found:
        raise DataError(
            f"{arm.model} gave no thought with a right elimination on {collect} training lists of "
            f"{', '.join(task.name for task in tasks)}; take a model that reasons"
        )
    say(f"{write_thoughts(book, found)} thoughts in {book}")
    plain = ModelArm(reader, name=name, concurrency=concurrency)
    helped = ModelArm(
        {**reader, "thoughts": book, "thought_count": count},
        name=f"{plain.model}+thoughts",
        method=plain.method,
        concurrency=concurrency,
        share=plain,
    )
    run_benchmark([plain, helped], tasks, out=out / "results", limit=limit, say=say)
    return out / "results"
