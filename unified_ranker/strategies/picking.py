"""Step by step, one candidate of the list is named and leaves it: what elimination and selection share.

Two layouts of the same conversation:

- ``rounds``: each step is a fresh prompt that lists what is left. ``n`` candidates take ``n - 1`` prompts and O(n²)
  prompt tokens.
- ``append``: the list stands once under stable labels, and each label that was named is appended to one growing
  reply, so that every step reuses all that came before: O(n) prompt tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import ParsedLabel, leading_label, opening, parse_label
from unified_ranker.prompts import Listed, PromptWriter, Written
from unified_ranker.schema.types import Candidate, RankingExample, Step, Usage
from unified_ranker.strategies.base import (
    Sampling,
    ask,
    check_permute,
    cost_of_outcome,
    label,
    new_session,
)

Layout = Literal["rounds", "append"]
LAYOUTS = ("rounds", "append")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picking(ABC):
    """Lets one candidate after the other be named.

    Attributes:
        writer: Writes the prompts.
        sampling: How replies are drawn.
        layout: ``"rounds"`` or ``"append"``.
        permute: Write all steps in one decode in which no label can stand twice: the same model is asked for the same
            labels in the same places, by one request instead of ``n - 1``. Needs bare answers, labels of one token
            and prompts without a separator between labels.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    layout: Layout = "append"
    permute: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise unknown_choice("layout", self.layout, LAYOUTS)
        if self.permute:
            if self.layout != "append":
                raise OptionError(f"permute=True needs layout='append', not {self.layout!r}")
            check_permute(self.writer, self.sampling)

    @property
    def per_step(self) -> int:
        """How many candidates leave at each step."""
        return 1

    @abstractmethod
    def undecided(self, standing: Sequence[Listed]) -> Listed:
        """Return who leaves where a reply names nobody in play."""

    @abstractmethod
    def steps(self, candidates: int) -> int:
        """Return how many candidates of a list of so many are named."""

    def pick(self, example: RankingExample, shown: list[Candidate]) -> Picked:
        """Let candidates be named.

        Returns:
            Those that were named, in that order, the steps, and the cost.
        """
        return (yield from self._append(example, shown) if self.layout == "append" else self._rounds(example, shown))

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return f"{self.layout}_reasoning" if self.sampling.reasoning else self.layout

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the longest reply to one prompt may take."""
        if self.layout == "rounds":
            return self.sampling.reply_tokens(LABEL_TOKENS)
        steps = self.steps(len(example.candidates))
        if self.permute:
            return steps
        # All steps are one reply, so that room is needed for all of its steps.
        return self.sampling.reply_tokens(1 if self._bare_tokens(example) else LABEL_TOKENS) * steps

    def _bare_tokens(self, example: RankingExample) -> bool:
        """Tell whether each step adds exactly one token."""
        separator, tools = self.writer.template.label_separator, self.writer.tools
        if separator or self.sampling.unguided:
            return False
        return all(tools.is_single_token(e.label, after="") for e in label(example.candidates, tools, separator))

    def _rounds(self, example: RankingExample, shown: list[Candidate]) -> Picked:
        standing, taken, steps, usage = list(shown), list[Candidate](), list[Step](), Usage()
        separator = self.writer.template.label_separator
        wanted = self.steps(len(shown))
        while len(taken) < wanted:
            listed = label(standing, self.writer.tools, separator)
            written = self.writer.write(example, listed, form=self.form, room=self.room(example))
            drop = min(self.per_step, wanted - len(taken))
            step, cost, chosen = yield from self._step(example, written, listed, index=len(steps), drop=drop)
            steps.append(step)
            usage += cost + written.cut
            taken += [entry.candidate for entry in chosen]
            standing = [c for c in standing if all(c is not entry.candidate for entry in chosen)]
        return taken, steps, usage

    def _append(self, example: RankingExample, shown: list[Candidate]) -> Picked:
        taken, steps, usage = list[Candidate](), list[Step](), Usage()
        wanted = self.steps(len(shown))
        if not wanted:
            return taken, steps, usage
        separator = self.writer.template.label_separator
        standing = label(shown, self.writer.tools, separator)
        written = self.writer.write(example, standing, form=self.form, room=self.room(example))
        usage += written.cut
        if self.permute:
            found, cost = yield from self._whole(example, written, standing)
            steps += [step for step, _ in found]
            taken += [candidate for _, candidate in found]
            return taken, steps, usage + cost
        prefix, session = "", new_session()
        while len(taken) < wanted:
            drop = min(self.per_step, wanted - len(taken))
            last = len(taken) + drop == wanted
            step, cost, chosen = yield from self._step(
                example, written, standing, last=last, index=len(steps), drop=drop, prefix=prefix, session=session
            )
            steps.append(step)
            usage += cost
            taken += [entry.candidate for entry in chosen]
            # What is carried on is the settled form of the step, not a malformed reply that could lead the next one
            # astray.
            for gone in chosen:
                said = (
                    f"<think>{step.reasoning}</think><answer>{gone.label}</answer>"
                    if self.sampling.reasoning
                    else gone.label
                )
                prefix += said + separator
            standing = [entry for entry in standing if all(entry is not gone for gone in chosen)]
        return taken, steps, usage

    def _whole(
        self, example: RankingExample, written: Written, listed: list[Listed]
    ) -> Generator[list[Request], list[Completion], tuple[list[tuple[Step, Candidate]], Usage]]:
        sampling, labels = self.sampling, tuple(entry.label for entry in listed)
        wanted = self.steps(len(listed))
        base = sampling.request(written.messages, choices=labels, draws=wanted, max_tokens=wanted)
        found, _, usage, attempts = yield from ask(
            sampling,
            base,
            read=lambda completion: self._read_whole(completion, listed),
            failed=lambda read: any(step.outcome == "failed" for step, _ in read),
        )
        found = [(replace(step, attempts=attempts), chosen) for step, chosen in found]
        for step, _ in found:
            sampling.check(step.outcome, example=example, step=step.index, reason=step.reason, reply=step.reply)
            usage += cost_of_outcome(step.outcome)
        return found, usage

    def _read_whole(self, completion: Completion, listed: list[Listed]) -> list[tuple[Step, Candidate]]:
        """Cut the one reply into steps, each read by the parser that reads a step's own reply."""
        found, text, standing = list[tuple[Step, Candidate]](), completion.text, list(listed)
        for _ in range(self.steps(len(listed))):
            labels = tuple(entry.label for entry in standing)
            reply = leading_label(text, labels)
            parsed = parse_label(reply, labels)
            if parsed.label is not None:
                text = text.lstrip()[len(reply) :]
            by_label = {entry.label: entry.candidate for entry in standing}
            chosen = by_label[parsed.label] if parsed.label is not None else self.undecided(standing).candidate
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
        drop: int,
        last: bool = False,
        prefix: str = "",
        session: str = "",
    ) -> Generator[list[Request], list[Completion], tuple[Step, Usage, list[Listed]]]:
        sampling = self.sampling
        labels = tuple(entry.label for entry in standing)
        base = sampling.request(
            written.messages,
            reply_prefix=prefix,
            choices=labels if sampling.guided else (),
            max_tokens=sampling.reply_tokens(LABEL_TOKENS),
            session=session,
            last=last,
        )
        parsed, completion, usage, attempts = yield from ask(
            sampling,
            base,
            read=lambda reply: self.parse(reply.text, labels),
            failed=lambda found: found.outcome == "failed",
        )
        sampling.check(parsed.outcome, example=example, step=index, reason=parsed.reason, reply=completion.text)
        by_label = {entry.label: entry for entry in standing}
        chosen = [by_label[parsed.label] if parsed.label is not None else self.undecided(standing)]
        if drop > 1:
            chosen = _most_likely(drop, completion, standing)
        step = Step(
            index=index,
            reply=completion.text,
            outcome=parsed.outcome,
            reason=parsed.reason,
            chosen=tuple(entry.candidate.id for entry in chosen),
            in_play=len(standing),
            reasoning=parsed.reasoning,
            logprobs={by_label[name].candidate.id: value for name, value in completion.choice_logprobs.items()},
            attempts=attempts,
            labels={name: entry.candidate.id for name, entry in by_label.items()},
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


def _most_likely(count: int, completion: Completion, standing: Sequence[Listed]) -> list[Listed]:
    """Return the candidates whose labels are most likely, the most likely first.

    Raises:
        BackendError: the backend did not tell.
    """
    told = completion.choice_logprobs
    if not all(entry.label in told for entry in standing):
        raise BackendError(
            f"drop_per_step goes by the log-probabilities of {len(standing)} labels, which the backend did not tell; "
            "use drop_per_step=1, or labels of one token and a backend that tells them"
        )
    return sorted(standing, key=lambda entry: -told[entry.label])[:count]


# A bare label is one token in most tokenizers, "20" or "AB" at most three, and an end-of-turn token may follow.
LABEL_TOKENS = 4

Picked = Generator[list[Request], list[Completion], tuple[list[Candidate], list[Step], Usage]]
