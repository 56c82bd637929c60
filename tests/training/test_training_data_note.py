"""What a run notes of its data: which it was, so that the same model can be made again."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
import yaml
from invented_lists import make_lists, tiny_record, write_task
from toy_tasks import build_toy
from unified_ranker.tasks.beside import Beside, History, write_beside
from unified_ranker.tasks.build import read_split
from unified_ranker.tasks.fingerprint import lists_fingerprint

from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.schema.types import RankingExample
from unified_ranker.training import verl_sft
from unified_ranker.training.data_note import NOTE, copy_note, note_of, note_of_file, refuse_other_data, write_note
from unified_ranker.training.recipe import parse_recipe
from unified_ranker.training.sft import Trainer

PASSAGES = {"train": [[1, 0], [0, 1]], "validation": [[1, 0]], "test": [[0, 1, 0]]}


def trainer_of(data: Path, out: Path, **changes: object) -> Trainer:
    return Trainer(parse_recipe(tiny_record(**changes)), data=data, out=out, device="cpu")


def noted(folder: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = yaml.safe_load((folder / NOTE).read_text(encoding="utf-8"))
    return found


def test_training_and_validation_lists_are_noted_by_their_hashes(tmp_path: Path) -> None:
    data = write_task(tmp_path)
    assert note_of(data, ["movie"]) == {
        "movie": {split: lists_fingerprint(read_split(data, "movie", split)) for split in ("train", "validation")}
    }


def test_a_split_without_lists_has_no_hash(tmp_path: Path) -> None:
    assert set(note_of(build_toy(tmp_path, "passage-5", train=[[1, 0]]), ["passage-5"])["passage-5"]) == {"train"}


def test_test_lists_are_noted_only_where_passages_of_them_are_read(tmp_path: Path) -> None:
    data = build_toy(build_toy(tmp_path, "passage-5", **PASSAGES), "trec-dl-2019", test=[[1, 0]])
    note = note_of(data, ["passage-5"], passages=["trec-dl-2019"])
    assert {task: set(found) for task, found in note.items()} == {
        "passage-5": {"train", "validation"},
        "trec-dl-2019": {"test"},
    }


@pytest.mark.parametrize(
    "change", [History("u", "train", ("a", "b")), History("u", "test", ("a",)), History("v", "train", ("a",))]
)
def test_histories_count(tmp_path: Path, change: History) -> None:
    data = write_task(tmp_path)
    notes = []
    for histories in ([History("u", "train", ("a",))], [change]):
        write_beside(data / "movie", Beside(histories=histories))
        notes.append(note_of(data, ["movie"])["movie"])
    assert re.fullmatch("[0-9a-f]{16}", notes[0]["histories"])
    assert notes[0]["histories"] != notes[1]["histories"]
    assert notes[0]["train"] == notes[1]["train"]


def test_a_task_that_is_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build game"):
        note_of(write_task(tmp_path), ["movie", "game"])


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
    write_note({"movie": {"train": "1"}, "game": {"train": "1"}}, tmp_path)
    with pytest.raises(DataError, match=f"{said}; choose another --out"):
        refuse_other_data(now, tmp_path)


def test_the_same_data_is_not_refused_nor_a_folder_without_a_note(tmp_path: Path) -> None:
    note = {"movie": {"train": "1"}}
    refuse_other_data(note, tmp_path)
    write_note(note, tmp_path)
    refuse_other_data(note, tmp_path)


def test_a_run_without_a_note_leaves_none_beside_its_model(tmp_path: Path) -> None:
    copy_note(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_supervised_run_notes_its_data_beside_its_model(tmp_path: Path) -> None:
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    model = trainer_of(data, out, tokens=1).run()
    assert noted(out) == noted(model) == note_of(data, ["movie"])


def test_conversations_stand_for_the_tasks_of_a_run_of_verls_trainer(tmp_path: Path) -> None:
    data, path = write_task(tmp_path / "built"), tmp_path / "mine.parquet"
    path.write_bytes(b"any")
    record = {"name": "mine", "trainer": "verl", "tasks": {"movie": 1.0, "game": 0.0}}
    assert verl_sft.data_note(verl_sft.parse(record), data) == note_of(data, ["movie"])
    assert verl_sft.data_note(verl_sft.parse({**record, "conversations": str(path)}), data) == note_of_file(path)


def test_a_run_goes_on_with_the_data_it_was_started_with_alone(tmp_path: Path) -> None:
    data, out = write_task(tmp_path / "built"), tmp_path / "run"
    trainer_of(data, out, tokens=1).run()
    other: list[RankingExample] = make_lists(81)
    with pytest.raises(DataError, match=r"holds a run on other data: movie differs from data\.yaml"):
        trainer_of(write_task(tmp_path / "other", train=other), out, tokens=1)
    assert noted(out) == note_of(data, ["movie"])


def test_a_run_that_came_to_no_checkpoint_starts_anew_with_any_data(tmp_path: Path) -> None:
    out = tmp_path / "run"
    trainer_of(write_task(tmp_path / "built"), out)
    other = write_task(tmp_path / "other", train=make_lists(81))
    trainer_of(other, out)
    assert noted(out) == note_of(other, ["movie"])
