"""Two loops that other people's code runs, written to their semantics, for strategies to be measured against.

- :func:`lock_step`: the published evaluation of IRanker (R1-Ranker, arXiv 2506.21638, and its code): at each step every
  query gets a fresh prompt that lists what is left, all prompts go out as one batch, and everybody waits for the
  slowest.
- :func:`heapsort`: the published loop of Rank-R1 (arXiv 2503.06034, section 4, ``num_child`` 19, top 10), which is
  setwise heapsort (Zhuang et al., arXiv 2310.09497): one query after the other, one comparison at a time.

Both are given the same model, prompts, labels and candidates as our own strategies, and answer greedily, so that the
time is that of the loop. The embedded model was trained to name the worst; a comparison of heapsort therefore takes the
label that the same prompt makes least likely, which is the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from unified_ranker.errors import BackendError
from unified_ranker.exchange import Backend, Request
from unified_ranker.prompts import PromptWriter
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Usage, places_below
from unified_ranker.strategies.base import cost_of, label

#: Gives the writer of a domain's prompts.
WriterOf = Callable[[str], PromptWriter]

# What a bare label takes at most; the label ends the reply anyway.
_REPLY_TOKENS = 4


@dataclass
class _State:
    example: RankingExample
    standing: list[Candidate]
    gone: list[Candidate] = field(default_factory=list)
    usage: Usage = Usage()


def _question(example: RankingExample, shown: Sequence[Candidate], writer: PromptWriter) -> tuple[Request, list[str]]:
    """Return the published prompt that lists some candidates, and their labels."""
    listed = label(shown, writer.tools, writer.template.label_separator)
    written = writer.write(example, listed, form="rounds", room=_REPLY_TOKENS)
    labels = [entry.label for entry in listed]
    return Request(messages=written.messages, choices=tuple(labels), max_tokens=_REPLY_TOKENS), labels


def lock_step(examples: Sequence[RankingExample], backend: Backend, writer_of: WriterOf) -> list[Ranking]:
    """Eliminate one candidate of every list, then one more of every list, until one is left."""
    states = [_State(example, list(example.candidates)) for example in examples]
    while True:
        active = [state for state in states if len(state.standing) > 1]
        if not active:
            break
        questions = [_question(state.example, state.standing, writer_of(state.example.domain)) for state in active]
        replies = backend.generate([request for request, _ in questions])
        for state, (_, labels), reply in zip(active, questions, replies, strict=True):
            state.gone.append(state.standing.pop(labels.index(reply.text)))
            state.usage += cost_of(reply)
    return [
        Ranking(
            example_id=state.example.id,
            order=(*state.standing, *reversed(state.gone)),
            scores=places_below(len(state.example.candidates)),
            usage=state.usage,
            method="lock-step rounds",
        )
        for state in states
    ]


def heapsort(
    examples: Sequence[RankingExample],
    backend: Backend,
    writer_of: WriterOf,
    *,
    children: int = 19,
    top: int = 10,
) -> list[Ranking]:
    """Find the best of each list by a heap whose nodes are compared with all of their children at once.

    Args:
        examples: The lists.
        backend: The model.
        writer_of: Writes the prompts.
        children: Children of a node; a comparison shows one more candidate.
        top: How many places are found; the rest keep the order of the heap.
    """
    return [_heapsort(example, backend, writer_of(example.domain), children=children, top=top) for example in examples]


def _heapsort(example: RankingExample, backend: Backend, writer: PromptWriter, *, children: int, top: int) -> Ranking:
    heap, usage = list(example.candidates), Usage()

    def best_of(places: list[int]) -> int:
        nonlocal usage
        request, labels = _question(example, [heap[place] for place in places], writer)
        (reply,) = backend.generate([request])
        usage += cost_of(reply)
        told = reply.choice_logprobs
        if not told:
            raise BackendError("the backend told no log-probabilities of the labels, by which a comparison is read")
        return places[min(range(len(labels)), key=lambda place: told[labels[place]])]

    def sift(place: int, size: int) -> None:
        while True:
            below = list(range(children * place + 1, min(children * place + children + 1, size)))
            if not below:
                return
            best = best_of([place, *below])
            if best == place:
                return
            heap[place], heap[best] = heap[best], heap[place]
            place = best

    for place in reversed(range(-(-len(heap) // children))):
        sift(place, len(heap))
    found: list[Candidate] = []
    size = len(heap)
    while size and len(found) < top:
        found.append(heap[0])
        size -= 1
        heap[0] = heap[size]
        heap.pop()
        if len(found) < top:
            sift(0, size)
    order = (*found, *heap)
    return Ranking(
        example_id=example.id,
        order=order,
        scores=places_below(len(order)),
        usage=usage,
        method="sequential setwise heapsort",
    )
