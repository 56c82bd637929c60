from __future__ import annotations

import json
import sys
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_tasks import build_toy
from unified_ranker.benchmarks.speed import run as speed_run
from unified_ranker.benchmarks.speed.report import as_markdown
from unified_ranker.benchmarks.speed.run import SHORT, measure_speed

from unified_ranker.cli import bench


@pytest.fixture(scope="module")
def speed_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # No grade twice, so that no text stands in two lists.
    grades = [[4 * number + place for place in range(4)] for number in range(3)]
    return build_toy(tmp_path_factory.mktemp("data"), "passage-5", test=grades)


TINY = (
    "--task", "passage-5", "--backends", "transformers", "--queries", "2", "--candidates", "4", "--repeats", "2",
    "--growth", "3,6", "--growth-queries", "1", "--growth-repeats", "1",
)  # fmt: skip


def test_speed_is_measured_tabled_and_drawn(command: Command, speed_data: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "deep" / "out", tmp_path / "figures" / "speed.json"
    result = command("bench", "speed", "--data", speed_data, *TINY, "--out", out, "--json", figures)
    assert result.code == 0, result.err
    assert {path.name for path in out.iterdir()} == {"speed.json", "speed.md", "speed.png"}
    assert (out / "speed.md").read_text(encoding="utf-8") == result.out
    assert (out / "speed.json").read_bytes() == figures.read_bytes()
    assert (out / "speed.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(figures.read_text(encoding="utf-8"))
    assert set(found) == {"settings", "arms", "ratios", "ratios_spread", "growth"}
    assert as_markdown(found) == result.out
    numbers = {"queries": 2, "candidates": 4, "repeats": 2, "growth_queries": 1, "growth_repeats": 1}
    assert {key: found["settings"][key] for key in numbers} == numbers
    assert (found["settings"]["model"], found["settings"]["task"]) == ("embedded", "passage-5")
    assert {"torch", "transformers"} <= set(found["settings"])
    whole, steps, rounds = found["arms"]
    assert tuple(row["arm"] for row in (whole, steps, rounds)) == SHORT
    assert [row["calls"] for row in (whole, steps, rounds)] == [1, 3, 3]
    # Steps that append compute the prompt once, and a token for each label that was written.
    assert steps["prompt_tokens_computed"] == whole["prompt_tokens_computed"] + 2
    assert steps["prompt_tokens_reused"] > 0 == whole["prompt_tokens_reused"] == rounds["prompt_tokens_reused"]
    assert rounds["prompt_tokens_computed"] > steps["prompt_tokens_computed"]
    for row in (whole, steps, rounds):
        assert len(row["seconds"]) == 2
        assert 0 < row["rankings_per_second_low"] <= row["rankings_per_second"] <= row["rankings_per_second_high"]
        assert 0 < row["seconds_p50"] <= row["seconds_p95"] <= max(row["seconds"])
        assert 0 < row["RR"] <= 1 and 0 < row["nDCG@10"] <= 1
    assert (found["ratios"], found["ratios_spread"]) == ({}, {})
    assert [(entry["arm"], entry["sizes"]) for entry in found["growth"]] == [(name, [3, 6]) for name in SHORT[:2]]
    for entry in found["growth"]:
        assert 0 < entry["prompt_token_exponent"] < 1.2
        assert all(value > 0 for value in (*entry["seconds"], *entry["prompt_tokens"]))
    assert "| exponent | of time |" in result.out
    told = result.err.splitlines()
    assert "loading transformers" in told and "lists of 6 candidates" in told
    assert len([line for line in told if line.startswith("repeat ")]) == 3 * 2 + 2 * 2


RECORD: dict[str, Any] = {
    "settings": {"queries": 1, "candidates": 2, "task": "movie", "model": "embedded", "cores": 2, "repeats": 1},
    "arms": [],
    "ratios": {"over_floor": 1.5},
    "ratios_spread": {},
    "growth": [],
}


@pytest.fixture
def speed_calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what the measurement was asked for, which itself is left out."""
    found: list[dict[str, Any]] = []

    def measure(**given: Any) -> dict[str, Any]:
        found.append(given)
        given.pop("say")("half way")
        return RECORD

    monkeypatch.setattr(speed_run, "measure_speed", measure)
    return found


def test_every_option_of_speed_reaches_the_measurement(command: Command, speed_calls: list[dict[str, Any]]) -> None:
    given = {
        "--data": "somewhere",
        "--task": "game",
        "--model": "a folder",
        "--backends": " vllm-async, transformers ,",
        "--queries": "3",
        "--candidates": "7",
        "--repeats": "9",
        "--growth": "2, 4,8",
        "--growth-queries": "5",
        "--growth-repeats": "6",
        "--backend-option": "max_model_len=99",
    }
    pairs = [part for pair in given.items() for part in pair]
    result = command("bench", "speed", *pairs, "--backend-option", "enforce_eager=true")
    assert result.code == 0, result.err
    assert speed_calls == [
        {
            "data": Path("somewhere"),
            "task": "game",
            "model": "a folder",
            "backends": ["vllm-async", "transformers"],
            "queries": 3,
            "candidates": 7,
            "repeats": 9,
            "growth": [2, 4, 8],
            "growth_queries": 5,
            "growth_repeats": 6,
            "backend_options": {"max_model_len": 99, "enforce_eager": True},
        }
    ]
    assert {*speed_calls[0], "say"} == set(signature(measure_speed).parameters)
    options = {f"--{name.replace('_', '-')}" for name in signature(bench.speed).parameters}
    assert options - set(given) == {"--json-file", "--out"}
    assert (result.out, result.err) == (as_markdown(RECORD), "half way\n")


def test_speed_measures_every_backend_and_growth_by_default(
    command: Command, speed_calls: list[dict[str, Any]]
) -> None:
    command("bench", "speed")
    (given,) = speed_calls
    assert given == {
        "data": Path("data"),
        "task": "movie",
        "model": None,
        "backends": list(speed_run.BACKENDS),
        "queries": 64,
        "candidates": 20,
        "repeats": 5,
        "growth": [5, 10, 20, 50, 100, 200],
        "growth_queries": 4,
        "growth_repeats": 3,
        "backend_options": {},
    }


def test_figures_alone_are_written_where_they_are_asked_for(
    command: Command, speed_calls: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert command("bench", "speed", "--growth", "", "--json", tmp_path / "deep" / "all.json").code == 0
    assert speed_calls[0]["growth"] == []
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["all.json"]
    assert json.loads((tmp_path / "deep" / "all.json").read_text(encoding="utf-8")) == RECORD


def test_without_matplotlib_the_table_is_printed_or_nothing_is_measured(
    command: Command, speed_calls: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = command("bench", "speed", "--out", tmp_path / "out")
    assert result.code == 2
    assert "pip install 'unified-ranker[bench]'" in result.err
    assert speed_calls == [] or result.out == as_markdown(RECORD)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--growth", "5,x"], "--growth '5,x' must be whole numbers with commas between them"),
        (["--growth", "5,1.5"], "--growth '5,1.5' must be whole numbers"),
        (["--growth", "5"], "growth=[5] must hold at least two sizes"),
        (["--growth", "1,5"], "each ≥ 2"),
        (["--backends", "transformer"], "did you mean 'transformers'"),
        (["--backends", "openai"], "backends='openai' is not known"),
        (["--queries", "0"], "queries=0"),
        (["--queries", "4"], "has 3 test lists, not 4"),
        (["--candidates", "1"], "candidates=1"),
        (["--candidates", "13"], "only 12 different candidates, not 13"),
        (["--repeats", "0"], "repeats=0"),
        (["--growth-queries", "0"], "growth_queries=0"),
        (["--growth-repeats", "0"], "growth_repeats=0"),
        (["--task", "movie"], "unified-ranker data build movie"),
        (["--backend-option", "max_model_len"], "--backend-option 'max_model_len' is no key=value"),
    ],
)
def test_what_speed_cannot_measure_is_told(options: list[str], words: str, command: Command, speed_data: Path) -> None:
    assert words in command("bench", "speed", "--data", speed_data, *TINY, *options).complaint()
