from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from unified_ranker.benchmarks.runner import Cell
from unified_ranker.benchmarks.runner.cell import DECIDING, line_of

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, Ranking, Step, Usage

FACTS: dict[str, Any] = {
    "model": "toy",
    "method": "iranker",
    "task": "movie",
    "edition": "open",
    "split": "test",
    "settings": {"model_hash": "ab", "layout": "append"},
    "data_hash": "cd",
    "seed": 0,
    "queries": 2,
}
LINE = '{"id": "a", "wall": 1.0}\n'


@pytest.fixture
def cell(tmp_path: Path) -> Cell:
    return Cell.of(tmp_path, model="toy", method="iranker", task="movie")


@pytest.mark.parametrize(
    ("model", "method", "folder"),
    [
        ("tiny", "iranker", "tiny--iranker"),
        ("Qwen2.5-7B_it", "dranker", "Qwen2.5-7B_it--dranker"),
        ("org/name", "iranker", "org_name--iranker"),
        ("a b:c*?", "x\\y", "a_b_c__--x_y"),
        ("模型é", "m", "模型é--m"),
        (".hidden.", "m", "hidden--m"),
        ("..", "..", "_--_"),
        ("", "", "_--_"),
        ("../../etc", "/", "_.._etc--_"),
        ("line\nbreak\0", "m", "line_break_--m"),
    ],
)
def test_a_cell_stands_in_a_folder_that_any_name_can_have(model: str, method: str, folder: str, tmp_path: Path) -> None:
    cell = Cell.of(tmp_path / "run", model=model, method=method, task="trec-dl-2019")
    assert cell.path == tmp_path / "run" / folder / "trec-dl-2019.jsonl"
    assert cell.facts_path == tmp_path / "run" / folder / "trec-dl-2019.json"
    assert list(tmp_path.iterdir()) == []
    cell.write_facts({})
    assert Cell.all(tmp_path / "run") == [cell]


def test_the_cells_of_a_run_come_by_name_and_nothing_else_is_one(tmp_path: Path) -> None:
    names = [("b", "m", "movie"), ("a", "n", "movie"), ("a", "n", "game"), ("a", "m", "movie")]
    for model, method, task in names:
        Cell.of(tmp_path, model=model, method=method, task=task).write_facts({})
    for other in ("results.json", "pictures/rr.json", "b--m/game.json.part", "b--m/game.jsonl"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("{}", encoding="utf-8")
    found = [path.path.relative_to(tmp_path).as_posix() for path in Cell.all(tmp_path)]
    assert found == ["a--m/movie.jsonl", "a--n/game.jsonl", "a--n/movie.jsonl", "b--m/movie.jsonl"]


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_cells_is_told_with_the_command_that_fills_it(made: bool, tmp_path: Path) -> None:
    run = tmp_path / "run"
    if made:
        run.mkdir()
    with pytest.raises(DataError) as caught:
        Cell.all(run)
    assert f"bench run --out {run}" in str(caught.value)


def test_facts_read_back_and_the_newest_count(cell: Cell) -> None:
    cell.write_facts(FACTS)
    assert cell.facts == FACTS
    cell.write_facts({**FACTS, "queries": 3, "model": "模型"})
    assert cell.facts["queries"] == 3
    assert Cell(cell.path).facts["model"] == "模型"


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "\ufeff{}"])
def test_malformed_facts_are_told_with_what_to_do(text: str, cell: Cell) -> None:
    cell.path.parent.mkdir()
    cell.facts_path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        cell.check(FACTS)
    assert f"{cell.facts_path}: not JSON" in str(caught.value) and "run again" in str(caught.value)


