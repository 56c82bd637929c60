from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from unified_ranker import Ranker
from unified_ranker.errors import DataError, MissingExtraError, OptionError
from unified_ranker.model_settings import ModelSettings, read_settings
from unified_ranker.training.data_note import read_note, write_note
from unified_ranker.training.rl.export import LATEST, checkpoint_at, export, export_run, latest_step, remove_unfinished
from unified_ranker.training.rl.recipe import parse_recipe
from unified_ranker.training.rl.shared_prompt import FROZEN, LABELS, WORDS_ALONE

SETTINGS = ModelSettings(method="iranker", style="natural", token_budget=999, options={"layout": "rounds"})


def checkpoints(folder: Path, *steps: int, latest: str | None = None) -> Path:
    for step in steps:
        (folder / f"global_step_{step}" / "actor").mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    if latest is not None:
        (folder / LATEST).write_text(latest, encoding="utf-8")
    return folder


def whole(tiny_model: Path, folder: Path) -> Path:
    """Write a checkpoint that holds a whole model, as verl does where it is told to."""
    target = folder / "actor"
    shutil.copytree(tiny_model, target / "huggingface")
    for file in (target / "huggingface").glob("*.safetensors"):
        file.chmod(0o600)
    return target


@pytest.mark.parametrize(
    ("text", "step"),
    [("20", 20), ("20\n", 20), (" 0 ", 0), ("", None), ("twenty", None), ("-1", None), ("1.5", None), (None, None)],
)
def test_the_last_whole_step_is_read_from_verls_note(tmp_path: Path, text: str | None, step: int | None) -> None:
    assert latest_step(checkpoints(tmp_path / "checkpoints", latest=text)) == step


def test_without_checkpoints_there_is_no_last_step(tmp_path: Path) -> None:
    assert latest_step(tmp_path / "none") is None


def test_a_checkpoint_is_found_by_its_step_and_the_last_one_by_default(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path / "checkpoints", 5, 10, 15, latest="10")
    assert checkpoint_at(folder) == folder / "global_step_10" / "actor"
    assert checkpoint_at(folder, 5) == folder / "global_step_5" / "actor"
    assert checkpoint_at(folder, 15) == folder / "global_step_15" / "actor"


@pytest.mark.parametrize(
    ("steps", "latest", "step", "named"),
    [
        ((5, 10), "10", 7, r"no checkpoint of step 7; there are: .*5"),
        ((5, 10), "15", None, r"no checkpoint of step \(last\); there are: .*10"),
        ((5,), None, None, r"no checkpoint of step \(last\); there are: 5"),
        ((), None, None, r"there are: none"),
        ((), None, 3, r"no checkpoint of step 3; there are: none"),
        ((), "3", None, r"there are: none"),
    ],
)
def test_a_checkpoint_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, steps: tuple[int, ...], latest: str | None, step: int | None, named: str
) -> None:
    folder = checkpoints(tmp_path / "checkpoints", *steps, latest=latest)
    with pytest.raises(DataError, match=named) as raised:
        checkpoint_at(folder, step)
    assert str(folder) in str(raised.value)


def test_step_zero_is_a_step(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path / "checkpoints", 5, latest="5")
    with pytest.raises(DataError, match="no checkpoint of step 0"):
        checkpoint_at(folder, 0)


def test_only_what_lies_beyond_the_last_whole_step_is_removed(tmp_path: Path) -> None:
    folder = checkpoints(tmp_path / "checkpoints", 5, 9, 10, 11, 100, latest="10")
    (folder / "global_step_none").mkdir()
    (folder / "other").mkdir()
    remove_unfinished(folder, after=10)
    assert {path.name for path in folder.iterdir()} == {
        "global_step_5",
        "global_step_9",
        "global_step_10",
        "global_step_none",
        "other",
        LATEST,
    }


def test_removing_where_nothing_is_does_nothing(tmp_path: Path) -> None:
    remove_unfinished(tmp_path / "none", after=1)


