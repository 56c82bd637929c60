"""The mean over the nine data sets: one figure a method, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

from unified_ranker.benchmarks.measures import Figure
from unified_ranker.benchmarks.report.load import Result
from unified_ranker.tasks.registry import NINE


def macro(results: Sequence[Result], metric: str, *, seed: int = 0, resamples: int = 2000) -> Figure | None:
    """Return the mean of a model's nine means, and its 95% bootstrap interval; None if a task is missing.

    Args:
        results: The results of one model and method, of one edition.
        metric: A measure that all tasks have.
        seed: Seed of the bootstrap.
        resamples: How often lists are drawn again.
    """
    tasks = {result.task.name: result for result in results}
    if not set(NINE) <= set(tasks):
        return None
    return mean_over([tasks[name] for name in NINE], metric, seed=seed, resamples=resamples)


def mean_over(results: Sequence[Result], metric: str, *, seed: int = 0, resamples: int = 2000) -> Figure:
    """Return the mean of the means of several tasks, and its 95% bootstrap interval.

    Lists are drawn again within each task, so that every task keeps its weight.
    """
    import numpy
    from scipy.stats import bootstrap

    samples = [numpy.asarray(result.values[metric], dtype=float) for result in results]
    mean = float(numpy.mean([sample.mean() for sample in samples]))
    # scipy draws again from two values at least; of a single list it can only draw that one.
    queries = sum(len(sample) for sample in samples)
    if all(len(sample) < 2 or numpy.ptp(sample) == 0 for sample in samples):
        return Figure(mean, mean, mean, queries)
    found = bootstrap(
        [numpy.repeat(sample, 2) if len(sample) == 1 else sample for sample in samples],
        lambda *each, axis=-1: sum(numpy.mean(sample, axis=axis) for sample in each) / len(each),
        n_resamples=resamples,
        method="percentile",
        vectorized=True,
        batch=200,
        rng=numpy.random.default_rng(seed),
    )
    interval = found.confidence_interval
    return Figure(mean, float(interval.low), float(interval.high), queries)
