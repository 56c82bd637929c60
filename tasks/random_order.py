"""What a random order reaches, exactly: the bar that every ranker has to clear, computed and not sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb, log2

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import RankingExample


def is_relevant(grades: Sequence[float], binary: str) -> list[bool]:
    """Tell which grades count as relevant for RR and Success@k.

    Args:
        grades: Grades of a list.
        binary: ``"positive"`` (> 0), ``"top"`` (the best of the list, if it is > 0), or the least grade as a number.

    Raises:
        OptionError: ``binary`` is something else.
    """
    if binary == "positive":
        return [grade > 0 for grade in grades]
    if binary == "top":
        best = max(grades, default=0.0)
        return [grade == best and grade > 0 for grade in grades]
    try:
        least = float(binary)
    except ValueError as error:
        raise OptionError(f"binary={binary!r} must be 'positive', 'top' or a number") from error
    return [grade >= least for grade in grades]


def relevant_count(grades: Sequence[float], binary: str) -> int:
    """Return how many grades count as relevant."""
    return sum(is_relevant(grades, binary))


def reciprocal_rank_of_random(n: int, relevant: int) -> float:
    """Return the expected reciprocal rank of the first of ``relevant`` among ``n`` candidates in random order.

    The first relevant one stands at rank r if the r - 1 before it are all irrelevant:
    ``P(r) = C(n - r, relevant - 1) / C(n, relevant)``.

    Example:
        >>> round(reciprocal_rank_of_random(20, 1), 4)
        0.1799
    """
    if relevant == 0:
        return 0.0
    return sum(comb(n - r, relevant - 1) / r for r in range(1, n - relevant + 2)) / comb(n, relevant)


def expected_reciprocal_rank(example: RankingExample, binary: str) -> float:
    """Return the expected reciprocal rank of a random order of an example's candidates."""
    grades = [example.grade(c.id) for c in example.candidates]
    return reciprocal_rank_of_random(len(grades), relevant_count(grades, binary))


def expected_ndcg(example: RankingExample, cutoff: int = 10, *, outside: Mapping[str, float] | None = None) -> float:
    """Return the expected nDCG of a random order (linear gain, as trec_eval); 0 where nothing is relevant.

    Args:
        example: The list.
        cutoff: How many places count.
        outside: Grades of documents that the list does not hold; the ideal order holds them.
    """
    grades = [example.grade(c.id) for c in example.candidates]
    discounts = [1 / log2(place + 2) for place in range(cutoff)]
    best = sorted([*grades, *(outside or {}).values()], reverse=True)
    ideal = sum(g * d for g, d in zip(best, discounts, strict=False))
    return sum(discounts[: len(grades)]) * sum(grades) / len(grades) / ideal if ideal else 0.0
