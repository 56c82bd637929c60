"""What a run notes of its data: which it was, so that the same model can be made again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_lists import make_lists, tiny_recipe, tiny_record, write_task
from toy_tasks import build_toy
from unified_ranker.tasks.beside import Beside, History, LLMOutcome, write_beside
from unified_ranker.tasks.build import read_split
from unified_ranker.tasks.fingerprint import lists_fingerprint

from unified_ranker.errors import DataError, MissingSourceError, RecipeError
from unified_ranker.training import verl_sft
from unified_ranker.training.data_note import (
    NOTE,
    note_of,
    note_of_file,
    parts_of,
    read_note,
    to_go_on,
    write_note,
)
from unified_ranker.training.recipe import parse_recipe
from unified_ranker.training.rl.export import LATEST
from unified_ranker.training.sft import Trainer

SEEN = ("train", "validation")
TEACHERS = {"router-cost": {"of": [{"logistic-router": {}}]}}
ASKED = {
    "words": {"lists": 4},
    "questions": {"share": 0.5, "tasks": ["trec-dl-2019"]},
    "model": {"embeddings": "minilm", "architecture": {"hidden_size": 192}},
}


def trainer_of(data: Path, out: Path, **changes: object) -> Trainer:
    return Trainer(parse_recipe(tiny_record(**changes)), data=data, out=out, device="cpu")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"tasks": {"movie": 1.0}}, {"movie": SEEN}),
        ({"tasks": {"movie": 1.0}, "fresh": 0.5}, {"movie": (*SEEN, "histories")}),
        ({"tasks": {"passage-5": 1.0}, "fresh": 0.5}, {"passage-5": SEEN}),
        ({"tasks": {"router-cost": 1.0}, "words": {"teachers": TEACHERS}}, {"router-cost": (*SEEN, "outcomes")}),
        (
            {"tasks": {"passage-5": 1.0}, **ASKED},
            {"passage-5": SEEN, "trec-dl-2019": ("train", "validation", "test")},
        ),
        (
            {"tasks": {"passage-5": 1.0}, **ASKED, "questions": {"share": 0.5, "tasks": ["passage-5"]}},
            {"passage-5": ("train", "validation", "test")},
        ),
    ],
    ids=["lists", "histories of fresh lists", "no histories of passages", "teachers", "questions", "own questions"],
)
def test_a_recipe_tells_what_its_run_reads(changes: dict[str, Any], parts: dict[str, tuple[str, ...]]) -> None:
    recipe = tiny_recipe(**changes)
    assert parts_of(recipe, recipe.tasks) == parts


def test_the_hashes_are_those_of_the_lists(tmp_path: Path) -> None:
    data = write_task(tmp_path)
    assert note_of(data, {"movie": SEEN}) == {
        "movie": {split: lists_fingerprint(read_split(data, "movie", split)) for split in SEEN}
    }


def test_what_a_task_does_not_have_has_no_hash(tmp_path: Path) -> None:
    data = build_toy(tmp_path, "router-cost", train=[[1, 0]])
    assert set(note_of(data, {"router-cost": (*SEEN, "histories", "outcomes")})["router-cost"]) == {"train"}


@pytest.mark.parametrize(
    "change", [History("u", "train", ("a", "b")), History("u", "test", ("a",)), History("v", "train", ("a",))]
)
def test_histories_count(tmp_path: Path, change: History) -> None:
    data = write_task(tmp_path)
    notes = []
    for histories in ([History("u", "train", ("a",))], [change]):
        write_beside(data / "movie", Beside(histories=histories))
        notes.append(note_of(data, {"movie": ("train", "histories")})["movie"])
    assert re.fullmatch("[0-9a-f]{16}", notes[0]["histories"])
    assert notes[0]["histories"] != notes[1]["histories"]
    assert notes[0]["train"] == notes[1]["train"]


@pytest.mark.parametrize(
    "change",
    [{"q": {"a": LLMOutcome(1.0, 2.0)}}, {"q": {"b": LLMOutcome(1.0, 1.0)}}, {"r": {"a": LLMOutcome(1.0, 1.0)}}],
    ids=["cost", "LLM", "list"],
)
def test_outcomes_count(tmp_path: Path, change: dict[str, dict[str, LLMOutcome]]) -> None:
    data = build_toy(tmp_path, "router-cost", train=[[1, 0]])
    notes = []
    for outcomes in ({"q": {"a": LLMOutcome(1.0, 1.0)}}, change):
        write_beside(data / "router-cost", Beside(outcomes=outcomes))
        notes.append(note_of(data, {"router-cost": ("outcomes",)})["router-cost"]["outcomes"])
    assert notes[0] != notes[1]


def test_a_task_that_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build game"):
        note_of(write_task(tmp_path), {"movie": SEEN, "game": SEEN})


def test_a_file_of_conversations_is_noted_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "conversations.parquet"
    path.write_bytes(b"any")
    assert note_of_file(path) == {"conversations.parquet": {"sha256": hashlib.sha256(b"any").hexdigest()}}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({"movie": {"train": "2"}, "game": {"train": "1"}}, "movie differs from data.yaml"),
        ({"movie": {"train": "1", "validation": "1"}, "game": {"train": "2"}}, "game, movie differ from data.yaml"),
        ({"movie": {"train": "1"}}, "game differs from data.yaml"),
        ({"movie": {"train": "1"}, "game": {"train": "1"}, "music": {"train": "1"}}, "music differs from data.yaml"),
    ],
)
def test_other_data_is_refused_by_name(tmp_path: Path, now: dict[str, dict[str, str]], said: str) -> None:
    before = {"movie": {"train": "1"}, "game": {"train": "1"}}
    with pytest.raises(DataError, match=f"{said}; choose another --out"):
        to_go_on(now, before, tmp_path)


def test_the_same_data_goes_on_and_what_was_never_noted_stays_unknown(tmp_path: Path) -> None:
    note = {"movie": {"train": "1"}}
    assert to_go_on(note, {"movie": {"train": "1"}}, tmp_path) == note
    assert to_go_on(note, None, tmp_path) is None


def test_a_note_reads_back_and_none_removes_it(tmp_path: Path) -> None:
    assert read_note(tmp_path) is None
    write_note({"movie": {"train": "0123"}}, tmp_path)
    assert read_note(tmp_path) == {"movie": {"train": "0123"}}
    write_note(None, tmp_path)
    write_note(None, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "movie: {train: ", "words", "movie: train", "- movie"])
def test_a_damaged_note_is_told_with_what_to_do(tmp_path: Path, text: str) -> None:
    (tmp_path / NOTE).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"(?s)data\.yaml: not .*; remove it, and the run goes on without a note"):
        read_note(tmp_path)


def test_a_supervised_run_notes_its_data_beside_its_model(tmp_path: Path) -> None:
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    model = trainer_of(data, out, tokens=1).run()
    assert read_note(out) == read_note(model) == note_of(data, {"movie": SEEN})


def test_a_run_goes_on_with_the_data_it_was_started_with_alone(tmp_path: Path) -> None:
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    trainer_of(data, out, tokens=1).run()
    other = write_task(tmp_path / "other", train=make_lists(81))
    with pytest.raises(DataError, match=r"holds a run on other data: movie differs from data\.yaml"):
        trainer_of(other, out, tokens=1).run()
    with pytest.raises(RecipeError, match="another recipe"):
        trainer_of(other, out, tokens=2).run()
    assert read_note(out) == note_of(data, {"movie": SEEN})
    trainer_of(data, out, tokens=1).run()


def test_a_run_that_came_to_no_checkpoint_starts_anew_with_any_data(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer_of(write_task(tmp_path / "built"), out)
    other = write_task(tmp_path / "other", train=make_lists(81))
    trainer_of(other, out, tokens=1).run()
    assert read_note(out) == note_of(other, {"movie": SEEN})


def test_a_run_of_a_version_that_noted_nothing_goes_on_without_a_note(tmp_path: Path) -> None:
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    trainer_of(data, out, tokens=1).run()
    state = torch.load(out / "checkpoint" / "state.pt", weights_only=False)
    del state["data"]
    torch.save(state, out / "checkpoint" / "state.pt")
    model = trainer_of(write_task(tmp_path / "other", train=make_lists(81)), out, tokens=1).run()
    assert read_note(out) is None and read_note(model) is None


VERL = {"name": "mine", "trainer": "verl", "tasks": {"movie": 1.0, "game": 0.0}}


def test_conversations_stand_for_the_tasks_of_a_run_of_verls_trainer(tmp_path: Path) -> None:
    data, path = write_task(tmp_path / "built"), tmp_path / "mine.parquet"
    path.write_bytes(b"any")
    assert verl_sft.data_note(verl_sft.parse(VERL), data) == note_of(data, {"movie": ("train",)})
    assert verl_sft.data_note(verl_sft.parse({**VERL, "conversations": str(path)}), data) == note_of_file(path)


class Planned(Exception):
    """The run came as far as its plan."""


@pytest.mark.parametrize(
    ("noted", "started", "expected"),
    [("same", True, Planned), ("other", True, DataError), ("other", False, Planned), ("", True, Planned)],
)
def test_verls_trainer_goes_on_with_the_same_data_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str, started: bool, expected: type[Exception]
) -> None:
    def plan(*_: Any, **__: Any) -> None:
        raise Planned

    monkeypatch.setattr(verl_sft, "plan", plan)
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    (out / "checkpoints").mkdir(parents=True)
    if started:
        (out / "checkpoints" / LATEST).write_text("2", encoding="utf-8")
    if noted:
        note = note_of(data, {"movie": ("train",)}) if noted == "same" else {"movie": {"train": "other"}}
        write_note(note, out)
    with pytest.raises(expected):
        verl_sft.run(verl_sft.parse(VERL), data=data, out=out, say=lambda _: None)
