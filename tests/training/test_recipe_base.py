"""A recipe that names another as its base holds what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.training.recipe import load_recipe, recipe_names
from unified_ranker.training.recipe_file import read_recipe
from unified_ranker.training.rl.recipe import load_recipe as load_rl

SFT = "unified_ranker.training"
RL = "unified_ranker.training.rl"
BASE: dict[str, Any] = {
    "name": "ground",
    "tasks": {"movie": 1, "game": 2},
    "options": {"permute": True, "layout": "append"},
    "steps": 3,
    "verl": {"a.b": 1, "a.c": 2},
}


def write(folder: Path, name: str, record: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(record), encoding="utf-8")
    return path


def read(path: Path | str, *overrides: str) -> dict[str, Any]:
    return read_recipe(path, overrides, package=RL, whole=("verl",))


def test_what_a_recipe_says_replaces_what_its_base_says(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    path = write(
        tmp_path,
        "mine.yaml",
        {"base": "ground.yaml", "name": "mine", "tasks": {"music": 1}, "options": {"places": 1}},
    )
    # Parts are replaced whole: nothing of the base's tasks and options is left.
    assert read(path) == {
        "name": "mine",
        "tasks": {"music": 1},
        "options": {"places": 1},
        "steps": 3,
        "verl": {"a.b": 1, "a.c": 2},
    }


def test_settings_of_verl_are_laid_over_those_of_the_base(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    path = write(tmp_path, "mine.yaml", {"base": "ground.yaml", "verl": {"a.c": 3, "a.d": 4}})
    assert read(path)["verl"] == {"a.b": 1, "a.c": 3, "a.d": 4}
    assert read(path)["name"] == "ground"


def test_without_whole_parts_nothing_is_laid_over(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    path = write(tmp_path, "mine.yaml", {"base": "ground.yaml", "verl": {"a.c": 3}})
    assert read_recipe(path, package=RL)["verl"] == {"a.c": 3}


def test_a_whole_part_that_is_no_mapping_replaces_the_bases(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    assert read(write(tmp_path, "mine.yaml", {"base": "ground.yaml", "verl": None}))["verl"] is None
    write(tmp_path, "bare.yaml", {"name": "bare"})
    assert read(write(tmp_path, "other.yaml", {"base": "bare.yaml", "verl": {"a.b": 2}}))["verl"] == {"a.b": 2}


def test_a_base_may_have_a_base(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    write(tmp_path, "middle.yaml", {"base": "ground.yaml", "name": "middle", "steps": 5, "verl": {"a.c": 3}})
    path = write(tmp_path, "mine.yaml", {"base": "middle.yaml", "name": "mine", "verl": {"a.d": 4}})
    found = read(path)
    assert "base" not in found
    assert (found["name"], found["steps"], found["tasks"]) == ("mine", 5, BASE["tasks"])
    assert found["verl"] == {"a.b": 1, "a.c": 3, "a.d": 4}


def test_overrides_come_last(tmp_path: Path) -> None:
    write(tmp_path, "ground.yaml", BASE)
    path = write(tmp_path, "mine.yaml", {"base": "ground.yaml", "steps": 5})
    found = read(path, "steps=7", "tasks.movie=9", "verl.a.b=8")
    assert (found["steps"], found["tasks"], found["verl"]) == (7, {"movie": 9, "game": 2}, {"a.b": 8, "a.c": 2})


def test_a_base_is_looked_for_beside_the_recipe_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "there", "ground.yaml", {"name": "there"})
    write(tmp_path / "here", "ground.yaml", {"name": "here"})
    path = write(tmp_path / "there", "mine.yaml", {"base": "ground.yaml"})
    monkeypatch.chdir(tmp_path / "here")
    assert read(path) == {"name": "there"}
    assert read("../there/mine.yaml") == {"name": "there"}
    above = write(tmp_path / "here", "up.yaml", {"base": "../there/mine.yaml", "steps": 1})
    assert read(above) == {"name": "there", "steps": 1}
    assert read(write(tmp_path, "far.yaml", {"base": str(path)})) == {"name": "there"}


def test_a_file_may_stand_on_a_recipe_of_the_package(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "dranker-tiny", "name": "mine", "verl": {"algorithm.gamma": 0.5}})
    mine, base = load_rl(path), load_rl("dranker-tiny")
    changed = {key for key, value in mine.to_dict().items() if value != base.to_dict()[key]}
    assert changed == {"name", "verl"}
    assert mine.verl == {**base.verl, "algorithm.gamma": 0.5}


def test_a_recipe_of_the_plain_trainer_may_have_a_base_too(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "best-first", "name": "mine", "seed": 3})
    mine, base = load_recipe(path), load_recipe("best-first")
    assert {key for key, value in mine.to_dict().items() if value != base.to_dict()[key]} == {"name", "seed"}
    assert "best-first" in recipe_names()


def test_a_base_is_of_the_same_kind_of_training(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "best-first", "name": "mine"})
    with pytest.raises(OptionError, match="recipe='best-first' is not known"):
        read_recipe(path, package=RL)


@pytest.mark.parametrize("base", ["dranker-tini", "nothing", ""])
def test_a_base_that_does_not_exist_is_named(tmp_path: Path, base: str) -> None:
    with pytest.raises(OptionError, match=f"recipe='{base}' is not known"):
        read(write(tmp_path, "mine.yaml", {"base": base, "name": "mine"}))


def test_a_base_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "none.yaml", "name": "mine"})
    with pytest.raises(RecipeError, match=r"none\.yaml' does not exist"):
        read(path)


@pytest.mark.parametrize("base", [3, ["dranker-tiny"], {"name": "dranker-tiny"}, True])
def test_a_base_is_a_name(tmp_path: Path, base: Any) -> None:
    with pytest.raises(RecipeError, match=r"mine\.yaml: base=.* must be the name or file of another recipe"):
        read(write(tmp_path, "mine.yaml", {"base": base, "name": "mine"}))


def test_no_base_at_all_is_none(tmp_path: Path) -> None:
    assert read(write(tmp_path, "mine.yaml", {"base": None, "name": "mine"})) == {"name": "mine"}


def test_a_base_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "ground.yaml").write_text("- a\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"ground\.yaml: expected a mapping"):
        read(write(tmp_path, "mine.yaml", {"base": "ground.yaml"}))


def test_a_recipe_cannot_be_its_own_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    write(tmp_path, "mine.yaml", {"base": str(path), "name": "mine"})
    with pytest.raises(RecipeError, match="goes in a circle"):
        read(path)
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "mine.yaml", {"base": "mine.yaml", "name": "mine"})
    with pytest.raises(RecipeError, match="goes in a circle"):
        read("mine.yaml")


def test_a_file_that_names_itself_beside_itself_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "mine.yaml", "name": "mine"})
    with pytest.raises(RecipeError, match="base"):
        read(path)


@pytest.mark.parametrize("length", [2, 3])
def test_bases_that_go_round_in_a_circle_are_refused(tmp_path: Path, length: int) -> None:
    for number in range(length):
        write(tmp_path, f"r{number}.yaml", {"base": f"r{(number + 1) % length}.yaml", "name": f"r{number}"})
    with pytest.raises(RecipeError, match="base"):
        read(tmp_path / "r0.yaml")


def test_the_base_is_no_field_of_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, "mine.yaml", {"base": "dranker-tiny", "name": "mine"})
    assert "base" not in load_rl(path).to_dict()
    # An override comes after the base was laid under: it is a field like any other, and not a known one.
    with pytest.raises(RecipeError, match="base is not known"):
        load_rl(path, ["base=iranker-tiny"])
