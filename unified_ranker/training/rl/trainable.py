"""The strategies that training plays and writes prompts with, and what they show of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unified_ranker.errors import unknown_choice
from unified_ranker.exchange import TextTools
from unified_ranker.prompts import Listed, PromptWriter, Written, load_template
from unified_ranker.schema.types import DOMAINS, RankingExample
from unified_ranker.strategies.base import label
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.registry import make_strategy, method_named


def strategies_by_domain(
    method: str, *, style: str, tools: TextTools, token_budget: int, options: Mapping[str, Any]
) -> dict[str, Elimination | OneShot]:
    """Build the strategy of each domain.

    Args:
        method: ``"iranker"`` or ``"dranker"``.
        style: Style of the prompts.
        tools: The tokenizer.
        token_budget: Most tokens of prompt and reply.
        options: Options of the method and of its sampling.

    Raises:
        OptionError: the method is not one that training knows, or an option cannot be used.
    """
    found = {}
    for domain in DOMAINS:
        template = load_template(style, method_named(method).template, domain)
        strategy = make_strategy(method, writer=PromptWriter(template, tools, token_budget), **options)
        if not isinstance(strategy, (Elimination, OneShot)):
            raise unknown_choice("method", method, ("iranker", "dranker"))
        found[domain] = strategy
    return found


def shown(example: RankingExample, strategy: Elimination | OneShot) -> tuple[list[Listed], Written]:
    """Return a list under its labels, in the order given, and the first prompt of its strategy."""
    writer = strategy.writer
    listed = label(example.candidates, writer.tools, writer.template.label_separator)
    return listed, writer.write(example, listed, form=strategy.form, room=strategy.room(example))


def chat_of(written: Written) -> list[dict[str, str]]:
    """Return a prompt as the chat that verl's data sets hold."""
    return [{"role": message.role, "content": message.content} for message in written.messages]
