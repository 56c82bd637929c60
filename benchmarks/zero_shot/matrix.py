"""The outcome: which training helps on which domain, with intervals, as a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.measures import Figure
from unified_ranker.benchmarks.report.load import RANDOM, Result
from unified_ranker.benchmarks.report.macro import mean_over
from unified_ranker.benchmarks.report.markdown import cell_of
from unified_ranker.benchmarks.zero_shot.regimes import REGIMES, Regime
from unified_ranker.tasks.registry import NINE, TASKS

from unified_ranker.errors import missing_extra
from unified_ranker.schema.types import DOMAINS


def matrix(results: Sequence[Result], *, metric: str = "RR") -> dict[str, dict[str, Figure]]:
    """Return the mean over each domain's three tasks, by regime and domain; random order stands beside as ``random``.

    A task that was not ranked to its end is left out, and so is a domain of which a task is missing. Tasks beyond the
    nine (TREC) stand under their own names.
    """
    names = list(dict.fromkeys(result.model for result in results))
    ordered = [RANDOM, *(name for name in REGIMES if name in names)]
    found: dict[str, dict[str, Figure]] = {}
    for name in ordered:
        rows = {result.task.name: result for result in results if result.model == name and not result.missing}
        found[name] = {}
        for domain in DOMAINS:
            tasks = [task for task in NINE if TASKS[task].domain == domain]
            if set(tasks) <= set(rows):
                found[name][domain] = mean_over([rows[task] for task in tasks], metric)
        found[name] |= {task: row.figures[metric] for task, row in rows.items() if task not in NINE}
        found[name] |= {task: row.figures[metric] for task, row in rows.items() if task in NINE}
    return found


def held_out(regime: Regime, column: str) -> bool:
    """Tell whether a regime has seen nothing of a domain, or of a task's domain."""
    domain = TASKS[column].domain if column in TASKS else column
    return not regime.trained or all(TASKS[task].domain != domain for task in regime.tasks)


def as_markdown(found: Mapping[str, Mapping[str, Figure]], *, metric: str = "RR") -> str:
    """Return the 3 × 3 matrix of held-out domains, with what stands beside it, and one line a task below."""
    lines = [
        f"Mean {metric} over the three tasks of a domain, with 95% bootstrap intervals over test lists in brackets. "
        "**Bold**: nothing of that domain was in training.",
        "",
        *_table(found, list(DOMAINS)),
        "",
        "By task; **bold** where nothing of its domain was in training:",
        "",
        *_table(found, [task for task in (*NINE, *_others(found)) if any(task in row for row in found.values())]),
    ]
    return "\n".join(lines) + "\n"


def _others(found: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    return [
        name for name in dict.fromkeys(key for row in found.values() for key in row) if name not in (*DOMAINS, *NINE)
    ]


def _table(found: Mapping[str, Mapping[str, Figure]], columns: Sequence[str]) -> list[str]:
    lines = [f"| trained on | {' | '.join(columns)} |", "|---|" + "--:|" * len(columns)]
    for name, row in found.items():
        cells = []
        for column in columns:
            text = cell_of(row[column]) if column in row else ""
            unseen = name in REGIMES and name != "untrained" and held_out(REGIMES[name], column)
            cells.append(f"**{text}**" if text and unseen else text)
        shown = {RANDOM: "random order", "untrained": "nothing"}.get(name, name.replace("-", " "))
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return lines


def draw(found: Mapping[str, Mapping[str, Figure]], picture: Path, *, metric: str = "RR") -> None:
    """Draw the matrix: a bar a regime in a panel a domain, held-out ones hatched.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure as Canvas
    except ImportError as error:
        raise missing_extra("bench", package="matplotlib", purpose="drawing the matrix") from error
    columns = [domain for domain in DOMAINS if any(domain in row for row in found.values())]
    canvas: Any = Canvas(figsize=(4.6 * max(1, len(columns)), 0.42 * len(found) + 1.4), layout="constrained")
    panels = canvas.subplots(1, max(1, len(columns)), squeeze=False, sharey=True)[0]
    names = [name for name in found if name != RANDOM]
    for panel, column in zip(panels, columns, strict=False):
        for place, name in enumerate(names):
            if column not in found[name]:
                continue
            figure = found[name][column]
            unseen = held_out(REGIMES[name], column)
            panel.barh(
                place,
                figure.mean,
                xerr=[[figure.mean - figure.low], [figure.high - figure.mean]],
                color="C1" if unseen else "C0",
                hatch="//" if unseen else "",
                error_kw={"lw": 1, "capsize": 2},
            )
        if column in found.get(RANDOM, {}):
            panel.axvline(found[RANDOM][column].mean, color="C3", ls="--", lw=1)
        panel.set(title=column, xlabel=f"mean {metric}", xlim=(0, 1), yticks=range(len(names)), yticklabels=names)
    panels[0].invert_yaxis()
    canvas.suptitle("hatched: nothing of the domain in training; dashed: random order", fontsize=9)
    canvas.savefig(picture, dpi=120)
