"""Who is better than whom, and not by chance: paired randomisation tests (scipy), corrected by Holm (statsmodels)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from unified_ranker.benchmarks.outcome import LOWER_IS_BETTER
from unified_ranker.benchmarks.report.load import Result

from unified_ranker.errors import missing_extra


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results on the same lists.

    Attributes:
        better: Name of the one with the better mean: the lower one of a cost or a regret.
        worse: Name of the other.
        difference: Of the means, ≥ 0.
        p: Two-sided p-value, corrected for all comparisons that were made with it.
    """

    better: str
    worse: str
    difference: float
    p: float


def compare_all(
    results: Sequence[Result], *, metric: str = "RR", resamples: int = 4999, seed: int = 0
) -> list[Comparison]:
    """Compare every two results of one task; random order and the oracle are left out: they are no samples.

    The test flips the sign of each list's difference at random (Fisher's randomisation); the smallest p it can give is
    ``1 / (resamples + 1)`` before the correction. Lists that only one of two was asked to rank do not count.

    Args:
        results: The results of one task.
        metric: What is compared.
        resamples: Random sign patterns a pair.
        seed: Seed.

    Raises:
        MissingExtraError: statsmodels is not installed.
    """
    try:
        from statsmodels.stats.multitest import multipletests
    except ImportError as error:
        raise missing_extra("bench", package="statsmodels", purpose="a test of significance") from error
    import numpy
    from scipy.stats import permutation_test

    ranked = [result for result in results if not result.computed]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    pairs, values = [], []
    for one, other in combinations(ranked, 2):
        shared = min(len(one.examples), len(other.examples))
        first, second = (numpy.asarray(each.values[metric][:shared], dtype=float) for each in (one, other))
        pairs.append((one.name, other.name, sign * float((first - second).mean())))
        # A single list, or none on which they differ, shows nothing.
        if shared < 2 or numpy.all(first == second):
            values.append(1.0)
            continue
        found = permutation_test(
            (first, second),
            lambda x, y, axis: numpy.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=resamples,
            batch=500,
            rng=numpy.random.default_rng(seed),
        )
        values.append(float(found.pvalue))
    if not values:
        return []
    corrected = multipletests(values, method="holm")[1]
    return [
        Comparison(*((one, other) if difference >= 0 else (other, one)), abs(difference), float(p))
        for (one, other, difference), p in zip(pairs, corrected, strict=True)
    ]
