"""What a ranking of a built task reached, measure by measure and query by query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb
from statistics import fmean

from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.measures import per_query
from unified_ranker.tasks.random_order import expected_ndcg, expected_reciprocal_rank, relevant_count
from unified_ranker.tasks.routing import cost_scale

from unified_ranker.schema.types import RankingExample

#: Measured on every task, through ir-measures.
EFFECTIVENESS: tuple[str, ...] = ("RR", "nDCG@10", "Success@1", "Success@3", "Success@5")
#: What the LLM that a router puts first makes of the question: its quality in [0, 1]; its cost on the list's scale from
#: 0 (cheapest) to 1 (dearest); its utility in [0, 1], the reward that the scenario pays; and how far that is below the
#: best utility of the list.
ROUTING: tuple[str, ...] = ("performance", "cost", "reward", "regret")
LOWER_IS_BETTER = frozenset({"cost", "regret"})


def measure_names(task: BuiltTask) -> tuple[str, ...]:
    """Return what is measured on a task."""
    return (*EFFECTIVENESS, *ROUTING) if task.domain == "routing" else EFFECTIVENESS


def measure(
    task: BuiltTask, examples: Sequence[RankingExample], orders: Mapping[str, Sequence[str]]
) -> dict[str, list[float]]:
    """Measure rankings.

    Args:
        task: The task.
        examples: Its lists.
        orders: Ids of the candidates of each list, best first. A list without one counts as ranked worst.

    Returns:
        Values by measure, in the order of the examples.
    """
    found = per_query(examples, orders, binary=task.task.binary, measures=EFFECTIVENESS, judged=task.judged)
    if task.domain == "routing":
        first = [orders[example.id][0] if orders.get(example.id) else None for example in examples]
        rows = [_served(task, example, name) for example, name in zip(examples, first, strict=True)]
        found |= {name: [row[name] for row in rows] for name in ROUTING}
    return found


def _served(task: BuiltTask, example: RankingExample, chosen: str | None) -> dict[str, float]:
    """Return what an LLM makes of a question; with none chosen, the worst of the list in each respect."""
    outcomes = task.outcomes[example.id]
    costs = cost_scale({name: outcome.cost for name, outcome in outcomes.items()})
    rewards = {candidate.id: example.grade(candidate.id) / 100 for candidate in example.candidates}
    if chosen is None:
        return {
            "performance": min(outcome.quality for outcome in outcomes.values()),
            "cost": max(costs.values()),
            "reward": min(rewards.values()),
            "regret": max(rewards.values()) - min(rewards.values()),
        }
    return {
        "performance": outcomes[chosen].quality,
        "cost": costs[chosen],
        "reward": rewards[chosen],
        "regret": max(rewards.values()) - rewards[chosen],
    }


def measure_random(task: BuiltTask, examples: Sequence[RankingExample]) -> dict[str, list[float]]:
    """Return the exact expectation of every measure under a random order of each list."""
    rule = task.task.binary
    found: dict[str, list[float]] = {
        "RR": [expected_reciprocal_rank(example, rule) for example in examples],
        "nDCG@10": [expected_ndcg(example, outside=task.judged.get(example.id)) for example in examples],
    }
    counts = [(len(e.candidates), relevant_count([e.grade(c.id) for c in e.candidates], rule)) for e in examples]
    for cutoff in (1, 3, 5):
        found[f"Success@{cutoff}"] = [
            1 - comb(n - good, min(cutoff, n)) / comb(n, min(cutoff, n)) for n, good in counts
        ]
    if task.domain == "routing":
        rows = [[_served(task, example, c.id) for c in example.candidates] for example in examples]
        found |= {name: [fmean(row[name] for row in each) for each in rows] for name in ROUTING}
    return found


def best_order(example: RankingExample) -> list[str]:
    """Return the candidates by their grades, best first: the oracle's order."""
    return [c.id for c in sorted(example.candidates, key=lambda candidate: -example.grade(candidate.id))]
