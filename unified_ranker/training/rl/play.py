"""Plays a strategy for one list, token by token, and keeps who wrote what: the rollout of reinforcement learning.

The strategy is the very generator that serves. Where a step's request goes on from what the model wrote before (the
``append`` layout), its tokens join the same segment; where it does not (``rounds``, or a reply that had to be
repaired), a new segment begins with that request's prompt. So each segment is one sequence in which every token of
the model follows exactly what the model saw when it wrote it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from unified_ranker.errors import DataError
from unified_ranker.exchange import Completion, Message, Request
from unified_ranker.rewards.reward import Reward
from unified_ranker.schema.types import Ranking, RankingExample
from unified_ranker.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an engine wrote for one request.

    Attributes:
        ids: The tokens.
        logprobs: Log-probability of each, where the engine gives it; else empty.
        cut: Whether the reply was cut off at its limit.
    """

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    cut: bool = False


class Reader(Protocol):
    """The little that playing needs of a tokenizer."""

    def prompt_ids(self, messages: Sequence[Message], reply_prefix: str = "") -> list[int]:
        """Return the tokens of a chat up to and with ``reply_prefix``."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""


#: Asks an engine: the prompt's tokens and the request, for its ``choices``, ``draws``, ``max_tokens`` and ``stop``.
Ask = Callable[[list[int], Request], Awaitable[Tokens]]


@dataclass(slots=True)
class Turn:
    """The tokens of one step within a segment's response.

    Attributes:
        step: Number of the step, from 0.
        start: Index of its first token in the response.
        end: Index after its last token.
        reward: What it earned.
    """

    step: int
    start: int
    end: int
    reward: Reward = field(default_factory=lambda: Reward(0.0))


@dataclass(slots=True)
class Segment:
    """One training sequence.

    Attributes:
        prompt: Its prompt.
        response: What follows: tokens of the model, and tokens that the strategy put between them.
        mask: 1 for tokens of the model, 0 for the others.
        logprobs: Log-probability of each token at the time of writing; 0 where the mask is.
        turns: The steps, in order.
    """

    prompt: list[int]
    response: list[int] = field(default_factory=list)
    mask: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


@dataclass(slots=True)
class Episode:
    """What playing a list gave.

    Attributes:
        segments: The training sequences, in order.
        ranking: The ranking that the strategy came to.
    """

    segments: list[Segment]
    ranking: Ranking

    @property
    def turns(self) -> list[Turn]:
        """All steps, in order."""
        return [turn for segment in self.segments for turn in segment.turns]


#: Scores the steps of a finished ranking, one reward a step.
Score = Callable[[RankingExample, Ranking], Sequence[Reward]]


async def play(
    strategy: Strategy, example: RankingExample, *, reader: Reader, ask: Ask, score: Score, ends: frozenset[int]
) -> Episode:
    """Play one list.

    Args:
        strategy: The ranking method. Several requests at once (the candidates of a pointwise list, subtrees of a heap)
            are sequences of their own.
        example: The list.
        reader: The tokenizer.
        ask: The engine.
        score: The reward of each step.
        ends: Tokens that end a reply; they are trained on, but no part of the reply's text.

    Raises:
        DataError: the strategy asked again for a step, or the rewards do not fit its steps.
    """
    asking = strategy.rank(example)
    segments: list[Segment] = []
    # Turns of several steps each, where one request carries them: their tokens are divided once the steps are known.
    asked: list[tuple[Segment, int, Request]] = []
    try:
        wanted = next(asking)
        while True:
            prompts = [reader.prompt_ids(request.messages, request.reply_prefix) for request in wanted]
            # What is asked at the same time cannot be one sequence.
            places = [_continued(segments, prompt, apart=len(wanted) > 1) for prompt in prompts]
            written = await asyncio.gather(*(ask(p, request) for p, request in zip(prompts, wanted, strict=True)))
            completions = []
            for request, prompt, segment, tokens in zip(wanted, prompts, places, written, strict=True):
                if not tokens.ids or len(tokens.logprobs) not in (0, len(tokens.ids)):
                    raise DataError(
                        f"example {example.id!r}: the engine wrote {len(tokens.ids)} tokens with "
                        f"{len(tokens.logprobs)} log-probabilities"
                    )
                start = len(segment.response)
                segment.response += tokens.ids
                segment.mask += [1] * len(tokens.ids)
                segment.logprobs += tokens.logprobs or [0.0] * len(tokens.ids)
                asked.append((segment, start, request))
                said = tokens.ids[:-1] if tokens.ids[-1] in ends else tokens.ids
                completions.append(
                    Completion(
                        text=reader.decode(said),
                        prompt_tokens=len(prompt),
                        generated_tokens=len(tokens.ids),
                        finish_reason="length" if tokens.cut else "stop",
                    )
                )
            wanted = asking.send(completions)
    except StopIteration as stop:
        ranking: Ranking = stop.value
    _divide(asked, example, ranking)
    episode = Episode(segments, ranking)
    rewards = score(example, ranking)
    if len(rewards) != len(episode.turns):
        raise DataError(f"example {example.id!r}: {len(rewards)} rewards for {len(episode.turns)} steps")
    for turn, reward in zip(episode.turns, rewards, strict=True):
        turn.reward = reward
    return episode


def _continued(segments: list[Segment], prompt: list[int], *, apart: bool) -> Segment:
    """Return the segment that a prompt goes on with: the last one where it extends it, else a new one."""
    if segments and not apart:
        last = segments[-1]
        known = [*last.prompt, *last.response]
        if prompt[: len(known)] == known:
            forced = prompt[len(known) :]
            last.response += forced
            last.mask += [0] * len(forced)
            last.logprobs += [0.0] * len(forced)
            return last
    segments.append(Segment(prompt))
    return segments[-1]


def _divide(asked: list[tuple[Segment, int, Request]], example: RankingExample, ranking: Ranking) -> None:
    """Give each step its tokens: those of its request, or one token each where one request carried all of them."""
    steps = len(ranking.steps)
    if len(asked) == 1 and asked[0][2].draws > 1 and steps > 1:
        segment, start, _ = asked[0]
        written = len(segment.response) - start
        # An engine that wrote fewer labels than it was asked for leaves steps without a token, which cannot learn.
        if written != steps:
            raise DataError(f"example {example.id!r}: {written} labels were written for {steps} steps")
        segment.turns += [Turn(step, start + step, start + step + 1) for step in range(steps)]
        return
    if len(asked) != steps:
        raise DataError(f"example {example.id!r}: {len(asked)} replies for {steps} steps; use on_error='repair'")
    bounds: dict[int, int] = {}
    for step, (segment, start, _) in reversed(list(enumerate(asked))):
        end = bounds.get(id(segment), len(segment.response))
        # Tokens that the strategy put in before the next step are masked out; the step ends before them.
        while end > start + 1 and not segment.mask[end - 1]:
            end -= 1
        segment.turns.insert(0, Turn(step, start, end))
        bounds[id(segment)] = start
