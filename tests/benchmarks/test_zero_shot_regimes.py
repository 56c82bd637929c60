from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from toy_runs import build_task
from toy_tasks import toy_list
from unified_ranker.benchmarks.zero_shot.regimes import REGIMES, Regime, regime_named, task_weights, training_data
from unified_ranker.tasks import NINE
from unified_ranker.tasks.build import read_card, read_split

from unified_ranker.errors import DataError, MissingSourceError, OptionError
from unified_ranker.schema.types import SPLITS, RankingExample
from unified_ranker.training.recipe import load_recipe
from unified_ranker.training.rl.recipe import load_recipe as load_rl

ITEMS = ("movie", "music", "game")
LLMS = ("router-performance", "router-balance", "router-cost")
PASSAGES = ("passage-5", "passage-7", "passage-9")
SCIFACT = REGIMES["scifact-only"]


@pytest.mark.parametrize(
    ("name", "tasks", "trained", "groups"),
    [
        ("untrained", ITEMS + LLMS + PASSAGES, False, ""),
        ("all", ITEMS + LLMS + PASSAGES, True, ""),
        ("without-recommendation", LLMS + PASSAGES, True, ""),
        ("without-routing", ITEMS + PASSAGES, True, ""),
        ("without-passage", ITEMS + LLMS, True, ""),
        ("movie-only", ("movie",), True, ""),
        ("scifact-only", PASSAGES, True, "scifact:"),
    ],
)
def test_a_regime_is_trained_on_what_its_name_says(
    name: str, tasks: tuple[str, ...], trained: bool, groups: str
) -> None:
    found = regime_named(name)
    assert (found.name, found.tasks, found.trained, found.groups) == (name, tasks, trained, groups)
    assert found.summary


def test_there_are_seven_regimes_the_untrained_first() -> None:
    assert len(REGIMES) == 7
    assert next(iter(REGIMES)) == "untrained"


def test_a_regime_that_is_not_known_is_told_with_the_nearest() -> None:
    with pytest.raises(OptionError, match=r"regime='without-pasage' is not known; did you mean 'without-passage'\?"):
        regime_named("without-pasage")


# -------------------------------------------------------------------------------------------------------------- weights


def test_tasks_of_a_regime_keep_their_weights_and_others_have_none() -> None:
    weights = {"movie": 1.0, "music": 0.25, "router-cost": 0.6, "passage-5": 2}
    found = dict(override.split("=") for override in task_weights(REGIMES["without-routing"], weights))
    assert {key: float(value) for key, value in found.items()} == {
        "tasks.movie": 1,
        "tasks.music": 0.25,
        "tasks.game": 0,
        "tasks.router-performance": 0,
        "tasks.router-balance": 0,
        "tasks.router-cost": 0,
        "tasks.passage-5": 2,
        "tasks.passage-7": 0,
        "tasks.passage-9": 0,
    }


@pytest.mark.parametrize("regime", REGIMES.values(), ids=lambda regime: regime.name)
@pytest.mark.parametrize(("load", "name"), [(load_recipe, "start-tiny"), (load_rl, "iranker-tiny")])
def test_the_recipes_of_the_package_take_the_weights_of_every_regime(load: Any, name: str, regime: Regime) -> None:
    whole = load(name).tasks
    found = load(name, task_weights(regime, whole)).tasks
    assert found == {task: whole[task] if task in regime.tasks else 0 for task in NINE}


def test_a_very_small_weight_is_kept(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"name": "mine", "tasks": {"movie": 1, "game": 1.0e-5}}), encoding="utf-8")
    weights = task_weights(REGIMES["all"], load_recipe(recipe).tasks)
    assert load_recipe(recipe, weights).tasks["game"] == 1e-5


# ----------------------------------------------------------------------------------------------------------------- data


def grouped(id: str, group: str, *, task: str = "passage-5", split: str = "train") -> RankingExample:
    return replace(toy_list(id, [1, 0], task=task, split=split), group=group)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return passages of two collections."""
    for task in PASSAGES:
        build_task(
            tmp_path / "data",
            task,
            [
                grouped("a", "scifact:1", task=task),
                grouped("b", "wikiqa:1", task=task),
                grouped("c", "scifact:2", task=task),
                grouped("d", "not-scifact:2", task=task),
                grouped("e", "wikiqa:3", task=task, split="validation"),
                grouped("f", "scifact:4", task=task, split="test"),
                grouped("g", "wikiqa:4", task=task, split="test"),
            ],
        )
    return tmp_path / "data"


def ids(data: Path, task: str) -> dict[str, list[str]]:
    return {split: [example.id for example in read_split(data, task, split)] for split in SPLITS}


@pytest.mark.parametrize("name", [name for name in REGIMES if name != "scifact-only"])
def test_a_regime_that_takes_whole_tasks_is_trained_on_the_folder_itself(name: str, tmp_path: Path) -> None:
    assert training_data(REGIMES[name], tmp_path / "data", tmp_path / "own") == tmp_path / "data"
    assert not (tmp_path / "own").exists()


def test_a_regime_that_takes_a_part_gets_a_folder_with_that_part_of_each_split(data: Path, tmp_path: Path) -> None:
    own = training_data(SCIFACT, data, tmp_path / "own")
    assert own == tmp_path / "own"
    assert sorted(path.name for path in own.iterdir()) == list(PASSAGES)
    for task in PASSAGES:
        assert ids(own, task) == {"train": ["a", "c"], "validation": [], "test": ["f"]}
        assert read_card(own / task) == read_card(data / task)
        assert list(read_split(own, task, "train")) == [
            example for example in read_split(data, task, "train") if example.id in "ac"
        ]
    assert ids(data, "passage-5")["train"] == ["a", "b", "c", "d"]


def test_a_folder_that_is_whole_is_not_made_again(data: Path, tmp_path: Path) -> None:
    own = training_data(SCIFACT, data, tmp_path / "own")
    before = {path: path.stat().st_mtime_ns for path in own.rglob("*.*")}
    assert len(before) == 3 * 4
    assert training_data(SCIFACT, data, own) == own
    assert {path: path.stat().st_mtime_ns for path in own.rglob("*.*")} == before


def test_a_folder_that_was_cut_short_is_filled_anew(data: Path, tmp_path: Path) -> None:
    own = training_data(SCIFACT, data, tmp_path / "own")
    (own / "passage-7" / "card.json").unlink()
    (own / "passage-7" / "train.parquet").write_bytes(b"half")
    training_data(SCIFACT, data, own)
    assert ids(own, "passage-7") == ids(own, "passage-5")
    assert json.loads((own / "passage-7" / "card.json").read_text(encoding="utf-8"))["task"] == "passage-7"


def test_a_part_without_training_lists_is_told(tmp_path: Path) -> None:
    for task in PASSAGES:
        build_task(tmp_path / "data", task, [grouped("a", "wikiqa:1", task=task)])
    with pytest.raises(DataError, match="task 'passage-5' has no training list of a group 'scifact:'"):
        training_data(SCIFACT, tmp_path / "data", tmp_path / "own")


def test_a_task_that_was_not_built_is_told(data: Path, tmp_path: Path) -> None:
    (data / "passage-9").rename(tmp_path / "elsewhere")
    with pytest.raises(MissingSourceError, match="unified-ranker data build passage-9"):
        training_data(SCIFACT, data, tmp_path / "own")
