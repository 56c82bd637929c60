"""What training seeds make of one recipe: the mean over runs that differ in nothing else, and its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from unified_ranker.benchmarks.report.load import RANDOM, Result, named
from unified_ranker.benchmarks.report.markdown import short
from unified_ranker.tasks.registry import NINE

from unified_ranker.errors import DataError, OptionError, missing_extra

MEAN_OF_NINE = "mean of the nine"
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class OverSeeds:
    """A measure of one task, run by run.

    Attributes:
        task: The task, or :data:`MEAN_OF_NINE`.
        edition: Its edition.
        lists: How many lists each run ranked.
        values: The mean over the lists, of each run.
        mean: Their mean.
        low: Lower end of Student's 95% interval of that mean.
        high: Upper end.
        random: What a random order can be expected to reach.
        missing: How many lists of each run have no ranking; they count as ranked worst.
    """

    task: str
    edition: str
    lists: int
    values: tuple[float, ...]
    mean: float
    low: float
    high: float
    random: float
    missing: tuple[int, ...]


def over_seeds(runs: Mapping[str, Sequence[Result]], name: str, *, metric: str = "RR") -> list[OverSeeds]:
    """Return a measure on each task over runs that differ in the training seed, and the mean of the nine.

    The interval says what another seed may come to on the same lists, not what other lists would: an interval over
    lists is that of ``bench report``.

    Args:
        runs: Results by run, each with random order beside what was ranked.
        name: The model and method, called the same in every run.
        metric: What is measured.

    Returns:
        A row for each task that all runs have; :func:`left_out` says which they do not.

    Raises:
        OptionError: there are fewer than two runs, one lacks the name, or a task does not know the measure.
        DataError: the runs share no task, or ranked other lists of one.
        MissingExtraError: scipy is not installed.
    """
    if len(runs) < 2:
        raise OptionError(f"--run {''.join(runs)}: one run has no interval; give --run for each seed")
    found = _by_run(runs, name)
    (first, tasks), *others = found.items()
    shared = [key for key in tasks if all(key in theirs for _, theirs in others)]
    if not shared:
        raise DataError(f"{', '.join(found)}: no task was ranked in each by {name}; rank one in all of them")
    for run, theirs in others:
        for key in shared:
            _check_same(first, tasks[key], run, theirs[key])
    bounds = {_key(result): result for result in next(iter(runs.values())) if result.name == RANDOM}
    rows = []
    for key in shared:
        each, result = [theirs[key] for theirs in found.values()], tasks[key]
        rows.append(
            _row(
                result.task.name,
                result.task.edition,
                lists=len(result.examples),
                values=[fmean(one.measured(metric)) for one in each],
                random=fmean(bounds[key].measured(metric)),
                missing=[one.missing for one in each],
            )
        )
    return [*rows, *_means_of_nine(rows)]


def left_out(runs: Mapping[str, Sequence[Result]], name: str) -> list[str]:
    """Return the tasks that some runs have and others lack."""
    found = _by_run(runs, name)
    keys = dict.fromkeys(key for tasks in found.values() for key in tasks)
    return [task for edition, task in keys if any((edition, task) not in tasks for tasks in found.values())]


def seeds_table(rows: Sequence[OverSeeds], runs: Sequence[str], *, metric: str) -> str:
    """Return a Markdown table, and a line for each run that has not ranked all lists.

    Args:
        rows: What :func:`over_seeds` returned.
        runs: What to call the runs, in their order.
        metric: What was measured.
    """
    editions = {row.edition for row in rows}
    lines = [
        f"| {metric} | lists | {' | '.join(runs)} | mean (95% interval) | random order |",
        f"|---|--:|{'--:|' * len(runs)}--:|--:|",
    ]
    for row in rows:
        task = row.task if len(editions) == 1 else f"{row.task}, {row.edition}"
        values = " | ".join(short(value) for value in row.values)
        interval = f"{short(row.mean)} ({short(row.low)} – {short(row.high)})"
        lines.append(f"| {task} | {row.lists:,} | {values} | {interval} | {short(row.random)} |")
    for row in rows:
        lines += [
            f"\n{run} has not ranked {count} of the {row.lists} lists of {row.task}; they count as ranked worst."
            for run, count in zip(runs, row.missing, strict=True)
            if count and row.task != MEAN_OF_NINE
        ]
    return "\n".join(lines) + "\n"


def _key(result: Result) -> _Key:
    return result.task.edition, result.task.name


def _by_run(runs: Mapping[str, Sequence[Result]], name: str) -> dict[str, dict[_Key, Result]]:
    return {run: {_key(result): result for result in named(results, name)} for run, results in runs.items()}


def _check_same(first: str, result: Result, run: str, match: Result) -> None:
    for fact in ("split", "data_hash", "queries"):
        if match.facts[fact] != result.facts[fact]:
            raise DataError(
                f"{run}: {fact} of {result.task.name} is {match.facts[fact]!r}, but in {first} it is "
                f"{result.facts[fact]!r}; rank the same lists in both"
            )


def _means_of_nine(rows: Sequence[OverSeeds]) -> list[OverSeeds]:
    found = []
    for edition in dict.fromkeys(row.edition for row in rows):
        tasks = {row.task: row for row in rows if row.edition == edition}
        if set(NINE) <= set(tasks):
            nine = [tasks[name] for name in NINE]
            found.append(
                _row(
                    MEAN_OF_NINE,
                    edition,
                    lists=sum(row.lists for row in nine),
                    values=[fmean(values) for values in zip(*(row.values for row in nine), strict=True)],
                    random=fmean(row.random for row in nine),
                    missing=[sum(counts) for counts in zip(*(row.missing for row in nine), strict=True)],
                )
            )
    return found


def _row(task: str, edition: str, *, values: Sequence[float], missing: Sequence[int], **rest: Any) -> OverSeeds:
    low, high = _interval(values)
    return OverSeeds(
        task, edition, values=tuple(values), mean=fmean(values), low=low, high=high, missing=tuple(missing), **rest
    )


def _interval(values: Sequence[float]) -> tuple[float, float]:
    try:
        from scipy.stats import ttest_1samp
    except ImportError as error:
        raise missing_extra("bench", package="scipy", purpose="an interval over seeds") from error
    if len(set(values)) == 1:
        # Student's law has no interval of no spread; there is nothing to tell but the value.
        return values[0], values[0]
    interval = ttest_1samp(values, 0.0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)
