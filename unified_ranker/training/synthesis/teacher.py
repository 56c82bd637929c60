"""Asking a teacher: grades of each candidate and orders of the list, with thoughts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any

from unified_ranker.exchange import Backend
from unified_ranker.model_settings import ModelSettings
from unified_ranker.prompts.neutralise import neutralise
from unified_ranker.ranker import Ranker
from unified_ranker.schema.jsonl import example_to_dict
from unified_ranker.schema.types import Ranking, RankingExample, Step, Usage
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.training.rl.trainable import chat_of, shown
from unified_ranker.training.synthesis.setting import Synthesis


@dataclass(frozen=True, slots=True)
class Cost:
    """What asking costs at most.

    Attributes:
        lists: Lists that are to be asked about.
        calls: Requests.
        prompt_tokens: Tokens of their prompts; an estimate where the server's tokenizer is not known.
        reply_tokens: Most tokens of all replies.
    """

    lists: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    reply_tokens: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.lists + other.lists,
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.reply_tokens + other.reply_tokens,
        )


class Teacher:
    """A model that grades and orders.

    Args:
        backend: The model.
        setting: What it is asked for.
        settings: How the model wants to be asked; its labels and budget are used, its style is not.
        style: Style of the prompts.
    """

    def __init__(
        self, backend: Backend, setting: Synthesis, *, settings: ModelSettings | None = None, style: str = "natural"
    ) -> None:
        known = settings or ModelSettings()
        shared: dict[str, Any] = {
            "settings": ModelSettings(style=style, token_budget=known.token_budget),
            "reasoning": setting.reasoning,
            "temperature": setting.temperature,
            "max_tokens": setting.max_tokens,
        }
        self.setting, self.backend, self.style = setting, backend, style
        tools = backend.text
        #: What its prompts depend on, beside the setting: who goes on with a synthesis has to share it.
        self.asks = {
            "style": style,
            "labels": list(tools.labels),
            "token_budget": min(known.token_budget or tools.context_tokens, tools.context_tokens),
        }
        self.grader = Ranker(
            backend, method="pointwise", score="grade", top_grade=setting.top_grade, seed=setting.seed, **shared
        )
        self.orderers = [
            Ranker(backend, method="dranker", seed=setting.seed + number, **shared) for number in range(setting.samples)
        ]

    def cost(self, example: RankingExample) -> Cost:
        """Return what a list costs at most, without asking."""
        grader, orderer = self._strategies(example)
        tools = self.backend.text
        prompts, replies = 0, 0
        for candidate in example.candidates:
            _, written = shown(example.with_candidates((candidate,)), grader)
            prompts += tools.count_prompt(written.messages)
            replies += grader.room(example)
        size = tools.count_prompt(shown(example, orderer)[1].messages)
        samples = self.setting.samples
        return Cost(
            1,
            len(example.candidates) + samples,
            prompts + samples * size,
            replies + samples * orderer.room(example),
        )

    def ask(self, examples: Iterable[RankingExample], *, concurrency: int = 64) -> Iterator[dict[str, Any]]:
        """Ask about lists, and yield one record each, in their order; see :func:`record_of`."""
        kept, *shown = tee(examples, len(self.orderers) + 2)
        rankers = [self.grader, *self.orderers]
        found = [ranker.rank_batch(copy, concurrency=concurrency) for ranker, copy in zip(rankers, shown, strict=True)]
        for example, grading, *orders in zip(kept, *found, strict=True):
            yield record_of(example, grading, orders)

    def plain(self, thoughts: str) -> str:
        """Return thoughts without what a chat template, or a parser of replies, would read as its own marks."""
        clean = "\n".join(neutralise(line, self.backend.text.control_tokens) for line in thoughts.split("\n"))
        # Blanks are joined as well, of which nothing is to be said where there was no mark.
        return thoughts if clean.split() == thoughts.split() else clean

    def separator(self, example: RankingExample) -> str:
        """Return what stands between the labels of an order."""
        return self._strategies(example)[1].writer.template.label_separator

    def messages(self, example: RankingExample, candidate: str | None = None) -> list[dict[str, str]]:
        """Return the prompt of a list, or of one of its candidates, as it was asked."""
        grader, orderer = self._strategies(example)
        if candidate is None:
            return chat_of(shown(example, orderer)[1])
        (wanted,) = (c for c in example.candidates if c.id == candidate)
        return chat_of(shown(example.with_candidates((wanted,)), grader)[1])

    def _strategies(self, example: RankingExample) -> tuple[Pointwise, OneShot]:
        grader, orderer = self.grader.strategy(example.domain), self.orderers[0].strategy(example.domain)
        assert isinstance(grader, Pointwise)
        assert isinstance(orderer, OneShot)
        return grader, orderer


def record_of(example: RankingExample, grading: Ranking, orders: Sequence[Ranking]) -> dict[str, Any]:
    """Return what a teacher said of a list, as one line of ``teacher.jsonl``.

    Fields: ``id``, ``example`` (as it was shown), ``grades`` (by candidate: ``grade``, None for a reply without one,
    ``outcome`` and ``reasoning``), ``orders`` (``ids``, ``labels``, ``outcome`` and ``reasoning``) and ``usage``.
    """
    usage = sum((order.usage for order in orders), grading.usage)
    # Equal grades are told apart in the last place of the score; one that could not be read is below 0.
    grades = {c.id: round(score) for c, score in zip(grading.order, grading.scores, strict=True)}
    return {
        "id": example.id,
        "example": example_to_dict(example),
        "grades": {step.chosen[0]: _said(step, grades[step.chosen[0]]) for step in grading.steps},
        "orders": [
            {
                "ids": [candidate.id for candidate in order.order],
                "labels": {name: candidate for step in order.steps for name, candidate in step.labels.items()},
                "outcome": order.steps[0].outcome if order.steps else "ok",
                "reasoning": _whole(order.steps[0].reasoning) if order.steps else "",
            }
            for order in orders
        ],
        "usage": _counts(usage),
    }


def _whole(text: str) -> str:
    """Return a text without halves of characters, which no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _said(step: Step, grade: int) -> dict[str, Any]:
    return {"grade": grade if grade >= 0 else None, "outcome": step.outcome, "reasoning": _whole(step.reasoning)}


def _counts(usage: Usage) -> dict[str, int]:
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "generated_tokens": usage.generated_tokens,
    }
