"""What strategies and backends exchange: requests, completions, and the view of a tokenizer that prompts need."""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Request:
    """One call to a language model.

    Attributes:
        messages: The chat before the reply.
        reply_prefix: What the assistant has already written; the model goes on from there.
        choices: If given, the reply is exactly one of these strings, and the completion carries the
            log-probability of each.
        draws: How many of ``choices`` the reply holds, one after the other and none of them twice. With more than one,
            each choice has to be a single token wherever it stands, and the reply is one decode.
        pattern: A regular expression that the whole reply matches; empty for none. Not together with ``choices``. Only
            backends whose ``patterns`` is true can hold a model to one.
        max_tokens: Most tokens to write.
        stop: Strings that end the reply; the one that did is part of the reply.
        temperature: 0 for the most likely token, else the sampling temperature.
        top_p: Mass of the most likely tokens that sampling keeps, in (0, 1].
        seed: Makes sampling repeatable.
        session: Requests of one session extend each other, so that a backend may keep the key/value cache
            of the last one. Empty for a request that stands alone.
        last: The session ends with this request; a backend may drop what it kept.
    """

    messages: tuple[Message, ...]
    reply_prefix: str = ""
    choices: tuple[str, ...] = ()
    draws: int = 1
    pattern: str = ""
    max_tokens: int = 16
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    session: str = ""
    last: bool = False


@dataclass(frozen=True, slots=True)
class Completion:
    """What came back for one request.

    Attributes:
        text: What the model wrote after ``reply_prefix``.
        choice_logprobs: Log-probability of each of the request's choices, normalised over the choices; empty where a
            choice takes several tokens, of which one forward pass tells only the first. Of several draws, the first.
        prompt_tokens: Tokens before the reply, ``reply_prefix`` included.
        reused_tokens: Those of them that came from a cache.
        generated_tokens: Tokens written.
        finish_reason: ``"stop"`` or ``"length"`` (cut off by ``max_tokens``).
        draw_logprobs: ``choice_logprobs`` of each draw, over the choices left to it; empty where the backend does not
            tell.
    """

    text: str
    choice_logprobs: Mapping[str, float] = field(default_factory=dict)
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    finish_reason: Literal["stop", "length"] = "stop"
    draw_logprobs: tuple[Mapping[str, float], ...] = ()


class TextTools(Protocol):
    """The little that prompts need to know of a tokenizer."""

    @property
    def control_tokens(self) -> frozenset[str]:
        """Strings that the tokenizer reads as control tokens wherever they stand."""

    @property
    def context_tokens(self) -> int:
        """Most tokens that prompt and reply may have together."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the model was trained with, best to use first; empty if it has none of its own."""

    def count(self, text: str) -> int:
        """Return how many tokens a text has on its own."""

    def cut(self, text: str, limit: int) -> str:
        """Return the longest beginning of a text that has at most ``limit`` tokens."""

    def render(self, messages: Sequence[Message], reply_prefix: str = "") -> str:
        """Return a chat as the model reads it."""

    def count_prompt(self, messages: Sequence[Message], reply_prefix: str = "") -> int:
        """Return how many tokens a rendered chat has."""

    def called(self, name: str) -> str:
        """Return what stands for a name that the model knows whole, see :mod:`unified_ranker.names`; or the name."""

    def is_single_token(self, label: str, *, after: str) -> bool:
        """Tell whether a label is one token of its own when it follows ``after``."""


class Backend(Protocol):
    """A language model that answers lists of requests; batching is its own affair."""

    @property
    def patterns(self) -> bool:
        """Whether it can hold a reply to a regular expression."""

    @property
    def text(self) -> TextTools:
        """The model's view of text."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, in their order.

        Raises:
            BackendError: the model could not do what a request asks for.
        """

    def forget(self, sessions: Collection[str]) -> None:
        """Drop what is kept for sessions that will not go on."""


@runtime_checkable
class AsyncBackend(Backend, Protocol):
    """A backend whose engine answers each request as soon as it can, on an event loop of its own."""

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, on that loop; errors are those of :meth:`Backend.generate`."""

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on that loop."""
