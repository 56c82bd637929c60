"""Rank-R1 (arXiv 2503.06034): the model names the best of a set, after reasoning if asked to; sorting does the rest.

Setwise ranking is of Zhuang et al. (arXiv 2310.09497): one question shows up to ``set_size`` candidates and asks for
the best. Three ways to fill the first ``places`` by such questions:

- ``heapsort`` (Rank-R1, section 4: 19 children, top 10): a heap whose nodes have ``set_size - 1`` children. A node is
  compared with all of its children at once. While the heap is built, nodes of one depth head subtrees that share
  nothing, and are asked about at the same time.
- ``bubblesort``: sets that overlap by one go up the list; the best of each goes on into the next. A pass finds one
  place.
- ``insertion`` (Podolak et al., arXiv 2504.10509): the first ``places`` of the list are sorted, and the others, in the
  order of the list, challenge the last of them, ``set_size - 1`` at a time. A set that does not contain a better one
  is dismissed by one question, so that a good first-stage order saves most of them.

Comparisons for n candidates, sets of c and k places. ``bubblesort``: the sum of ⌈(n - i - 1) / (c - 1)⌉ over
i = 0 … k - 1. ``heapsort``: min(k, n - 1) where n ≤ c; else at least ⌈(n - 1) / (c - 1)⌉ to build the heap, and at most
its depth for each further place. ``insertion``: k - 1 for its start where k ≤ c, and at least ⌈(n - k) / (c - 1)⌉
beyond it. (Sets of two make a heap a chain: n² comparisons.)
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.parsing import ParsedLabel, parse_label
from unified_ranker.prompts import PromptWriter
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage, places_below
from unified_ranker.strategies.base import (
    Asking,
    Sampling,
    ask,
    check_whole,
    cost_of_outcome,
    label,
    listing,
    renumbered,
)
from unified_ranker.strategies.likely import Ask, check_ask, least_likely
from unified_ranker.strategies.picking import LABEL_TOKENS
from unified_ranker.strategies.together import together

Sort = Literal["heapsort", "bubblesort", "insertion"]
SORTS = ("heapsort", "bubblesort", "insertion")


@dataclass
class _Trace:
    """What the comparisons of one list came to, and the place that each candidate had in it."""

    places: dict[str, int]
    steps: list[Step] = field(default_factory=list)
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setwise:
    """Finds the first places by asking for the best of sets.

    A candidate's score is the number of candidates below it. Beyond ``places`` candidates keep the order in which they
    are listed. A comparison whose reply names nobody in play has failed: the one that is listed first
    wins, and it is counted.

    Attributes:
        writer: Writes the prompts.
        sampling: How replies are drawn. With ``shuffle_seed`` the list is shuffled before it is sorted.
        sort: ``"heapsort"``, ``"bubblesort"`` or ``"insertion"``.
        set_size: Most candidates that one question shows, at least 2.
        places: How many places are found.
        ask: ``"best"``; or ``"worst"``, for models that were trained to name the worst: the prompt is that of an
            elimination, and the least likely label wins. Needs bare answers and log-probabilities.
    """

    writer: PromptWriter
    sampling: Sampling = Sampling()
    sort: Sort = "heapsort"
    set_size: int = 20
    places: int = 10
    ask: Ask = "best"

    def __post_init__(self) -> None:
        if self.sort not in SORTS:
            raise unknown_choice("sort", self.sort, SORTS)
        check_whole("set_size", self.set_size, least=2)
        check_whole("places", self.places, least=1)
        check_ask(self.ask, self.sampling)
        if self.ask == "worst" and self.sampling.temperature > 0:
            raise OptionError(
                f"ask='worst' goes by log-probabilities, so that temperature={self.sampling.temperature} says nothing"
            )

    @property
    def name(self) -> str:
        """``"setwise"``."""
        return "setwise"

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""
        return "rounds_reasoning" if self.sampling.reasoning else "rounds"

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the longest reply to one prompt may take."""
        return self.sampling.reply_tokens(LABEL_TOKENS)

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedLabel:
        """Read the reply of one comparison, given the labels in play."""
        return parse_label(reply, labels, reasoning=self.sampling.reasoning)

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example; see :class:`~unified_ranker.strategies.base.Strategy`."""
        shown = listing(example, self.sampling.shuffle_seed)
        wanted, trace = min(self.places, len(shown)), _Trace({c.id: place for place, c in enumerate(shown)})
        sort = {"heapsort": self._heapsort, "bubblesort": self._bubblesort, "insertion": self._insertion}[self.sort]
        found = yield from sort(example, shown, wanted, trace)
        gone = {candidate.id for candidate in found}
        order = (*found, *(candidate for candidate in shown if candidate.id not in gone))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=places_below(len(order)),
            steps=renumbered(trace.steps),
            usage=trace.usage,
            method=self.name,
        )

    def _best(self, example: RankingExample, among: Sequence[Candidate], trace: _Trace) -> _Asking[Candidate]:
        """Ask for the best of a set."""
        if len(among) == 1:
            return among[0]
        sampling, separator = self.sampling, self.writer.template.label_separator
        listed = label(among, self.writer.tools, separator)
        labels = tuple(entry.label for entry in listed)
        written = self.writer.write(example, listed, form=self.form, room=self.room(example))
        request = sampling.request(
            written.messages, choices=labels if sampling.guided else (), max_tokens=self.room(example)
        )
        parsed, completion, usage, attempts = yield from ask(
            sampling,
            request,
            read=lambda reply: self.parse(reply.text, labels),
            failed=lambda found: found.outcome == "failed",
        )
        index = len(trace.steps)
        sampling.check(parsed.outcome, example=example, step=index, reason=parsed.reason, reply=completion.text)
        by_label = {entry.label: entry.candidate for entry in listed}
        winner = by_label[parsed.label] if parsed.label is not None else min(among, key=lambda c: trace.places[c.id])
        if self.ask == "worst":
            winner = by_label[least_likely(completion, labels)]
        trace.steps.append(
            Step(
                index=index,
                reply=completion.text,
                outcome=parsed.outcome,
                reason=parsed.reason,
                chosen=(winner.id,),
                in_play=len(among),
                reasoning=parsed.reasoning,
                logprobs={by_label[name].id: value for name, value in completion.choice_logprobs.items()},
                attempts=attempts,
                labels={name: candidate.id for name, candidate in by_label.items()},
            )
        )
        trace.usage += usage + written.cut + cost_of_outcome(parsed.outcome)
        return winner

    def _heapsort(
        self, example: RankingExample, shown: list[Candidate], wanted: int, trace: _Trace
    ) -> _Asking[list[Candidate]]:
        heap, children = list(shown), self.set_size - 1

        def sift(place: int) -> _Asking[None]:
            while True:
                below = range(children * place + 1, min(children * (place + 1) + 1, len(heap)))
                if not below:
                    return
                winner = yield from self._best(example, [heap[place], *(heap[child] for child in below)], trace)
                best = next(spot for spot in (place, *below) if heap[spot] is winner)
                if best == place:
                    return
                heap[place], heap[best] = heap[best], heap[place]
                place = best

        depth: list[range] = [range(1)]
        while depth[-1].stop < len(heap):
            last = depth[-1]
            depth.append(range(last.stop, last.stop + len(last) * children))
        for level in reversed(depth):
            yield from together([sift(place) for place in level if children * place + 1 < len(heap)])
        found: list[Candidate] = []
        while heap and len(found) < wanted:
            found.append(heap[0])
            last_one = heap.pop()
            if heap:
                heap[0] = last_one
                if len(found) < wanted:
                    yield from sift(0)
        return found

    def _bubblesort(
        self, example: RankingExample, shown: list[Candidate], wanted: int, trace: _Trace
    ) -> _Asking[list[Candidate]]:
        line = list(shown)
        for place in range(wanted):
            # The last set goes first: whoever wins it goes on into the set above.
            end = len(line)
            while end - place > 1:
                start = max(place, end - self.set_size)
                winner = yield from self._best(example, line[start:end], trace)
                # The others keep their order, where a swap would send a good one down.
                line.remove(winner)
                line.insert(start, winner)
                end = start + 1
        return line[:wanted]

    def _insertion(
        self, example: RankingExample, shown: list[Candidate], wanted: int, trace: _Trace
    ) -> _Asking[list[Candidate]]:
        top = yield from self._heapsort(example, shown[:wanted], wanted, trace)
        rest = shown[wanted:]
        while rest:
            challengers, rest = rest[: self.set_size - 1], rest[self.set_size - 1 :]
            while challengers:
                winner = yield from self._best(example, [top[-1], *challengers], trace)
                if winner is top[-1]:
                    break
                challengers = [candidate for candidate in challengers if candidate is not winner]
                low, high = 0, len(top) - 1
                while low < high:
                    middle = (low + high) // 2
                    better = yield from self._best(example, [top[middle], winner], trace)
                    low, high = (low, middle) if better is winner else (middle + 1, high)
                top = [*top[:low], winner, *top[low:-1]]
        return top


T = TypeVar("T")
_Asking: TypeAlias = Generator[list[Request], list[Completion], T]
