"""ReasonRank and RankGPT: a window slides over a list that is too long for one prompt (arXiv 2508.07050, 2304.09542).

- ``bottom_up``, the published one: the last ``size`` candidates are ranked, the window moves up by ``step``, and so on
  to the top; the best of the list can rise ``size - step`` places a window, all the way up. The uppermost window begins
  at the first candidate, however ``n``, ``size`` and ``step`` fit, so that each candidate is in at least one window (a
  published implementation left some out). ``passes`` repeats the whole: one pass brings only the top few into order.
- ``partition`` (Parry et al., arXiv 2405.14589): one pass from the top. The first window is ranked, its candidate at
  place ``pivot`` is set beside the others in windows of ``size - 1``, all asked at the same time, and only those that
  are ranked above it go on. About n / size windows where ``bottom_up`` takes n / step in sequence.

Windows of ``n`` candidates, ``bottom_up``: 1 + ⌈(n - size) / step⌉ a pass, or 1 where n ≤ size.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage, places_below
from unified_ranker.strategies.base import Asking, Strategy, check_whole, listing, renumbered
from unified_ranker.strategies.together import together

Order = Literal["bottom_up", "partition"]
ORDERS = ("bottom_up", "partition")


def starts(n: int, *, size: int, step: int) -> list[int]:
    """Return where the windows of one pass begin, the lowest first.

    Args:
        n: Candidates.
        size: Candidates a window.
        step: How far it moves, from 1 to ``size``.

    Example:
        >>> starts(45, size=20, step=10)
        [25, 15, 5, 0]
    """
    found = [max(0, n - size)]
    while found[-1] > 0:
        found.append(max(0, found[-1] - step))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Ranks windows of a list, one after the other.

    A candidate's score is the number of candidates below it.

    Attributes:
        inner: Ranks what a window shows.
        size: Most candidates of a window, at least 2.
        step: How far the window moves, from 1 to ``size``; half of ``size`` by default. At ``size`` windows do not
            overlap, and nobody rises beyond their own. Of ``bottom_up`` alone.
        passes: How often the window goes over the list.
        order: ``"bottom_up"`` or ``"partition"``.
        pivot: Place within the first window, from 1 to ``size - 1``, of the candidate that others are set beside;
            ``size // 2`` by default. Of ``partition`` alone.
        shuffle_seed: Shuffle the list before; the windows show it as it then stands.
    """

    inner: Strategy
    size: int = 20
    step: int | None = None
    passes: int = 1
    order: Order = "bottom_up"
    pivot: int | None = None
    shuffle_seed: int | None = None

    def __post_init__(self) -> None:
        check_whole("size", self.size, least=2)
        if self.step is not None:
            check_whole("step", self.step, least=1)
        check_whole("passes", self.passes, least=1)
        if self.order not in ORDERS:
            raise unknown_choice("order", self.order, ORDERS)
        if self.step is not None and self.order != "bottom_up":
            raise OptionError(f"step={self.step} goes with order='bottom_up'")
        if self.step is not None and self.step > self.size:
            raise OptionError(
                f"step={self.step} must be ≤ size={self.size}; a window that moves farther leaves candidates out"
            )
        if self.pivot is not None:
            if self.order != "partition":
                raise OptionError(f"pivot={self.pivot} goes with order='partition'")
            check_whole("pivot", self.pivot, least=1)
            if self.pivot >= self.size:
                raise OptionError(f"pivot={self.pivot} must be below size={self.size}")

    @property
    def name(self) -> str:
        """``"window"``."""
        return "window"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        shown = listing(example, self.shuffle_seed)
        steps, usage = list[Step](), Usage()
        for _ in range(self.passes):
            if self.order == "bottom_up":
                shown, rankings = yield from self._bottom_up(example, shown)
            else:
                shown, rankings = yield from self._partition(example, shown)
            for ranking in rankings:
                steps += ranking.steps
                usage += ranking.usage
        return Ranking(
            example_id=example.id,
            order=tuple(shown),
            scores=places_below(len(shown)),
            steps=renumbered(steps),
            usage=usage,
            method=self.name,
        )

    def _bottom_up(self, example: RankingExample, shown: list[Candidate]) -> _Pass:
        line, rankings = list(shown), list[Ranking]()
        step = self.size // 2 if self.step is None else self.step
        for start in starts(len(line), size=self.size, step=step):
            ranking = yield from self.inner.rank(_part(example, line[start : start + self.size]))
            line[start : start + self.size] = ranking.order
            rankings.append(ranking)
        return line, rankings

    def _partition(self, example: RankingExample, shown: list[Candidate]) -> _Pass:
        head, tails, rankings = list(shown), list[list[Candidate]](), list[Ranking]()
        while len(head) > self.size:
            first = yield from self.inner.rank(_part(example, head[: self.size]))
            rankings.append(first)
            place = min(self.pivot or self.size // 2, self.size - 1) - 1
            pivot, rest = first.order[place], head[self.size :]
            parts = [[pivot, *rest[at : at + self.size - 1]] for at in range(0, len(rest), self.size - 1)]
            found = yield from together([self.inner.rank(_part(example, part)) for part in parts])
            rankings += found
            risen, below = list[Candidate](), list[Candidate]()
            for ranking in found:
                spot = ranking.order.index(pivot)
                risen += ranking.order[:spot]
                below += ranking.order[spot + 1 :]
            tails.append([pivot, *first.order[place + 1 :], *below])
            head = [*first.order[:place], *risen]
            if not risen:
                break
        else:
            last = yield from self.inner.rank(_part(example, head))
            rankings.append(last)
            head = list(last.order)
        return [*head, *(candidate for tail in reversed(tails) for candidate in tail)], rankings


def _part(example: RankingExample, part: Sequence[Candidate]) -> RankingExample:
    return example.with_candidates(tuple(part))


_Pass: TypeAlias = Generator[list[Request], list[Completion], tuple[list[Candidate], list[Ranking]]]
