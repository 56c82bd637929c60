"""FIRST (Reddy et al., arXiv 2406.15657): the order is read from the log-probabilities of the first label alone.

A model that is about to write a whole ranking has, at its first token, an opinion on every candidate: the more likely a
label, the better. One forward pass over the list gives the order of all of it, without a decode: the cheapest listwise
method there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.errors import OptionError
from unified_ranker.exchange import Request
from unified_ranker.parsing import ParsedLabel, parse_label
from unified_ranker.prompts import PromptWriter
from unified_ranker.schema.types import Ranking, RankingExample, Step
from unified_ranker.strategies.base import Asking, Sampling, ask, cost_of_outcome, label, listing
from unified_ranker.strategies.likely import Ask, by_likelihood, check_ask
from unified_ranker.strategies.picking import LABEL_TOKENS
from unified_ranker.strategies.scores import decreasing


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstToken:
    """Ranks by the log-probabilities of labels as the first token of the reply.

    A candidate's score is its label's log-probability among all labels (with ``ask="worst"`` its negative); equal ones
    keep the order in which they are listed, and are told apart in the last place of the number.

    Attributes:
        writer: Writes the prompts.
        sampling: How the list is shown; nothing is drawn.
        ask: ``"best"``: the prompt of a whole ranking, whose first label is the best. ``"worst"``: that of an
            elimination, for models that were trained for it.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    ask: Ask = "best"

    def __post_init__(self) -> None:
        for name in ("reasoning", "unguided"):
            if getattr(self.sampling, name):
                raise OptionError(f"{name}=True: first_token reads one forward pass, and nothing is written")
        if self.sampling.temperature > 0:
            raise OptionError(f"temperature={self.sampling.temperature}: first_token draws nothing; leave it out")
        check_ask(self.ask, self.sampling)

    @property
    def name(self) -> str:
        """``"first_token"``."""
        return "first_token"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return "direct" if self.ask == "best" else "append"

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the reply may take."""
        return LABEL_TOKENS

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedLabel:
        """Read the reply, given the labels in play."""
        return parse_label(reply, labels)

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`.

        Raises:
            BackendError: the backend told no log-probabilities.
        """
        shown = listing(example, self.sampling.shuffle_seed)
        if len(shown) == 1:
            return Ranking(example_id=example.id, order=tuple(shown), scores=(0.0,), method=self.name)
        listed = label(shown, self.writer.tools, self.writer.template.label_separator)
        labels = tuple(entry.label for entry in listed)
        written = self.writer.write(example, listed, form=self.form, room=self.room(example))
        request = Request(messages=written.messages, choices=labels, max_tokens=self.room(example))
        parsed, completion, usage, attempts = yield from ask(
            self.sampling,
            request,
            read=lambda reply: self.parse(reply.text, labels),
            failed=lambda found: found.outcome == "failed",
        )
        self.sampling.check(parsed.outcome, example=example, step=0, reason=parsed.reason, reply=completion.text)
        by_label = {entry.label: entry.candidate for entry in listed}
        sign = 1.0 if self.ask == "best" else -1.0
        told = dict(by_likelihood(completion, labels))
        ranked = sorted(labels, key=lambda name: -sign * told[name])
        order = tuple(by_label[name] for name in ranked)
        step = Step(
            index=0,
            reply=completion.text,
            outcome=parsed.outcome,
            reason=parsed.reason,
            chosen=tuple(candidate.id for candidate in order),
            in_play=len(order),
            logprobs={by_label[name].id: told[name] for name in ranked},
            attempts=attempts,
            labels={name: candidate.id for name, candidate in by_label.items()},
        )
        return Ranking(
            example_id=example.id,
            order=order,
            scores=decreasing([sign * told[name] for name in ranked]),
            steps=(step,),
            usage=usage + written.cut + cost_of_outcome(parsed.outcome),
            method=self.name,
        )
