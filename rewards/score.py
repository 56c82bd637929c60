"""Rewards by name, and the rewards of all steps of a ranking: what training asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unified_ranker.rewards.elimination import binary, graded
from unified_ranker.rewards.erank import erank
from unified_ranker.rewards.gain import Measure, check_measure
from unified_ranker.rewards.gr2 import gr2
from unified_ranker.rewards.permutation import permutation
from unified_ranker.rewards.rank_r1 import rank_r1
from unified_ranker.rewards.rarl import rarl
from unified_ranker.rewards.rearank import rearank
from unified_ranker.rewards.reasonrank import reasonrank
from unified_ranker.rewards.reward import Choice, Grading, Order, Removal, Reward
from unified_ranker.rewards.tfrank import tfrank, tfrank_list

from unified_ranker.errors import DataError, OptionError, unknown_choice
from unified_ranker.parsing import ParsedLabel, ParsedOrder
from unified_ranker.schema.types import Ranking, RankingExample, Step

#: Reads a reply, given the labels in play: the ``parse`` of a strategy.
Parse = Callable[[str, Sequence[str]], ParsedLabel | ParsedOrder]

#: Names of rewards, and the method that each is for.
REWARDS = {
    "binary": "iranker",
    "graded": "iranker",
    "permutation": "dranker",
    "reasonrank": "dranker",
    "rearank": "dranker",
    "gr2": "dranker",
    "rank_r1": "setwise",
    "erank": "pointwise",
    "tfrank": "pointwise",
    "tfrank_list": "pointwise",
    "rarl": "pointwise",
}
_OF_ORDERS = {"reasonrank": reasonrank, "rearank": rearank, "gr2": gr2}
_OF_GRADES = {"erank": erank, "tfrank": tfrank, "tfrank_list": tfrank_list, "rarl": rarl}


@dataclass(frozen=True, slots=True)
class Scorer:
    """Scores the steps of a method's rankings.

    Attributes:
        reward: A name of :data:`REWARDS`.
        measure: What ``graded`` and ``permutation`` go by, ``"ndcg"`` or ``"rr"``; the others have no use for it.
        answers: What a pointwise reply may say, the lowest grade first; empty for the other methods.

    Raises:
        OptionError: the reward or the measure is not known.
    """

    reward: str
    measure: Measure = "ndcg"
    answers: tuple[str, ...] = ()

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
        """Return the reward of one step, whose ``labels`` say who stood under which label.

        Raises:
            DataError: the reward is one of grades, which are judged by all of a list: see :meth:`ranking`.
        """
        if self.reward in _OF_GRADES:
            raise DataError(
                f"reward={self.reward!r} judges a grade by those of the whole list; score the ranking instead"
            )
        orders = REWARDS[self.reward] == "dranker"
        if isinstance(parsed, ParsedOrder) != orders:
            was, wanted = ("an order", "labels") if not orders else ("a label", "orders")
            raise DataError(f"reward={self.reward!r} is for {wanted}, and the reply was read as {was}")
        if isinstance(parsed, ParsedOrder):
            named = tuple(step.labels[name] for name in parsed.order[: parsed.named])
            if self.reward in _OF_ORDERS:
                return _OF_ORDERS[self.reward](_as_shown(example, step), Order(named), parsed)
            return permutation(example, Order(named), parsed, measure=self.measure)
        if self.reward == "rank_r1":
            chosen = step.labels[parsed.label] if parsed.label else None
            return rank_r1(example, Choice(tuple(step.labels.values()), chosen), parsed)
        removal = Removal(tuple(step.labels.values()), step.labels[parsed.label] if parsed.label else None)
        if self.reward == "binary":
            return binary(example, removal, parsed)
        return graded(example, removal, parsed, measure=self.measure)

    def ranking(self, parse: Parse, example: RankingExample, ranking: Ranking) -> list[Reward]:
        """Return the reward of each step of a ranking, read by the strategy's own parser."""
        if self.reward in _OF_GRADES:
            return self._graded(parse, example, ranking)
        return [self.step(example, step, parse(step.reply, tuple(step.labels))) for step in ranking.steps]

    def _graded(self, parse: Parse, example: RankingExample, ranking: Ranking) -> list[Reward]:
        if len(self.answers) < 2:
            raise DataError(f"reward={self.reward!r} needs the answers that a reply may give; answers={self.answers!r}")
        graded = [step.chosen[0] for step in ranking.steps]
        twice = next((name for name in graded if graded.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"example {example.id!r}: the candidate {twice!r} was graded twice")
        read: list[ParsedLabel] = []
        for step in ranking.steps:
            parsed = parse(step.reply, self.answers)
            if not isinstance(parsed, ParsedLabel):
                raise DataError(f"reward={self.reward!r} is for single grades, and the reply was read as an order")
            read.append(parsed)
        grades = {
            step.chosen[0]: None if parsed.label is None else self.answers.index(parsed.label)
            for step, parsed in zip(ranking.steps, read, strict=True)
        }
        return [
            _OF_GRADES[self.reward](example, Grading(name, grade, len(self.answers) - 1, grades), parsed)
            for (name, grade), parsed in zip(grades.items(), read, strict=True)
        ]


def _as_shown(example: RankingExample, step: Step) -> RankingExample:
    """Return the list in the order in which a step showed it."""
    by_id = {candidate.id: candidate for candidate in example.candidates}
    if set(step.labels.values()) != set(by_id):
        return example
    return example.with_candidates(tuple(by_id[name] for name in step.labels.values()))
