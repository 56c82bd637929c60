"""What every strategy shares: its shape, its sampling options, and what it does with a reply it cannot use."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from unified_ranker.errors import OptionError, ReplyError, unknown_choice
from unified_ranker.exchange import Completion, Message, Request, TextTools
from unified_ranker.prompts import Listed, PromptWriter, choose_labels
from unified_ranker.schema.types import Candidate, Outcome, Ranking, RankingExample, Step, Usage

OnError = Literal["repair", "retry", "raise"]
ON_ERROR = ("repair", "retry", "raise")

# Temperature of a second attempt: asking again at 0 would give the same reply.
RETRY_TEMPERATURE = 0.7

#: A running strategy: yields requests, receives their completions, returns the ranking.
Asking: TypeAlias = Generator[list[Request], list[Completion], Ranking]

#: How a strategy gets the writer of a template folder, for the strategies within it.
Writers: TypeAlias = Callable[[str], PromptWriter]

T = TypeVar("T")

_sessions = itertools.count(1)


class Strategy(Protocol):
    """A ranking method."""

    @property
    def name(self) -> str:
        """Name under which results are reported."""

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example.

        Raises:
            ReplyError: a reply could not be read and ``on_error="raise"``.
            PromptTooLongError: the list does not fit the token budget.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How replies are drawn, and what becomes of unusable ones.

    Attributes:
        reasoning: Ask for ``<think>…</think><answer>…</answer>`` instead of the bare answer.
        temperature: 0 for the most likely reply.
        top_p: Mass of the most likely tokens that sampling keeps, in (0, 1].
        max_tokens: Most tokens of one reply; None for a size that fits the form.
        seed: Makes sampling repeatable.
        shuffle_seed: List the candidates in a random order drawn from this seed and the example's id; None
            for the order given.
        on_error: ``"repair"`` uses what can be used and counts it; ``"retry"`` asks again first, with another
            seed; ``"raise"`` raises :class:`~unified_ranker.errors.ReplyError` for a failed reply.
        retries: Further attempts of ``"retry"``.
        unguided: Do not restrict bare answers to the labels in play, even where the backend could.
    """

    reasoning: bool = False
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int | None = None
    seed: int | None = None
    shuffle_seed: int | None = None
    on_error: OnError = "repair"
    retries: int = 2
    unguided: bool = False

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise OptionError(f"temperature={self.temperature} must be ≥ 0")
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p={self.top_p} must be in (0, 1]")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise OptionError(f"max_tokens={self.max_tokens} must be ≥ 1")
        if self.on_error not in ON_ERROR:
            raise unknown_choice("on_error", self.on_error, ON_ERROR)
        if self.retries < 0:
            raise OptionError(f"retries={self.retries} must be ≥ 0")

    def reply_tokens(self, bare: int) -> int:
        """Return the most tokens of one reply, given what a bare answer takes."""
        if self.max_tokens is not None:
            return self.max_tokens
        return 1024 if self.reasoning else bare

    @property
    def guided(self) -> bool:
        """Whether bare answers are restricted to what may be answered."""
        return not (self.reasoning or self.unguided)

    def request(self, messages: tuple[Message, ...], *, max_tokens: int, **rest: Any) -> Request:
        """Return a request whose reply is drawn so.

        Args:
            messages: The chat.
            max_tokens: Most tokens to write.
            **rest: Other fields of the request.
        """
        return Request(
            messages=messages,
            max_tokens=max_tokens,
            stop=("</answer>",) if self.reasoning else (),
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            **rest,
        )

    def attempt(self, request: Request, number: int) -> Request:
        """Return the request of a further attempt, 0 being the first."""
        if number == 0:
            return request
        seed = (self.seed or 0) + number
        return replace(request, temperature=self.temperature or RETRY_TEMPERATURE, seed=seed)

    @property
    def attempts(self) -> int:
        """Most requests one step may take."""
        return 1 + (self.retries if self.on_error == "retry" else 0)

    def check(self, outcome: Outcome, *, example: RankingExample, step: int, reason: str, reply: str) -> None:
        """Raise for a failed reply where the caller wants that.

        Raises:
            ReplyError: naming the example, the step, the reason and the reply.
        """
        if outcome == "failed" and self.on_error == "raise":
            raise ReplyError(
                f"example {example.id!r}, step {step}: {reason}; the reply was {reply[:200]!r}. "
                'Use on_error="repair" or "retry" to go on'
            )


