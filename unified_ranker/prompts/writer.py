"""Writes the prompt of one list: fills a template with neutralised texts that fit the token budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from unified_ranker.errors import OptionError, PromptTooLongError, TemplateError
from unified_ranker.exchange import Message, TextTools
from unified_ranker.prompts.budget import fair_cap, said_once, snippet
from unified_ranker.prompts.neutralise import neutralise
from unified_ranker.prompts.template import Template, placeholders
from unified_ranker.prompts.thoughts import HEADING, ThoughtBook
from unified_ranker.schema.types import Candidate, RankingExample, Usage

# Below this many tokens a text says nothing any more: the list does not fit.
MIN_CANDIDATE_TOKENS = 4
MIN_QUERY_TOKENS = 16
# Longer thoughts say the same thing again.
THOUGHT_TOKENS = 200


@lru_cache(maxsize=64)
def _placeholders_of(candidate: str) -> frozenset[str]:
    # Asked for every candidate of every prompt; a template's line never changes.
    return frozenset(placeholders(candidate, where="candidate"))


@dataclass(frozen=True, slots=True)
class Listed:
    """A candidate under the label that it has in the prompt."""

    label: str
    candidate: Candidate


@dataclass(frozen=True, slots=True)
class Written:
    """A prompt, and what had to be cut for it.

    Attributes:
        messages: The chat.
        cut: Its ``truncated_*`` and ``dropped_*`` fields say what was cut; the rest is 0.
    """

    messages: tuple[Message, ...]
    cut: Usage


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Fills one template.

    Attributes:
        template: What is said.
        tools: The model's view of text.
        token_budget: Most tokens of prompt and reply together; the model's context by default.
        thoughts: Where the thoughts come from that stand before the prompt; None for none.
    """

    template: Template
    tools: TextTools
    token_budget: int | None = None
    thoughts: ThoughtBook | None = None

    def __post_init__(self) -> None:
        if self.token_budget is not None and self.token_budget < 1:
            raise OptionError(f"token_budget={self.token_budget} must be ≥ 1")

    def write(
        self,
        example: RankingExample,
        listed: Sequence[Listed],
        *,
        form: str,
        room: int,
        values: Mapping[str, str] | None = None,
    ) -> Written:
        """Write the prompt of a list.

        Where it does not fit, thoughts go first, the least similar one before the others; then the longest candidate
        texts are cut, down to :data:`MIN_CANDIDATE_TOKENS`; then
        the oldest entries of the history go; then the query is cut, down to :data:`MIN_QUERY_TOKENS`. Labels are
        never cut.

        Args:
            example: Gives query and context.
            listed: The candidates to show, in this order.
            form: Which of the template's instructions to give.
            room: Tokens to keep free for the reply.
            values: What stands for names in braces within the instruction, such as ``{top_grade}``.

        Raises:
            PromptTooLongError: the list does not fit even so.
            TemplateError: the template has no place for the example's context, or lacks the instruction.
        """
        template = self.template
        if example.context and not template.history:
            raise TemplateError(
                f"example {example.id!r} has a context of {len(example.context)} entries, but template "
                f"{template.name!r} "
                "has no {history} for it; add the part 'history'"
            )
        instruction = template.instruction(form) if template.instructions else ""
        for name, value in (values or {}).items():
            instruction = instruction.replace("{" + name + "}", value)
        limits, cut_tokens = template.limits, 0
        query = self.asked(example.query)
        cut_query = query != self._clean(example.query)
        history = example.context
        kept = [self.entry(entry) for entry in self.latest(history)]
        shown = [self._shown(entry.candidate) for entry in listed]
        caps = [limits.candidate_tokens] * len(shown)
        texts = [self._snippet(text, query=query, limit=limits.candidate_tokens) for text in shown]

        thoughts = self.thoughts.nearest(example) if self.thoughts is not None else []
        thoughts = [self._shorten(self._clean(thought), THOUGHT_TOKENS) for thought in thoughts]
        budget = min(self.token_budget or self.tools.context_tokens, self.tools.context_tokens) - room
        while True:
            messages = self._fill(query, kept, listed, texts, instruction, thoughts)
            size = self.tools.count_prompt(messages)
            if size <= budget:
                break
            if thoughts:
                thoughts = thoughts[:-1]
                continue
            over = size - budget + cut_tokens
            lengths = [self.tools.count(text) for text in texts]
            cap = fair_cap(lengths, sum(lengths) - over)
            if cap >= MIN_CANDIDATE_TOKENS and cap < max(lengths):
                texts = [
                    self._snippet(text, query=query, limit=min(cap, c or cap))
                    for text, c in zip(shown, caps, strict=True)
                ]
                # Pieces joined may have a token more than pieces alone; ask for one more each time around.
                cut_tokens += 1
            elif max(lengths) > MIN_CANDIDATE_TOKENS:
                texts = [self._snippet(text, query=query, limit=MIN_CANDIDATE_TOKENS) for text in shown]
            elif kept:
                kept = kept[max(1, len(kept) // 8) :]
            elif self.tools.count(query) > MIN_QUERY_TOKENS:
                query = self.tools.cut(query, max(MIN_QUERY_TOKENS, self.tools.count(query) - over))
                cut_query = True
            else:
                raise PromptTooLongError(
                    f"example {example.id!r}: the list of {len(listed)} candidates takes {size} tokens even "
                    "with every text cut to "
                    f"{MIN_CANDIDATE_TOKENS}, and the prompt may have {budget} (budget less {room} for the reply); "
                    "rank fewer candidates or raise token_budget"
                )
        cut = replace(
            Usage(),
            truncated_candidates=sum(
                text != self._snippet(whole, query=query, limit=None) for text, whole in zip(texts, shown, strict=True)
            ),
            dropped_history=len(history) - len(kept),
            truncated_queries=int(cut_query),
        )
        return Written(messages=messages, cut=cut)

    def asked(self, query: str) -> str:
        """Return a query within the template's limit."""
        return self._shorten(self._clean(query), self.template.limits.query_tokens)

    def latest(self, context: Sequence[str]) -> Sequence[str]:
        """Return the entries of a context that the template has room for: the latest."""
        limit = self.template.limits.history
        return context[-limit:] if limit else context

    def said(self, entries: Sequence[str]) -> Sequence[str]:
        """Return entries of a context as often as the template says them: the latest may come twice.

        What a small model gathers from a history is a mean, in which an entry weighs as often as it stands.
        """
        twice = self.template.limits.history_twice
        return [*entries, *entries[-twice:]] if twice else entries

    def entry(self, text: str) -> str:
        """Return an entry of the context within the template's limit."""
        return self._shorten(self._named(text), self.template.limits.history_tokens)

    def shown(self, candidate: Candidate, *, query: str) -> str:
        """Return a candidate's text within the template's limit; where the query decides, the part that it asks for."""
        return self._snippet(self._shown(candidate), query=query, limit=self.template.limits.candidate_tokens)

    def again(self, query: str) -> str:
        """Return what stands for a query, within the template's limit, with each candidate; empty for nothing."""
        if "query" not in self._placeholders:
            return ""
        return said_once(query) if self.template.limits.words == "once" else query

    def _clean(self, text: str) -> str:
        return neutralise(text, self.tools.control_tokens)

    def _named(self, name: str) -> str:
        known = self.tools.called(name)
        return self._clean(name) if known == name else known

    def _shorten(self, text: str, limit: int | None) -> str:
        return text if limit is None else self.tools.cut(text, limit)

    def _snippet(self, text: str, *, query: str, limit: int | None) -> str:
        limits = self.template.limits
        if limit is not None and limits.snippet == "query":
            text = snippet(text, query=query, limit=limit, tools=self.tools)
        elif limit is not None:
            text = self.tools.cut(text, limit)
        return said_once(text) if limits.words == "once" else text

    def _shown(self, candidate: Candidate) -> str:
        """Return the part of a candidate that may be cut."""
        if "title" in self._placeholders and "text" not in self._placeholders:
            return self._named(candidate.called)
        title, text = self._clean(candidate.title), self._clean(candidate.text)
        if self._placeholders >= {"title", "text"}:
            return text
        return f"{title}: {text}" if title and text else title or text

    @property
    def _placeholders(self) -> frozenset[str]:
        return _placeholders_of(self.template.candidate)

    def _line(self, entry: Listed, text: str, *, again: str) -> str:
        # A template that shows both keeps the title whole; one that shows the title alone may have to cut it.
        title = self._clean(entry.candidate.title) if self._placeholders >= {"title", "text"} else text
        return self.template.candidate.format(label=entry.label, text=text, title=title, query=again)

    def _fill(
        self,
        query: str,
        history: Sequence[str],
        listed: Sequence[Listed],
        texts: Sequence[str],
        instruction: str,
        thoughts: Sequence[str] = (),
    ) -> tuple[Message, ...]:
        template = self.template
        said = self.said(history)
        items = template.history_separator.join(template.history_item.format(text=entry) for entry in said)
        again = self.again(query)
        candidates = template.candidate_separator.join(
            self._line(entry, text, again=again) for entry, text in zip(listed, texts, strict=True)
        )
        user = template.user.format(
            query=query,
            candidates=candidates,
            history=template.history.format(items=items) if history else "",
            instruction=instruction,
        )
        # YAML blocks end in a new line; a chat template closes the turn itself.
        user = user.rstrip("\n")
        if thoughts:
            user = "\n".join([HEADING, *(f"- {thought}" for thought in thoughts), "", user])
        system = template.system.format().rstrip("\n")
        return (Message("system", system), Message("user", user)) if system else (Message("user", user),)
