"""IRanker (arXiv 2506.21638, section 3): the worst candidate leaves, step by step, until one is left.

Two layouts of the same conversation:

- ``rounds``, the published one: each step is a fresh prompt that lists what is left. ``n`` candidates take ``n - 1``
  prompts and O(n²) prompt tokens.
- ``append``: the list stands once under stable labels, and each eliminated label is appended to one growing
  reply, so that every step reuses all that came before: O(n) prompt tokens.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import ParsedLabel, leading_label, opening, parse_label
from unified_ranker.prompts import Listed, PromptWriter, Written
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage, places_below
from unified_ranker.strategies.base import (
    Asking,
    Sampling,
    check_permute,
    cost_of,
    cost_of_outcome,
    label,
    listing,
    new_session,
)

Layout = Literal["rounds", "append"]
LAYOUTS = ("rounds", "append")


@dataclass(frozen=True, slots=True, kw_only=True)
class Elimination:
    """Eliminates the worst candidate until one is left.

    A candidate's score is the number of candidates that left before it (0 for the first to go).

    A step whose reply names no candidate in play has failed: it eliminates the candidate that is listed last among
    those in play, which keeps the given order among the undecided, and is counted.

    Attributes:
        writer: Writes the prompts.
        sampling: How replies are drawn.
        layout: ``"rounds"`` or ``"append"``.
        permute: Write all steps in one decode in which no label can stand twice: the same model is asked for the same
            labels in the same places, by one request instead of ``n - 1``. Needs bare answers, labels of one token
            and prompts without a separator between labels.
        max_steps: Eliminate no more than so many; those that are still in play keep the order in which they are listed.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    layout: Layout = "append"
    permute: bool = False
    max_steps: int | None = None

    def __post_init__(self) -> None:
        if self.max_steps is not None and self.max_steps < 1:
            raise OptionError(f"max_steps={self.max_steps} must be ≥ 1")
        if self.layout not in LAYOUTS:
            raise unknown_choice("layout", self.layout, LAYOUTS)
        if self.permute:
            if self.layout != "append":
                raise OptionError(f"permute=True needs layout='append', not {self.layout!r}")
            check_permute(self.writer, self.sampling)

    @property
    def name(self) -> str:
        """``"iranker"``."""
        return "iranker"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return f"{self.layout}_reasoning" if self.sampling.reasoning else self.layout

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        eliminated, steps, usage = yield from (
            self._append(example, shown) if self.layout == "append" else self._rounds(example, shown)
        )
        gone = {c.id for c in eliminated}
        order = (*(c for c in shown if c.id not in gone), *reversed(eliminated))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=tuple(steps),
            usage=usage,
            method=self.name,
        )

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the longest reply to one prompt may take."""
        if self.layout == "rounds":
            return self.sampling.reply_tokens(LABEL_TOKENS)
        steps = self.steps(len(example.candidates))
        if self.permute:
            return steps
        # The whole elimination is one reply, so that room is needed for all of its steps.
        return self.sampling.reply_tokens(1 if self._bare_tokens(example) else LABEL_TOKENS) * steps

    def _bare_tokens(self, example: RankingExample) -> bool:
        """Tell whether each step adds exactly one token."""
        separator, tools = self.writer.template.label_separator, self.writer.tools
        if separator or self.sampling.unguided:
            return False
        return all(tools.is_single_token(e.label, after="") for e in label(example.candidates, tools, separator))

    def steps(self, candidates: int) -> int:
        """Return how many eliminations a list of so many candidates takes."""
        return candidates - 1 if self.max_steps is None else min(candidates - 1, self.max_steps)

    def _rounds(self, example: RankingExample, shown: list[Candidate]) -> _Elimination:
        standing, eliminated, steps, usage = list(shown), list[Candidate](), list[Step](), Usage()
        separator = self.writer.template.label_separator
        for _ in range(self.steps(len(shown))):
            listed = label(standing, self.writer.tools, separator)
            written = self.writer.write(example, listed, form=self.form, room=self.room(example))
            step, cost, chosen = yield from self._step(example, written, listed, index=len(steps))
            steps.append(step)
            usage += cost + written.cut
            eliminated.append(chosen)
            standing.remove(chosen)
        return eliminated, steps, usage

    def _append(self, example: RankingExample, shown: list[Candidate]) -> _Elimination:
        eliminated, steps, usage = list[Candidate](), list[Step](), Usage()
        if len(shown) == 1:
            return eliminated, steps, usage
        separator = self.writer.template.label_separator
        standing = label(shown, self.writer.tools, separator)
        written = self.writer.write(example, standing, form=self.form, room=self.room(example))
        usage += written.cut
        if self.permute:
            found, cost = yield from self._whole(example, written, standing)
            for step, chosen in found:
                steps.append(step)
                eliminated.append(chosen)
            return eliminated, steps, usage + cost
        prefix, session = "", new_session()
        for left in reversed(range(self.steps(len(shown)))):
            step, cost, chosen = yield from self._step(
                example, written, standing, last=not left, index=len(steps), prefix=prefix, session=session
            )
            steps.append(step)
            usage += cost
            eliminated.append(chosen)
            gone = next(entry for entry in standing if entry.candidate is chosen)
            # What is carried on is the settled form of the step, not a malformed reply that could lead the next one
            # astray.
            said = (
                f"<think>{step.reasoning}</think><answer>{gone.label}</answer>"
                if self.sampling.reasoning
                else gone.label
            )
            prefix += said + separator
            standing = [entry for entry in standing if entry is not gone]
        return eliminated, steps, usage

    def _whole(
        self, example: RankingExample, written: Written, listed: list[Listed]
    ) -> Generator[list[Request], list[Completion], tuple[list[tuple[Step, Candidate]], Usage]]:
        sampling, labels = self.sampling, tuple(entry.label for entry in listed)
        base = Request(
            messages=written.messages,
            choices=labels,
            draws=self.steps(len(listed)),
            max_tokens=self.steps(len(listed)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )
        usage, attempts = Usage(), 0
        while True:
            (completion,) = yield [sampling.attempt(base, attempts)]
            usage += cost_of(completion)
            attempts += 1
            found = self._read_whole(completion, listed, attempts)
            if attempts >= sampling.attempts or all(step.outcome != "failed" for step, _ in found):
                break
        for step, _ in found:
            sampling.check(step.outcome, example=example, step=step.index, reason=step.reason, reply=step.reply)
            usage += cost_of_outcome(step.outcome)
        return found, usage

    def _read_whole(self, completion: Completion, listed: list[Listed], attempts: int) -> list[tuple[Step, Candidate]]:
        """Cut the one reply into steps, each read by the parser that reads a step's own reply."""
        found, text, standing = list[tuple[Step, Candidate]](), completion.text, list(listed)
        for _ in range(self.steps(len(listed))):
            labels = tuple(entry.label for entry in standing)
            reply = leading_label(text, labels)
            parsed = parse_label(reply, labels)
            if parsed.label is not None:
                text = text.lstrip()[len(reply) :]
            by_label = {entry.label: entry.candidate for entry in standing}
            chosen = by_label[parsed.label] if parsed.label is not None else standing[-1].candidate
            drawn = completion.draw_logprobs
            logprobs = drawn[len(found)] if len(found) < len(drawn) else {}
            step = Step(
                index=len(found),
                reply=reply,
                outcome=parsed.outcome,
                reason=parsed.reason,
                chosen=(chosen.id,),
                in_play=len(standing),
                logprobs={by_label[name].id: value for name, value in logprobs.items() if name in by_label},
                attempts=attempts,
                labels={name: candidate.id for name, candidate in by_label.items()},
            )
            found.append((step, chosen))
            standing = [entry for entry in standing if entry.candidate is not chosen]
        return found

    def _step(
        self,
        example: RankingExample,
        written: Written,
        standing: list[Listed],
        *,
        index: int,
        last: bool = False,
        prefix: str = "",
        session: str = "",
    ) -> Generator[list[Request], list[Completion], tuple[Step, Usage, Candidate]]:
        sampling = self.sampling
        labels = tuple(entry.label for entry in standing)
        guided = not (sampling.reasoning or sampling.unguided)
        base = Request(
            messages=written.messages,
            reply_prefix=prefix,
            choices=labels if guided else (),
            max_tokens=sampling.reply_tokens(LABEL_TOKENS),
            stop=("</answer>",) if sampling.reasoning else (),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            session=session,
            last=last,
        )
        usage = Usage()
        attempts = 0
        while True:
            (completion,) = yield [sampling.attempt(base, attempts)]
            usage += cost_of(completion)
            attempts += 1
            parsed = self.parse(completion.text, labels)
            if parsed.outcome != "failed" or attempts >= sampling.attempts:
                break
        sampling.check(parsed.outcome, example=example, step=index, reason=parsed.reason, reply=completion.text)
        by_label = {entry.label: entry.candidate for entry in standing}
        chosen = by_label[parsed.label] if parsed.label is not None else standing[-1].candidate
        step = Step(
            index=index,
            reply=completion.text,
            outcome=parsed.outcome,
            reason=parsed.reason,
            chosen=(chosen.id,),
            in_play=len(standing),
            reasoning=parsed.reasoning,
            logprobs={by_label[name].id: value for name, value in completion.choice_logprobs.items()},
            attempts=attempts,
            labels={name: candidate.id for name, candidate in by_label.items()},
        )
        return step, usage + cost_of_outcome(parsed.outcome), chosen

    @property
    def runs_on(self) -> bool:
        """Whether a reply may run on into the steps to come; then its beginning alone answers the step."""
        return self.sampling.unguided and self.layout == "append" and not self.sampling.reasoning

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedLabel:
        """Read the reply of one step, given the labels in play."""
        text = reply
        if self.runs_on:
            text = opening(reply, labels, joined=not self.writer.template.label_separator)
        return parse_label(text, labels, reasoning=self.sampling.reasoning)


# A bare label is one token in most tokenizers, "20" or "AB" at most three, and an end-of-turn token may follow.
LABEL_TOKENS = 4

_Elimination = Generator[list[Request], list[Completion], tuple[list[Candidate], list[Step], Usage]]
