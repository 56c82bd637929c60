"""``unified-ranker bench report``: tables, a page and pictures of what runs have ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli.bench.shared import BuiltData, Metric
from unified_ranker.errors import OptionError


def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that bench run wrote.", metavar="RUN...")],
    data: BuiltData = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for report.md, report.html and pictures; the first run's.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the flat list of rows.")] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", help="Another file for the tables, with the published one below.")
    ] = None,
    lists: Annotated[int, typer.Option("--lists", help="Lists of each task that the page shows side by side.")] = 40,
    command: Annotated[str, typer.Option("--command", help="What made the results, to be told in the report.")] = "",
    metric: Metric = "RR",
) -> None:
    """Write tables, a page and pictures of what runs have ranked, random order and the oracle beside it."""
    from unified_ranker.benchmarks.report import published
    from unified_ranker.benchmarks.report.draw import save_pictures
    from unified_ranker.benchmarks.report.load import by_task, load_results
    from unified_ranker.benchmarks.report.markdown import as_markdown
    from unified_ranker.benchmarks.report.page import as_page
    from unified_ranker.benchmarks.report.rows import as_rows
    from unified_ranker.benchmarks.report.significance import compare_all

    if lists < 0:
        raise OptionError(f"--lists {lists} must be ≥ 0")
    results = load_results(runs, data=data)
    for result in results:
        result.measured(metric)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(as_rows(results), indent=1) + "\n", encoding="utf-8")
        if out is None and markdown is None:
            return
    folder = out or runs[0]
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = {key: compare_all(found, metric=metric) for key, found in by_task(results).items()}
    text = as_markdown(results, comparisons, command=command, metric=metric)
    (folder / "report.md").write_text(text, encoding="utf-8")
    if markdown is not None:
        markdown.parent.mkdir(parents=True, exist_ok=True)
        markdown.write_text(f"# Results\n\n{text}\n{published.as_markdown()}", encoding="utf-8")
    page = as_page(results, comparisons, command=command, lists=lists, metric=metric)
    (folder / "report.html").write_text(page, encoding="utf-8")
    save_pictures(results, folder, metric=metric)
    print(text, end="")
