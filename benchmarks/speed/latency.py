"""How long one list waits for its ranking, alone, beside what a baseline takes for the same list."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner.arms import Arm

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import RankingExample

#: Percentiles that are told: the middle, and what a tenth of the lists are below and above.
LOW, MIDDLE, HIGH = 10, 50, 90


@dataclass(frozen=True)
class Waited:
    """What an arm took for each list.

    Attributes:
        name: ``MODEL by METHOD``; of a baseline its name.
        seconds: Wall time of each list.
    """

    name: str
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Spread:
    """A median, and the tenth and ninetieth percentile about it."""

    low: float
    median: float
    high: float


def measure_latency(
    arms: Sequence[Arm],
    task: BuiltTask,
    examples: Sequence[RankingExample],
    *,
    warm_up: int = 5,
    threads: int | None = None,
) -> list[Waited]:
    """Rank lists one by one, each by all arms before the next, and tell how long each took.

    So what else the machine does falls on all arms alike, and ratios can be taken within a list. The order of the arms
    is drawn anew for each list, and each arm forgets what it has computed, prefixes, tokens or embeddings, before it
    ranks.

    Args:
        arms: What is compared.
        task: The task of the lists.
        examples: The lists, the first ``warm_up`` of which are ranked and not counted.
        warm_up: How many.
        threads: Of torch, in this process; None to leave them as they are. Tokenizers and baselines without torch take
            as many as they take.

    Raises:
        OptionError: there is no arm, or one twice, no list is left after the warm-up, a number is out of range, or an
            arm does not rank the task.
        UnifiedRankerError: what making an arm ready, or ranking by it, raises.
    """
    import torch

    if not arms:
        raise OptionError("arms is empty: there is nothing to time; name a method or a baseline")
    named = [name_of(arm) for arm in arms]
    for name in named:
        if named.count(name) > 1:
            raise OptionError(f"arms: {name!r} is there {named.count(name)} times; name each method and baseline once")
    if warm_up < 0 or len(examples) <= warm_up:
        raise OptionError(f"warm_up={warm_up} must be ≥ 0 and less than the number of lists, {len(examples)}")
    if threads is not None and threads < 1:
        raise OptionError(f"threads={threads} must be ≥ 1")
    for arm in arms:
        reason = arm.refuses(task)
        if reason:
            raise OptionError(f"{arm.model} does not rank {task.name!r}: {reason}")
    before, rng = torch.get_num_threads(), random.Random(0)
    torch.set_num_threads(threads or before)
    try:
        for arm in arms:
            arm.open(task)
        seconds: list[list[float]] = [[] for _ in arms]
        for place, example in enumerate(examples):
            for number in rng.sample(range(len(arms)), len(arms)):
                arms[number].forget()
                # Its own count holds what went by in another process, too.
                wall = sum(found.wall for found in arms[number].rank(task, [example]))
                if place >= warm_up:
                    seconds[number].append(wall)
    finally:
        torch.set_num_threads(before)
    return [Waited(name, tuple(found)) for name, found in zip(named, seconds, strict=True)]


def name_of(arm: Arm) -> str:
    """Return what an arm is called in the table."""
    return arm.model if arm.model == arm.method else f"{arm.model} by {arm.method}"


def spread(values: Sequence[float]) -> Spread:
    """Return the median of values and the percentiles about it.

    Example:
        >>> spread([1.0, 2.0, 3.0])
        Spread(low=1.2, median=2.0, high=2.8)
    """
    low, middle, high = np.percentile(values, (LOW, MIDDLE, HIGH))
    return Spread(float(low), float(middle), float(high))


def ratios(waited: Waited, reference: Waited) -> tuple[float, ...]:
    """Return how many times as long an arm took as another, list by list."""
    return tuple(a / b for a, b in zip(waited.seconds, reference.seconds, strict=True))


def latency_table(found: Sequence[Waited], *, reference: Waited | None) -> str:
    """Return a table in Markdown: milliseconds of a list, and ratios to a reference, if there is one."""
    beside = f" times as long as {reference.name} |" if reference else ""
    lines = [f"| | ms, median ({LOW}% – {HIGH}%) |{beside}", "|---|--:|" + ("--:|" if reference else "")]
    for waited in found:
        time_of = spread([1000 * value for value in waited.seconds])
        line = f"| {waited.name} | {time_of.median:.1f} ({time_of.low:.1f} – {time_of.high:.1f}) |"
        if reference:
            times = spread(ratios(waited, reference))
            shown = f" {times.median:.2f} ({times.low:.2f} – {times.high:.2f}) |"
            line += " |" if waited is reference else shown
        lines.append(line)
    return "\n".join(lines) + "\n"
