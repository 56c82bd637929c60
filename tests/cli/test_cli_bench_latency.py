"""``unified-ranker bench latency``: what reaches the measurement, and what is written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_tasks import build_toy
from unified_ranker.benchmarks.runner import ModelArm
from unified_ranker.benchmarks.speed import latency as module
from unified_ranker.benchmarks.speed.latency import Waited

from unified_ranker.backends import ScriptedBackend
from unified_ranker.cli.bench.latency import latency
from unified_ranker.model_settings import ModelSettings, read_settings, write_settings

GRADES = [[20 * number + place for place in range(4)] for number in range(6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = build_toy(tmp_path_factory.mktemp("data"), "passage-5", test=GRADES)
    return build_toy(made, "movie", test=GRADES)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    write_settings(folder, ModelSettings())
    return folder


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Let a script stand in for models, and return how each was loaded."""
    found: list[dict[str, Any]] = []

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        found.append({"backend": name, "model": Path(model).name, **options})
        backend = ScriptedBackend(lambda request: request.choices[-1])
        backend.settings = read_settings(model)  # type: ignore[attr-defined]
        return backend

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Note what is to be measured, and measure it."""
    found: list[dict[str, Any]] = []
    real = module.measure_latency

    def measure(arms: Any, task: Any, examples: Sequence[Any], **rest: Any) -> list[Waited]:
        found.append({"arms": arms, "task": task.name, "examples": examples, **rest})
        return real(arms, task, examples, **rest)

    monkeypatch.setattr(module, "measure_latency", measure)
    return found


def test_every_option_reaches_its_place(
    command: Command,
    data: Path,
    model: Path,
    tmp_path: Path,
    loaded: list[dict[str, Any]],
    measured: list[dict[str, Any]],
) -> None:
    given = {
        "--data": data,
        "--task": "passage-5",
        "--lists": 3,
        "--candidates": 4,
        "--warm-up": 2,
        "--threads": 1,
        "--method": "iranker",
        "--baselines": "tf-idf,bm25",
        "--model": model,
        "--option": "layout=rounds",
        "--backend": "vllm",
        "--backend-option": "max_model_len=99",
        "--dtype": "float32",
        "--device": "cpu",
        "--json": tmp_path / "deep" / "found.json",
    }
    names = {
        "--json" if name == "json_file" else f"--{name.replace('_', '-')}" for name in signature(latency).parameters
    }
    assert names == set(given)
    done = command("bench", "latency", *(word for pair in given.items() for word in pair))
    assert done.code == 0, done.err
    (asked,) = measured
    assert (asked["task"], asked["warm_up"], asked["threads"], len(asked["examples"])) == ("passage-5", 2, 1, 5)
    assert {len(example.candidates) for example in asked["examples"]} == {4}
    assert [arm.model for arm in asked["arms"]] == ["mine", "tf-idf", "bm25"]
    arm = asked["arms"][0]
    assert isinstance(arm, ModelArm) and arm._arguments["layout"] == "rounds"
    assert loaded == [{"backend": "vllm", "model": "mine", "max_model_len": 99, "dtype": "float32", "device": "cpu"}]
    assert done.out.startswith("3 lists of 4 candidates (passage-5), each alone, by all in turn; ")
    assert "times as long as tf-idf" in done.out
    record = json.loads((tmp_path / "deep" / "found.json").read_text(encoding="utf-8"))
    assert [arm["name"] for arm in record["arms"]] == ["mine by iranker", "tf-idf", "bm25"]
    assert all(len(arm["seconds"]) == 3 and min(arm["seconds"]) > 0 for arm in record["arms"])
    assert record["arms"][0]["settings"]["layout"] == "rounds" and "model_hash" in record["arms"][0]["settings"]
    assert record["lists"] == ["test2", "test3", "test4"]
    assert (record["task"], record["candidates"], record["warm_up"], record["threads"]) == ("passage-5", 4, 2, 1)


def test_several_methods_are_timed_side_by_side(command: Command, data: Path, model: Path) -> None:
    done = command(
        *(
            "bench",
            "latency",
            "--data",
            data,
            "--model",
            model,
            "--method",
            "iranker,setwise",
            "--baselines",
            "",
        ),
        *("--lists", 3, "--warm-up", 0, "--candidates", 4),
    )
    assert done.code == 0, done.err
    assert [line.split(" | ")[0] for line in done.out.splitlines()[4:]] == ["| mine by iranker", "| mine by setwise"]
    assert "times as long" not in done.out


def test_a_ratio_to_a_baseline_alone_needs_no_model(command: Command, data: Path, loaded: list[dict[str, Any]]) -> None:
    done = command(
        *("bench", "latency", "--data", data, "--method", "none", "--baselines", "bm25,tf-idf"),
        *("--lists", 2, "--warm-up", 1, "--candidates", 4),
    )
    assert done.code == 0, done.err
    assert "times as long as bm25" in done.out
    assert loaded == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--lists", 0), "--lists 0 must be ≥ 1"),
        (("--warm-up", -1), "--warm-up -1 must be ≥ 0"),
        (("--candidates", 1), "--candidates 1 must be ≥ 2"),
        (("--threads", 0), "threads=0 must be ≥ 1"),
        (("--lists", 6), "has 6 test lists, not 7"),
        (("--candidates", 99), "different candidates, not 99"),
        (("--task", "moive"), "did you mean 'movie'"),
        (("--baselines", "bm52"), "did you mean 'bm25'"),
        (("--baselines", "knn-router"), "knn-router does not rank 'movie': knn-router is for routing"),
        (("--method", "none", "--baselines", ""), "nothing to time"),
        (("--method", "iranker,iranker"), "'mine by iranker' is there 2 times"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_timed_is_told_in_a_line(
    command: Command, data: Path, model: Path, given: tuple[Any, ...], said: str
) -> None:
    small = {"--lists": 2, "--warm-up": 1, "--candidates": 4, "--baselines": "bm25", "--model": model}
    small |= dict(zip(given[::2], given[1::2], strict=True))
    done = command("bench", "latency", "--data", data, *(word for pair in small.items() for word in pair))
    assert done.code == 2 and said in done.err
