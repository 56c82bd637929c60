from __future__ import annotations

import builtins
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import MissingExtraError
from unified_ranker.training.rl.watch import draw, line_of, read_logs, validation_of


def log(folder: Path, name: str, records: list[tuple[int, Mapping[str, Any]]], *, torn: str = "") -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) + "\n" for step, data in records]
    (folder / name).write_text("".join(lines) + torn, encoding="utf-8")


VALIDATION = {
    "val-core/movie/rr/mean@1": 0.5,
    "val-core/passage-5/rr/mean@1": 0.25,
    "val-aux/movie/step_reward/mean@1": 0.75,
    "val-aux/movie/reward/mean@1": 3.0,
    "val-aux/movie/rr/best@4/mean": 0.9,
    "val-aux/num_turns/mean": 4.0,
    "val-core/movie/rr/std@1": 0.1,
}


def test_the_log_is_read_by_step(tmp_path: Path) -> None:
    log(tmp_path, "000.jsonl", [(0, {"a/b": 1}), (1, {"a/b": 2.5, "c": 3})])
    assert read_logs(tmp_path) == {0: {"a/b": 1.0}, 1: {"a/b": 2.5, "c": 3.0}}


def test_nothing_is_read_where_nothing_was_logged(tmp_path: Path) -> None:
    assert read_logs(tmp_path) == {}
    assert read_logs(tmp_path / "none") == {}
    log(tmp_path, "000.jsonl", [])
    assert read_logs(tmp_path) == {}


@pytest.mark.parametrize("torn", ["{", '{"step": 2, "da', '{"step": 2, "data": {"x": 1.0', "\n\n"])
def test_a_line_that_was_cut_short_is_passed_over(tmp_path: Path, torn: str) -> None:
    log(tmp_path, "000.jsonl", [(1, {"x": 1})], torn=torn)
    log(tmp_path, "001.jsonl", [(2, {"x": 2})])
    assert read_logs(tmp_path) == {1: {"x": 1.0}, 2: {"x": 2.0}}


def test_of_a_step_that_two_starts_speak_of_the_later_counts(tmp_path: Path) -> None:
    log(tmp_path, "000.jsonl", [(1, {"x": 1}), (2, {"x": 2}), (3, {"x": 3})], torn='{"step": 4')
    log(tmp_path, "001.jsonl", [(2, {"x": 20}), (3, {"x": 30}), (4, {"x": 40})])
    log(tmp_path, "002.jsonl", [(4, {"x": 400}), (5, {"x": 500})])
    assert read_logs(tmp_path) == {step: {"x": x} for step, x in ((1, 1), (2, 20), (3, 30), (4, 400), (5, 500))}


def test_more_than_ten_starts_stay_in_their_order(tmp_path: Path) -> None:
    for start in range(12):
        log(tmp_path, f"{start:03d}.jsonl", [(1, {"x": start})])
    assert read_logs(tmp_path) == {1: {"x": 11.0}}


def test_lines_of_one_step_are_put_together(tmp_path: Path) -> None:
    log(tmp_path, "000.jsonl", [(4, {"loss": 1, "x": 1}), (4, {"val-core/movie/rr/mean@1": 0.5, "x": 2})])
    assert read_logs(tmp_path) == {4: {"loss": 1.0, "x": 2.0, "val-core/movie/rr/mean@1": 0.5}}


def test_only_numbers_are_kept(tmp_path: Path) -> None:
    log(tmp_path, "000.jsonl", [(1, {"x": 1, "text": "fast", "none": None, "list": [1]})])
    (tmp_path / "notes.txt").write_text("not a log", encoding="utf-8")
    assert read_logs(tmp_path) == {1: {"x": 1.0}}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("rr", {"movie": 0.5, "passage-5": 0.25, "macro": 0.375}),
        ("step_reward", {"movie": 0.75, "macro": 0.75}),
        ("reward", {"movie": 3.0, "macro": 3.0}),
        ("ndcg", {}),
        ("mean", {}),
    ],
)
def test_a_figure_of_a_validation_is_told_by_task(name: str, wanted: dict[str, float]) -> None:
    assert validation_of(VALIDATION, name) == wanted


def test_a_step_without_validation_has_none() -> None:
    assert validation_of({"critic/score/mean": 1.0, "a/b/rr/mean@1": 2.0}, "rr") == {}


def test_a_line_tells_what_there_is() -> None:
    record = {
        "critic/score/mean": 2.34567,
        "reward/choice": 0.5,
        "reward/answer": -0.125,
        "actor/entropy": 1.239,
        "actor/kl_loss": 0.00123,
        "actor/grad_norm": 0.456,
        "response_length/mean": 19.04,
        "perf/throughput": 1234.5,
        "timing_s/step": 3.14,
        **VALIDATION,
        "val-core/movie/well_formed/mean@1": 1.0,
        "else": 7.0,
    }
    assert line_of(3, record, steps=60) == (
        "step 3/60  reward 2.346  answer -0.125  choice 0.500  entropy 1.24  KL 0.0012  gradient 0.46  response 19.0  "
        "tokens/s 1234  seconds 3.1  validation RR 0.375  validation step reward 0.750  well formed 1.000"
    )


def test_a_line_of_nothing_is_the_step() -> None:
    assert line_of(0, {}, steps=5) == "step 0/5"


def test_a_line_of_a_validation_alone() -> None:
    assert line_of(0, {"val-core/movie/rr/mean@1": 0.5}, steps=5) == "step 0/5  validation RR 0.500"


RUNS: dict[str, dict[int, dict[str, float]]] = {
    "nothing": {},
    "a validation alone": {0: VALIDATION},
    "a step alone": {1: {"critic/score/mean": 1.0}},
    "a few steps": {
        step: {
            "critic/score/mean": step / 3,
            "actor/kl_loss": 0.1,
            "actor/entropy": 1.0,
            **(VALIDATION if step % 2 else {}),
        }
        for step in range(5)
    },
    "many steps": {step: {"critic/score/mean": step % 7, "actor/entropy": 1 / (1 + step)} for step in range(90)},
    "a task that comes later": {0: {"val-core/movie/rr/mean@1": 0.5}, 4: VALIDATION},
    "a task that goes": {0: VALIDATION, 4: {"val-core/movie/rr/mean@1": 0.5}},
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_drawn(tmp_path: Path, name: str) -> None:
    picture = tmp_path / "curve.png"
    draw(RUNS[name], picture)
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_order_of_steps_does_not_matter_to_a_picture(tmp_path: Path) -> None:
    run = RUNS["a few steps"]
    draw(run, tmp_path / "one.png")
    draw(dict(reversed(run.items())), tmp_path / "other.png")
    draw(RUNS["many steps"], tmp_path / "third.png")
    one, other, third = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "other", "third"))
    assert one == other != third


def test_drawing_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"'matplotlib'.*unified-ranker\[rl\]"):
        draw({}, tmp_path / "curve.png")
