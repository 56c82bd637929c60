"""How cost grows with the number of candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any

from unified_ranker.benchmarks.speed.arms import Arm
from unified_ranker.benchmarks.speed.measure import Say, exponent, run_arms

from unified_ranker.schema.types import RankingExample


def grow(
    arms: Sequence[Arm], lists: Mapping[int, Sequence[RankingExample]], *, repeats: int, say: Say
) -> list[dict[str, Any]]:
    """Run arms on lists of several sizes.

    Args:
        arms: What is compared.
        lists: The lists by their number of candidates.
        repeats: How often each arm runs at each size.
        say: Called with each line of progress.

    Returns:
        For each arm: its ``sizes``, the computed ``prompt_tokens`` and the ``seconds`` of a query at each (medians over
        repeats), and the fitted exponents of both.
    """
    sizes = list(lists)
    tokens: dict[str, list[float]] = {arm.key: [] for arm in arms}
    seconds: dict[str, list[float]] = {arm.key: [] for arm in arms}
    for size, examples in lists.items():
        say(f"lists of {size} candidates")
        for timed in run_arms(arms, examples, repeats=repeats, warm_up=1, say=say):
            tokens[timed.arm.key].append(fmean(ranking.usage.computed_tokens for ranking in timed.rankings))
            seconds[timed.arm.key].append(median(timed.seconds) / len(examples))
    return [
        {
            "backend": arm.backend,
            "arm": arm.name,
            "sizes": sizes,
            "prompt_tokens": tokens[arm.key],
            "seconds": seconds[arm.key],
            "prompt_token_exponent": exponent(sizes, tokens[arm.key]),
            "time_exponent": exponent(sizes, seconds[arm.key]),
        }
        for arm in arms
    ]
