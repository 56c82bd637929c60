"""Read the cells of runs, measure them, and set random order and the oracle beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from unified_ranker.benchmarks.baselines.registry import BASELINES
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.measures import Figure, with_interval
from unified_ranker.benchmarks.outcome import best_order, measure, measure_names, measure_random
from unified_ranker.benchmarks.runner.cell import Cell
from unified_ranker.tasks.registry import ALL_TASKS

from unified_ranker.errors import DataError, unknown_choice
from unified_ranker.schema.types import RankingExample

#: What stands in every table: what no order can be expected to fall below, and what none can exceed.
RANDOM, ORACLE = "random", "oracle"


@dataclass(frozen=True)
class Result:
    """One model by one method on one task.

    Attributes:
        model: The model.
        method: The method; a baseline's is its own name.
        task: The task.
        split: Which split was ranked.
        examples: The lists that were to be ranked.
        values: Measured values, by measure, in the order of the lists.
        records: The lines of the cell by list; empty for random order and the oracle.
        facts: The cell's facts; empty for those two.
    """

    model: str
    method: str
    task: BuiltTask
    split: str
    examples: Sequence[RankingExample]
    values: Mapping[str, Sequence[float]]
    records: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``model/method``, or the one name of a baseline."""
        return self.model if self.model == self.method else f"{self.model}/{self.method}"

    @property
    def computed(self) -> bool:
        """Whether it was ranked by nobody: random order and the oracle."""
        return not self.facts

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Means with their 95% bootstrap intervals over the lists."""
        return {name: with_interval(values) for name, values in self.values.items()}

    @property
    def missing(self) -> int:
        """Lists without a ranking; they count as ranked worst."""
        return self.unranked(len(self.examples))

    def unranked(self, lists: int) -> int:
        """Return how many of the first so many lists have no ranking."""
        return 0 if self.computed else sum(example.id not in self.records for example in self.examples[:lists])

    def measured(self, metric: str) -> Sequence[float]:
        """Return the values of a measure, in the order of the lists.

        Raises:
            OptionError: the task does not know the measure.
        """
        if metric not in self.values:
            raise unknown_choice("metric", metric, self.values)
        return self.values[metric]

    def _steps(self, outcome: str) -> float:
        steps = [step for record in self.records.values() for step in record["steps"]]
        return sum(step["outcome"] == outcome for step in steps) / len(steps) if steps else 0.0

    @cached_property
    def failed_share(self) -> float:
        """Share of steps whose reply could not be used; a list without a ranking counts as one failed step."""
        steps = sum(len(record["steps"]) for record in self.records.values())
        failed = sum(step["outcome"] == "failed" for record in self.records.values() for step in record["steps"])
        return (failed + self.missing) / (steps + self.missing) if steps + self.missing else 0.0

    @cached_property
    def repaired_share(self) -> float:
        """Share of steps whose reply had to be repaired."""
        return self._steps("repaired")

    def usage(self, name: str) -> float:
        """Return the mean over the ranked lists of a part of what they cost, such as ``calls``."""
        return fmean(record["usage"][name] for record in self.records.values()) if self.records else 0.0

    @cached_property
    def seconds_per_query(self) -> float:
        """Seconds of the run for each ranked list, batches shared; loading and training not counted."""
        return fmean(record["wall"] for record in self.records.values()) if self.records else 0.0


def load_results(runs: Sequence[Path], *, data: Path | None = None) -> list[Result]:
    """Read and measure runs.

    Args:
        runs: Folders that ``bench run`` wrote.
        data: Folder of the built tasks; None for where each cell says it was.

    Returns:
        The results by task, in the registry's order; within a task random order, the cells, and the oracle.

    Raises:
        DataError: a run holds nothing, two hold the same cell, the data are not those that were ranked, or cells of one
            task and edition ranked different lists or splits.
    """
    found: dict[tuple[str, str, str], list[Result]] = {}
    tasks: dict[Path, BuiltTask] = {}
    seen: dict[tuple[str, ...], Path] = {}
    for run in runs:
        for cell in Cell.all(run):
            result = _read(cell, data, tasks)
            key = (result.task.edition, result.task.name, result.split)
            whole = (*key, result.model, result.method)
            if whole in seen:
                raise DataError(f"{cell.path} and {seen[whole]} hold the same model, method and task; leave one out")
            seen[whole] = cell.path
            for other in (result for each, others in found.items() if each[:2] == key[:2] for result in others):
                for name in ("split", "data_hash"):
                    if other.facts[name] != result.facts[name]:
                        raise DataError(
                            f"{cell.path}: {name} is {result.facts[name]!r}, but {other.name} ranked "
                            f"{other.facts[name]!r} of the same task and edition; report them apart"
                        )
            found.setdefault(key, []).append(result)
    ordered = sorted(found.items(), key=lambda entry: (entry[0][0], ALL_TASKS.index(entry[0][1]), entry[0][2]))
    return [result for _, results in ordered for result in with_bounds(sorted(results, key=_place))]


def _place(result: Result) -> tuple[int, str, str]:
    """Sort language models before baselines, and baselines as the registry has them."""
    if result.model != result.method:
        return (-1, result.model, result.method)
    known = list(BASELINES)
    return (known.index(result.model) if result.model in known else len(known), result.model, "")


def _read(cell: Cell, data: Path | None, tasks: dict[Path, BuiltTask]) -> Result:
    facts = cell.facts
    folder = (data or Path(facts["data"])) / facts["task"]
    task = tasks.setdefault(folder, BuiltTask.open(folder.parent, facts["task"]))
    if task.fingerprint(facts["split"]) != facts["data_hash"]:
        raise DataError(
            f"{cell.path} ranked other lists than {str(folder)!r} holds; give the folder that it was run on: --data DIR"
        )
    examples = task.lists(facts["split"], limit=facts["queries"])
    records = cell.records()
    known = {example.id for example in examples}
    records = {id: record for id, record in records.items() if id in known}
    values = measure(task, examples, {id: record["ranking"] for id, record in records.items()})
    return Result(facts["model"], facts["method"], task, facts["split"], examples, values, records, facts)


def with_bounds(results: Sequence[Result]) -> list[Result]:
    """Return the results of one task between random order and the oracle."""
    largest = max(results, key=lambda result: len(result.examples))
    task, split, examples = largest.task, largest.split, largest.examples
    best = {example.id: best_order(example) for example in examples}
    return [
        Result(RANDOM, RANDOM, task, split, examples, measure_random(task, examples)),
        *results,
        Result(ORACLE, ORACLE, task, split, examples, measure(task, examples, best)),
    ]


def by_task(results: Sequence[Result]) -> dict[tuple[str, str], list[Result]]:
    """Return results by edition and task, in their order."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.task.edition, result.task.name), []).append(result)
    return found


def named(results: Sequence[Result], name: str) -> list[Result]:
    """Return the results of a model and method, given as a report names them.

    Raises:
        OptionError: there is none.
    """
    found = [result for result in results if result.name == name]
    if not found:
        raise unknown_choice("name", name, {result.name for result in results})
    return found


def measures_of(results: Sequence[Result]) -> tuple[str, ...]:
    """Return the measures of a task's results."""
    return measure_names(results[0].task)
