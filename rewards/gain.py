"""What a ranking is worth, and what is still attainable: the arithmetic that rewards share.

nDCG here takes the grade itself as gain and ``1 / log2(rank + 1)`` as discount, over the whole list, as ir-measures'
``nDCG`` does without a cut-off. RR is the reciprocal rank of the first candidate of the best grade of the list.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

from unified_ranker.errors import OptionError, unknown_choice

Measure = Literal["ndcg", "rr"]
MEASURES: tuple[str, ...] = get_args(Measure)


def check_measure(measure: str) -> None:
    """Check the name of a measure.

    Raises:
        OptionError: it is none of :data:`MEASURES`.
    """
    if measure not in MEASURES:
        raise unknown_choice("measure", measure, MEASURES)


def discount(rank: int) -> float:
    """Return the weight of a rank, from 1."""
    return 1 / math.log2(rank + 1)


def attainable(grades: Sequence[float]) -> float:
    """Return the largest DCG that candidates of these grades can have on the first places.

    Example:
        >>> attainable([0.0, 1.0, 0.0])
        1.0
    """
    return sum(grade * discount(rank) for rank, grade in enumerate(sorted(grades, reverse=True), start=1))


def worth(grades: Sequence[float], *, among: Sequence[float], measure: Measure, depth: int | None = None) -> float:
    """Return the measure of a ranking, in [0, 1].

    Args:
        grades: Grades in the order of the ranking, best place first; it may leave candidates out.
        among: Grades of all candidates of the list.
        measure: ``"ndcg"`` or ``"rr"``.
        depth: Places that count, as in nDCG@10; None for all.

    Returns:
        1 where no order is better than another.

    Example:
        >>> worth([0.0, 1.0], among=[1.0, 0.0, 0.0], measure="rr")
        0.5
    """
    check_measure(measure)
    if depth is not None and depth < 1:
        raise OptionError(f"depth={depth} must be ≥ 1")
    best = max(among, default=0.0)
    if best <= min(among, default=0.0):
        return 1.0
    shown = grades[:depth]
    if measure == "rr":
        return next((1 / rank for rank, grade in enumerate(shown, start=1) if grade == best), 0.0)
    ideal = attainable(sorted(among, reverse=True)[:depth])
    # Sums of the same numbers in another order can differ in their last bit.
    return min(1.0, sum(grade * discount(rank) for rank, grade in enumerate(shown, start=1)) / ideal)


def cost_of_removal(grade: float, *, in_play: Sequence[float], among: Sequence[float], measure: Measure) -> float:
    """Return what is lost for good when a candidate gets the last of the places in play, in [0, 1].

    That is the best measure of the whole list that can still be had before the removal, less the best one after
    it. Over an elimination the costs add up to 1 minus the measure of the ranking that it ends with.

    Args:
        grade: Grade of the candidate that is removed.
        in_play: Grades of all candidates in play, it among them.
        among: Grades of all candidates of the list.
        measure: ``"ndcg"`` or ``"rr"``.

    Example:
        >>> cost_of_removal(1.0, in_play=[1.0, 0.0], among=[1.0, 0.0, 0.0], measure="rr")
        0.5
    """
    check_measure(measure)
    best = max(among)
    if best <= min(among):
        return 0.0
    left = list(in_play)
    left.remove(grade)
    if measure == "rr":
        return 1 - 1 / len(in_play) if grade == best and best not in left else 0.0
    lost = attainable(in_play) - attainable(left) - grade * discount(len(in_play))
    # Sums of the same numbers in another order can differ in their last bit.
    return max(0.0, lost) / attainable(among)
