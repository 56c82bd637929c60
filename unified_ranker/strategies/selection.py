"""Best first: the best candidate is picked, step by step. The mirror of elimination, which can stop at the first k.

The conversation, in its two layouts, is that of :mod:`~unified_ranker.strategies.picking`. Where only the first places
are wanted, ``k`` steps find them, where an elimination needs all ``n - 1``; the reviewers of R1-Ranker (arXiv
2506.21638) asked for the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.prompts import Listed
from unified_ranker.schema.types import Ranking, RankingExample, places_below
from unified_ranker.strategies.base import Asking, check_whole, listing
from unified_ranker.strategies.picking import Picking


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection(Picking):
    """Picks the best candidate until the wanted places are filled.

    A candidate's score is the number of candidates below it. A step whose reply names no candidate in play has failed:
    it picks the candidate that is listed first among those in play, which keeps the given order among the undecided,
    and is counted.

    Attributes:
        picks: Pick no more than so many; the others follow in the order in which they are listed. None for all.
    """

    picks: int | None = None

    def __post_init__(self) -> None:
        if self.picks is not None:
            check_whole("picks", self.picks, least=1)
        Picking.__post_init__(self)

    @property
    def name(self) -> str:
        """``"best_first"``."""
        return "best_first"

    def undecided(self, standing: Sequence[Listed]) -> Listed:
        """Return the one listed first: the order given decides among those of whom nothing was said."""
        return standing[0]

    def steps(self, candidates: int) -> int:
        """Return how many picks a list of so many candidates takes; the last one needs none."""
        return candidates - 1 if self.picks is None else min(candidates - 1, self.picks)

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        picked, steps, usage = yield from self.pick(example, shown)
        gone = {candidate.id for candidate in picked}
        order = (*picked, *(candidate for candidate in shown if candidate.id not in gone))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=tuple(steps),
            usage=usage,
            method=self.name,
        )
