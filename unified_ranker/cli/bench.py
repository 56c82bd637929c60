"""``unified-ranker bench``: measure models and baselines on built tasks, and report what was measured."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unified_ranker.cli import options
from unified_ranker.errors import OptionError, unknown_choice

if TYPE_CHECKING:
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.benchmarks.runner import Arm

app = typer.Typer(help="Measure rankers.", no_args_is_help=True)

Runs = Annotated[list[Path], typer.Argument(help="Folders that bench run wrote.", metavar="RUN...")]
Metric = Annotated[str, typer.Option("--metric", help="A measure, such as RR or nDCG@10.")]
BuiltData = Annotated[
    Path | None, typer.Option("--data", help="Folder of built tasks, if it is not where the run found it.")
]


@app.callback()
def _bench() -> None:
    """Measure rankers."""


@app.command()
def run(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an interrupted run goes on in it.")],
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names; all for the nine.")] = "all",
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many lists of each task.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", help="Comma-separated methods; none for baselines alone.")
    ] = None,
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
    run_benchmark(arms, opened, out=out, split=split, limit=limit, seed=seed, only_missing=only_missing, say=_say)


@app.command()
def report(
    runs: Runs,
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
        if metric not in result.values:
            raise unknown_choice("metric", metric, result.values)
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


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="A name as reports show it, such as tiny/iranker or bm25.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    runs: Annotated[list[Path], typer.Option("--run", help="A folder that bench run wrote; repeatable.")],
    data: BuiltData = None,
    task: Annotated[str | None, typer.Option("--task", help="Only this task.")] = None,
    metric: Metric = "RR",
    top: Annotated[int, typer.Option("--top", help="How many lists of either kind to show.")] = 5,
) -> None:
    """Show the lists on which two differ most, each with the first places of both."""
    from unified_ranker.benchmarks.report.differences import differences
    from unified_ranker.benchmarks.report.load import load_results, named

    if top < 1:
        raise OptionError(f"--top {top} must be ≥ 1")
    results = [result for result in load_results(runs, data=data) if task is None or result.task.name == task]
    if not results:
        raise OptionError(f"--task {task!r} is in none of the runs")
    found = differences(named(results, first), named(results, second), metric=metric)
    better = [entry for entry in found if entry.first != entry.second]
    print(f"{len(found)} lists; {first} and {second} differ in {metric} on {len(better)}")
    ahead = [entry for entry in found[:top] if entry in better]
    behind = [entry for entry in reversed(found[-top:]) if entry in better and entry not in ahead]
    for entry in (*ahead, *behind):
        _show_difference(entry, first, second, metric)


def _show_difference(entry: Any, first: str, second: str, metric: str) -> None:
    from unified_ranker.cli.data import printable

    example = entry.example
    print(printable(f"\n{entry.task}, {example.id}: {example.query}"))
    if example.context:
        print(printable(f"  history: {' · '.join(example.context)}"))
    names = {candidate.id: candidate.called for candidate in example.candidates}
    for name, value, order in ((first, entry.first, entry.orders[0]), (second, entry.second, entry.orders[1])):
        print(f"  {name}: {metric} {value:.3f}")
        for place, id in enumerate(order[:5], start=1):
            mark = "*" if id in entry.relevant else " "
            print(printable(f"   {place} {mark} {names[id][:100]}"))


@app.command(name="zero-shot")
def zero_shot(
    out: Annotated[Path, typer.Option("--out", help="Folder of the experiment; an interrupted one goes on in it.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="sft.KEY=VALUE or rl.KEY=VALUE for the recipes, such as sft.tokens=500000 rl.steps=40."),
    ] = None,
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="What to test on; all for the nine.")] = "all",
    regimes: Annotated[str, typer.Option("--regimes", help="Comma-separated: what each model is trained on.")] = "all",
    stages: Annotated[str, typer.Option("--stages", help="sft, or sft,rl.")] = "sft,rl",
    recipe: Annotated[str, typer.Option("--recipe", help="Recipe of supervised training.")] = "start-tiny",
    rl_recipe: Annotated[str, typer.Option("--rl-recipe", help="Recipe of reinforcement learning.")] = "iranker-tiny",
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many test lists of a task.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    metric: Metric = "RR",
) -> None:
    """Train without a domain, test on it: all regimes by the same recipe and budget, one matrix of the outcome."""
    from unified_ranker.benchmarks.outcome import EFFECTIVENESS
    from unified_ranker.benchmarks.report.load import load_results
    from unified_ranker.benchmarks.zero_shot.matrix import as_markdown, draw, matrix
    from unified_ranker.benchmarks.zero_shot.regimes import REGIMES, regime_named
    from unified_ranker.benchmarks.zero_shot.run import run_zero_shot

    if metric not in EFFECTIVENESS:
        raise unknown_choice("metric", metric, EFFECTIVENESS)
    folder = data or Path("data") / edition
    chosen = list(REGIMES.values()) if regimes == "all" else [regime_named(name) for name in _names(regimes)]
    if not chosen:
        raise OptionError(f"--regimes {regimes!r} names none")
    own: dict[str, list[str]] = {"sft": [], "rl": []}
    for override in overrides or ():
        part, _, rest = override.partition(".")
        if part not in own or not rest:
            raise OptionError(f"{override!r}: begin with sft. or rl., such as sft.tokens=500000")
        own[part].append(rest)
    results = run_zero_shot(
        chosen,
        open_tasks(tasks, folder, edition=edition),
        data=folder,
        out=out,
        sft_recipe=recipe,
        rl_recipe=rl_recipe,
        sft=own["sft"],
        rl=own["rl"],
        stages=_names(stages),
        limit=limit,
        concurrency=concurrency,
        say=_say,
    )
    found = matrix(load_results([results], data=folder), metric=metric)
    text = as_markdown(found, metric=metric)
    (out / "matrix.md").write_text(text, encoding="utf-8")
    plain = {name: {column: asdict(figure) for column, figure in row.items()} for name, row in found.items()}
    (out / "matrix.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    print(text, end="")
    draw(found, out / "matrix.png", metric=metric)


@app.command()
def thoughts(
    out: Annotated[Path, typer.Option("--out", help="Folder of the experiment; an interrupted one goes on in it.")],
    thinker: Annotated[str, typer.Option("--thinker", help="Folder or hub name of the ranker whose thoughts help.")],
    model: Annotated[str, typer.Option("--model", help="Folder or hub name of the model that gets them.")],
    edition: Annotated[str, typer.Option("--edition", help="Edition of the data: open or paper.")] = "open",
    data: Annotated[Path | None, typer.Option("--data", help="Folder of built tasks; data/EDITION.")] = None,
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names; all for the nine.")] = "all",
    count: Annotated[int, typer.Option("--thought-count", help="Thoughts in a prompt.")] = 3,
    collect: Annotated[int, typer.Option("--collect", help="Training lists of each task to think about.")] = 200,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many test lists of a task.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the model is called in results.")] = None,
    concurrency: Annotated[int, typer.Option("--concurrency", help="Lists that are ranked at the same time.")] = 64,
    method: options.Method = None,
    option: options.MethodOptions = None,
    backend: options.BackendName = "transformers",
    backend_option: options.BackendOptions = None,
    layout: options.Layout = None,
    reasoning: options.Reasoning = False,
    max_tokens: options.MaxTokens = None,
    style: options.Style = None,
    token_budget: options.TokenBudget = None,
    device: options.Device = None,
) -> None:
    """Put a ranker's thoughts on similar training queries into another model's prompts, and measure what it gains."""
    from unified_ranker.benchmarks.report.load import by_task, load_results
    from unified_ranker.benchmarks.report.markdown import as_markdown
    from unified_ranker.benchmarks.report.significance import compare_all
    from unified_ranker.benchmarks.thoughts import run_thoughts

    shared: dict[str, Any] = {
        "backend": backend,
        "backend_options": backend_option,
        "max_tokens": max_tokens,
        "token_budget": token_budget,
        "device": device,
    }
    reader = options.ranker_arguments(
        model, method=method, method_options=option, layout=layout, reasoning=reasoning, style=style, **shared
    )
    folder = data or Path("data") / edition
    results = run_thoughts(
        options.ranker_arguments(thinker, **shared),
        reader,
        open_tasks(tasks, folder, edition=edition),
        out=out,
        count=count,
        collect=collect,
        limit=limit,
        name=name,
        concurrency=concurrency,
        say=_say,
    )
    found = load_results([results], data=folder)
    text = as_markdown(found, {key: compare_all(rows) for key, rows in by_task(found).items()})
    (out / "thoughts.md").write_text(text, encoding="utf-8")
    print(text, end="")


@app.command()
def generic(
    out: Annotated[Path, typer.Option("--out", help="Folder of the results; what is there is not computed again.")],
    tasks: Annotated[str, typer.Option("--tasks", help="Comma-separated names of lm-evaluation-harness; published.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="Folder or hub name; repeatable; the embedded model.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Only the first so many questions, to try out.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions that are computed at once.")] = 8,
    include: Annotated[Path | None, typer.Option("--include", help="Folder of further tasks.")] = None,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="Let tasks run what the model wrote, on this machine.")
    ] = False,
    device: options.Device = None,
) -> None:
    """Evaluate models on tasks that are no ranking, through lm-evaluation-harness."""
    from unified_ranker.benchmarks.generic import PUBLISHED, as_markdown, run_generic

    names = list(PUBLISHED) if tasks == "published" else _names(tasks)
    models: list[str | None] = [*model] if model else [None]
    rows = run_generic(
        models, names, out=out, limit=limit, batch_size=batch_size, device=device, include=include, run_code=run_code
    )
    text = as_markdown(rows)
    (out / "generic.md").write_text(text, encoding="utf-8")
    print(text, end="")


def open_tasks(names: str, data: Path, *, edition: str) -> list[BuiltTask]:
    """Open tasks by their names, comma-separated; ``all`` for the nine.

    Raises:
        OptionError: a task is not known, or is of another edition.
        MissingSourceError: a task was not built.
    """
    from unified_ranker.benchmarks.built import BuiltTask
    from unified_ranker.tasks.base import EDITIONS
    from unified_ranker.tasks.registry import NINE

    if edition not in EDITIONS:
        raise unknown_choice("edition", edition, EDITIONS)
    tasks = [BuiltTask.open(data, name) for name in (NINE if names == "all" else _names(names))]
    for task in tasks:
        if task.card["edition"] != edition:
            raise OptionError(f"--edition {edition}: {str(task.folder)!r} holds the edition {task.card['edition']}")
    if not tasks:
        raise OptionError(f"--tasks {names!r} names no task")
    return tasks


def model_arms(arguments: dict[str, Any], methods: str | None, *, name: str | None, concurrency: int) -> list[Arm]:
    """Return an arm a method, all with one loaded model; none for ``methods`` ``"none"``."""
    from unified_ranker.benchmarks.runner import ModelArm

    if methods == "none":
        return []
    wanted: list[str | None] = [*_names(methods)] if methods else [None]
    arms: list[ModelArm] = []
    for method in wanted:
        share = arms[0] if arms else None
        arms.append(ModelArm(arguments, method=method, name=name, concurrency=concurrency, share=share))
    return [*arms]


def baseline_arms(
    names: str, given: list[str] | tuple[str, ...], tasks: list[BuiltTask], *, seed: int, scratch: Path
) -> list[Arm]:
    """Return an arm a baseline; of a set, those that apply to one of the tasks at least.

    Raises:
        OptionError: a baseline or an option is not known, or options come with several baselines.
    """
    from unified_ranker.benchmarks.baselines.registry import SETS, baseline_named
    from unified_ranker.benchmarks.runner import BaselineArm

    own = options.parse_pairs(given, flag="--baseline-option")
    wanted = [found for name in _names(names) for found in SETS.get(name, (name,))]
    if own and len(wanted) != 1:
        raise OptionError("--baseline-option goes with one baseline; run the others by a command of their own")
    arms = []
    for name in dict.fromkeys(wanted):
        arm = BaselineArm(baseline_named(name, **own), seed=seed, scratch=scratch, options=own)
        if any(not arm.refuses(task) for task in tasks) or name in _names(names):
            arms.append(arm)
    return [*arms]


@app.command()
def speed(
    data: Annotated[Path, typer.Option("--data", help="Folder of built tasks.")] = Path("data"),
    task: Annotated[str, typer.Option("--task", help="Whose lists are ranked.")] = "movie",
    model: Annotated[str | None, typer.Option("--model", help="A folder; the embedded model by default.")] = None,
    backends: Annotated[
        str, typer.Option("--backends", help="Comma-separated; references and ratios need vllm.")
    ] = "vllm,vllm-async,transformers",
    queries: Annotated[int, typer.Option("--queries", help="How many lists.")] = 64,
    candidates: Annotated[int, typer.Option("--candidates", help="How many candidates each has.")] = 20,
    repeats: Annotated[int, typer.Option("--repeats", help="How often each arm runs.")] = 5,
    growth: Annotated[
        str, typer.Option("--growth", help="Comma-separated sizes of lists for the growth of cost; empty for none.")
    ] = "5,10,20,50,100,200",
    growth_queries: Annotated[int, typer.Option("--growth-queries", help="Lists of each size.")] = 4,
    growth_repeats: Annotated[int, typer.Option("--growth-repeats", help="Repeats at each size.")] = 3,
    backend_option: options.BackendOptions = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where to write all figures.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for speed.json, speed.md and speed.png.")] = None,
) -> None:
    """Compare strategies, layouts and backends with the published loops: speed, tokens and effectiveness."""
    from unified_ranker.benchmarks.speed.report import as_markdown, draw
    from unified_ranker.benchmarks.speed.run import measure_speed

    found = measure_speed(
        data=data,
        task=task,
        model=model,
        backends=_names(backends),
        queries=queries,
        candidates=candidates,
        repeats=repeats,
        growth=_sizes(growth),
        growth_queries=growth_queries,
        growth_repeats=growth_repeats,
        backend_options=options.parse_pairs(backend_option or (), flag="--backend-option"),
        say=_say,
    )
    text, table = json.dumps(found, indent=1) + "\n", as_markdown(found)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(text, encoding="utf-8")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "speed.json").write_text(text, encoding="utf-8")
        (out / "speed.md").write_text(table, encoding="utf-8")
    # The picture comes last: it alone can fail when all is measured, for want of a package.
    print(table, end="")
    if out is not None:
        draw(found, out / "speed.png")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _sizes(text: str) -> list[int]:
    try:
        return [int(size) for size in _names(text)]
    except ValueError as error:
        raise OptionError(f"--growth {text!r} must be whole numbers with commas between them") from error
