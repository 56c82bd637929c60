"""LLM routing: a question, the models that could answer it, and how good each answer was for its cost.

The published scenarios weigh quality and cost as (1, 0), (.5, .5) and (.2, .8) (R1-Ranker, arXiv 2506.21638).
Relevance is graded: the utility ``quality_weight · quality - cost_weight · cost``, moved to 0 … 100 and rounded, so
that ties stay ties.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unified_ranker.tasks.base import BuildOptions, Built, Source
from unified_ranker.tasks.beside import Beside, LLMOutcome
from unified_ranker.tasks.sampling import generator, limited, shuffled, split_groups

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a router is to weigh.

    Attributes:
        quality: Weight of the answer's quality.
        cost: Weight of its cost; the two add up to 1.
        query: How the query says so.
    """

    quality: float
    cost: float
    query: str


SCENARIOS: dict[str, Scenario] = {
    "router-performance": Scenario(1.0, 0.0, "Best answer, whatever it costs."),
    "router-balance": Scenario(0.5, 0.5, "Balance the quality of the answer and its cost."),
    "router-cost": Scenario(0.2, 0.8, "Cheap above all; quality counts a little."),
}


_CHOICES = re.compile(r"^\s*A[).]\s", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Question:
    """One question with what each model made of it.

    Attributes:
        id: Id, unique in its pool.
        text: The question as a router sees it.
        quality: Quality of each model's answer, in [0, 1].
        cost: Cost of each model's answer, > 0, in any unit.
        split: Split that the source publishes; empty for none.
    """

    id: str
    text: str
    quality: Mapping[str, float]
    cost: Mapping[str, float]
    split: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """Questions that were all put to the same models."""

    name: str
    source: Source
    models: Mapping[str, Candidate]
    questions: Sequence[Question]


def cost_scale(cost: Mapping[str, float]) -> dict[str, float]:
    """Put costs on a scale from 0 (cheapest of the list) to 1 (dearest), by their logarithm.

    Raw prices span orders of magnitude: next to them quality would decide nothing in either scenario with a cost, and
    Balance and Cost would be the same ranking. Where all cost the same, the scale is 0.

    Example:
        >>> scale = cost_scale({"small": 0.1, "middle": 1.0, "large": 10.0})
        >>> {model: round(value, 3) for model, value in scale.items()}
        {'small': 0.0, 'middle': 0.5, 'large': 1.0}
    """
    logs = {model: math.log(value) for model, value in cost.items()}
    low, high = min(logs.values()), max(logs.values())
    return {model: (value - low) / (high - low) if high > low else 0.0 for model, value in logs.items()}


def utilities(question: Question, scenario: Scenario) -> dict[str, float]:
    """Return the graded relevance of each model: whole numbers from 0 to 100."""
    costs = cost_scale(question.cost)
    return {
        # Rounded twice: sums that differ by a floating-point hair are the same utility.
        model: float(round(round(100 * (scenario.quality * quality + scenario.cost * (1 - costs[model])), 9)))
        for model, quality in question.quality.items()
    }


def group_of(text: str) -> str:
    """Return a question's identity, so that two printings of it are one.

    Case, white space and punctuation do not count, but for the signs of arithmetic; nor does a list of answers to
    choose from (from a line that begins with ``A)`` on), which some benchmarks print and others do not.
    """
    stem = _CHOICES.split(text, maxsplit=1)[0].casefold()
    letters = "".join(letter for letter in stem if letter.isalnum() or letter in "+-*/=<>^%")
    return "question:" + hashlib.sha256(letters.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def check_question(question: Question, models: Mapping[str, Candidate], *, where: str) -> None:
    """Check a question.

    Raises:
        DataError: naming the model and value that are out of range.
    """
    if not question.quality:
        raise DataError(f"{where}: no model answered it")
    if not set(question.quality) == set(question.cost) <= set(models):
        raise DataError(f"{where}: quality, cost and models name different models")
    for model, value in question.quality.items():
        if not 0 <= value <= 1:
            raise DataError(f"{where}: quality of {model!r} is {value!r}; it must be in [0, 1]")
        if not 0 < question.cost[model] < math.inf:
            raise DataError(f"{where}: cost of {model!r} is {question.cost[model]!r}; it must be > 0 and finite")


def build(
    task: str, pools: Sequence[Pool], options: BuildOptions, *, test_share: float = 0.2, validation_share: float = 0.1
) -> Built:
    """Make one list a question and scenario.

    Splits are by question, over all pools and scenarios alike: a question whose text stands in training anywhere is
    dropped from test. A list in which all models are equally good says nothing about order; it is left out and
    counted.
    """
    scenario = SCENARIOS[task]
    splits = _splits(pools, options.seed, test_share, validation_share)
    built: dict[str, list[RankingExample]] = {"train": [], "validation": [], "test": []}
    outcomes: dict[str, dict[str, LLMOutcome]] = {}
    counts = {
        "questions": 0,
        "dropped, all models equal": 0,
        "dropped from test, also in training": 0,
        "dropped, asked twice in its pool": 0,
    }
    for pool in pools:
        seen: set[str] = set()
        for question in pool.questions:
            check_question(question, pool.models, where=f"{pool.source.title}, question {question.id!r}")
            group = group_of(question.text)
            counts["questions"] += 1
            if question.split == "test" and splits[group] != "test":
                counts["dropped from test, also in training"] += 1
                continue
            if group in seen:
                counts["dropped, asked twice in its pool"] += 1
                continue
            seen.add(group)
            grades = utilities(question, scenario)
            if len(set(grades.values())) == 1:
                counts["dropped, all models equal"] += 1
                continue
            rng = generator(options.seed, task, pool.name, question.id)
            id = f"{task}-{pool.name}-{question.id}"
            outcomes[id] = {
                model: LLMOutcome(question.quality[model], question.cost[model]) for model in sorted(grades)
            }
            built[splits[group]].append(
                RankingExample(
                    id=id,
                    query=f"{scenario.query} {question.text}",
                    candidates=shuffled([pool.models[model] for model in sorted(grades)], rng),
                    task=task,
                    domain="routing",
                    relevance=grades,
                    split=splits[group],
                    group=group,
                )
            )
    return Built(
        splits={split: limited(examples, options.limit, seed=options.seed) for split, examples in built.items()},
        sources=tuple(pool.source for pool in pools),
        sampling="one list a question with all models of its pool; "
        f"relevance = 100·({scenario.quality:g}·quality + {scenario.cost:g}·(1 - cost)), "
        "rounded, cost from 0 to 1 by the logarithm within the list; split by question",
        counts=counts,
        beside=Beside(outcomes=outcomes),
    )


def _splits(pools: Sequence[Pool], seed: int, test_share: float, validation_share: float) -> dict[str, str]:
    """Assign each question, by its text, to one split for all pools."""
    published = {group_of(q.text): q.split for pool in pools for q in pool.questions if q.split == "test"}
    published.update({group_of(q.text): q.split for pool in pools for q in pool.questions if q.split == "train"})
    free = {group_of(q.text) for pool in pools for q in pool.questions} - set(published)
    splits = split_groups(free, seed=seed, salt="routing", test=test_share, validation=validation_share)
    training = [group for group, split in published.items() if split == "train"]
    held = split_groups(training, seed=seed, salt="routing-validation", test=0.0, validation=validation_share)
    return {**splits, **published, **held}
