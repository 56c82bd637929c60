"""Tasks and runs as the commands write them, small enough to work out by hand, and results that need no files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toy_tasks import INVENTED
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.outcome import measure_names
from unified_ranker.benchmarks.report.load import ORACLE, RANDOM, Result
from unified_ranker.benchmarks.runner.cell import Cell, line_of
from unified_ranker.tasks import BuildOptions, Built, task_named
from unified_ranker.tasks.beside import Beside, LLMOutcome, write_beside
from unified_ranker.tasks.card import make_card

from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import SPLITS, Candidate, Ranking, RankingExample, Step, Usage, places_below

Outcomes = Mapping[str, Mapping[str, LLMOutcome]]
Judged = Mapping[str, Mapping[str, float]]
OK = Step(0, "1", "ok")


def graded(id: str, grades: Mapping[str, float], *, task: str = "passage-5", split: str = "test") -> RankingExample:
    """Return a list of candidates in the order in which they are given."""
    return RankingExample(
        id=id,
        query=f"query of {id}",
        candidates=tuple(Candidate(name, f"text of {name}") for name in grades),
        task=task,
        domain=task_named(task).domain,
        relevance=dict(grades),
        split=split,
        group=id,
    )


def build_task(
    data: Path,
    task: str,
    examples: Sequence[RankingExample],
    *,
    outcomes: Outcomes | None = None,
    judged: Judged | None = None,
    edition: str = "open",
) -> BuiltTask:
    """Write a task as ``data build`` does; every list goes to the split that it names."""
    splits = {split: [example for example in examples if example.split == split] for split in SPLITS}
    folder = data / task
    folder.mkdir(parents=True)
    for split, found in splits.items():
        write_parquet(folder / f"{split}.parquet", found)
    card = make_card(task_named(task), Built(splits, (INVENTED,), "invented"), BuildOptions(edition=edition))
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    write_beside(folder, Beside(outcomes=outcomes, judged=judged))
    return BuiltTask.open(data, task)


def ranking_of(
    example: RankingExample, order: Sequence[str], *, steps: Sequence[Step] = (OK,), usage: Usage | None = None
) -> Ranking:
    candidates = {candidate.id: candidate for candidate in example.candidates}
    return Ranking(
        example_id=example.id,
        order=tuple(candidates[id] for id in order),
        scores=places_below(len(order)),
        steps=tuple(steps),
        usage=usage or Usage(calls=1),
    )


def write_cell(
    run: Path,
    task: BuiltTask,
    orders: Mapping[str, Sequence[str]],
    *,
    model: str = "toy",
    method: str = "one",
    split: str = "test",
    queries: int | None = None,
    steps: Sequence[Step] = (OK,),
    usage: Usage | None = None,
    walls: Mapping[str, float] | None = None,
) -> Cell:
    """Write a cell as ``bench run`` does; the lists of ``orders`` are the ones that were ranked."""
    cell = Cell.of(run, model=model, method=method, task=task.name)
    examples = task.lists(split)
    cell.write_facts(
        {
            "model": model,
            "method": method,
            "task": task.name,
            "domain": task.domain,
            "edition": task.edition,
            "split": split,
            "seed": 0,
            "settings": {},
            "data_hash": task.fingerprint(split),
            "data": str(task.folder.parent),
            "queries": len(examples) if queries is None else queries,
        }
    )
    known = {example.id: example for example in examples}
    with cell.adding() as file:
        for id, order in orders.items():
            ranking = ranking_of(known[id], order, steps=steps, usage=usage)
            file.write(line_of(ranking, wall=(walls or {}).get(id, 0.5)))
    return cell


def unbuilt(
    name: str, *, edition: str = "open", outcomes: Outcomes | None = None, judged: Judged | None = None
) -> BuiltTask:
    """Return a task without files."""
    task = BuiltTask(task_named(name), Path(name))
    task.__dict__.update(card={"edition": edition}, outcomes=outcomes or {}, judged=judged or {})
    return task


def result(
    name: str,
    values: Sequence[float],
    *,
    task: BuiltTask | None = None,
    examples: Sequence[RankingExample] | None = None,
    orders: Mapping[str, Sequence[str]] | None = None,
    **others: Sequence[float],
) -> Result:
    """Return a result without files.

    Args:
        name: ``model/method``, or a baseline's one name; random order and the oracle count as computed.
        values: What every measure is on each list, but for those in ``others``.
        task: Its task, ``passage-5`` by default.
        examples: Its lists.
        orders: Rankings by list; without any, as they stand.
        **others: Values of single measures.
    """
    task = task or unbuilt("passage-5")
    if examples is None:
        examples = [graded(f"q{n}", {"a": 1, "b": 0, "c": 0}, task=task.name) for n in range(len(values))]
    model, _, method = name.partition("/")
    measured = {**dict.fromkeys(measure_names(task), tuple(values)), **others}
    if name in (RANDOM, ORACLE):
        return Result(name, name, task, "test", examples, measured)
    if orders is None:
        orders = {example.id: [candidate.id for candidate in example.candidates] for example in examples}
    records = {example.id: record(example, orders[example.id]) for example in examples if example.id in orders}
    return Result(model, method or model, task, "test", examples, measured, records, {"model": model})


def record(example: RankingExample, order: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line_of(ranking_of(example, order), wall=0.5))
    return found


def bounded(*results: Result) -> list[Result]:
    """Return results between a random order that reaches a quarter everywhere and an oracle that reaches all."""
    task, examples = results[0].task, results[0].examples
    count = len(examples)
    return [
        result(RANDOM, [0.25] * count, task=task, examples=examples),
        *results,
        result(ORACLE, [1.0] * count, task=task, examples=examples),
    ]