def test_a_whole_checkpoint_becomes_a_model_that_ranks(tmp_path: Path, tiny_model: Path) -> None:
    folder = export(whole(tiny_model, tmp_path), tmp_path / "a" / "model", settings=SETTINGS)
    assert folder == tmp_path / "a" / "model"
    assert read_settings(folder) == SETTINGS
    one, other = (
        AutoModelForCausalLM.from_pretrained(path, dtype="auto").state_dict() for path in (folder, tiny_model)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    ranking = Ranker.from_pretrained(folder).rank("query", ["a", "b", "c"])
    assert sorted(ranking.ids) == ["0", "1", "2"]


def test_others_may_read_the_weights(tmp_path: Path, tiny_model: Path) -> None:
    folder = export(whole(tiny_model, tmp_path), tmp_path / "model", settings=SETTINGS)
    (weights,) = folder.glob("*.safetensors")
    assert stat.S_IMODE(weights.stat().st_mode) == 0o644


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_are_written_in_the_type_that_is_asked_for(tmp_path: Path, tiny_model: Path, dtype: str) -> None:
    folder = export(whole(tiny_model, tmp_path), tmp_path / "model", settings=SETTINGS, dtype=dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {value.dtype for value in model.state_dict().values()} == {getattr(torch, dtype)}


@pytest.mark.parametrize("start", ["bfloat16", "float32"])
def test_weights_keep_the_precision_that_they_were_trained_in(tmp_path: Path, tiny_model: Path, start: str) -> None:
    # The model's settings say what the start was saved in; small updates would be lost on the way back to that.
    checkpoint = whole(tiny_model, tmp_path)
    path = checkpoint / "huggingface" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "dtype": start, "torch_dtype": start}), encoding="utf-8")
    folder = export(checkpoint, tmp_path / "model", settings=SETTINGS)
    one, other = (load_file(next(place.glob("*.safetensors"))) for place in (folder, tiny_model))
    assert all(one[name].dtype == torch.float32 and torch.equal(one[name], other[name]) for name in one)


def test_settings_of_the_run_do_not_stay_with_the_model(tmp_path: Path, tiny_model: Path) -> None:
    checkpoint = whole(tiny_model, tmp_path)
    path = checkpoint / "huggingface" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, LABELS: [1, 2], FROZEN: True, WORDS_ALONE: True}), encoding="utf-8")
    folder = export(checkpoint, tmp_path / "model", settings=SETTINGS)
    kept = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert kept["hidden_size"] == config["hidden_size"]
    assert not {LABELS, FROZEN, WORDS_ALONE} & set(kept)


def test_a_folder_without_a_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no checkpoint of verl: huggingface/config\.json is missing"):
        export(tmp_path, tmp_path / "model", settings=SETTINGS)
    assert not (tmp_path / "model").exists()


def test_joining_shards_without_verl_names_the_extra(tmp_path: Path, tiny_model: Path) -> None:
    try:
        import verl  # noqa: F401
    except ImportError:
        checkpoint = whole(tiny_model, tmp_path)
        for file in (checkpoint / "huggingface").glob("*.safetensors"):
            file.unlink()
        with pytest.raises(MissingExtraError, match=r"'verl'.*unified-ranker\[rl\]"):
            export(checkpoint, tmp_path / "model", settings=SETTINGS)
    else:
        pytest.skip("verl is installed")


def run_of(tmp_path: Path, tiny_model: Path, **changes: Any) -> Path:
    """Write a run of two checkpoints, of which the first is the last whole one."""
    run = tmp_path / "run"
    record = {"name": "mine", "tasks": {"movie": 1}, "model": str(tiny_model), **changes}
    for step in (2, 4):
        whole(tiny_model, run / "checkpoints" / f"global_step_{step}")
    (run / "checkpoints" / LATEST).write_text("2", encoding="utf-8")
    (run / "recipe.yaml").write_text(yaml.safe_dump(parse_recipe(record).to_dict()), encoding="utf-8")
    return run


@pytest.mark.parametrize("step", [None, 4])
def test_a_run_is_exported_with_how_it_wants_to_be_asked(tmp_path: Path, tiny_model: Path, step: int | None) -> None:
    run = run_of(tmp_path, tiny_model, options={"layout": "rounds"}, style="natural", token_budget=321)
    folder = export_run(run, tmp_path / "model", step=step)
    assert read_settings(folder) == ModelSettings("iranker", "natural", 321, (), {"layout": "rounds"})


def test_a_run_is_exported_with_the_hashes_of_its_data(tmp_path: Path, tiny_model: Path) -> None:
    run = run_of(tmp_path, tiny_model)
    note = {"movie": {"train": "0123"}}
    write_note(note, run)
    assert read_note(export_run(run, tmp_path / "model")) == note
    # A folder that held another model says nothing of this one.
    write_note(None, run)
    assert read_note(export_run(run, tmp_path / "model")) is None


def test_the_last_whole_step_of_a_run_is_the_default(tmp_path: Path, tiny_model: Path) -> None:
    run = run_of(tmp_path, tiny_model)
    shutil.rmtree(run / "checkpoints" / "global_step_4")
    export_run(run, tmp_path / "model")
    with pytest.raises(DataError, match="no checkpoint of step 4"):
        export_run(run, tmp_path / "other", step=4)


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no run of 'train rl': recipe\.yaml is missing"):
        export_run(tmp_path, tmp_path / "model")


def test_an_unknown_type_of_weights_is_refused_before_anything_is_written(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(OptionError, match="dtype='float16' is not known; did you mean 'bfloat16'"):
        export_run(run_of(tmp_path, tiny_model), tmp_path / "model", dtype="float16")
    assert not (tmp_path / "model").exists()
