"""DRanker (arXiv 2506.21638, section 3): the model writes the whole ranking in one reply."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.errors import OptionError
from unified_ranker.parsing import ParsedOrder, parse_order
from unified_ranker.prompts import PromptWriter
from unified_ranker.schema.types import Ranking, RankingExample, Step, places_below
from unified_ranker.strategies.base import Asking, Sampling, ask, check_permute, cost_of_outcome, label, listing


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """Asks for all labels, best first, at once.

    A candidate's score is the number of candidates ranked below it. Labels that the reply leaves out go to the
    end, in the order in which they were listed, and the step counts as repaired (as failed where it names none).

    Attributes:
        writer: Writes the prompt.
        sampling: How replies are drawn.
        permute: Restrict the reply to an order in which each label stands once. Needs bare answers, labels of one
            token and prompts without a separator between labels.
        guided: Restrict the reply to as many labels as there are, with the template's separator between them, by a
            regular expression; one that is repeated is repaired. Needs bare answers, and a backend that takes
            patterns (vLLM, or its server).
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    permute: bool = False
    guided: bool = False

    def __post_init__(self) -> None:
        if self.permute:
            check_permute(self.writer, self.sampling)
        if self.guided:
            for name in ("reasoning", "unguided"):
                if getattr(self.sampling, name):
                    raise OptionError(f"guided=True holds a bare answer to its form; it does not go with {name}=True")
            if self.permute:
                raise OptionError("permute=True already holds the reply to an order; drop guided=True")

    @property
    def name(self) -> str:
        """``"dranker"``."""
        return "dranker"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return "reasoning" if self.sampling.reasoning else "direct"

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the reply may take."""
        if self.permute:
            return len(example.candidates)
        separator = self.writer.template.label_separator
        answer = separator.join(entry.label for entry in label(example.candidates, self.writer.tools, separator))
        # Twice the length of a perfect answer, so that a chatty one is repaired rather than cut off.
        return self.sampling.reply_tokens(2 * self.writer.tools.count(answer) + 8)

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        if len(shown) == 1:
            return Ranking(example_id=example.id, order=tuple(shown), scores=(0.0,), method=self.name)
        tools, sampling = self.writer.tools, self.sampling
        separator = self.writer.template.label_separator
        listed = label(shown, tools, separator)
        room = self.room(example)
        written = self.writer.write(example, listed, form=self.form, room=room)
        labels = tuple(entry.label for entry in listed)
        base = sampling.request(
            written.messages,
            choices=labels if self.permute else (),
            draws=len(labels) if self.permute else 1,
            pattern=_pattern(labels, separator) if self.guided else "",
            max_tokens=room,
        )
        parsed, completion, usage, attempts = yield from ask(
            sampling,
            base,
            read=lambda reply: self.parse(reply.text, labels),
            failed=lambda order: order.outcome == "failed",
        )
        sampling.check(parsed.outcome, example=example, step=0, reason=parsed.reason, reply=completion.text)
        by_label = {entry.label: entry.candidate for entry in listed}
        order = tuple(by_label[name] for name in parsed.order)
        step = Step(
            index=0,
            reply=completion.text,
            outcome=parsed.outcome,
            reason=parsed.reason,
            chosen=tuple(c.id for c in order),
            in_play=len(order),
            reasoning=parsed.reasoning,
            attempts=attempts,
            labels={name: candidate.id for name, candidate in by_label.items()},
        )
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=(step,),
            usage=usage + written.cut + cost_of_outcome(parsed.outcome),
            method=self.name,
        )

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedOrder:
        """Read the reply, given the labels in the order in which they were listed."""
        joined = not self.writer.template.label_separator
        return parse_order(reply, labels, reasoning=self.sampling.reasoning, joined=joined)


def _pattern(labels: Sequence[str], separator: str) -> str:
    """Return what a reply of ``labels`` in any order matches, though with repetitions."""
    one = "(" + "|".join(_escape(name) for name in labels) + ")"
    return f"{one}({_escape(separator)}{one}){{{len(labels) - 1}}}"


def _escape(text: str) -> str:
    """Escape what has a meaning, and nothing else: ``re.escape`` escapes blanks, which engines' dialects refuse."""
    return re.sub(r"([\\^$.*+?()\[\]{}|])", r"\\\1", text)
