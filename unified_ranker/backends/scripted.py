"""A backend that plays back replies: every test of a strategy runs through the same seam as a real model."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from unified_ranker.errors import BackendError
from unified_ranker.exchange import Completion, Message, Request


@dataclass(frozen=True, slots=True)
class WordTools:
    """A tokenizer whose tokens are the words: enough for prompts to be cut and counted."""

    control_tokens: frozenset[str] = frozenset({"<|im_start|>", "<|im_end|>"})
    context_tokens: int = 100_000
    labels: tuple[str, ...] = ()
    single: Callable[[str], bool] = lambda label: len(label) == 1

    def count(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def cut(self, text: str, limit: int) -> str:
        """Return the first ``limit`` words."""
        found = list(re.finditer(r"\S+", text))
        return text if len(found) <= limit else text[: found[limit - 1].end()] if limit > 0 else ""

    def render(self, messages: Sequence[Message], reply_prefix: str = "") -> str:
        """Return each message under its role."""
        return "".join(f"{message.role}: {message.content}\n" for message in messages) + reply_prefix

    def count_prompt(self, messages: Sequence[Message], reply_prefix: str = "") -> int:
        """Return the number of words of all messages."""
        return sum(self.count(message.content) for message in messages) + self.count(reply_prefix)

    def called(self, name: str) -> str:
        """Return the name: no model is asked here that would know one whole."""
        return name

    def is_single_token(self, label: str, *, after: str) -> bool:
        """Ask the rule that was given, whatever stands before the label."""
        return self.single(label)


Answer = str | Completion


@dataclass
class ScriptedBackend:
    """Answers from a script.

    Attributes:
        script: The replies in order, or a function of the request.
        text: The view of text that prompts are made with.
        requests: Every request that arrived, in order.
        batches: How many requests arrived together, call by call.
        forgotten: Sessions that were given up.
        patterns: Whether requests for a pattern are taken; the script answers them as it will.

    Example:
        >>> from unified_ranker import Ranker
        >>> ranker = Ranker(ScriptedBackend(["B", "A"]), method="iranker")
        >>> ranker.rank("cats", ["a dog", "a stone", "a cat"]).ids
        ('2', '0', '1')
    """

    script: Iterable[Answer] | Callable[[Request], Answer]
    text: WordTools = field(default_factory=WordTools)
    requests: list[Request] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    patterns: bool = True
    _replies: Iterator[Answer] | None = None

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer each request with the next reply.

        Raises:
            BackendError: the script has no reply left.
        """
        self.batches.append(len(requests))
        return [self._answer(request) for request in requests]

    def forget(self, sessions: Collection[str]) -> None:
        """Note which sessions were given up."""
        self.forgotten.extend(sessions)

    def _answer(self, request: Request) -> Completion:
        self.requests.append(request)
        if callable(self.script):
            reply = self.script(request)
        else:
            if self._replies is None:
                self._replies = iter(self.script)
            try:
                reply = next(self._replies)
            except StopIteration:
                raise BackendError(f"the script has no reply for request {len(self.requests)}") from None
        if isinstance(reply, Completion):
            return reply
        return Completion(
            text=reply,
            prompt_tokens=self.text.count_prompt(request.messages, request.reply_prefix),
            generated_tokens=self.text.count(reply),
        )