def _half(path: Path, text: str, **_: Any) -> int:
    with path.open("w", encoding="utf-8") as file:
        file.write(text[: len(text) // 2])
    raise OSError("no space left on device")


def _never(path: Path, target: Path) -> Path:
    raise OSError("stopped before it was renamed")


@pytest.mark.parametrize(("step", "failing"), [("write_text", _half), ("replace", _never)])
def test_facts_are_replaced_whole_or_not_at_all(
    step: str, failing: Any, cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell.write_facts(FACTS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, failing)
        with pytest.raises(OSError):
            cell.write_facts({**FACTS, "queries": 99})
    assert Cell(cell.path).facts == FACTS
    assert Cell.all(cell.path.parents[1]) == [cell]
    cell.write_facts({**FACTS, "queries": 99})
    assert cell.facts["queries"] == 99
    assert [path.name for path in cell.path.parent.iterdir()] == ["movie.json"]


def test_facts_that_json_cannot_hold_leave_the_old_ones(cell: Cell) -> None:
    cell.write_facts(FACTS)
    with pytest.raises(TypeError):
        cell.write_facts({**FACTS, "queries": object()})
    assert Cell(cell.path).facts == FACTS


def test_what_decides_is_the_models_and_the_datas_identity() -> None:
    assert set(DECIDING) == {"model", "method", "task", "edition", "split", "settings", "data_hash"}


@pytest.mark.parametrize("name", DECIDING)
@pytest.mark.parametrize("gone", [True, False])
def test_what_decides_may_not_change_and_both_values_are_told(name: str, gone: bool, cell: Cell) -> None:
    cell.write_facts({key: value for key, value in FACTS.items() if not (gone and key == name)})
    now = {**FACTS, name: {"layout": "rounds"} if name == "settings" else "other"}
    before = None if gone else FACTS[name]
    with pytest.raises(DataError) as caught:
        cell.check(now)
    message = str(caught.value)
    assert message.startswith(f"{cell.path}: {name} was {before!r} and is {now[name]!r} now")
    assert all(way in message for way in ("--out", "--name", "--only-missing"))


def test_what_does_not_decide_may_change(cell: Cell) -> None:
    cell.write_facts(FACTS)
    cell.check({**FACTS, "seed": 7, "queries": 9, "versions": [{}], "data": "elsewhere"})


def test_facts_are_compared_as_json_has_them(cell: Cell) -> None:
    cell.write_facts({**FACTS, "settings": {"sizes": [1, 2], "table": {"3": 4}}})
    cell.check({**FACTS, "settings": {"sizes": (1, 2), "table": {3: 4}}})


def test_a_cell_that_was_not_begun_takes_any_facts(cell: Cell) -> None:
    cell.check(FACTS)


def test_rankings_without_facts_are_refused(cell: Cell) -> None:
    cell.path.parent.mkdir()
    cell.path.write_text(LINE, encoding="utf-8")
    with pytest.raises(DataError, match=r"holds rankings but movie\.json is gone"):
        cell.check(FACTS)


def test_lines_are_added_behind_those_that_stand_there(cell: Cell) -> None:
    for _ in range(2):
        with cell.adding() as file:
            file.write("é\n")
    assert cell.path.read_bytes() == "é\né\n".encode()


def test_records_pass_over_a_line_that_was_cut_off_and_adding_drops_it(cell: Cell) -> None:
    assert cell.records() == {}
    with cell.adding() as file:
        file.write(LINE + LINE[:9])
    assert cell.records() == {"a": {"id": "a", "wall": 1.0}}
    assert cell.path.read_text(encoding="utf-8") == LINE + LINE[:9]
    with cell.adding() as file:
        file.write('{"id": "b"}\n')
    assert list(cell.records()) == ["a", "b"]
    assert cell.path.read_text(encoding="utf-8") == LINE + '{"id": "b"}\n'


def test_a_line_holds_places_scores_steps_and_cost_without_texts_and_logprobs() -> None:
    ranking = Ranking(
        example_id="q1",
        order=(Candidate("x", "a long text", "title"), Candidate("ü", "another")),
        scores=(1.0, 0.0),
        steps=(Step(0, "B", "repaired", reason="why", chosen=("ü",), in_play=2, logprobs={"x": -1.0}, attempts=3),),
        usage=Usage(calls=3, prompt_tokens=30, reused_tokens=10, generated_tokens=4, repaired_steps=1, seconds=2.5),
        method="iranker",
    )
    line = line_of(ranking, wall=0.12345678)
    assert line.endswith("\n") and line.count("\n") == 1
    assert json.loads(line) == {
        "id": "q1",
        "ranking": ["x", "ü"],
        "scores": [1.0, 0.0],
        "steps": [
            {
                "index": 0,
                "outcome": "repaired",
                "reason": "why",
                "chosen": ["ü"],
                "in_play": 2,
                "reply": "B",
                "reasoning": "",
                "attempts": 3,
            }
        ],
        "usage": {
            "calls": 3,
            "prompt_tokens": 30,
            "computed_tokens": 20,
            "reused_tokens": 10,
            "generated_tokens": 4,
            "repaired_steps": 1,
            "failed_steps": 0,
            "truncated_candidates": 0,
            "dropped_history": 0,
            "truncated_queries": 0,
            "seconds": 2.5,
        },
        "wall": 0.123457,
    }
