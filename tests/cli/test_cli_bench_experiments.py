from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_runs import build_task, graded, write_cell
from toy_tasks import build_toy
from unified_ranker.benchmarks import generic, thoughts
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.zero_shot import matrix, regimes
from unified_ranker.benchmarks.zero_shot import run as zero_shot
from unified_ranker.tasks import NINE

from unified_ranker.cli import bench

ITEMS = ("movie", "music", "game")
GRADES = {"a": 1.0, "b": 0.0, "c": 0.0}
BEST, WORST = ["a", "b", "c"], ["b", "c", "a"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the tasks of one domain, each of two lists of three."""
    made = tmp_path_factory.mktemp("built")
    for name in ITEMS:
        build_task(made, name, [graded(f"{name}{n}", GRADES, task=name) for n in range(2)])
    return made


def options_of(command: Any) -> set[str]:
    return {f"--{name.replace('_', '-')}" for name in signature(command).parameters}


# ----------------------------------------------------------------------------------------------------------- zero-shot


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let each regime rank without being trained, and return what the experiment was asked for."""
    found: list[dict[str, Any]] = []

    def run(chosen: Sequence[regimes.Regime], tasks: Sequence[BuiltTask], *, out: Path, say: Any, **rest: Any) -> Path:
        found.append({"regimes": [regime.name for regime in chosen], "tasks": [t.name for t in tasks], **rest})
        say("half way")
        for regime in chosen:
            for task in tasks:
                best = BEST if task.name in regime.tasks and regime.trained else WORST
                orders = {example.id: best for example in task.lists("test")}
                write_cell(out / "results", task, orders, model=regime.name, method="iranker")
        return out / "results"

    monkeypatch.setattr(zero_shot, "run_zero_shot", run)
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return what was drawn; nothing is."""
    found: list[tuple[Any, ...]] = []
    monkeypatch.setattr(matrix, "draw", lambda rows, path, *, metric: found.append((rows, path, metric)))
    return found


@pytest.mark.usefixtures("drawn")
def test_every_option_of_zero_shot_reaches_its_place(
    command: Command, trained: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = {
        "--out": tmp_path / "out",
        "--edition": "open",
        "--data": data,
        "--tasks": " music, movie ,",
        "--regimes": "movie-only, untrained",
        "--stages": "sft ,rl",
        "--recipe": "mine.yaml",
        "--rl-recipe": "my-rl.yaml",
        "--limit": "7",
        "--concurrency": "9",
        "--metric": "Success@1",
    }
    overrides = ("sft.tokens=500000", "rl.steps=40", "rl.verl.trainer.nnodes=2", "sft.optimizer.learning_rate=1e-3")
    result = command("bench", "zero-shot", *(part for pair in given.items() for part in pair), *overrides)
    assert result.code == 0, result.err
    assert trained == [
        {
            "regimes": ["movie-only", "untrained"],
            "tasks": ["music", "movie"],
            "data": data,
            "sft_recipe": "mine.yaml",
            "rl_recipe": "my-rl.yaml",
            "sft": ["tokens=500000", "optimizer.learning_rate=1e-3"],
            "rl": ["steps=40", "verl.trainer.nnodes=2"],
            "stages": ["sft", "rl"],
            "limit": 7,
            "concurrency": 9,
        }
    ]
    assert result.err == "half way\n"
    assert options_of(bench.zero_shot) - set(given) == {"--overrides"}


@pytest.mark.usefixtures("drawn")
def test_zero_shot_alone_takes_all_regimes_tasks_and_stages(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NINE:
        build_toy(tmp_path / "data" / "open", name, test=[[1, 0, 0]])
    monkeypatch.setattr("unified_ranker.benchmarks.report.load.load_results", lambda runs, *, data: [])
    asked: list[Any] = []
    monkeypatch.setattr(zero_shot, "run_zero_shot", lambda chosen, tasks, **rest: asked.append((chosen, tasks, rest)))
    (tmp_path / "out").mkdir()
    result = command("bench", "zero-shot", "--out", "out")
    assert result.code == 0, result.err
    ((chosen, tasks, rest),) = asked
    assert [regime.name for regime in chosen] == list(regimes.REGIMES)
    assert [task.name for task in tasks] == list(NINE)
    del rest["say"]
    assert rest == {
        "data": Path("data/open"),
        "out": Path("out"),
        "sft_recipe": "start-tiny",
        "rl_recipe": "iranker-tiny",
        "sft": [],
        "rl": [],
        "stages": ["sft", "rl"],
        "limit": None,
        "concurrency": 64,
    }


@pytest.mark.usefixtures("drawn")
def test_the_regime_of_all_tasks_can_be_named_alone(
    command: Command, trained: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = ("--data", data, "--tasks", ",".join(ITEMS), "--regimes", "all")
    assert command("bench", "zero-shot", "--out", tmp_path / "out", *given).code == 0
    assert [run["regimes"] for run in trained] == [["all"]]


def test_zero_shot_prints_the_matrix_and_leaves_it_as_a_table_as_figures_and_as_a_picture(
    command: Command, trained: list[dict[str, Any]], data: Path, drawn: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("--data", data, "--tasks", ",".join(ITEMS), "--regimes", "untrained,movie-only", "--metric", "Success@1")
    result = command("bench", "zero-shot", "--out", out, *given)
    assert result.code == 0, result.err
    assert result.out == (out / "matrix.md").read_text(encoding="utf-8")
    lines = result.out.splitlines()
    assert lines[0].startswith("Mean Success@1 over the three tasks of a domain")
    # One relevant of three: a third at random, and one task of three of the regime that saw films alone.
    assert lines[4:7] == [
        "| random order | .333 (.333 – .333) |  |  |",
        "| nothing | .000 (.000 – .000) |  |  |",
        "| movie only | .333 (.333 – .333) |  |  |",
    ]
    found = json.loads((out / "matrix.json").read_text(encoding="utf-8"))
    assert list(found) == ["random", "untrained", "movie-only"]
    assert list(found["movie-only"]) == ["recommendation", *ITEMS]
    assert found["movie-only"]["movie"] == {"mean": 1.0, "low": 1.0, "high": 1.0, "queries": 2}
    assert found["movie-only"]["recommendation"]["queries"] == 6
    ((rows, path, metric),) = drawn
    assert (list(rows), path, metric) == (["random", "untrained", "movie-only"], out / "matrix.png", "Success@1")


@pytest.mark.usefixtures("trained")
def test_zero_shot_draws_a_picture(command: Command, data: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    given = ("--data", data, "--tasks", ",".join(ITEMS), "--regimes", "all")
    result = command("bench", "zero-shot", "--out", tmp_path / "out", *given)
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "matrix.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tokens=5"], "'tokens=5': begin with sft. or rl., such as sft.tokens=500000"),
        (["sft"], "'sft': begin with sft. or rl."),
        (["sft."], "'sft.': begin with sft. or rl."),
        (["ppo.steps=3"], "'ppo.steps=3': begin with sft. or rl."),
        (["sft.tokens=5", "rltokens=5"], "'rltokens=5': begin with"),
        (["--regimes", "all-of-them"], "regime='all-of-them' is not known"),
        (["--regimes", "untraned"], "did you mean 'untrained'"),
        (["--tasks", "films"], "task='films' is not known"),
        (["--tasks", ","], "names no task"),
        (["--tasks", "passage-5"], "unified-ranker data build passage-5"),
        (["--edition", "paper"], "holds the edition open"),
    ],
)
def test_what_zero_shot_cannot_do_is_told_and_nothing_is_trained(
    arguments: list[str], words: str, command: Command, trained: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = [] if "--tasks" in arguments else ["--tasks", "movie"]
    result = command("bench", "zero-shot", "--out", tmp_path / "out", "--data", data, *given, *arguments)
    assert words in result.complaint()
    assert trained == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--stages", "rl"], "add sft"),
        (["--stages", "sfft"], "did you mean 'sft'"),
        (["sft.tokens"], "must be key=value"),
        (["sft.tokns=5"], "tokns is not known"),
        (["--recipe", "embeded"], "did you mean 'embedded'"),
    ],
)
def test_what_the_experiment_refuses_is_one_line(
    arguments: list[str], words: str, command: Command, data: Path, tmp_path: Path
) -> None:
    given = ("--data", data, "--tasks", "movie", "--regimes", "movie-only")
    assert words in command("bench", "zero-shot", "--out", tmp_path / "out", *given, *arguments).complaint()


def test_zero_shot_needs_a_folder(command: Command, data: Path) -> None:
    result = command("bench", "zero-shot", "--data", data)
    assert result.code == 2 and "--out" in result.err


@pytest.mark.parametrize("metric", ["rr", "performance"])
def test_a_measure_that_is_not_known_is_told_before_anything_is_trained(
    metric: str, command: Command, trained: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = ("--data", data, "--tasks", "movie", "--regimes", "all", "--metric", metric)
    assert metric in command("bench", "zero-shot", "--out", tmp_path / "out", *given).complaint()
    assert trained == []


def test_no_regime_is_told(command: Command, trained: list[dict[str, Any]], data: Path, tmp_path: Path) -> None:
    given = ("--data", data, "--tasks", "movie", "--regimes", ",")
    command("bench", "zero-shot", "--out", tmp_path / "out", *given).complaint()
    assert trained == []


# ------------------------------------------------------------------------------------------------------------ thoughts


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let nobody think, and return what the experiment was asked for."""
    found: list[dict[str, Any]] = []

    def run(thinker: Any, reader: Any, tasks: Sequence[BuiltTask], *, out: Path, say: Any, **rest: Any) -> Path:
        found.append({"thinker": thinker, "reader": reader, "tasks": [task.name for task in tasks], **rest})
        say("half way")
        for task in tasks:
            for name, order in (("mine", WORST), ("mine+thoughts", BEST)):
                orders = {example.id: order for example in task.lists("test")}
                write_cell(out / "results", task, orders, model=name, method="iranker")
        return out / "results"

    monkeypatch.setattr(thoughts, "run_thoughts", run)
    return found


def test_every_option_of_thoughts_reaches_its_place(
    command: Command, helped: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = {
        "--out": tmp_path / "out",
        "--thinker": "org/thinker",
        "--model": "org/reader",
        "--edition": "open",
        "--data": data,
        "--tasks": "music,movie",
        "--thought-count": "5",
        "--collect": "11",
        "--limit": "7",
        "--name": "mine",
        "--concurrency": "9",
        "--method": "iranker",
        "--option": "shuffles=3",
        "--backend": "vllm",
        "--backend-option": "base_url=x",
        "--layout": "rounds",
        "--max-tokens": "12",
        "--style": "compact",
        "--token-budget": "13",
        "--device": "cuda:1",
    }
    pairs = [part for pair in given.items() for part in pair]
    result = command("bench", "thoughts", *pairs, "--reasoning")
    assert result.code == 0, result.err
    shared = {
        "backend": "vllm",
        "backend_options": {"base_url": "x"},
        "max_tokens": 12,
        "token_budget": 13,
        "device": "cuda:1",
    }
    assert helped == [
        {
            "thinker": {"name_or_path": "org/thinker", **shared},
            "reader": {
                "name_or_path": "org/reader",
                "method": "iranker",
                "shuffles": 3,
                "layout": "rounds",
                "reasoning": True,
                "style": "compact",
                **shared,
            },
            "tasks": ["music", "movie"],
            "count": 5,
            "collect": 11,
            "limit": 7,
            "name": "mine",
            "concurrency": 9,
        }
    ]
    assert result.err == "half way\n"
    aliases = {"--count": "--thought-count"}
    assert {aliases.get(name, name) for name in options_of(bench.thoughts)} - set(given) == {"--reasoning"}


def test_what_is_not_given_for_thoughts_is_left_to_the_models(
    command: Command, helped: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = ("--thinker", "a", "--model", "b", "--data", data, "--tasks", "movie")
    assert command("bench", "thoughts", "--out", tmp_path / "out", *given).code == 0
    own = {"backend": "transformers", "backend_options": {}}
    assert helped == [
        {
            "thinker": {"name_or_path": "a", **own},
            "reader": {"name_or_path": "b", "reasoning": False, **own},
            "tasks": ["movie"],
            "count": 3,
            "collect": 200,
            "limit": None,
            "name": None,
            "concurrency": 64,
        }
    ]


@pytest.mark.usefixtures("helped")
def test_thoughts_prints_and_leaves_a_table_with_and_without_them(command: Command, data: Path, tmp_path: Path) -> None:
    given = ("--thinker", "a", "--model", "b", "--data", data, "--tasks", ",".join(ITEMS))
    result = command("bench", "thoughts", "--out", tmp_path / "out", *given)
    assert result.code == 0, result.err
    assert result.out == (tmp_path / "out" / "thoughts.md").read_text(encoding="utf-8")
    lines = result.out.splitlines()
    # The relevant one of three is last without thoughts, and first with them.
    third, whole = ".333 (.333 – .333)", "1.000 (1.000 – 1.000)"
    assert f"| mine/iranker | {third} | {third} | {third} |  |" in lines
    assert f"| mine+thoughts/iranker | {whole} | {whole} | {whole} |  |" in lines


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "films"], "task='films' is not known"),
        (["--tasks", "passage-5"], "unified-ranker data build passage-5"),
        (["--edition", "paper"], "holds the edition open"),
        (["--option", "shuffles"], "--option 'shuffles' is no key=value"),
        (["--option", "layout=rounds"], "give --layout instead"),
        (["--backend-option", "x"], "--backend-option 'x' is no key=value"),
    ],
)
def test_what_thoughts_cannot_do_is_told_and_nothing_is_thought(
    arguments: list[str], words: str, command: Command, helped: list[dict[str, Any]], data: Path, tmp_path: Path
) -> None:
    given = [] if "--tasks" in arguments else ["--tasks", "movie"]
    models = ("--thinker", "a", "--model", "b", "--data", data)
    result = command("bench", "thoughts", "--out", tmp_path / "out", *models, *given, *arguments)
    assert words in result.complaint()
    assert helped == []


