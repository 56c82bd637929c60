"""``unified-ranker bench run``: rank tasks by models and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified_ranker.cli import options
from unified_ranker.cli.bench.arms import Methods, baseline_arms, model_arms
from unified_ranker.cli.bench.shared import open_tasks, say
from unified_ranker.errors import OptionError


def run(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run goes on in it.")],
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names; all for the nine.")] = "all",
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many lists of each task.")] = None,
    method: Methods = None,
    baselines: Annotated[
        str, typer.Option("--baselines", help="Comma-separated names; untrained, quick or all for a set of them.")
    ] = "",
    name: Annotated[str | None, typer.Option("--name", help="What the model is called in results.")] = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Leave finished cells alone, whatever made them.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell calls and prompt tokens; ask nothing.")] = False,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    seed: Annotated[int, typer.Option("--seed", help="Seed of baselines, and of sampling.")] = 0,
    scratch: Annotated[
        Path | None,
        typer.Option("--scratch", help="What baselines train; OUT/.scratch. Runs that share it train nothing twice."),
    ] = None,
    model: options.Model = None,
    option: options.MethodOptions = None,
    baseline_option: Annotated[
        list[str] | None,
        typer.Option("--baseline-option", help="key=value for the baseline, if --baselines names one; repeatable."),
    ] = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    layout: options.Layout = None,
    reasoning: options.Reasoning = False,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = None,
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
    """Rank the lists of tasks by a model's methods and by baselines; every list is saved as soon as it is done."""
    from unified_ranker.benchmarks.runner import run_benchmark
    from unified_ranker.benchmarks.runner.run import estimate_benchmark

    if concurrency < 1:
        raise OptionError(f"--concurrency {concurrency} must be ≥ 1")

    opened = open_tasks(tasks, data or Path("data") / edition, edition=edition)
    arguments = options.ranker_arguments(
        model,
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
    arms = [
        *model_arms(arguments, method, name=name, concurrency=concurrency),
        *baseline_arms(baselines, baseline_option or (), opened, seed=seed, scratch=scratch or out / ".scratch"),
    ]
    if not arms:
        raise OptionError("--method none and no --baselines: there is nothing to rank by")
    if dry_run:
        costs = estimate_benchmark(arms, opened, out=out, split=split, limit=limit)
        for cost in costs:
            found = cost.estimate
            shown = f"{found.calls:,} calls, {found.prompt_tokens:,} prompt tokens" if found.calls else "no calls"
            at_most = "" if found.exact else " (about: replies decide what is asked next)"
            print(f"{cost.task}: {cost.model} by {cost.method}: {cost.missing} lists missing, {shown}{at_most}")
        return
    run_benchmark(arms, opened, out=out, split=split, limit=limit, seed=seed, only_missing=only_missing, say=say)
