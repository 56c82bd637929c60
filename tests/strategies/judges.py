"""Scripted models that know what each candidate is worth, and read the prompt to find out under which label it is."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from zlib import crc32

from unified_ranker import Candidate
from unified_ranker.exchange import Completion, Request

_NATURAL = re.compile(r"^\[(?P<label>.+)\] (?P<name>item\d+)$", re.MULTILINE)
# In a passage's line the query stands again before the label.
_COMPACT = re.compile(r"\b(?P<name>item\d+)(?: <\|again\|>.*?)? (?P<label>\S+)(?= item\d| <\||$| grade$)")


def items(n: int) -> list[Candidate]:
    """Return candidates whose id is their number and whose text can be found in a prompt."""
    return [Candidate(str(number), f"item{number}") for number in range(n)]


@lru_cache(maxsize=4096)
def _read(content: str) -> Mapping[str, str]:
    natural = [(found["label"], found["name"]) for found in _NATURAL.finditer(content)]
    pairs = natural or [(found["label"], found["name"]) for found in _COMPACT.finditer(content)]
    return {label: name.removeprefix("item") for label, name in pairs}


def ids_by_label(request: Request) -> Mapping[str, str]:
    """Return the id of each candidate that a prompt lists, under its label and in the order of the list."""
    return _read(request.messages[-1].content)


def ids_listed(request: Request) -> list[str]:
    """Return the ids of the candidates that a prompt lists, in its order."""
    return list(ids_by_label(request).values())


@dataclass(frozen=True)
class Judge:
    """Names the candidates of least worth, or writes a whole order, as it is asked, and tells log-probabilities.

    Attributes:
        worth: What each candidate is worth, by id; all of them differ.
        bias: How much each place further down the list adds to a candidate's worth in this judge's eyes.
    """

    worth: Mapping[str, float]
    bias: float = 0.0

    def __call__(self, request: Request) -> Completion:
        """Answer a request."""
        ids = ids_by_label(request)
        seen = {label: self.worth[id] + self.bias * place for place, (label, id) in enumerate(ids.items())}
        labels = sorted(request.choices or ids, key=seen.__getitem__)
        if not request.choices:
            separator = "" if _COMPACT.search(request.messages[-1].content) else " > "
            return Completion(separator.join(reversed(labels)))
        if request.draws == len(labels):
            labels.reverse()
        return Completion("".join(labels[: request.draws]), {label: -1.0 - seen[label] for label in request.choices})


@dataclass(frozen=True)
class Critic:
    """Answers every method by what each candidate is worth: reads in the prompt what is asked, and in which form.

    Attributes:
        worth: What each candidate is worth, by id; all of them differ, and none is below 0.
    """

    worth: Mapping[str, float]

    def __call__(self, request: Request) -> Completion:
        """Answer a request."""
        content = request.messages[-1].content
        if "Grade how" in content or "Does the passage" in content or content.endswith(" grade"):
            return self._grade(request)
        least = "helps least" in content and "Rank all" not in content
        worst = "worst first" in content or content.endswith("<|worst|>") or least
        ids, said = ids_by_label(request), set(re.split(r"</?\w+>|\n", request.reply_prefix))
        seen = {label: (-1 if worst else 1) * self.worth[id] for label, id in ids.items()}
        labels = sorted(request.choices or (label for label in ids if label not in said), key=seen.__getitem__)[::-1]
        if request.choices:
            logprobs = {label: seen[label] - 1000 for label in request.choices}
            return Completion("".join(labels[: request.draws]), logprobs)
        compact = not _NATURAL.search(content)
        whole = "Rank all" in content or compact
        answer = ("" if compact else " > ").join(labels) if whole else labels[0]
        return Completion(f"<think>so</think><answer>{answer}</answer>" if "<think>" in content else answer)

    def _grade(self, request: Request) -> Completion:
        (found,) = re.findall(r"\bitem(\d+)\b", request.messages[-1].content)
        share = (1 + self.worth[found]) / (2 + max(self.worth.values()))
        answers = request.choices
        told = {answers[0]: log(1 - share), **dict.fromkeys(answers[1:-1], -60.0), answers[-1]: log(share)}
        return Completion(answers[-1] if share >= 0.5 else answers[0], told)


def mixed(n: int, seed: int = 0) -> dict[str, float]:
    """Return what each of n candidates is worth, the list being in no order of it."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return {str(number): float(worth) for number, worth in enumerate(order)}


def best_first(worth: Mapping[str, float]) -> tuple[str, ...]:
    """Return the true order."""
    return tuple(sorted(worth, key=worth.__getitem__, reverse=True))


def erratic(request: Request) -> Completion:
    """Answer with what follows from the prompt alone, without sense, in the form that is asked for."""
    ids = ids_by_label(request)
    seen = {label: crc32(f"{request.reply_prefix}/{label}/{id}/{list(ids)}".encode()) for label, id in ids.items()}
    worth = {id: float(seen[label]) for label, id in ids.items()}
    return Judge(worth)(request)


def counting(script: Callable[[Request], Completion], paid: list[Completion]) -> Callable[[Request], Completion]:
    """Return a script whose every reply costs something else, and which notes what it gave."""

    def costly(request: Request) -> Completion:
        number = len(paid) + 1
        paid.append(
            replace(script(request), prompt_tokens=100 + number, reused_tokens=7 * number, generated_tokens=number**2)
        )
        return paid[-1]

    return costly
