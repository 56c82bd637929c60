"""Rankers made of rankers: a cheap one for the long list and an expensive one for its top, or several that vote.

Each part may have a model, a backend and a method of its own, and may itself be composed. (Where one model serves all
parts, the methods ``"cascade"`` and ``"aggregate"`` of :class:`~unified_ranker.Ranker` do the same.)
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import tee
from typing import Protocol

from unified_ranker.errors import OptionError
from unified_ranker.ranker import AnyCandidate, check_count, example_of
from unified_ranker.schema.types import Ranking, RankingExample
from unified_ranker.strategies.aggregate import fused
from unified_ranker.strategies.base import check_whole
from unified_ranker.strategies.cascade import joined
from unified_ranker.strategies.fusion import Fusion, check_fusion


class Ranks(Protocol):
    """What a part has to be able to do: a :class:`~unified_ranker.Ranker`, or a composed one."""

    def rank_batch(
        self,
        examples: Iterable[RankingExample],
        *,
        top_k: int | None = None,
        concurrency: int = 64,
        progress: bool = False,
    ) -> Iterator[Ranking]:
        """Rank many examples, in their order."""

    async def arank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank without blocking the event loop."""


class _Composed:
    """What composed rankers share: the door of :class:`~unified_ranker.Ranker`."""

    method = ""

    def rank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank candidates for a query; arguments, result and errors are those of :meth:`Ranker.rank`."""
        example = example_of(query, candidates, domain=domain, context=context, top_k=top_k)
        return next(self.rank_batch([example], top_k=top_k))

    def rank_batch(
        self,
        examples: Iterable[RankingExample],
        *,
        top_k: int | None = None,
        concurrency: int = 64,
        progress: bool = False,
    ) -> Iterator[Ranking]:
        """Rank many examples; arguments, order and errors are those of :meth:`Ranker.rank_batch`."""
        check_count("top_k", top_k)
        check_count("concurrency", concurrency)
        rankings = self._run(examples, concurrency=concurrency)
        if progress:
            from unified_ranker.progress import track

            total = len(examples) if isinstance(examples, Sequence) else None
            rankings = track(rankings, total=total, description=self.method)
        for ranking in rankings:
            yield replace(ranking, top_k=top_k)

    def _run(self, examples: Iterable[RankingExample], *, concurrency: int) -> Iterator[Ranking]:
        raise NotImplementedError


class CascadeRanker(_Composed):
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

    def __init__(self, first: Ranks, then: Ranks, *, depth: int = 20) -> None:
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

    async def arank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank without blocking the event loop; see :meth:`rank`."""
        example = example_of(query, candidates, domain=domain, context=context, top_k=top_k)
        first = await self.first.arank(query, example.candidates, domain=domain, context=context)
        then = await self.then.arank(query, first.order[: self.depth], domain=domain, context=context)
        return replace(joined(example.id, first, then, name=self.method), top_k=top_k)


class AggregateRanker(_Composed):
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

    def __init__(self, *rankers: Ranks, fusion: Fusion = "rrf") -> None:
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

    async def arank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank without blocking the event loop, all rankers at the same time; see :meth:`rank`."""
        example = example_of(query, candidates, domain=domain, context=context, top_k=top_k)
        rankings = await asyncio.gather(
            *(ranker.arank(query, example.candidates, domain=domain, context=context) for ranker in self.rankers)
        )
        return replace(fused(example, rankings, fusion=self.fusion, name=self.method), top_k=top_k)
