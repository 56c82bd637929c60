"""Rankers made of rankers: a cheap one for the long list and an expensive one for its top, or several that vote.

Each part may have a model, a backend and a method of its own, and may itself be composed. (Where one model serves all
parts, the methods ``"cascade"`` and ``"aggregate"`` of :class:`~unified_ranker.Ranker` do the same.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import tee

from unified_ranker.door import Door
from unified_ranker.errors import OptionError
from unified_ranker.schema.types import Ranking, RankingExample
from unified_ranker.strategies.aggregate import fused
from unified_ranker.strategies.base import check_whole
from unified_ranker.strategies.cascade import joined
from unified_ranker.strategies.fusion import Fusion, check_fusion


class CascadeRanker(Door):
    """Ranks a list with one ranker, and its top with another (CoRanking, arXiv 2503.23427).

    Args:
        first: Ranks the whole list.
        then: Ranks its first ``depth`` places, which it is shown in the order that ``first`` gave them.
        depth: How many, from 1.

    Raises:
        OptionError: ``depth`` is below 1.

    Example:
        >>> from unified_ranker import Ranker
        >>> from unified_ranker.backends import ScriptedBackend
        >>> small, large = Ranker(ScriptedBackend(["A", "B"])), Ranker(ScriptedBackend(["A"]))
        >>> ranking = CascadeRanker(small, large, depth=2).rank("red fruit", ["sky", "lime", "cherry"])
        >>> [place.text for place in ranking]
        ['lime', 'cherry', 'sky']
    """

    method = "cascade"

    def __init__(self, first: Door, then: Door, *, depth: int = 20) -> None:
        check_whole("depth", depth, least=1)
        self.first, self.then, self.depth = first, then, depth

    def _run(self, examples: Iterable[RankingExample], *, concurrency: int) -> Iterator[Ranking]:
        waiting: deque[tuple[RankingExample, Ranking]] = deque()
        # Read as they are needed, so that the second ranker starts while the first goes on.
        shown, kept = tee(examples)

        def tops() -> Iterator[RankingExample]:
            for example, first in zip(kept, self.first.rank_batch(shown, concurrency=concurrency), strict=True):
                waiting.append((example, first))
                yield example.with_candidates(first.order[: self.depth])

        for then in self.then.rank_batch(tops(), concurrency=concurrency):
            example, first = waiting.popleft()
            yield joined(example.id, first, then, name=self.method)

    async def _arun(self, example: RankingExample) -> Ranking:
        first = await _asked(self.first, example)
        then = await _asked(self.then, example.with_candidates(first.order[: self.depth]))
        return joined(example.id, first, then, name=self.method)


class AggregateRanker(Door):
    """Joins the rankings of several rankers.

    Args:
        *rankers: At least two.
        fusion: ``"rrf"`` or ``"borda"``; see :mod:`~unified_ranker.strategies.fusion`.

    Raises:
        OptionError: there are fewer than two rankers, or the rule is not known.

    Example:
        >>> from unified_ranker import Ranker
        >>> from unified_ranker.backends import ScriptedBackend
        >>> one, other = Ranker(ScriptedBackend(["A"])), Ranker(ScriptedBackend(["A"]))
        >>> [place.text for place in AggregateRanker(one, other).rank("red fruit", ["sky", "cherry"])]
        ['cherry', 'sky']
    """

    method = "aggregate"

    def __init__(self, *rankers: Door, fusion: Fusion = "rrf") -> None:
        if len(rankers) < 2:
            raise OptionError(f"{len(rankers)} rankers; give at least two to be joined")
        check_fusion(fusion)
        self.rankers, self.fusion = rankers, fusion

    def _run(self, examples: Iterable[RankingExample], *, concurrency: int) -> Iterator[Ranking]:
        kept, *shown = tee(examples, len(self.rankers) + 1)
        found = [
            ranker.rank_batch(copy, concurrency=concurrency) for ranker, copy in zip(self.rankers, shown, strict=True)
        ]
        for example, *rankings in zip(kept, *found, strict=True):
            yield fused(example, rankings, fusion=self.fusion, name=self.method)

    async def _arun(self, example: RankingExample) -> Ranking:
        rankings = await asyncio.gather(*(_asked(ranker, example) for ranker in self.rankers))
        return fused(example, rankings, fusion=self.fusion, name=self.method)


async def _asked(ranker: Door, example: RankingExample) -> Ranking:
    return await ranker.arank(example.query, example.candidates, domain=example.domain, context=example.context)