def check_whole(name: str, value: object, *, least: int) -> None:
    """Check a whole number.

    Raises:
        OptionError: it is none, or below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        shown = value if isinstance(value, int) and not isinstance(value, bool) else repr(value)
        raise OptionError(f"{name}={shown} must be ≥ {least}, a whole number")


def listing(example: RankingExample, shuffle_seed: int | None) -> list[Candidate]:
    """Return the candidates in the order in which they are shown."""
    shown = list(example.candidates)
    if shuffle_seed is not None:
        random.Random(f"{shuffle_seed}/{example.id}").shuffle(shown)
    return shown


def label(candidates: Sequence[Candidate], tools: TextTools, separator: str) -> list[Listed]:
    """Give each candidate a label."""
    labels = choose_labels(len(candidates), tools, after=("", separator) if separator else ("",))
    return [Listed(name, candidate) for name, candidate in zip(labels, candidates, strict=True)]


def check_permute(writer: PromptWriter, sampling: Sampling) -> None:
    """Check that a whole order can be one decode in which no label stands twice.

    Raises:
        OptionError: naming the option that stands in the way.
    """
    if sampling.reasoning or sampling.unguided:
        option = "reasoning" if sampling.reasoning else "unguided"
        raise OptionError(f"permute=True restricts bare answers to labels; it does not go with {option}=True")
    if writer.template.label_separator:
        raise OptionError(
            f"permute=True writes labels one after the other, but template {writer.template.name!r} separates them by "
            f"{writer.template.label_separator!r}; use style='compact', or a template with label_separator: ''"
        )


def ask(
    sampling: Sampling, request: Request, *, read: Callable[[Completion], T], failed: Callable[[T], bool]
) -> Generator[list[Request], list[Completion], tuple[T, Completion, Usage, int]]:
    """Ask until a reply can be used, as often as ``sampling`` allows.

    Args:
        sampling: Says how many attempts there are.
        request: The first attempt.
        read: Reads a reply.
        failed: Tells whether what was read cannot be used.

    Returns:
        What was read, the completion, what all attempts cost, and how many there were.
    """
    usage, attempts = Usage(), 0
    while True:
        (completion,) = yield [sampling.attempt(request, attempts)]
        usage += cost_of(completion)
        attempts += 1
        found = read(completion)
        if not failed(found) or attempts >= sampling.attempts:
            return found, completion, usage, attempts


def renumbered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps of several traces as one trace, numbered in this order."""
    return tuple(replace(step, index=index) for index, step in enumerate(steps))


def new_session() -> str:
    """Return a session name that no other request of this process has."""
    return f"session-{next(_sessions)}"


def cost_of(completion: Completion) -> Usage:
    """Return what one completion cost."""
    return Usage(
        calls=1,
        prompt_tokens=completion.prompt_tokens,
        reused_tokens=completion.reused_tokens,
        generated_tokens=completion.generated_tokens,
    )


def cost_of_outcome(outcome: Outcome) -> Usage:
    """Count a repaired or failed step."""
    return Usage(repaired_steps=int(outcome == "repaired"), failed_steps=int(outcome == "failed"))


__all__ = [
    "Asking",
    "OnError",
    "PromptWriter",
    "Sampling",
    "Strategy",
    "Writers",
    "ask",
    "check_permute",
    "check_whole",
    "cost_of",
    "cost_of_outcome",
    "label",
    "listing",
    "new_session",
    "renumbered",
]
