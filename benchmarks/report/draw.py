"""Pictures of results (matplotlib): bars with intervals for each domain, and effectiveness against cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.report.load import ORACLE, RANDOM, Result

from unified_ranker.errors import missing_extra


def bars(results: Sequence[Result], *, metric: str = "RR") -> Any:
    """Return a figure: a panel a task of one domain, a bar a name, the interval on it, random order as a line."""
    figure_class = _figure_class()
    tasks = list(dict.fromkeys(result.task.name for result in results))
    names = [n for n in dict.fromkeys(result.name for result in results) if n not in (RANDOM, ORACLE)]
    figure = figure_class(figsize=(4.2 * len(tasks) + 1.5, 0.32 * len(names) + 1.4), layout="constrained")
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for panel, task in zip(panels, tasks, strict=True):
        rows = {result.name: result for result in results if result.task.name == task}
        for place, name in enumerate(names):
            if name not in rows:
                continue
            found = rows[name].figures[metric]
            ends = [[found.mean - found.low], [found.high - found.mean]]
            colour = "C0" if rows[name].usage("calls") else "C7"
            panel.barh(place, found.mean, xerr=ends, color=colour, error_kw={"lw": 1, "capsize": 2})
        panel.axvline(rows[RANDOM].figures[metric].mean, color="C3", lw=1, ls="--")
        shown = [plain(name) for name in names]
        panel.set(title=task, xlabel=metric, xlim=(0, 1), yticks=range(len(names)), yticklabels=shown)
    panels[0].invert_yaxis()
    return figure


def against_cost(results: Sequence[Result], *, metric: str = "RR") -> Any:
    """Return a figure: a panel a domain, the mean over its tasks against seconds a list."""
    figure_class = _figure_class()
    domains = list(dict.fromkeys(result.task.domain for result in results))
    figure = figure_class(figsize=(6.4 * len(domains), 5), layout="constrained")
    panels = figure.subplots(1, len(domains), squeeze=False)[0]
    for panel, domain in zip(panels, domains, strict=True):
        inside = [result for result in results if result.task.domain == domain and not result.computed]
        tasks = {result.task.name for result in inside}
        names = list(dict.fromkeys(result.name for result in inside))
        points = []
        for name in names:
            rows = [result for result in inside if result.name == name]
            # A mean over fewer tasks is no point on the same scale.
            if {row.task.name for row in rows} != tasks:
                continue
            mean = sum(row.figures[metric].mean for row in rows) / len(rows)
            seconds = max(1e-6, sum(row.seconds_per_query for row in rows) / len(rows))
            marker = "o" if rows[0].usage("calls") else "s"
            points += [(panel.plot([seconds], [mean], marker, ms=8)[0], plain(name))]
        panel.set(xscale="log", xlabel="seconds a list", ylabel=f"{metric}, mean over tasks", title=domain)
        if points:
            # Given one by one: names that begin with an underscore would be left out.
            panel.legend([point for point, _ in points], [name for _, name in points], fontsize=8, loc="best")
    return figure


def plain(name: str) -> str:
    """Return a name as matplotlib shows it: what stands between two dollar signs would be a formula."""
    return name.replace("$", r"\$")


def save_pictures(results: Sequence[Result], folder: Path, *, metric: str = "RR") -> list[Path]:
    """Write a PNG of bars for each edition and domain, and one of effectiveness against cost for each edition."""
    written = []
    for edition in dict.fromkeys(result.task.edition for result in results):
        found = [result for result in results if result.task.edition == edition]
        for domain in dict.fromkeys(result.task.domain for result in found):
            path = folder / f"{edition}-{domain}.png"
            bars([result for result in found if result.task.domain == domain], metric=metric).savefig(path, dpi=110)
            written.append(path)
        path = folder / f"{edition}-cost.png"
        against_cost(found, metric=metric).savefig(path, dpi=110)
        written.append(path)
    return written


def as_svg(figure: Any) -> str:
    """Return a figure as the text of an SVG element, for a page that needs no other file."""
    import io

    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _figure_class() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("bench", package="matplotlib", purpose="drawing results") from error
    return Figure
