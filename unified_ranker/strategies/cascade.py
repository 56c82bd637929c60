"""Cascades: a cheap way to rank for the long list, an expensive one for its top (CoRanking, arXiv 2503.23427).

:class:`Cascade` runs both on one model. Two models are joined by :class:`~unified_ranker.compose.CascadeRanker`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from unified_ranker.schema.types import Ranking, RankingExample, places_below
from unified_ranker.strategies.base import Asking, Strategy, check_whole, renumbered


def joined(example_id: str, first: Ranking, then: Ranking, *, name: str) -> Ranking:
    """Return the ranking of a list whose top was ranked anew.

    Args:
        example_id: Id of the example.
        first: The ranking of the whole list.
        then: That of its top.
        name: Name of the method.
    """
    again = {candidate.id for candidate in then.order}
    order = (*then.order, *(candidate for candidate in first.order if candidate.id not in again))
    return Ranking(
        example_id=example_id,
        order=order,
        scores=places_below(len(order)),
        steps=renumbered((*first.steps, *then.steps)),
        usage=first.usage + then.usage,
        method=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Cascade:
    """Ranks a list one way, and its top another way.

    A candidate's score is the number of candidates below it.

    Attributes:
        first: Ranks the whole list.
        then: Ranks its first ``depth`` places, which it is shown in the order that ``first`` gave them.
        depth: How many.
    """

    first: Strategy
    then: Strategy
    depth: int = 10

    def __post_init__(self) -> None:
        check_whole("depth", self.depth, least=1)

    @property
    def name(self) -> str:
        """``"cascade"``."""
        return "cascade"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        first = yield from self.first.rank(example)
        if self.depth == 1 or len(first.order) == 1:
            return replace(first, method=self.name, scores=places_below(len(first.order)))
        then = yield from self.then.rank(example.with_candidates(first.order[: self.depth]))
        return joined(example.id, first, then, name=self.name)
