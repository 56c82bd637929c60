from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command
from toy_tasks import build_toy
from unified_ranker.tasks import NINE

GRADES = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0, 0]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    build_toy(tmp_path / "data", "passage-5", test=GRADES, validation=GRADES[:2])
    return build_toy(tmp_path / "data", "movie", test=GRADES[:3])


def test_json_is_one_row_a_task(command: Command, data: Path, tiny_model: Path) -> None:
    given = ("bench", "run", "--tasks", "passage-5, movie", "--data", data, "--model", tiny_model, "--json")
    result = command(*given)
    assert result.code == 0, result.err
    rows = json.loads(result.out)
    assert [(row["task"], row["queries"], row["split"]) for row in rows] == [
        ("passage-5", 4, "test"),
        ("movie", 3, "test"),
    ]
    for row in rows:
        assert 0 <= row["RR_low"] <= row["RR"] <= row["RR_high"] <= 1
        assert row["failed_share"] == 0
        assert row["prompt_tokens"] > 0
    assert rows[1]["random_RR"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)
    assert rows[0]["calls"] == pytest.approx((2 + 2 + 2 + 3) / 4)


def test_a_table_is_printed_and_progress_stays_off_stdout(
    command: Command, data: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = command("bench", "run", "--tasks", "movie", "--data", data, "--model", tiny_model)
    header, _, row = result.out.splitlines()
    assert header.startswith("| task | method |")
    assert row.startswith("| movie | iranker | 3 |")
    assert "3/3" in result.err


def test_out_keeps_rankings_and_tables(command: Command, data: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    given = ("bench", "run", "--tasks", "passage-5,movie", "--data", data, "--model", tiny_model, "--out", out)
    result = command(*given)
    assert {path.name for path in out.iterdir()} == {"passage-5.jsonl", "movie.jsonl", "results.json", "results.md"}
    assert (out / "results.md").read_text(encoding="utf-8") == result.out
    assert [row["task"] for row in json.loads((out / "results.json").read_text(encoding="utf-8"))] == [
        "passage-5",
        "movie",
    ]
    ids = [json.loads(line)["id"] for line in (out / "movie.jsonl").read_text(encoding="utf-8").splitlines()]
    assert ids == ["test0", "test1", "test2"]


def test_what_is_done_is_kept_where_a_later_task_fails(
    command: Command, data: Path, tiny_model: Path, tmp_path: Path
) -> None:
    given = ("--data", data, "--model", tiny_model, "--out", tmp_path / "out")
    assert "data build game" in command("bench", "run", "--tasks", "movie,game", *given).complaint()
    rows = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert [row["task"] for row in rows] == ["movie"]


@pytest.mark.parametrize(
    ("options", "split", "queries"),
    [
        (["--limit", "2"], "test", 2),
        (["--split", "validation"], "validation", 2),
        (["--split", "validation", "--limit", "1"], "validation", 1),
    ],
)
def test_limit_and_split_choose_the_lists(
    options: list[str], split: str, queries: int, command: Command, data: Path, tiny_model: Path
) -> None:
    given = ("bench", "run", "--tasks", "passage-5", "--data", data, "--model", tiny_model, "--json", *options)
    (row,) = json.loads(command(*given).out)
    assert (row["split"], row["queries"]) == (split, queries)


def test_options_of_the_ranker_reach_it(command: Command, data: Path, tiny_model: Path) -> None:
    def row(*options: str) -> dict[str, object]:
        given = ("bench", "run", "--tasks", "movie", "--data", data, "--model", tiny_model, "--json", *options)
        (found,) = json.loads(command(*given).out)
        return dict(found)

    assert row("--method", "dranker")["method"] == "dranker"
    assert row("--method", "dranker")["calls"] == 1
    assert row("--layout", "rounds")["reused_tokens"] == 0
    assert row("--style", "compact")["prompt_tokens"] != row()["prompt_tokens"]


def test_all_means_the_nine(command: Command, tmp_path: Path, tiny_model: Path) -> None:
    data = tmp_path / "data"
    for name in NINE:
        build_toy(data, name, test=GRADES[:1])
    rows = json.loads(command("bench", "run", "--data", data, "--model", tiny_model, "--json").out)
    assert [row["task"] for row in rows] == list(NINE)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tasks", "movei"], "did you mean 'movie'"),
        (["--tasks", "movie,"], "task=''"),
        (["--tasks", "game"], "unified-ranker data build game"),
        (["--tasks", "movie", "--split", "tset"], "tset"),
        (["--tasks", "movie", "--split", "validation"], "movie"),
        (["--tasks", "movie", "--limit", "0"], "limit"),
        (["--tasks", "movie", "--limit", "-1"], "limit"),
        (["--tasks", "movie", "--method", "irankr"], "did you mean 'iranker'"),
        (["--tasks", "movie", "--backend", "transformer"], "did you mean 'transformers'"),
    ],
)
def test_what_cannot_be_measured_is_told(
    options: list[str], words: str, command: Command, data: Path, tiny_model: Path
) -> None:
    assert words in command("bench", "run", "--data", data, "--model", tiny_model, *options).complaint()
