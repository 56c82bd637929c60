"""DRanker (arXiv 2506.21638, section 3): the model writes the whole ranking in one reply."""

from __future__ import annotations

from dataclasses import dataclass

from unified_ranker.exchange import Request
from unified_ranker.parsing import parse_order
from unified_ranker.prompts import PromptWriter
from unified_ranker.schema.types import Ranking, RankingExample, Step, Usage, places_below
from unified_ranker.strategies.base import Asking, Sampling, cost_of, cost_of_outcome, label, listing


@dataclass(frozen=True, slots=True, kw_only=True)
class OneShot:
    """Asks for all labels, best first, at once.

    A candidate's score is the number of candidates ranked below it. Labels that the reply leaves out go to the
    end, in the order in which they were listed, and the step counts as repaired (as failed where it names none).

    Attributes:
        writer: Writes the prompt.
        sampling: How replies are drawn.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()

    @property
    def name(self) -> str:
        """``"dranker"``."""
        return "dranker"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return "reasoning" if self.sampling.reasoning else "direct"

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        if len(shown) == 1:
            return Ranking(example_id=example.id, order=tuple(shown), scores=(0.0,), method=self.name)
        tools, sampling = self.writer.tools, self.sampling
        separator = self.writer.template.label_separator
        listed = label(shown, tools, separator)
        # Twice the length of a perfect answer, so that a chatty one is repaired rather than cut off.
        answer = separator.join(entry.label for entry in listed)
        room = sampling.reply_tokens(2 * tools.count(answer) + 8)
        written = self.writer.write(example, listed, form=self.form, room=room)
        base = Request(
            messages=written.messages,
            max_tokens=room,
            stop=("</answer>",) if sampling.reasoning else (),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
        )
        labels = tuple(entry.label for entry in listed)
        usage, attempts = Usage(), 0
        while True:
            (completion,) = yield [sampling.attempt(base, attempts)]
            usage += cost_of(completion)
            attempts += 1
            parsed = parse_order(completion.text, labels, reasoning=sampling.reasoning, joined=not separator)
            if parsed.outcome != "failed" or attempts >= sampling.attempts:
                break
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
        )
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=(step,),
            usage=usage + written.cut + cost_of_outcome(parsed.outcome),
            method=self.name,
        )
