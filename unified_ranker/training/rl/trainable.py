"""The strategies that training plays and writes prompts with, and what they show of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.exchange import TextTools
from unified_ranker.parsing import ParsedLabel, ParsedOrder
from unified_ranker.prompts import Listed, PromptWriter, Written, load_template
from unified_ranker.schema.types import DOMAINS, RankingExample
from unified_ranker.strategies.base import Asking, Sampling, label
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.registry import TRAINED, make_strategy, method_named
from unified_ranker.strategies.setwise import Setwise


@runtime_checkable
class Trainable(Protocol):
    """A strategy whose replies can be taught: it asks questions of its own, and can read their replies again."""

    @property
    def name(self) -> str:
        """Name of the method."""

    @property
    def writer(self) -> PromptWriter:
        """Writes its prompts."""

    @property
    def sampling(self) -> Sampling:
        """How its replies are drawn."""

    @property
    def form(self) -> str:
        """Which of the template's instructions is given."""

    def room(self, example: RankingExample) -> int:
        """Return how many tokens the longest reply to one prompt may take."""

    def parse(self, reply: str, labels: Sequence[str]) -> ParsedLabel | ParsedOrder:
        """Read a reply, given the labels in play."""

    def rank(self, example: RankingExample) -> Asking:
        """Rank one example."""


def strategies_by_domain(
    method: str, *, style: str, tools: TextTools, token_budget: int, options: Mapping[str, Any]
) -> dict[str, Trainable]:
    """Build the strategy of each domain.

    Args:
        method: One of :data:`~unified_ranker.strategies.registry.TRAINED`.
        style: Style of the prompts.
        tools: The tokenizer.
        token_budget: Most tokens of prompt and reply.
        options: Options of the method and of its sampling.

    Raises:
        OptionError: the method is not one that training knows, or an option cannot be used.
    """
    if method not in TRAINED:
        raise unknown_choice("method", method, TRAINED)
    found: dict[str, Trainable] = {}
    for domain in DOMAINS:

        def writer(folder: str, domain: str = domain) -> PromptWriter:
            return PromptWriter(load_template(style, folder, domain), tools, token_budget)

        strategy = make_strategy(method, writer=writer(method_named(method).template), writers=writer, **options)
        if not isinstance(strategy, Trainable):
            raise OptionError(f"method={method!r} with options {dict(options)} is made of others, which are trained")
        found[domain] = strategy
    return found


def shown(example: RankingExample, strategy: Trainable) -> tuple[list[Listed], Written]:
    """Return a list under its labels, in the order given, and the first prompt of its strategy."""
    writer = strategy.writer
    first = example.candidates[: _at_once(strategy)]
    listed = label(first, writer.tools, writer.template.label_separator)
    if isinstance(strategy, Pointwise):
        return listed, strategy.write(example, listed)
    return listed, writer.write(example, listed, form=strategy.form, room=strategy.room(example))


def _at_once(strategy: Trainable) -> int | None:
    """Return how many candidates one prompt shows at most; None for all."""
    if isinstance(strategy, Pointwise):
        return 1
    return strategy.set_size if isinstance(strategy, Setwise) else None


def chat_of(written: Written) -> list[dict[str, str]]:
    """Return a prompt as the chat that verl's data sets hold."""
    return [{"role": message.role, "content": message.content} for message in written.messages]
