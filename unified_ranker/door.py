"""The door of everything that ranks: one list, many, or without blocking; the same for one model and for several."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from unified_ranker.errors import DataError, OptionError
from unified_ranker.schema.documents import as_candidates
from unified_ranker.schema.types import DOMAINS, Candidate, Ranking, RankingExample
from unified_ranker.schema.validate import check_example

AnyCandidate = str | Mapping[str, Any] | Candidate


class Door(ABC):
    """Ranks by :meth:`rank`, :meth:`rank_batch` and :meth:`arank`.

    Attributes:
        method: Name of the method.
    """

    method: str

    def rank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank candidates for a query.

        Args:
            query: What to rank for.
            candidates: Strings, mappings (``text``, optional ``id`` and ``title``) or :class:`Candidate`; what has no
                id gets its position, from 0.
            top_k: How many places the result shows, from 1 to the number of candidates; None for all.
            domain: ``"passage"``, ``"recommendation"`` or ``"routing"``: which prompt is used.
            context: What is known besides the query, oldest first, such as a user's history.

        Returns:
            The ranking: iterate for the places, best first.

        Raises:
            DataError: the list is empty, an id repeats, or something has the wrong type.
            OptionError: ``top_k`` or ``domain`` is out of range.
            ReplyError: a reply could not be read and ``on_error="raise"``.
            PromptTooLongError: the list does not fit the token budget.
        """
        return next(
            self.rank_batch([example_of(query, candidates, domain=domain, context=context, top_k=top_k)], top_k=top_k)
        )

    async def arank(
        self,
        query: str,
        candidates: Iterable[AnyCandidate],
        *,
        top_k: int | None = None,
        domain: str = "passage",
        context: Sequence[str] = (),
    ) -> Ranking:
        """Rank without blocking the event loop; queries that run at the same time share batches.

        Arguments, result and errors are those of :meth:`rank`.
        """
        example = example_of(query, candidates, domain=domain, context=context, top_k=top_k)
        return replace(await self._arun(example), top_k=top_k)

    def rank_batch(
        self,
        examples: Iterable[RankingExample],
        *,
        top_k: int | None = None,
        concurrency: int = 64,
        progress: bool = False,
    ) -> Iterator[Ranking]:
        """Rank many examples; their requests share the backend's batches.

        Args:
            examples: What to rank; read as needed, so that a generator of any length works.
            top_k: How many places each result shows; a list that is shorter shows all of its places.
            concurrency: Most queries that run at the same time.
            progress: Show a progress bar on stderr.

        Yields:
            The rankings, in the order of the examples.

        Raises:
            DataError: an example breaks the format.
            OptionError: ``top_k`` or ``concurrency`` is below 1.
        """
        check_count("top_k", top_k)
        check_count("concurrency", concurrency)
        rankings = self._run(examples, concurrency=concurrency)
        if progress:
            from unified_ranker.progress import track

            total = len(examples) if isinstance(examples, Sequence) else None
            rankings = track(rankings, total=total, description=self.method)
        for ranking in rankings:
            yield replace(ranking, top_k=top_k) if top_k is not None else ranking

    @abstractmethod
    def _run(self, examples: Iterable[RankingExample], *, concurrency: int) -> Iterator[Ranking]:
        """Rank many examples, in their order."""

    @abstractmethod
    async def _arun(self, example: RankingExample) -> Ranking:
        """Rank one checked example without blocking the event loop."""


def example_of(
    query: str,
    candidates: Iterable[AnyCandidate],
    *,
    domain: str = "passage",
    context: Sequence[str] = (),
    top_k: int | None = None,
) -> RankingExample:
    """Return the arguments of :meth:`Ranker.rank` as one checked example.

    Raises:
        DataError: the list is empty, an id repeats, or something has the wrong type.
        OptionError: ``top_k`` or ``domain`` is out of range.
    """
    if not isinstance(query, str):
        raise DataError(f"field 'query' is {query!r} ({type(query).__name__}); it must be a string")
    if isinstance(context, str) or not isinstance(context, Sequence):
        raise DataError(f"field 'context' is {context!r}; it must be a list of strings")
    check_domain(domain)
    found = as_candidates(candidates, where="rank()")
    check_count("top_k", top_k)
    if top_k is not None and top_k > len(found):
        raise OptionError(f"top_k={top_k} must be between 1 and the number of candidates, {len(found)}")
    return check_example(
        RankingExample(id="query", query=query, candidates=found, domain=domain, context=tuple(context)),
        where="rank()",
    )


def check_domain(domain: str) -> None:
    """Check the name of a domain.

    Raises:
        OptionError: it is none of the three.
    """
    if domain not in DOMAINS:
        raise OptionError(f"domain={domain!r} is not known; choose one of: {', '.join(DOMAINS)}")


def check_count(name: str, value: object) -> None:
    """Check a number that may be left out.

    Raises:
        OptionError: it is no whole number ≥ 1.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise OptionError(f"{name}={value!r} must be a whole number ≥ 1")
