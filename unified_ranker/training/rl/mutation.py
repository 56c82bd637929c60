"""Response mutation (RARL, arXiv 2601.20585): variants of the reference among a group's replies.

Where all rollouts of a group say the same, they earn the same, and nothing is learned. So the grade in some of them is
replaced by a variant of the reference: the reference itself as often as not, else one of its neighbours on the scale.
The thoughts before it stay. Which rollouts, and how, is drawn from the seed; validation, which has one rollout a row,
is left alone.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.rewards.grade import whole_grade
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.rl.play import Tokens
from unified_ranker.training.rl.trainable import Trainable, shown

_ANSWER = re.compile(r"<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mutation:
    """Which rollouts are changed, and into what.

    Attributes:
        share: Share of a group's rollouts; at least one, and at least one is left as it was. 0 for none.
        group: Rollouts of a group.
        seed: Seed.
        answers: What a reply may say, the lowest grade first.
    """

    share: float
    group: int
    seed: int
    answers: tuple[str, ...]

    def holds(self, session: int) -> bool:
        """Tell whether a rollout of a group is to be changed."""
        if not self.share or self.group < 2:
            return False
        count = min(self.group - 1, max(1, round(self.share * self.group)))
        return session >= self.group - count

    def variant(self, example: RankingExample, candidate: Candidate, session: int) -> str:
        """Return the answer that a rollout gets instead of its own."""
        top = len(self.answers) - 1
        rng = random.Random(f"{self.seed}/{example.id}/{candidate.id}/{session}")
        reference = whole_grade(example, candidate.id, top=top)
        if rng.random() < 0.5:
            return self.answers[reference]
        near = [grade for grade in (reference - 1, reference + 1) if 0 <= grade <= top]
        return self.answers[rng.choice(near)]

    def apply(
        self,
        example: RankingExample,
        strategy: Trainable,
        prompt: Sequence[int],
        written: Sequence[int],
        tools: TokenizerTools,
        session: int,
    ) -> Tokens:
        """Return the tokens of a reply whose grade was changed; without log-probabilities, which nobody knows.

        A reply without an answer in its tags stays as it is, for its format is what there is to learn; so does one that
        would outgrow its room.
        """
        candidate = _of_prompt(example, strategy, prompt, tools)
        grade = self.variant(example, candidate, session)
        if not strategy.sampling.reasoning:
            return Tokens(tools.spell(grade, after=""))
        text = tools.decode(written)
        answers = list(_ANSWER.finditer(text))
        if not answers or not answers[-1][1].strip():
            return Tokens(tuple(written))
        start, end = answers[-1].span(1)
        changed = tools.spell(text[:start] + grade + text[end:], after="")
        return Tokens(changed if len(changed) <= strategy.room(example) else tuple(written))


def _of_prompt(example: RankingExample, strategy: Trainable, prompt: Sequence[int], tools: TokenizerTools) -> Candidate:
    """Return the candidate that a prompt shows; of several with one text, the first."""
    for candidate in example.candidates:
        _, written = shown(example.with_candidates((candidate,)), strategy)
        if tools.prompt_ids(written.messages) == list(prompt):
            return candidate
    raise LookupError(f"example {example.id!r}: no candidate has this prompt")
