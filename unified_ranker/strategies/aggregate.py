"""Aggregation: several ways to rank the same list, on one model, joined into one ranking.

What may differ: the method, the shuffle, the chain of reasoning that was drawn. All are asked at the same time. Several
models are joined by :class:`~unified_ranker.compose.AggregateRanker`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Ranking, RankingExample, Usage
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
        of: The ways, at least two.
        fusion: ``"rrf"`` or ``"borda"``; see :mod:`~unified_ranker.strategies.fusion`, also for what the scores mean.
    """

    of: tuple[Strategy, ...]
    fusion: Fusion = "rrf"

    def __post_init__(self) -> None:
        if len(self.of) < 2:
            raise OptionError(f"of: {len(self.of)} ways to rank; give at least two to be joined")
        check_fusion(self.fusion)

    @property
    def name(self) -> str:
        """``"aggregate"``."""
        return "aggregate"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        rankings = yield from together([strategy.rank(example) for strategy in self.of])
        return fused(example, rankings, fusion=self.fusion, name=self.name)