@pytest.mark.parametrize("missing", ["--out", "--thinker", "--model"])
def test_thoughts_needs_a_folder_and_two_models(missing: str, command: Command, data: Path, tmp_path: Path) -> None:
    given = {"--out": tmp_path, "--thinker": "a", "--model": "b", "--data": data}
    result = command("bench", "thoughts", *(part for pair in given.items() if pair[0] != missing for part in pair))
    assert result.code == 2 and missing in result.err


def test_no_list_to_think_about_is_told(command: Command, data: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    given = ("--thinker", tmp_path / "a", "--model", tmp_path / "b", "--data", data, "--tasks", "movie")
    out = ("--out", tmp_path / "out")
    assert "collect=0 must be ≥ 1" in command("bench", "thoughts", *out, *given, "--collect", "0").complaint()
    assert "has no train lists" in command("bench", "thoughts", *out, *given).complaint()


# ------------------------------------------------------------------------------------------------------------- generic


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let nothing be evaluated, and return what was asked for."""
    found: list[Any] = []

    def run(models: list[str | None], tasks: list[str], *, out: Path, **rest: Any) -> list[dict[str, Any]]:
        found.append((models, tasks, {"out": out, **rest}))
        out.mkdir(parents=True, exist_ok=True)
        return [
            {"model": model or "tiny", "task": task, "measure": "acc", "value": 0.5, "standard_error": None}
            for model in models
            for task in tasks
        ]

    monkeypatch.setattr(generic, "run_generic", run)
    return found


def test_every_option_of_generic_reaches_its_place(command: Command, evaluated: list[Any], tmp_path: Path) -> None:
    given = {
        "--out": tmp_path / "out",
        "--tasks": "gsm8k, mathqa,",
        "--model": "org/base",
        "--limit": "7",
        "--batch-size": "9",
        "--include": tmp_path,
        "--device": "cuda:1",
    }
    pairs = [part for pair in given.items() for part in pair]
    result = command("bench", "generic", *pairs, "--model", "org/trained", "--run-code")
    assert result.code == 0, result.err
    rest = {
        "out": tmp_path / "out",
        "limit": 7,
        "batch_size": 9,
        "device": "cuda:1",
        "include": tmp_path,
        "run_code": True,
    }
    assert evaluated == [(["org/base", "org/trained"], ["gsm8k", "mathqa"], rest)]
    assert options_of(bench.generic) - set(given) == {"--run-code"}


def test_generic_alone_takes_the_embedded_model(command: Command, evaluated: list[Any], tmp_path: Path) -> None:
    assert command("bench", "generic", "--out", tmp_path / "out", "--tasks", "gsm8k").code == 0
    rest = {
        "out": tmp_path / "out",
        "limit": None,
        "batch_size": 8,
        "device": None,
        "include": None,
        "run_code": False,
    }
    assert evaluated == [([None], ["gsm8k"], rest)]


def test_published_means_the_tasks_of_the_papers_table(command: Command, evaluated: list[Any], tmp_path: Path) -> None:
    assert command("bench", "generic", "--out", tmp_path, "--tasks", "published").code == 0
    assert [tasks for _, tasks, _ in evaluated] == [
        ["gsm8k", "ifeval", "mathqa", "mmlu", "mbpp", "humaneval", "openbookqa", "hellaswag"]
    ]


@pytest.mark.usefixtures("evaluated")
def test_generic_prints_and_leaves_a_table(command: Command, tmp_path: Path) -> None:
    result = command("bench", "generic", "--out", tmp_path / "out", "--tasks", "gsm8k", "--model", "a", "--model", "b")
    assert result.out == (tmp_path / "out" / "generic.md").read_text(encoding="utf-8")
    assert result.out.splitlines() == [
        "| task | measure | a | b |",
        "|---|---|--:|--:|",
        "| gsm8k | acc | 0.500 | 0.500 |",
    ]


def test_generic_without_the_harness_is_told(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = command("bench", "generic", "--out", tmp_path, "--tasks", "gsm8k")
    assert "pip install 'unified-ranker[generic]'" in result.complaint()


@pytest.mark.parametrize("missing", ["--out", "--tasks"])
def test_generic_needs_a_folder_and_tasks(missing: str, command: Command, tmp_path: Path) -> None:
    given = {"--out": str(tmp_path), "--tasks": "gsm8k"}
    result = command("bench", "generic", *(part for pair in given.items() if pair[0] != missing for part in pair))
    assert result.code == 2 and missing in result.err
