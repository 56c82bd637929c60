"""Results as one HTML page that needs no other file: sortable tables, pictures, and lists ranked side by side."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from statistics import pstdev
from typing import Any

from unified_ranker.benchmarks.outcome import LOWER_IS_BETTER
from unified_ranker.benchmarks.report.draw import against_cost, as_svg, bars
from unified_ranker.benchmarks.report.load import Result, by_task, measures_of
from unified_ranker.benchmarks.report.markdown import SIGNIFICANT, letters_of
from unified_ranker.benchmarks.report.rows import MACRO, as_rows
from unified_ranker.benchmarks.report.significance import Comparison

from unified_ranker.errors import OptionError

LONGEST_TEXT = 240


def as_page(
    results: Sequence[Result],
    comparisons: Mapping[tuple[str, str], Sequence[Comparison]],
    *,
    command: str = "",
    lists: int = 40,
    metric: str = "RR",
) -> str:
    """Return the page.

    Args:
        results: The results.
        comparisons: Comparisons by edition and task.
        command: What made the results, if it is to be told.
        lists: How many lists of each task can be looked at: those on which the methods differ most.
        metric: What the pictures show, and what was compared.

    Raises:
        OptionError: ``lists`` is negative.
    """
    if lists < 0:
        raise OptionError(f"lists={lists} must be ≥ 0")
    pictures = []
    for edition in dict.fromkeys(result.task.edition for result in results):
        found = [result for result in results if result.task.edition == edition]
        for domain in dict.fromkeys(result.task.domain for result in found):
            figure = bars([result for result in found if result.task.domain == domain], metric=metric)
            pictures.append({"title": f"{edition}: {domain}", "svg": as_svg(figure)})
        pictures.append(
            {"title": f"{edition}: effectiveness against cost", "svg": as_svg(against_cost(found, metric=metric))}
        )
    data = {
        "command": command,
        "metric": metric,
        "lower": sorted(LOWER_IS_BETTER),
        "tables": [_table(edition, rows, comparisons) for (edition, _), rows in by_task(results).items()],
        "macro": [row for row in as_rows(results) if row["task"] == MACRO],
        "lists": {
            f"{edition}: {task}": _shown(rows, lists) for (edition, task), rows in by_task(results).items() if lists
        },
    }
    template = files("unified_ranker.benchmarks.report").joinpath("page.html").read_text(encoding="utf-8")
    figures = "".join(
        f"<figure><figcaption>{html.escape(picture['title'])}</figcaption>{picture['svg']}</figure>"
        for picture in pictures
    )
    # "</script" and "<!--" in a candidate's text would end the script, or begin a comment in it.
    text = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    before, after = template.split("<!--PICTURES-->")
    return before + figures + after.replace('"DATA"', text, 1)


def _table(
    edition: str, rows: Sequence[Result], comparisons: Mapping[tuple[str, str], Sequence[Comparison]]
) -> dict[str, Any]:
    task = rows[0].task
    marks = letters_of([row.name for row in rows if not row.computed])
    found = comparisons.get((edition, task.name), ())
    return {
        "edition": edition,
        "task": task.name,
        "domain": task.domain,
        "title": task.task.title,
        "lists": len(rows[0].examples),
        "measures": list(measures_of(rows)),
        "rows": [
            {
                "name": row.name,
                "mark": marks.get(row.name, ""),
                "computed": row.computed,
                "figures": {name: [f.mean, f.low, f.high] for name, f in row.figures.items()},
                "failed": row.failed_share,
                "repaired": row.repaired_share,
                "missing": row.missing,
                "calls": row.usage("calls"),
                "prompt": row.usage("prompt_tokens"),
                "reused": row.usage("reused_tokens"),
                "generated": row.usage("generated_tokens"),
                "seconds": row.seconds_per_query,
                "beats": sorted(marks[c.worse] for c in found if c.better == row.name and c.p < SIGNIFICANT),
            }
            for row in rows
        ],
    }


def _shown(rows: Sequence[Result], count: int) -> dict[str, Any]:
    """Return the lists on which the methods differ most, with everyone's order of each."""
    ranked = [row for row in rows if not row.computed]
    examples = min((row.examples for row in ranked), key=len)

    def spread(place: int) -> float:
        return pstdev([row.values["RR"][place] for row in ranked])

    places = sorted(sorted(range(len(examples)), key=lambda place: (-spread(place), place))[:count])
    relevant = {place: set(rows[0].task.relevant(examples[place])) for place in places}
    return {
        "methods": [row.name for row in ranked],
        "lists": [
            {
                "id": examples[place].id,
                "query": _cut(examples[place].query),
                "context": [_cut(entry) for entry in examples[place].context],
                "candidates": [
                    {
                        "title": c.title,
                        "text": _cut(c.text),
                        "grade": examples[place].grade(c.id),
                        "relevant": c.id in relevant[place],
                    }
                    for c in examples[place].candidates
                ],
                "orders": [_order(row, place) for row in ranked],
                "rr": [round(row.values["RR"][place], 4) for row in ranked],
            }
            for place in places
        ],
    }


def _order(row: Result, place: int) -> list[int]:
    """Return a ranking as places of the list, which is shorter than ids."""
    example = row.examples[place]
    index = {candidate.id: number for number, candidate in enumerate(example.candidates)}
    return [index[id] for id in row.records.get(example.id, {}).get("ranking", [])]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
