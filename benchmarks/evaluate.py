"""Rank the test lists of tasks and table the results beside random order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from unified_ranker.benchmarks.measures import per_query, with_interval
from unified_ranker.tasks.build import read_split
from unified_ranker.tasks.random_order import expected_ndcg, expected_reciprocal_rank
from unified_ranker.tasks.registry import task_named

from unified_ranker.errors import DataError, OptionError, unknown_choice
from unified_ranker.ranker import Ranker
from unified_ranker.schema.jsonl import dump_line
from unified_ranker.schema.types import SPLITS


def evaluate_task(
    ranker: Ranker, task: str, *, data: Path, split: str = "test", limit: int | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Rank one task's lists and measure them.

    Args:
        ranker: What to measure.
        task: Name of a built task.
        data: Folder of built tasks.
        split: Which split.
        limit: Only the first so many lists.
        out: Folder for ``TASK.jsonl``, one ranking a line; None to keep none.

    Returns:
        One row: task, queries, RR and nDCG@10 with their intervals, the exact expectation of both under random order,
        whether RR's interval excludes it, shares of repaired and failed steps, and cost per query.
    """
    if limit is not None and limit < 1:
        raise OptionError(f"limit={limit} must be ≥ 1")
    if split not in SPLITS:
        raise unknown_choice("split", split, SPLITS)
    examples = list(read_split(data, task, split))[:limit]
    if not examples:
        raise DataError(f"task {task!r} has no {split} lists in {str(data / task)!r}; choose another split or task")
    rankings = {}
    for example, ranking in zip(examples, ranker.rank_batch(examples, progress=True), strict=True):
        rankings[example.id] = ranking
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        lines = (dump_line(rankings[example.id].to_dict()) for example in examples)
        (out / f"{task}.jsonl").write_text("".join(lines), encoding="utf-8")
    binary = task_named(task).binary
    values = per_query(examples, rankings, binary=binary)
    rr, ndcg = with_interval(values["RR"]), with_interval(values["nDCG@10"])
    random_rr = fmean(expected_reciprocal_rank(example, binary) for example in examples)
    usage = [ranking.usage for ranking in rankings.values()]
    steps = sum(len(ranking.steps) for ranking in rankings.values()) or 1
    return {
        "task": task,
        "method": ranker.method,
        "split": split,
        "queries": len(examples),
        "RR": rr.mean,
        "RR_low": rr.low,
        "RR_high": rr.high,
        "nDCG@10": ndcg.mean,
        "nDCG@10_low": ndcg.low,
        "nDCG@10_high": ndcg.high,
        "random_RR": random_rr,
        "random_nDCG@10": fmean(expected_ndcg(example) for example in examples),
        "above_random": rr.low > random_rr,
        "repaired_share": sum(u.repaired_steps for u in usage) / steps,
        "failed_share": sum(u.failed_steps for u in usage) / steps,
        "calls": fmean(u.calls for u in usage),
        "prompt_tokens": fmean(u.prompt_tokens for u in usage),
        "reused_tokens": fmean(u.reused_tokens for u in usage),
        "generated_tokens": fmean(u.generated_tokens for u in usage),
        "truncated_candidates": fmean(u.truncated_candidates for u in usage),
    }


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        "| task | method | queries | MRR (95% interval) | random order | above it | nDCG@10 | random | "
        "repaired | failed |",
        "|---|---|--:|---|--:|---|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['task']} | {row['method']} | {row['queries']} | {row['RR']:.3f} ({row['RR_low']:.3f} – "
            f"{row['RR_high']:.3f}) "
            f"| {row['random_RR']:.3f} | {'yes' if row['above_random'] else 'no'} | {row['nDCG@10']:.3f} "
            f"| {row['random_nDCG@10']:.3f} | {row['repaired_share']:.1%} | {row['failed_share']:.1%} |"
        )
    return "\n".join(lines) + "\n"


def write_results(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Write ``results.json`` and ``results.md``."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(list(rows), indent=1) + "\n", encoding="utf-8")
    (out / "results.md").write_text(as_markdown(rows), encoding="utf-8")
