"""Pointwise: each candidate is graded on its own, and the grades order the list (ERank, TFRank; also by yes or no).

- ``scale="grades"``: a whole number from 0 to ``top_grade``. TFRank (arXiv 2508.09539) takes 0 – 4, ERank (arXiv
  2509.00520) 0 – 10, which needs a tokenizer in which "10" is one token.
- ``scale="yes_no"``: whether the candidate is relevant.

What a grade is worth (``score``): ``"expectation"``, the mean over the probabilities of all grades; ``"likely"``, the
grade that was given times its probability (ERank, section 3); ``"grade"``, the grade alone, with many ties. With
reasoning the probabilities are those after the thoughts: one more request, of one token, on the same prefix.

A list of ``n`` costs ``n`` requests (2·n with reasoning and probabilities), all of them at the same time; they share
what comes before the candidate, which an engine with a prefix cache computes once.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import ParsedLabel, parse_label
from unified_ranker.prompts import Listed, PromptWriter, Written
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage
from unified_ranker.strategies.base import (
    Asking,
    Sampling,
    ask,
    check_whole,
    cost_of,
    cost_of_outcome,
    label,
    listing,
)
from unified_ranker.strategies.picking import LABEL_TOKENS
from unified_ranker.strategies.scores import decreasing
from unified_ranker.strategies.together import together

Scale = Literal["grades", "yes_no"]
SCALES = ("grades", "yes_no")
Score = Literal["expectation", "likely", "grade"]
SCORES = ("expectation", "likely", "grade")
TOP_GRADE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointwise:
    """Grades each candidate on its own.

    A candidate's score is what its grade is worth; candidates of equal score keep the order in which they are listed,
    and are told apart in the last place of the number. A candidate whose reply holds no grade goes below all others,
    and the step counts as failed.

    Attributes:
        writer: Writes the prompts.
        sampling: How replies are drawn.
        scale: ``"grades"`` or ``"yes_no"``.
        top_grade: Highest grade of ``"grades"``, 4 by default; the lowest is 0.
        score: ``"expectation"``, ``"likely"`` or ``"grade"``.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    scale: Scale = "grades"
    top_grade: int | None = None
    score: Score = "expectation"

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown_choice("scale", self.scale, SCALES)
        if self.score not in SCORES:
            raise unknown_choice("score", self.score, SCORES)
        if self.top_grade is not None:
            check_whole("top_grade", self.top_grade, least=1)
            if self.scale == "yes_no":
                raise OptionError(f"top_grade={self.top_grade} goes with scale='grades'; yes and no have no grades")

    @property
    def name(self) -> str:
        """``"pointwise"``."""
        return "pointwise"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return f"{self.scale}_reasoning" if self.sampling.reasoning else self.scale

    @property
    def answers(self) -> tuple[str, ...]:
        """What a reply may say, the lowest grade first."""
        if self.scale == "yes_no":
            return ("no", "yes")
        top = TOP_GRADE if self.top_grade is None else self.top_grade
        return tuple(str(grade) for grade in range(top + 1))

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the longest reply to one prompt may take."""
        return self.sampling.reply_tokens(LABEL_TOKENS)

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedLabel:
        """Read the reply, given what it may say."""
        return parse_label(reply, labels, reasoning=self.sampling.reasoning)

    def write(self, example: RankingExample, listed: Sequence[Listed]) -> Written:
        """Write the prompt of a list of one candidate."""
        return self.writer.write(
            example.with_candidates(tuple(entry.candidate for entry in listed)),
            listed,
            form=self.form,
            room=self.room(example),
            values={"top_grade": self.answers[-1]},
        )

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`.

        Raises:
            BackendError: ``score`` needs probabilities, and the backend told none.
        """
        shown = listing(example, self.sampling.shuffle_seed)
        graded = yield from together([self._grade(example, c, index) for index, c in enumerate(shown)])
        # Sorting keeps the order of equals.
        ranked = sorted(zip(shown, graded, strict=True), key=lambda entry: -entry[1][0])
        usage = sum((cost for _, _, cost in graded), Usage())
        return Ranking(
            example_id=example.id,
            order=tuple(candidate for candidate, _ in ranked),
            scores=decreasing([worth for _, (worth, _, _) in ranked]),
            steps=tuple(step for _, step, _ in graded),
            usage=usage,
            method=self.name,
        )

    def _grade(
        self, example: RankingExample, candidate: Candidate, index: int
    ) -> Generator[list[Request], list[Completion], tuple[float, Step, Usage]]:
        sampling, answers = self.sampling, self.answers
        listed = label([candidate], self.writer.tools, self.writer.template.label_separator)
        written = self.write(example, listed)
        again = not sampling.guided and self.score != "grade"
        request = sampling.request(
            written.messages, choices=answers if sampling.guided else (), max_tokens=self.room(example)
        )
        parsed, completion, usage, attempts = yield from ask(
            sampling,
            request,
            read=lambda reply: self.parse(reply.text, answers),
            failed=lambda found: found.outcome == "failed",
        )
        sampling.check(parsed.outcome, example=example, step=index, reason=parsed.reason, reply=completion.text)
        told = completion.choice_logprobs
        if again and parsed.label is not None:
            said = f"<think>{parsed.reasoning}</think><answer>" if sampling.reasoning else ""
            (after,) = yield [
                Request(
                    messages=written.messages,
                    reply_prefix=said,
                    choices=answers,
                    max_tokens=LABEL_TOKENS,
                )
            ]
            told, usage = after.choice_logprobs, usage + cost_of(after)
        step = Step(
            index=index,
            reply=completion.text,
            outcome=parsed.outcome,
            reason=parsed.reason,
            chosen=(candidate.id,),
            in_play=1,
            reasoning=parsed.reasoning,
            attempts=attempts,
            labels={entry.label: entry.candidate.id for entry in listed},
        )
        cost = usage + written.cut + cost_of_outcome(parsed.outcome)
        return self._worth(parsed.label, told), step, cost

    def _worth(self, answer: str | None, told: Mapping[str, float]) -> float:
        answers = self.answers
        if answer is None:
            return -1.0
        if self.score == "grade":
            return float(answers.index(answer))
        if not all(name in told for name in answers):
            raise BackendError(
                f"score={self.score!r} goes by the probabilities of {', '.join(answers)}, which the backend did not "
                "tell; use score='grade', answers of one token each, or a backend that tells them"
            )
        if self.score == "likely":
            return answers.index(answer) * math.exp(told[answer])
        return sum(grade * math.exp(told[name]) for grade, name in enumerate(answers))
