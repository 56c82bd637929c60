"""Permutation self-consistency (Tang et al., arXiv 2310.07712): several shuffles of a list, one ranking of them all.

A model's answer depends on the order in which it reads the candidates; the mean over random orders does not. The
rankings are joined by Borda's rule (:mod:`~unified_ranker.strategies.fusion`): the mean place over all of them, and
where two candidates have the same, the place in the list as it came. The paper takes the ranking of least Kendall
distance to all, which is NP-hard to find, and which Borda's rule approximates.

All shuffles are asked at the same time. What comes before the candidates in the prompt, the query and its context, is
the same in all of them, so that an engine with a prefix cache computes it once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import RankingExample, places_below
from unified_ranker.strategies.aggregate import fused
from unified_ranker.strategies.base import Asking, Strategy
from unified_ranker.strategies.together import together


@dataclass(frozen=True, slots=True, kw_only=True)
class Consistency:
    """Ranks several shuffles of a list with one strategy each, and joins the rankings.

    Attributes:
        shuffles: The same strategy, with another ``shuffle_seed`` each; at least two.
    """

    shuffles: tuple[Strategy, ...]

    def __post_init__(self) -> None:
        if len(self.shuffles) < 2:
            raise OptionError(f"shuffles={len(self.shuffles)} must be ≥ 2 to be joined")

    @property
    def name(self) -> str:
        """The name of the strategy that is shuffled."""
        return self.shuffles[0].name

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        rankings = yield from together([strategy.rank(example) for strategy in self.shuffles])
        found = fused(example, rankings, fusion="borda", name=self.name)
        return replace(found, scores=places_below(len(found.order)))
