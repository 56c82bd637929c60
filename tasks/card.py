"""The card beside built data: where it comes from, how it was made, and what random order would reach on it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from unified_ranker.tasks.base import BuildOptions, Built, Task
from unified_ranker.tasks.random_order import expected_reciprocal_rank, relevant_count

from unified_ranker.schema.types import RankingExample


def tie_share(examples: Sequence[RankingExample]) -> float:
    """Return the share of candidate pairs, in a list and over all lists, whose relevance is equal."""
    ties = pairs = 0
    for example in examples:
        grades = [example.grade(c.id) for c in example.candidates]
        counts = {grade: grades.count(grade) for grade in set(grades)}
        ties += sum(count * (count - 1) // 2 for count in counts.values())
        pairs += len(grades) * (len(grades) - 1) // 2
    return ties / pairs if pairs else 0.0


def split_facts(examples: Sequence[RankingExample], *, binary: str) -> dict[str, float]:
    """Return what the card says of one split; see :func:`make_card`."""
    if not examples:
        return {"lists": 0}
    shared = [relevant_count([e.grade(c.id) for c in e.candidates], "top") > 1 for e in examples]
    return {
        "lists": len(examples),
        "groups": len({example.group for example in examples}),
        "candidates": round(fmean(len(example.candidates) for example in examples), 3),
        "random_order_mrr": round(fmean(expected_reciprocal_rank(example, binary) for example in examples), 6),
        "tied_pairs": round(tie_share(examples), 6),
        "shared_best": round(fmean(shared), 6),
    }


def make_card(task: Task, built: Built, options: BuildOptions) -> dict[str, Any]:
    """Return the card as plain types.

    Fields: task, title, domain, edition, sources (title, url, licence), sampling, negatives, seed, counts, binary
    (what RR counts as relevant) and, per split, the number of lists, groups and candidates, the exact expectation of
    RR under random order, and two shares of ties: of pairs of candidates, and of lists whose best grade is shared.
    """
    splits = {split: split_facts(examples, binary=task.binary) for split, examples in built.splits.items()}
    return {
        "task": task.name,
        "title": task.title,
        "domain": task.domain,
        "edition": options.edition,
        "sources": [{"title": s.title, "url": s.url, "licence": s.licence} for s in built.sources],
        "sampling": built.sampling,
        "negatives": options.negatives if task.domain == "recommendation" else None,
        "seed": options.seed,
        "binary": task.binary,
        "counts": dict(built.counts),
        "splits": splits,
    }
