"""Elimination of long lists in O(n) prompt tokens: blocks lose their worst at the same time, round after round.

An elimination of n candidates shows all of them in one prompt, which a model soon cannot read: 1,000 passages are
100,000 tokens. Here the candidates are dealt into blocks, each block eliminates a share of its own worst, and those
that are left are dealt anew, until one block holds them all and is eliminated to the end. With a share of one half the
rounds show n + n/2 + n/4 + … < 2n candidates. All blocks of a round are asked at the same time.

What is lost: candidates of different blocks that leave in the same round are never compared. Those that left
earlier in their block go below those that left later; at the same step the one listed later goes below.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage, places_below
from unified_ranker.strategies.base import Asking, check_whole, listing, renumbered
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.together import together


@dataclass(frozen=True, slots=True, kw_only=True)
class Tournament:
    """Eliminates the worst of blocks until one block is left.

    Attributes:
        elimination: How a block is eliminated.
        block: Most candidates that one prompt shows, at least 2.
        survivors: Share of a block that goes on to the next round, above 0 and below 1; of each block at least
            one leaves and at least one stays.
    """

    elimination: Elimination
    block: int = 20
    survivors: float = 0.5

    def __post_init__(self) -> None:
        check_whole("block", self.block, least=2)
        if not isinstance(self.survivors, (int, float)) or not 0 < self.survivors < 1:
            raise OptionError(f"survivors={self.survivors!r} must be above 0 and below 1")
        for name in ("max_steps", "stop_at"):
            if getattr(self.elimination, name) is not None:
                raise OptionError(f"{name} does not go with method='tournament', whose rounds say how many leave")

    @property
    def name(self) -> str:
        """``"tournament"``."""
        return "tournament"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        shown = listing(example, self.elimination.sampling.shuffle_seed)
        place = {candidate.id: number for number, candidate in enumerate(shown)}
        standing, gone = shown, list[Candidate]()
        steps, usage = list[Step](), Usage()
        # Blocks are listed as they are dealt: the order was drawn above, once.
        whole = replace(self.elimination, sampling=replace(self.elimination.sampling, shuffle_seed=None))
        while len(standing) > self.block:
            count = -(-len(standing) // self.block)
            # Dealt like cards, so that a list that comes in a good order does not put its best into one block.
            blocks = [standing[number::count] for number in range(count)]
            asked, leaving = [], []
            for block in blocks:
                if len(block) == 1:
                    # Nobody to be compared with: it goes on.
                    continue
                leave = min(len(block) - 1, max(1, len(block) - round(self.survivors * len(block))))
                leaving.append(leave)
                asked.append(replace(whole, max_steps=leave).rank(_part(example, block)))
            rankings = yield from together(asked)
            losers = []
            for ranking, leave in zip(rankings, leaving, strict=True):
                worst_first = list(reversed(ranking.order))[:leave]
                losers += [(step, -place[candidate.id], candidate) for step, candidate in enumerate(worst_first)]
                steps += ranking.steps
                usage += ranking.usage
            gone += [candidate for _, _, candidate in sorted(losers, key=lambda entry: entry[:2])]
            out = {candidate.id for candidate in gone}
            standing = [candidate for candidate in standing if candidate.id not in out]
        (last,) = yield from together([whole.rank(_part(example, standing))])
        order = (*last.order, *reversed(gone))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=renumbered((*steps, *last.steps)),
            usage=usage + last.usage,
            method=self.name,
        )


def _part(example: RankingExample, block: list[Candidate]) -> RankingExample:
    return example.with_candidates(tuple(block))
