"""What a run would cost, without asking the model: the prompts are written and counted, the replies made up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import log

from unified_ranker.exchange import Completion, Request, TextTools


@dataclass(frozen=True, slots=True)
class Estimate:
    """What ranking some lists costs.

    Attributes:
        queries: Lists.
        calls: Requests.
        prompt_tokens: Tokens of all prompts, whether computed or reused.
        exact: Whether replies change nothing of what is asked. They do where an answer is free text, or decides which
            candidates the next prompt shows.
    """

    queries: int
    calls: int
    prompt_tokens: int
    exact: bool = True


class CountingBackend:
    """Answers every request with the first replies that it allows, and counts.

    A request for free text gets an empty reply, which a strategy repairs as it goes on: the number of calls is that of
    a model without faults, and prompts that would repeat the model's own words lack them.
    """

    patterns = True

    def __init__(self, text: TextTools) -> None:
        self._text = text
        self._sessions: set[str] = set()
        self._alone = 0
        self.calls = self.prompt_tokens = 0
        self.free = False

    @property
    def beginnings(self) -> int:
        """Prompts that go on from no earlier one."""
        return self._alone + len(self._sessions)

    @property
    def text(self) -> TextTools:
        """The model's view of text."""
        return self._text

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer with the first choices."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        self.calls += 1
        tokens = self._text.count_prompt(request.messages, request.reply_prefix)
        self.prompt_tokens += tokens
        self.free = self.free or not request.choices
        if request.session:
            self._sessions.add(request.session)
        else:
            self._alone += 1
        chosen = request.choices[: request.draws]
        even = {choice: -log(len(request.choices)) for choice in request.choices}
        return Completion(text="".join(chosen), prompt_tokens=tokens, choice_logprobs=even)

    def forget(self, sessions: Collection[str]) -> None:
        """Keep nothing, so that there is nothing to forget."""
