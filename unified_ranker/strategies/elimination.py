"""IRanker (arXiv 2506.21638, section 3): the worst candidate leaves, step by step, until one is left.

The conversation, in its two layouts, is that of :mod:`~unified_ranker.strategies.picking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from unified_ranker.errors import OptionError
from unified_ranker.prompts import Listed
from unified_ranker.schema.types import Ranking, RankingExample, places_below
from unified_ranker.strategies.base import Asking, Strategy, check_whole, listing
from unified_ranker.strategies.picking import Picking


@dataclass(frozen=True, slots=True, kw_only=True)
class Elimination(Picking):
    """Eliminates the worst candidate until one is left.

    A candidate's score is the number of candidates that left before it (0 for the first to go).

    A step whose reply names no candidate in play has failed: it eliminates the candidate that is listed last among
    those in play, which keeps the given order among the undecided, and is counted. (With ``drop_per_step`` the label
    log-probabilities decide, whatever the reply says.)

    Attributes:
        writer: Writes the prompts.
        sampling: How replies are drawn.
        layout: ``"rounds"`` or ``"append"``.
        permute: Write all steps in one decode in which no label can stand twice: the same model is asked for the same
            labels in the same places, by one request instead of ``n - 1``. Needs bare answers, labels of one token
            and prompts without a separator between labels.
        max_steps: Eliminate no more than so many; those that are still in play keep the order in which they are listed.
        stop_at: Stop when so many are left: where only the first places are wanted, the rest of the work is saved.
        finish: Ranks those that are left after ``stop_at``; without it they keep the order in which they are listed.
        drop_per_step: Eliminate so many at each step, those whose labels are most likely, in that order: so many times
            fewer requests, and each decision is taken knowing less. Needs bare answers at temperature 0, labels of one
            token, and a backend that tells their log-probabilities.
    """

    max_steps: int | None = None
    stop_at: int | None = None
    finish: Strategy | None = None
    drop_per_step: int = 1

    def __post_init__(self) -> None:
        for name in ("max_steps", "stop_at"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), least=1)
        check_whole("drop_per_step", self.drop_per_step, least=1)
        if self.max_steps is not None and self.stop_at is not None:
            raise OptionError(f"max_steps={self.max_steps} and stop_at={self.stop_at} both say when to stop; give one")
        if self.finish is not None and self.stop_at is None:
            raise OptionError("finish ranks what stop_at leaves; give stop_at as well")
        # Not super(): a dataclass with slots is made twice, and the second is no instance of the first.
        Picking.__post_init__(self)
        self._check_drop()

    def _check_drop(self) -> None:
        drop, sampling = self.drop_per_step, self.sampling
        if drop == 1:
            return
        for name, given in (
            ("reasoning=True", sampling.reasoning),
            ("unguided=True", sampling.unguided),
            ("permute=True", self.permute),
            (f"temperature={sampling.temperature}", sampling.temperature > 0),
        ):
            if given:
                raise OptionError(
                    f"drop_per_step={drop} takes the most likely labels of one step; it does not go with {name}"
                )

    @property
    def name(self) -> str:
        """``"iranker"``."""
        return "iranker"

    @property
    def per_step(self) -> int:
        """How many candidates leave at each step."""
        return self.drop_per_step

    def undecided(self, standing: Sequence[Listed]) -> Listed:
        """Return the one listed last: the order given decides among those of whom nothing was said."""
        return standing[-1]

    def steps(self, candidates: int) -> int:
        """Return how many eliminations a list of so many candidates takes."""
        if self.stop_at is not None:
            return max(0, candidates - self.stop_at)
        return candidates - 1 if self.max_steps is None else min(candidates - 1, self.max_steps)

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        eliminated, steps, usage = yield from self.pick(example, shown)
        gone = {c.id for c in eliminated}
        left = tuple(c for c in shown if c.id not in gone)
        if self.finish is not None and len(left) > 1:
            last = yield from self.finish.rank(example.with_candidates(left))
            left = last.order
            steps += [replace(step, index=len(steps) + step.index) for step in last.steps]
            usage += last.usage
        order = (*left, *reversed(eliminated))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=tuple(steps),
            usage=usage,
            method=self.name,
        )
