"""What the rewards of whole rankings share."""

from __future__ import annotations

from unified_ranker.rewards.gain import worth
from unified_ranker.rewards.reward import Order

from unified_ranker.errors import DataError
from unified_ranker.schema.types import RankingExample


def check_named(example: RankingExample, step: Order) -> None:
    """Check that a reply named different candidates of its list.

    Raises:
        DataError: an id was named twice, or is no candidate.
    """
    ids = {candidate.id for candidate in example.candidates}
    if len(set(step.named)) != len(step.named) or not set(step.named) <= ids:
        raise DataError(f"example {example.id!r}: {step.named} must be different candidates of the list")


def ndcg_of(example: RankingExample, step: Order, *, depth: int | None) -> tuple[float, float]:
    """Return the nDCG of what a reply named, and that of the list as it was shown.

    A candidate that the reply left out earns nothing.
    """
    among = [example.grade(candidate.id) for candidate in example.candidates]
    named = [example.grade(name) for name in step.named]
    return (
        worth(named, among=among, measure="ndcg", depth=depth),
        worth(among, among=among, measure="ndcg", depth=depth),
    )
