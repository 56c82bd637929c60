"""Effectiveness through ir-measures, and intervals and tests through scipy: none of it our own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_ranker.tasks.random_order import is_relevant

from unified_ranker.errors import missing_extra
from unified_ranker.schema.types import Ranking, RankingExample


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over queries with its 95% interval."""

    mean: float
    low: float
    high: float
    queries: int


def per_query(
    examples: Sequence[RankingExample],
    rankings: Mapping[str, Ranking | Sequence[str]],
    *,
    binary: str,
    measures: Sequence[str] = ("RR", "nDCG@10"),
    judged: Mapping[str, Mapping[str, float]] | None = None,
) -> dict[str, list[float]]:
    """Measure rankings query by query.

    RR and Success@k count as relevant what the task calls so (``binary``); nDCG takes the grades, rounded to whole
    numbers as qrels hold them, with linear gain. A query without a ranking counts as worst, 0, never as absent.

    Args:
        examples: The lists with their grades.
        rankings: Rankings by example id, or the ids of their candidates, best first.
        binary: See :class:`~unified_ranker.tasks.base.Task`.
        measures: Names that ir-measures knows.
        judged: Grades of documents that a list does not hold, by example id: what nDCG could have reached counts them.

    Returns:
        Values by measure, in the order of the examples.
    """
    import ir_measures
    from ir_measures import Qrel, ScoredDoc

    run = [
        # The place, not the score: ir-measures keeps scores in single precision, in which near ones would tie.
        ScoredDoc(example.id, id, float(-place))
        for example in examples
        if example.id in rankings
        for place, id in enumerate(_ids(rankings[example.id]), start=1)
    ]
    graded, binarised = [], []
    for example in examples:
        grades = [example.grade(c.id) for c in example.candidates]
        for candidate, grade, relevant in zip(example.candidates, grades, is_relevant(grades, binary), strict=True):
            graded.append(Qrel(example.id, candidate.id, round(grade)))
            binarised.append(Qrel(example.id, candidate.id, int(relevant)))
        outside = (judged or {}).get(example.id, {})
        graded += [Qrel(example.id, document, round(grade)) for document, grade in outside.items()]
    values: dict[str, list[float]] = {}
    for name in measures:
        measure = ir_measures.parse_measure(name)
        qrels = graded if name.startswith(("nDCG", "ERR")) else binarised
        found = {m.query_id: float(m.value) for m in ir_measures.iter_calc([measure], qrels, run)}
        values[name] = [found.get(example.id, 0.0) for example in examples]
    return values


def _ids(ranking: Ranking | Sequence[str]) -> Sequence[str]:
    return ranking.ids if isinstance(ranking, Ranking) else ranking


def with_interval(values: Sequence[float], *, seed: int = 0, resamples: int = 2000) -> Figure:
    """Return the mean and its 95% bootstrap interval over queries (percentile method).

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.stats import bootstrap
    except ImportError as error:
        raise missing_extra("bench", package="scipy", purpose="a bootstrap interval") from error
    import numpy

    data = numpy.asarray(values, dtype=float)
    mean = float(data.mean())
    if len(data) < 2 or numpy.all(data == data[0]):
        return Figure(mean, mean, mean, len(data))
    result: Any = bootstrap(
        (data,), numpy.mean, n_resamples=resamples, method="percentile", rng=numpy.random.default_rng(seed)
    )
    return Figure(mean, float(result.confidence_interval.low), float(result.confidence_interval.high), len(data))
