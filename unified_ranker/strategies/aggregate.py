"""Aggregation: several ways to rank the same list, on one model, joined into one ranking.

What may differ: the method, the shuffle, the chain of reasoning that was drawn. All are asked at the same time. The
order in which the list came may be one of the rankings: a search engine's says what a model does not see. Several
models are joined by :class:`~unified_ranker.compose.AggregateRanker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Ranking, RankingExample, Usage, places_below
from unified_ranker.strategies.base import Asking, Strategy, renumbered
from unified_ranker.strategies.fusion import Fusion, check_fusion, fuse
from unified_ranker.strategies.together import together


def fused(example: RankingExample, rankings: Sequence[Ranking], *, fusion: Fusion, name: str) -> Ranking:
    """Return one ranking made of several, with all of their steps and what all of them cost."""
    order, scores = fuse(example.candidates, rankings, fusion=fusion)
    return Ranking(
        example_id=example.id,
        order=order,
        scores=scores,
        steps=renumbered(step for ranking in rankings for step in ranking.steps),
        usage=sum((ranking.usage for ranking in rankings), Usage()),
        method=name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregate:
    """Ranks a list in several ways and joins the rankings.

    Attributes:
        of: The ways, at least two; or one, with ``listed``.
        fusion: ``"rrf"`` or ``"borda"``; see :mod:`~unified_ranker.strategies.fusion`, also for what the scores mean.
        listed: Join the order in which the list came, too.
    """

    of: tuple[Strategy, ...]
    fusion: Fusion = "rrf"
    listed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.listed, bool):
            raise OptionError(f"listed={self.listed!r} must be true or false")
        if len(self.of) + self.listed < 2:
            raise OptionError(
                f"of: {len(self.of)} ways to rank; give at least two to be joined, or one and listed=true"
            )
        check_fusion(self.fusion)

    @property
    def name(self) -> str:
        """``"aggregate"``."""
        return "aggregate"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        rankings = yield from together([strategy.rank(example) for strategy in self.of])
        if self.listed:
            listed = example.candidates
            rankings = [*rankings, Ranking(example.id, order=listed, scores=places_below(len(listed)))]
        return fused(example, rankings, fusion=self.fusion, name=self.name)
