"""Rewards by name, and the rewards of all steps of a ranking: what training asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unified_ranker.rewards.elimination import binary, graded
from unified_ranker.rewards.gain import Measure, check_measure
from unified_ranker.rewards.permutation import permutation
from unified_ranker.rewards.reward import Order, Removal, Reward

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.parsing import ParsedLabel, ParsedOrder
from unified_ranker.schema.types import Ranking, RankingExample, Step

#: Reads a reply, given the labels in play: the ``parse`` of a strategy.
Parse = Callable[[str, Sequence[str]], ParsedLabel | ParsedOrder]

#: Names of rewards, and the method that each is for.
REWARDS = {"binary": "iranker", "graded": "iranker", "permutation": "dranker"}


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores the steps of a method's rankings.

    Attributes:
        reward: A name of :data:`REWARDS`.
        measure: What ``graded`` and ``permutation`` go by, ``"ndcg"`` or ``"rr"``; ``binary`` has no use for it.

    Raises:
        OptionError: the reward or the measure is not known.
    """

    reward: str
    measure: Measure = "ndcg"

    def __post_init__(self) -> None:
        if self.reward not in REWARDS:
            raise unknown_choice("reward", self.reward, REWARDS)
        check_measure(self.measure)

    def check(self, method: str) -> None:
        """Check that the reward is one of the method's.

        Raises:
            OptionError: it is not.
        """
        if REWARDS[self.reward] != method:
            fitting = [name for name, of in REWARDS.items() if of == method]
            raise OptionError(
                f"reward={self.reward!r} is not for method {method!r}; choose one of: {', '.join(fitting)}"
            )

    def step(self, example: RankingExample, step: Step, parsed: ParsedLabel | ParsedOrder) -> Reward:
        """Return the reward of one step, whose ``labels`` say who stood under which label."""
        if isinstance(parsed, ParsedOrder):
            named = tuple(step.labels[name] for name in parsed.order[: parsed.named])
            return permutation(example, Order(named), parsed, measure=self.measure)
        removal = Removal(tuple(step.labels.values()), step.labels[parsed.label] if parsed.label else None)
        if self.reward == "binary":
            return binary(example, removal, parsed)
        return graded(example, removal, parsed, measure=self.measure)

    def ranking(self, parse: Parse, example: RankingExample, ranking: Ranking) -> list[Reward]:
        """Return the reward of each step of a ranking, read by the strategy's own parser."""
        return [self.step(example, step, parse(step.reply, tuple(step.labels))) for step in ranking.steps]
