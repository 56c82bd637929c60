"""``unified-ranker bench latency``: how long one list waits, beside what a baseline takes for it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.arms import Methods, baseline_arms, model_arms
from unified_ranker.errors import OptionError


def latency(
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    task: Annotated[str, typer.Option("--task", help="Whose lists are ranked.")] = "movie",
    lists: Annotated[int, typer.Option("--lists", help="How many test lists are timed.")] = 90,
    candidates: Annotated[int, typer.Option("--candidates", help="How many candidates each has.")] = 20,
    warm_up: Annotated[int, typer.Option("--warm-up", help="Lists that are ranked before any is timed.")] = 5,
    threads: Annotated[int | None, typer.Option("--threads", help="Threads of torch, if not its own choice.")] = None,
    method: Methods = None,
    baselines: Annotated[
        str, typer.Option("--baselines", help="Comma-separated names; ratios are to the first.")
    ] = "minilm",
    model: options.Model = None,
    option: options.MethodOptions = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    dtype: options.Dtype = None,
    device: options.Device = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write the seconds of each list.")] = None,
) -> None:
    """Rank lists one by one, by a model and by baselines in turn, and tell how long each list took.

    Baselines run on the CPU, whatever --device says; a server keeps the cache that it has.
    """
    import torch

    for flag, value, least in (("--lists", lists, 1), ("--warm-up", warm_up, 0), ("--candidates", candidates, 2)):
        if value < least:
            raise OptionError(f"{flag} {value} must be ≥ {least}")
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.benchmarks.speed.latency import latency_table, measure_latency
    from unified_ranker.benchmarks.speed.lists import speed_lists

    opened = BuiltTask.open(data, task)
    examples = speed_lists(data, task, queries=lists + warm_up, candidates=candidates)
    arguments = options.ranker_arguments(
        model,
        backend=backend,
        backend_options=backend_option,
        method_options=option,
        dtype=dtype,
        device=device,
    )
    with tempfile.TemporaryDirectory(prefix="unified-ranker-") as scratch:
        models = model_arms(arguments, method, name=None, concurrency=1)
        arms = models + baseline_arms(baselines, (), [opened], seed=0, scratch=Path(scratch))
        found = measure_latency(arms, opened, examples, warm_up=warm_up, threads=threads)
    shown = threads or torch.get_num_threads()
    print(
        f"{lists} lists of {candidates} candidates ({task}), each alone, by all in turn; {os.cpu_count()} cores, "
        f"{shown} thread{'s' if shown > 1 else ''} of torch\n"
    )
    print(latency_table(found, reference=next(iter(found[len(models) :]), None)), end="")
    if json_file is not None:
        record = {
            "task": task,
            "candidates": candidates,
            "warm_up": warm_up,
            "lists": [example.id for example in examples[warm_up:]],
            "cores": os.cpu_count(),
            "threads": shown,
            "arms": [
                {"name": waited.name, "settings": dict(arm.settings(opened)), "seconds": list(waited.seconds)}
                for arm, waited in zip(arms, found, strict=True)
            ],
        }
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
