"""Who is better than whom, and not by chance: paired randomisation tests (scipy), corrected by Holm (statsmodels).

The test flips the sign of each list's difference at random (Fisher's randomisation); the smallest p it can give is
``1 / (resamples + 1)``. Lists that only one of two was asked to rank do not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean

from unified_ranker.benchmarks.outcome import LOWER_IS_BETTER
from unified_ranker.benchmarks.report.load import Result

from unified_ranker.errors import missing_extra


@dataclass(frozen=True, slots=True)
class Paired:
    """Two results of one task, by the lists that both were asked to rank.

    Attributes:
        task: The task.
        edition: Its edition.
        lists: How many lists there are.
        first: Mean of the first.
        second: Mean of the second.
        p: Two-sided p-value, not corrected for that of any other task; None where one of the two is computed and no
            sample: random order and the oracle.
        missing: How many of the lists have no ranking by the first, and by the second; they count as ranked worst.
    """

    task: str
    edition: str
    lists: int
    first: float
    second: float
    p: float | None
    missing: tuple[int, int] = (0, 0)


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
    ranked = [result for result in results if not result.computed]
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    pairs, values = [], []
    for one, other in combinations(ranked, 2):
        first, second = _shared(one, other, metric)
        pairs.append((one.name, other.name, sign * (fmean(first) - fmean(second))))
        values.append(_p_value(first, second, resamples=resamples, seed=seed))
    if not values:
        return []
    corrected = multipletests(values, method="holm")[1]
    return [
        Comparison(*((one, other) if difference >= 0 else (other, one)), abs(difference), float(p))
        for (one, other, difference), p in zip(pairs, corrected, strict=True)
    ]


def compare_by_task(
    one: Sequence[Result], other: Sequence[Result], *, metric: str = "RR", resamples: int = 4999, seed: int = 0
) -> list[Paired]:
    """Compare two on each task that both ranked, in the order of the first.

    Args:
        one: Results of the first, one a task.
        other: Results of the second.
        metric: What is compared; every shared task has to know it.
        resamples: Random sign patterns a task.
        seed: Seed.

    Raises:
        OptionError: a task that they share does not know the measure.
    """
    theirs = {(result.task.edition, result.task.name): result for result in other}
    found = []
    for result in one:
        match = theirs.get((result.task.edition, result.task.name))
        if match is None:
            continue
        first, second = _shared(result, match, metric)
        sampled = not (result.computed or match.computed)
        p = _p_value(first, second, resamples=resamples, seed=seed) if sampled else None
        missing = (result.unranked(len(first)), match.unranked(len(first)))
        found.append(Paired(result.task.name, result.task.edition, len(first), fmean(first), fmean(second), p, missing))
    return found


def _shared(one: Result, other: Result, metric: str) -> tuple[Sequence[float], Sequence[float]]:
    shared = min(len(one.examples), len(other.examples))
    return one.measured(metric)[:shared], other.measured(metric)[:shared]


def _p_value(first: Sequence[float], second: Sequence[float], *, resamples: int, seed: int) -> float:
    import numpy
    from scipy.stats import permutation_test

    # A single list, or none on which they differ, shows nothing.
    if len(first) < 2 or list(first) == list(second):
        return 1.0
    found = permutation_test(
        (numpy.asarray(first, dtype=float), numpy.asarray(second, dtype=float)),
        lambda x, y, axis: numpy.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=resamples,
        batch=500,
        rng=numpy.random.default_rng(seed),
    )
    return float(found.pvalue)
