"""``unified-ranker rank``: one list from the command line, or a file of lists."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_ranker.cli import options
from unified_ranker.errors import DataError, OptionError, unknown_choice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unified_ranker.ranker import Ranker
    from unified_ranker.schema.types import Ranking, RankingExample


ENGINES = ("local", "ray")


def rank(
    query: Annotated[str | None, typer.Option("--query", help="What to rank for.")] = None,
    candidates: Annotated[
        str, typer.Option("--candidates", help="File with one candidate a line, text or JSON; - for stdin.")
    ] = "-",
    domain: Annotated[str, typer.Option("--domain", help="passage, recommendation or routing.")] = "passage",
    context: Annotated[
        list[str] | None, typer.Option("--context", help="An entry of the user's history, oldest first; repeatable.")
    ] = None,
    input: Annotated[Path | None, typer.Option("--input", help="JSON lines or parquet of lists to rank.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="JSON lines to write, or with --engine ray a folder; resumed if it exists."),
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray for Ray Data.")] = "local",
    actors: Annotated[int | None, typer.Option("--actors", help="Engines of --engine ray; 1 by default.")] = None,
    block: Annotated[int | None, typer.Option("--block", help="Lists that an actor finishes at once; 256.")] = None,
    gpus_per_actor: Annotated[float | None, typer.Option("--gpus-per-actor", help="Accelerators of each; 0.")] = None,
    cpus_per_actor: Annotated[float | None, typer.Option("--cpus-per-actor", help="Processors of each; 1.")] = None,
    ray_address: Annotated[str | None, typer.Option("--ray-address", help="A Ray cluster to join.")] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="How many places to show.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    trec: Annotated[bool, typer.Option("--trec", help="Print a TREC run.")] = False,
    as_json: options.Json = False,
    model: options.Model = None,
    method: options.Method = None,
    option: options.MethodOptions = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    layout: options.Layout = None,
    reasoning: options.Reasoning = False,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = None,
    seed: options.Seed = None,
    shuffle_seed: options.ShuffleSeed = None,
    on_error: options.OnError = "repair",
    retries: options.Retries = 2,
    unguided: options.Unguided = False,
    style: options.Style = None,
    template: options.TemplateFile = None,
    token_budget: options.TokenBudget = None,
    thoughts: options.Thoughts = None,
    thought_count: options.ThoughtCount = None,
    revision: options.Revision = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    batch_tokens: options.BatchTokens = None,
) -> None:
    """Rank candidates for a query, or every list of a file."""
    if (query is None) == (input is None):
        raise OptionError("give either --query (with --candidates) or --input (with --output)")
    if input is None and output is not None:
        raise OptionError("--output goes with --input; a single ranking is printed")
    if input is not None:
        for name, given in (
            ("--trec", trec),
            ("--json", as_json),
            ("--context", bool(context)),
            ("--domain", domain != "passage"),
            ("--candidates", candidates != "-"),
        ):
            if given:
                raise OptionError(f"{name} goes with --query; lists of a file carry their own, and give JSON lines")
    if engine not in ENGINES:
        raise unknown_choice("engine", engine, ENGINES)
    if engine == "ray" and input is None:
        raise OptionError("--engine ray goes with --input and --output")
    of_ray = {
        "actors": actors,
        "block": block,
        "gpus_per_actor": gpus_per_actor,
        "cpus_per_actor": cpus_per_actor,
        "ray_address": ray_address,
    }
    of_ray = {name: value for name, value in of_ray.items() if value is not None}
    if engine != "ray" and of_ray:
        raise OptionError(f"--{next(iter(of_ray)).replace('_', '-')} goes with --engine ray")
    arguments = options.ranker_arguments(
        model,
        method=method,
        backend=backend,
        backend_options=backend_option,
        method_options=option,
        layout=layout,
        reasoning=reasoning,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        seed=seed,
        shuffle_seed=shuffle_seed,
        on_error=on_error,
        retries=retries,
        unguided=unguided,
        style=style,
        template=template,
        token_budget=token_budget,
        thoughts=thoughts,
        thought_count=thought_count,
        revision=revision,
        dtype=dtype,
        device=device,
        batch_tokens=batch_tokens,
    )
    if engine == "ray":
        assert input is not None
        rank_on_ray(arguments, input, output, top_k=top_k, concurrency=concurrency, **of_ray)
        return
    from unified_ranker.ranker import Ranker

    ranker = Ranker.from_pretrained(**arguments)
    if input is not None:
        rank_file(ranker, input, output, top_k=top_k, concurrency=concurrency)
        return
    assert query is not None
    ranking = ranker.rank(query, read_candidates(candidates), top_k=top_k, domain=domain, context=context or ())
    _show(ranking, as_json=as_json, trec=trec)


def rank_on_ray(ranker: dict[str, Any], input: Path, output: Path | None, **settings: Any) -> None:
    """Rank the lists of files on Ray Data; see :func:`~unified_ranker.ray_rank.rank_collection`.

    Raises:
        OptionError: there is no output, or it is a file.
    """
    from unified_ranker.progress import track
    from unified_ranker.ray_rank import rank_collection

    if output is None or output.is_file():
        raise OptionError("--engine ray needs --output FOLDER; each block of rankings becomes a file in it")
    done = rank_collection(ranker=ranker, input=input, output=output, **settings)
    for _ in track(done, total=None, description="ranking"):
        pass


def read_candidates(source: str) -> list[Any]:
    """Read candidates, one a line: JSON objects or strings where a line is JSON, else plain text.

    Raises:
        DataError: the file does not exist.
    """
    if source == "-":
        lines = sys.stdin.read().split("\n")
    else:
        path = Path(source)
        if not path.is_file():
            raise DataError(
                f"--candidates {source!r} does not exist; give a file with one candidate a line, or - for stdin"
            )
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise DataError(f"--candidates {source!r} is not UTF-8: {error}") from error
    found: list[Any] = []
    for line in lines:
        text = line.strip()
        if not text:
            continue
        if text[0] in '{"':
            try:
                found.append(json.loads(text))
                continue
            except json.JSONDecodeError:
                pass  # a text that only begins like JSON
        found.append(text)
    return found


def rank_file(ranker: Ranker, input: Path, output: Path | None, *, top_k: int | None, concurrency: int) -> None:
    """Rank the lists of a file as a stream, going on where an earlier run stopped.

    A line that was cut off while it was written is dropped and its list ranked again; no list is done or lost twice.

    Raises:
        DataError: the input is malformed, or the output holds rankings of other lists.
    """
    from unified_ranker.cli.data import read_file
    from unified_ranker.progress import track
    from unified_ranker.schema.finished import finished_ids
    from unified_ranker.schema.jsonl import dump_line

    if output is None:
        raise OptionError("--input needs --output FILE")
    if not input.is_file():
        raise DataError(f"--input {str(input)!r} does not exist")
    if not output.parent.is_dir():
        raise DataError(f"--output {str(output)!r}: the folder {str(output.parent)!r} does not exist; make it first")
    wanted = [example.id for example in read_file(input)]
    done = finished_ids(output)
    strangers = done - set(wanted)
    if strangers:
        raise DataError(
            f"--output {str(output)!r} holds a ranking of {min(strangers)!r}, which is not in {str(input)!r}; "
            "choose another file, or remove it"
        )
    total = len(wanted) - len(done)
    with output.open("a", encoding="utf-8") as file:
        rankings = ranker.rank_batch(_waiting(input, done), top_k=top_k, concurrency=concurrency)
        for ranking in track(rankings, total=total, description="ranking"):
            file.write(dump_line(ranking.to_dict()))
            file.flush()


def _waiting(input: Path, done: set[str]) -> Iterator[RankingExample]:
    from unified_ranker.cli.data import read_file

    seen: set[str] = set()
    for example in read_file(input):
        if example.id in seen:
            raise DataError(f"{input}: two lists have the id {example.id!r}; ids must differ")
        seen.add(example.id)
        if example.id not in done:
            yield example


def _show(ranking: Ranking, *, as_json: bool, trec: bool) -> None:
    from unified_ranker.cli.data import printable
    from unified_ranker.schema.jsonl import dump_line

    if as_json:
        print(dump_line(ranking.to_dict()), end="")
    elif trec:
        print(ranking.to_trec(), end="")
    else:
        for place in ranking:
            name = place.candidate.title or place.text
            print(printable(f"{place.rank}\t{place.id}\t{name}"))
