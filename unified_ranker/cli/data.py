"""``unified-ranker data``: build, list, show and validate data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from unified_ranker.cli import options
from unified_ranker.errors import DataError, OptionError

app = typer.Typer(help="Build, list, show and validate candidate lists.", no_args_is_help=True)


@app.command("list")
def list_tasks(as_json: options.Json = False) -> None:
    """List the tasks with their sources and licences."""
    from unified_ranker.tasks import TASKS

    rows = [
        {
            "task": task.name,
            "domain": task.domain,
            "title": task.title,
            "edition": edition,
            "source": source.title,
            "licence": source.licence,
            "url": source.url,
        }
        for task in TASKS.values()
        for edition, sources in task.sources.items()
        for source in sources
    ]
    if as_json:
        print(json.dumps(rows, ensure_ascii=False))
        return
    _table(["task", "domain", "title", "edition", "source", "licence"], rows)


@app.command()
def build(
    tasks: Annotated[list[str] | None, typer.Argument(help="Tasks to build.")] = None,
    all_tasks: Annotated[bool, typer.Option("--all", help="Build the nine tasks and both TREC tests.")] = False,
    edition: Annotated[str, typer.Option("--edition", help="open or paper.")] = "open",
    data_dir: options.DataDir = None,
    out: Annotated[Path, typer.Option("--out", help="Where to write TASK/{train,validation,test}.parquet.")] = Path(
        "data"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Decides splits, negatives and orders.")] = 42,
    negatives: Annotated[str, typer.Option("--negatives", help="uniform or popularity.")] = "uniform",
    lists_per_group: Annotated[
        int | None, typer.Option("--lists-per-group", help="Most training lists of a user or query.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Most lists of each split.")] = None,
    from_hub: Annotated[bool, typer.Option("--from-hub", help="Paper edition: read from the hub.")] = False,
    as_json: options.Json = False,
) -> None:
    """Build tasks from raw files into parquet, with a card each."""
    from unified_ranker.progress import track
    from unified_ranker.tasks import ALL_TASKS, BuildOptions, task_named
    from unified_ranker.tasks.build import build_task

    if all_tasks == bool(tasks):
        raise OptionError("name the tasks to build, or give --all")
    names = list(ALL_TASKS) if all_tasks else list(tasks or ())
    for name in names:
        task_named(name)
    chosen = BuildOptions(
        edition=edition,
        data_dir=data_dir,
        seed=seed,
        negatives=negatives,
        lists_per_group=lists_per_group,
        limit=limit,
        from_hub=from_hub,
    )
    cards = [build_task(name, out, chosen) for name in track(names, total=len(names), description="building")]
    if as_json:
        print(json.dumps(cards, ensure_ascii=False))
        return
    _table(
        ["task", "train", "validation", "test", "candidates", "random MRR", "tied pairs", "sources", "licence"],
        [_card_row(card) for card in cards],
    )


def _card_row(card: dict[str, Any]) -> dict[str, Any]:
    test = card["splits"]["test"]
    return {
        "task": card["task"],
        **{split: card["splits"][split]["lists"] for split in ("train", "validation", "test")},
        "candidates": test.get("candidates", ""),
        "random MRR": f"{test['random_order_mrr']:.4f}" if test["lists"] else "",
        "tied pairs": f"{test['tied_pairs']:.3f}" if test["lists"] else "",
        "sources": "; ".join(dict.fromkeys(source["title"] for source in card["sources"])),
        "licence": "; ".join(dict.fromkeys(source["licence"] for source in card["sources"])),
    }


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="A .parquet or .jsonl file of lists.")],
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many lists to show.")] = 3,
    as_json: options.Json = False,
) -> None:
    """Show the first lists of a file."""
    from itertools import islice

    from unified_ranker.schema.jsonl import dump_line, example_to_dict

    for example in islice(read_file(file), rows):
        if as_json:
            print(dump_line(example_to_dict(example)), end="")
            continue
        lines = [f"{example.id}  ({example.task or 'no task'}, {example.domain}, {example.split})"]
        lines.append(f"  query: {example.query}")
        lines += [f"  context: {entry}" for entry in example.context]
        lines += [f"  {example.grade(c.id):>5g}  {c.id}  {c.title or c.text[:80]}" for c in example.candidates]
        print(printable("\n".join(lines)))


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A .parquet or .jsonl file of lists.")], as_json: options.Json = False
) -> None:
    """Check every list of a file; the first that breaks the format is named, with exit code 2."""
    seen: set[str] = set()
    for example in read_file(file):
        if example.id in seen:
            raise DataError(f"{file}: two lists have the id {example.id!r}; ids must differ")
        seen.add(example.id)
    print(json.dumps({"file": str(file), "lists": len(seen)}) if as_json else f"{file}: {len(seen)} lists, all valid")


def read_file(file: Path) -> Any:
    """Read lists from parquet or JSON lines.

    Raises:
        DataError: the file does not exist or has another ending.
    """
    from unified_ranker.schema.jsonl import read_examples
    from unified_ranker.schema.parquet import read_parquet

    if not file.is_file():
        raise DataError(f"file {str(file)!r} does not exist")
    if file.suffix == ".parquet":
        return read_parquet(file)
    if file.suffix in (".jsonl", ".json"):
        return read_examples(file)
    raise DataError(f"file {str(file)!r}: expected .parquet or .jsonl")


def printable(text: str) -> str:
    """Replace lone surrogates, which no terminal can be sent."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    wrapped = ("title", "source", "sources", "licence")
    table = Table(*(Column(column, overflow="fold", no_wrap=column not in wrapped) for column in columns))
    for row in rows:
        # Cells of data are no markup.
        table.add_row(*(Text(str(row[column])) for column in columns))
    console = Console()
    if not console.is_terminal:
        # A pipe or a file has no width of its own; there no row is broken.
        console = Console(width=max(console.width, 400))
    console.print(table)
