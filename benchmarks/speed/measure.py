"""Runs arms side by side: interleaved, each from a cold cache, with a warm-up and repeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np
from unified_ranker.benchmarks.measures import per_query
from unified_ranker.benchmarks.speed.arms import Arm
from unified_ranker.tasks.registry import task_named

from unified_ranker.schema.types import Ranking, RankingExample, Usage

Say = Callable[[str], None]


@dataclass(frozen=True)
class Timed:
    """What an arm took.

    Attributes:
        arm: The arm.
        seconds: Wall time of all lists, repeat by repeat.
        rankings: Those of the last repeat; empty for the floor.
        queries: How many lists.
    """

    arm: Arm
    seconds: tuple[float, ...]
    rankings: tuple[Ranking, ...]
    queries: int


def run_arms(
    arms: Sequence[Arm], examples: Sequence[RankingExample], *, repeats: int, warm_up: int = 4, say: Say
) -> list[Timed]:
    """Run every arm ``repeats`` times.

    Within a repeat all arms run one after the other, each repeat beginning with another, so that what else the machine
    does falls on all of them alike and ratios can be taken within a repeat.

    Args:
        arms: What is compared.
        examples: The lists.
        repeats: How often each arm runs.
        warm_up: Lists that each arm ranks before anything is measured.
        say: Called with each line of progress.
    """
    for arm in arms:
        arm.work(examples[:warm_up])
    seconds: dict[str, list[float]] = {arm.key: [] for arm in arms}
    rankings: dict[str, tuple[Ranking, ...]] = {}
    for repeat in range(repeats):
        turn = repeat % len(arms)
        for arm in (*arms[turn:], *arms[:turn]):
            arm.reset()
            began = time.perf_counter()
            found = arm.work(examples)
            seconds[arm.key].append(time.perf_counter() - began)
            rankings[arm.key] = tuple(found)
            say(f"repeat {repeat + 1}/{repeats}  {arm.key}  {seconds[arm.key][-1]:.2f} s")
    return [Timed(arm, tuple(seconds[arm.key]), rankings[arm.key], len(examples)) for arm in arms]


def row_of(timed: Timed, examples: Sequence[RankingExample]) -> dict[str, Any]:
    """Return one row of the table: cost, time and effectiveness of an arm; means over queries unless said otherwise."""
    row: dict[str, Any] = {
        "backend": timed.arm.backend,
        "arm": timed.arm.name,
        "reference": timed.arm.reference,
        "rankings_per_second": median(timed.queries / seconds for seconds in timed.seconds),
        "rankings_per_second_low": timed.queries / max(timed.seconds),
        "rankings_per_second_high": timed.queries / min(timed.seconds),
        "seconds": list(timed.seconds),
    }
    if not timed.arm.ranks:
        return row
    usage = sum((ranking.usage for ranking in timed.rankings), Usage())
    count = len(timed.rankings)
    waited = [ranking.usage.seconds for ranking in timed.rankings]
    values = per_query(
        examples,
        {ranking.example_id: ranking for ranking in timed.rankings},
        binary=task_named(examples[0].task).binary,
    )
    return {
        **row,
        "calls": usage.calls / count,
        "prompt_tokens_computed": usage.computed_tokens / count,
        "prompt_tokens_reused": usage.reused_tokens / count,
        "generated_tokens": usage.generated_tokens / count,
        "seconds_p50": float(np.percentile(waited, 50)),
        "seconds_p95": float(np.percentile(waited, 95)),
        "RR": fmean(values["RR"]),
        "nDCG@10": fmean(values["nDCG@10"]),
    }


def ratio(slow: Timed, quick: Timed) -> dict[str, float]:
    """Return how many times quicker one arm is, repeat by repeat: median, least and most."""
    found = [a / b for a, b in zip(slow.seconds, quick.seconds, strict=True)]
    return {"median": median(found), "low": min(found), "high": max(found)}


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of ``log(value)`` over ``log(size)``, fitted by least squares."""
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)
