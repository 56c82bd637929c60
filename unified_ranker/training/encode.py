"""From an example to what a model is trained on: the prompt and reply of inference, with soft targets at labels.

At each step of an elimination any candidate of the lowest grade still in play is right, so that the target is spread
over all of them. Steps at which all candidates in play are equally good teach nothing and are left out.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError
from unified_ranker.prompts import Listed, PromptWriter
from unified_ranker.rewards.grade import whole_grade
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.training.distil import soft_target


@dataclass(frozen=True, slots=True)
class LabelStep:
    """One supervised choice of a label.

    Attributes:
        position: Index of the token whose prediction is the label.
        in_play: Token ids of the labels that may be chosen.
        right: Token ids of those that are right.
        weights: Probability that each of ``in_play`` is to have, where targets are soft; else those that are right
            share it evenly.
    """

    position: int
    in_play: tuple[int, ...]
    right: tuple[int, ...]
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A training sequence.

    Attributes:
        tokens: Prompt and reply.
        prompt_length: How many of them are the prompt.
        steps: The supervised choices.
        hard: ``(position, token)`` of other tokens of the reply that the model has to write: separators and the end.
        candidates: ``(position of its label in the prompt, grade)`` of each candidate.
        task: Name of the task.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    steps: tuple[LabelStep, ...]
    hard: tuple[tuple[int, int], ...]
    candidates: tuple[tuple[int, float], ...]
    task: str


def encode(
    example: RankingExample,
    *,
    method: str,
    writer: PromptWriter,
    tools: TokenizerTools,
    labels: Sequence[str],
    rng: random.Random,
    end: int | None,
    distil: float = 0.0,
) -> Encoded:
    """Encode one example, with its candidates and their labels in random order.

    Args:
        example: The example.
        method: ``"iranker"`` (``append`` layout: worst first), ``"dranker"`` (best first) or ``"setwise"`` (the best
            alone).
        writer: Writes the prompt.
        tools: The tokenizer.
        labels: Labels to draw from, each a single token.
        rng: Source of the orders.
        end: Token that ends the reply; None if the model has none.
        distil: Temperature of soft targets for LLM routing, see :mod:`~unified_ranker.training.distil`; 0 for none.

    Raises:
        RecipeError: a label is not a single token, or stands more than once in the prompt.
    """
    shown = list(example.candidates)
    rng.shuffle(shown)
    if len(labels) < len(shown):
        raise RecipeError(
            f"example {example.id!r} has {len(shown)} candidates, but the model has {len(labels)} labels; "
            "give the recipe's model.architecture.labels more, or leave such lists out"
        )
    names = rng.sample(list(labels), len(shown))
    listed = [Listed(name, candidate) for name, candidate in zip(names, shown, strict=True)]
    template = writer.template
    separator = tools.spell(template.label_separator, after="") if template.label_separator else ()
    worst_first = method == "iranker"
    last = {"iranker": len(shown) - 1, "dranker": len(shown), "setwise": 1}[method]
    form = {"iranker": "append", "dranker": "direct", "setwise": "rounds"}[method]
    length = last * (1 + len(separator)) + 1
    written = writer.write(example, listed, form=form, room=length)
    prompt = tools.prompt_ids(written.messages)
    ids = {entry.label: _single(tools, entry.label) for entry in listed}

    order = _order(example, listed, rng, worst_first=worst_first)
    tokens = list(prompt)
    steps, hard = [], []
    for place, entry in enumerate(order[:last]):
        left = order[place:]
        grades = [example.grade(other.candidate.id) for other in left]
        wanted = min(grades) if worst_first else max(grades)
        if min(grades) != max(grades):
            right = tuple(ids[other.label] for other, grade in zip(left, grades, strict=True) if grade == wanted)
            soft = distil > 0 and example.domain == "routing"
            weights = soft_target(grades, temperature=distil, worst_first=worst_first) if soft else ()
            steps.append(LabelStep(len(tokens) - 1, tuple(ids[other.label] for other in left), right, weights))
        tokens.append(ids[entry.label])
        if separator and place + 1 < last:
            for token in separator:
                hard.append((len(tokens) - 1, token))
                tokens.append(token)
    if end is not None:
        hard.append((len(tokens) - 1, end))
        tokens.append(end)
    return Encoded(
        tokens=tuple(tokens),
        prompt_length=len(prompt),
        steps=tuple(steps),
        hard=tuple(hard),
        candidates=tuple((_only(prompt, ids[e.label], e.label), example.grade(e.candidate.id)) for e in listed)
        if tools.labels
        else (),
        task=example.task,
    )


def encode_grade(
    example: RankingExample,
    candidate: Candidate,
    *,
    strategy: Pointwise,
    tools: TokenizerTools,
    labels: Sequence[str],
    rng: random.Random,
    end: int | None,
) -> Encoded:
    """Encode one candidate with its grade: ``"yes"`` for the upper half of a list's grades where that is the scale.

    Args:
        example: The example.
        candidate: Who is graded.
        strategy: Writes the prompt, and says what may be answered.
        tools: The tokenizer.
        labels: Labels to draw from, for templates that show one.
        rng: Source of the label.
        end: Token that ends the reply; None if the model has none.

    Raises:
        RecipeError: an answer is not a single token.
    """
    answers = strategy.answers
    grade = whole_grade(example, candidate.id, top=len(answers) - 1)
    listed = [Listed(rng.choice(list(labels)), candidate)]
    prompt = tools.prompt_ids(strategy.write(example, listed).messages)
    ids = tuple(_single(tools, answer) for answer in answers)
    tokens = [*prompt, ids[grade]]
    hard = []
    if end is not None:
        hard.append((len(tokens) - 1, end))
        tokens.append(end)
    return Encoded(
        tokens=tuple(tokens),
        prompt_length=len(prompt),
        steps=(LabelStep(len(prompt) - 1, ids, (ids[grade],)),),
        hard=tuple(hard),
        candidates=(),
        task=example.task,
    )


def _order(example: RankingExample, listed: list[Listed], rng: random.Random, *, worst_first: bool) -> list[Listed]:
    """Order by grade, ties at random."""

    def key(entry: Listed) -> tuple[float, float]:
        grade = example.grade(entry.candidate.id)
        return (grade if worst_first else -grade, rng.random())

    return sorted(listed, key=key)


def _single(tools: TokenizerTools, label: str) -> int:
    spelled = tools.spell(label, after="")
    if len(spelled) != 1:
        raise RecipeError(f"label {label!r} is {len(spelled)} tokens; training needs labels of one token")
    return spelled[0]


def _only(prompt: list[int], token: int, label: str) -> int:
    if prompt.count(token) != 1:
        raise RecipeError(
            f"label {label!r} stands {prompt.count(token)} times in the prompt; the template must show it once"
        )
    return prompt.index(token)
