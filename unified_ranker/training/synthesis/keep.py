"""Which of a teacher's orders are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unified_ranker.rewards.gain import worth
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.synthesis.setting import Synthesis

DEPTH = 10


def ndcg(order: Sequence[str], grades: Mapping[str, float]) -> float:
    """Return nDCG@10 of an order against grades; 1 where all grades are equal.

    Example:
        >>> ndcg(["a", "b"], {"a": 0.0, "b": 1.0}) == ndcg(["b", "a"], {"a": 1.0, "b": 0.0})
        True
    """
    return worth([grades[name] for name in order], among=list(grades.values()), measure="ndcg", depth=DEPTH)


def verdict(
    setting: Synthesis, example: RankingExample, grades: Mapping[str, float], orders: Sequence[Sequence[str] | None]
) -> tuple[int | None, str]:
    """Choose among the orders of a list.

    Args:
        setting: The rule.
        example: The list as it was shown.
        grades: The teacher's grade of each candidate; 0 where it gave none.
        orders: The teacher's orders; None for a reply that had to be repaired, of which nothing is learned.

    Returns:
        The number of the best order that passes and an empty reason; or None, and why none did.
    """
    ids = [candidate.id for candidate in example.candidates]
    truth = dict(grades) if setting.keep == "consistent" else {name: example.grade(name) for name in ids}
    if len(set(truth.values())) < 2:
        what = "grades" if setting.keep == "consistent" else "relevance"
        return None, f"equal {what}"
    whole = [(ndcg(order, truth), -number) for number, order in enumerate(orders) if order is not None]
    if not whole:
        return None, "no whole order"
    best, number = max(whole)
    if setting.keep == "consistent":
        return (-number, "") if best >= setting.threshold else (None, "inconsistent")
    return (-number, "") if best > ndcg(ids, truth) else (None, "no promotion")
