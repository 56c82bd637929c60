"""Lists of known worth, a judge that reads the worth from the prompt, and an engine that stands in for vLLM."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from unified_ranker.backends import WordTools
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.types import Candidate, RankingExample

_NATURAL = re.compile(r"^\[(?P<label>\w+)\] worth (?P<worth>\d+)$", re.MULTILINE)
_TOY = re.compile(r"grade (?P<grade>\d+) of place (?P<place>\d+)(?: <\|again\|>.*?)? (?P<label><\d+>)")

Script = Callable[[Request], Completion]


def worth_list(count: int, *, id: str = "q", domain: str = "passage", seed: int = 0) -> RankingExample:
    """Return a list in random order whose candidates are called by their worth, from 0."""
    worths = random.Random(f"{seed}/{id}/{count}").sample(range(count), count)
    return RankingExample(
        id=id,
        query=f"query {id}",
        candidates=tuple(Candidate(str(worth), f"worth {worth}") for worth in worths),
        domain=domain,
    )


def best_first(count: int) -> list[str]:
    """Return the true order of :func:`worth_list`."""
    return [str(worth) for worth in reversed(range(count))]


def shown(request: Request) -> dict[str, int]:
    """Return the worth under each label of a prompt, in the order of its list."""
    return {found["label"]: int(found["worth"]) for found in _NATURAL.finditer(request.messages[-1].content)}


def judge(request: Request) -> Completion:
    """Name the worst; the better a candidate, the less likely its label."""
    worths = shown(request)
    assert tuple(worths) == request.choices
    return Completion(
        min(worths, key=worths.__getitem__),
        {label: -1.0 - worth for label, worth in worths.items()},
        prompt_tokens=100 + len(worths),
        reused_tokens=len(worths),
        generated_tokens=1,
    )


def writers(asked: list[str] | None = None) -> Callable[[str], PromptWriter]:
    """Return what gives the writer of a domain, and notes which domains were asked for."""

    def writer_of(domain: str) -> PromptWriter:
        if asked is not None:
            asked.append(domain)
        return PromptWriter(load_template("natural", "elimination", domain), WordTools())

    return writer_of


class EngineTools(WordTools):
    """Words with numbers, which vLLM is asked with."""

    def prompt_ids(self, messages: Any) -> list[int]:
        return list(range(self.count_prompt(messages)))


@dataclass
class Engine:
    """Notes what it was asked to write."""

    asked: list[tuple[int, Any]] = field(default_factory=list)

    def generate(self, prompts: Sequence[dict[str, list[int]]], params: Sequence[Any], *, use_tqdm: bool) -> None:
        assert not use_tqdm
        self.asked += [(len(prompt["prompt_token_ids"]), one) for prompt, one in zip(prompts, params, strict=True)]


class EngineBackend:
    """Answers lists of ``toy_tasks`` in the compact style as a model would that knows the grades."""

    made: list[EngineBackend]

    def __init__(
        self,
        engine: Engine,
        text: EngineTools,
        settings: ModelSettings,
        *,
        structured: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.engine, self.text, self.settings, self.structured = engine, text, settings, structured
        self.options = options or {}
        self.asked = self.resets = self.closed = 0
        EngineBackend.made.append(self)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        self.asked += len(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        found = _TOY.finditer(request.messages[-1].content)
        worth = {one["label"]: int(one["grade"]) - int(one["place"]) / 1000 for one in found}
        labels = sorted(request.choices, key=worth.__getitem__)
        if request.draws == len(labels):
            labels.reverse()
        return Completion(
            "".join(labels[: request.draws]),
            {label: -1.0 - worth[label] for label in labels},
            prompt_tokens=self.text.count_prompt(request.messages, request.reply_prefix),
            generated_tokens=request.draws,
        )

    def forget(self, sessions: Collection[str]) -> None:
        raise AssertionError("no session is given up")

    def reset_cache(self) -> None:
        self.resets += 1

    def close(self) -> None:
        self.closed += 1
