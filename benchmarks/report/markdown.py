"""Results as Markdown: the nine data sets at a glance, and a table for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from string import ascii_lowercase

from unified_ranker.benchmarks.measures import Figure
from unified_ranker.benchmarks.report.load import ORACLE, RANDOM, Result, by_task, measures_of
from unified_ranker.benchmarks.report.macro import macro
from unified_ranker.benchmarks.report.significance import Comparison
from unified_ranker.tasks.registry import NINE

SIGNIFICANT = 0.05
#: Heads of the columns of :func:`_shares` and :func:`_spent`.
SHARES = "failed | repaired"
SPENT = "calls | prompt tokens (reused) | generated | seconds"


def as_markdown(
    results: Sequence[Result],
    comparisons: Mapping[tuple[str, str], Sequence[Comparison]],
    *,
    command: str = "",
    metric: str = "RR",
) -> str:
    """Return all tables.

    Args:
        results: The results.
        comparisons: Comparisons by edition and task.
        command: What made the results, if it is to be told.
        metric: What the first table shows, and what was compared.
    """
    lines = []
    if command:
        lines += ["Made by:", "", "```", command, "```", ""]
    lines += [
        "Means over the lists of a task, with 95% bootstrap intervals over lists in brackets. **random** is the exact "
        "expectation of a random order, **oracle** the order of the grades. *Failed* and *repaired* are shares of "
        "steps; calls, tokens and seconds are of one list, batches shared. *Better than* names the rows that a row "
        f"beats in {metric} by a paired randomisation test (Holm-corrected over the pairs of its table, "
        f"p < {SIGNIFICANT}).",
        "",
    ]
    editions = list(dict.fromkeys(result.task.edition for result in results))
    for edition in editions:
        found = [result for result in results if result.task.edition == edition]
        lines += [f"## Edition {edition}", "", *_overview(found, metric), "", *_costs(found, metric)]
        for (_, task), rows in by_task(found).items():
            lines += _task_table(rows, comparisons.get((edition, task), ()))
    return "\n".join(lines).rstrip() + "\n"


def cell_of(figure: Figure, *, digits: int = 3) -> str:
    """Return a mean with its interval.

    Example:
        >>> cell_of(Figure(0.5, 0.25, 0.75, 10))
        '.500 (.250 – .750)'
    """
    return f"{short(figure.mean, digits)} ({short(figure.low, digits)} – {short(figure.high, digits)})"


def short(value: float, digits: int = 3) -> str:
    """Return a share without its leading zero.

    Example:
        >>> short(0.25), short(1.0), short(-0.5)
        ('.250', '1.000', '-.500')
    """
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def _overview(results: Sequence[Result], metric: str) -> list[str]:
    """Return a measure on every task for every name, and the mean of the nine."""
    tasks = list(dict.fromkeys(result.task.name for result in results))
    names = list(dict.fromkeys(result.name for result in results))
    names = [name for name in names if name not in (RANDOM, ORACLE)]
    lines = [
        f"### {metric} on all tasks",
        "",
        f"| | {' | '.join(tasks)} | mean of the nine |",
        "|---|" + "--:|" * (len(tasks) + 1),
    ]
    for name in (RANDOM, *names, ORACLE):
        rows = {result.task.name: result for result in results if result.name == name}
        cells = [cell_of(rows[task].figures[metric]) if task in rows else "" for task in tasks]
        mean = macro(list(rows.values()), metric) if set(NINE) <= set(rows) else None
        shown = f"**{name}**" if name in (RANDOM, ORACLE) else _in_table(name)
        lines.append(f"| {shown} | {' | '.join(cells)} | {cell_of(mean) if mean else ''} |")
    return lines


def _costs(results: Sequence[Result], metric: str) -> list[str]:
    """Return, for all who ranked the nine, what it was worth and what a list cost; nothing if nobody did."""
    trec = [task for task in dict.fromkeys(result.task.name for result in results) if task not in NINE]
    rows = []
    for name in dict.fromkeys(result.name for result in results if not result.computed):
        found = {result.task.name: result for result in results if result.name == name}
        mean = macro(list(found.values()), metric)
        if mean is None:
            continue
        nine = [found[task] for task in NINE]
        others = [cell_of(found[task].figures["nDCG@10"]) if task in found else "" for task in trec]
        worth = " | ".join([cell_of(mean), *others])
        rows.append(f"| {_in_table(name)} | {worth} | {_shares(nine)} | {_spent(nine)} |")
    if not rows:
        return []
    heads = [f"{metric}, mean of the nine", *(f"nDCG@10, {task}" for task in trec)]
    return [
        "### What it costs",
        "",
        "Of one list, on average over the nine.",
        "",
        f"| | {' | '.join(heads)} | {SHARES} | {SPENT} |",
        "|---|" + "--:|" * (len(heads) + 6),
        *rows,
        "",
    ]


def _task_table(results: Sequence[Result], comparisons: Sequence[Comparison]) -> list[str]:
    task = results[0].task
    measures = measures_of(results)
    letters = letters_of([result.name for result in results if not result.computed])
    lines = [
        f"### {task.name}",
        "",
        f"{task.task.title}; {len(results[0].examples)} {results[0].split} lists.",
        "",
        f"| | | {' | '.join(measures)} | {SHARES} | missing | {SPENT} | better than |",
        "|---|---|" + "--:|" * (len(measures) + 7) + "---|",
    ]
    for result in results:
        figures = " | ".join(cell_of(result.figures[name]) for name in measures)
        if result.computed:
            lines.append(f"| | **{result.name}** | {figures} |" + " |" * 8)
            continue
        beaten = sorted(letters[c.worse] for c in comparisons if c.better == result.name and c.p < SIGNIFICANT)
        lines.append(
            f"| {letters[result.name]} | {_in_table(result.name)} | {figures} | {_shares([result])} | "
            f"{result.missing} | {_spent([result])} | {' '.join(beaten)} |"
        )
    return [*lines, ""]


def _shares(results: Sequence[Result]) -> str:
    """Return the cells of :data:`SHARES`, on average over results."""
    return f"{fmean(r.failed_share for r in results):.1%} | {fmean(r.repaired_share for r in results):.1%}"


def _spent(results: Sequence[Result]) -> str:
    """Return the cells of :data:`SPENT`, on average over results."""

    def usual(counted: str) -> float:
        return fmean(result.usage(counted) for result in results)

    return (
        f"{usual('calls'):.1f} | {usual('prompt_tokens'):,.0f} ({usual('reused_tokens'):,.0f}) | "
        f"{usual('generated_tokens'):.1f} | {fmean(result.seconds_per_query for result in results):.4f}"
    )


def _in_table(name: str) -> str:
    return name.replace("|", r"\|")


def letters_of(names: Sequence[str]) -> dict[str, str]:
    """Return a short mark for each name: a … z, then aa, ab and so on.

    Example:
        >>> letters_of(["x", "y"])
        {'x': 'a', 'y': 'b'}
    """
    marks = [*ascii_lowercase, *(one + two for one in ascii_lowercase for two in ascii_lowercase)]
    return dict(zip(dict.fromkeys(names), marks, strict=False))
