"""Reading recipe files: what every kind of training shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.training.recipe_file import build, names_in, read_recipe

PACKAGES = {"unified_ranker.training": "embedded", "unified_ranker.training.rl": "iranker-tiny"}
RL = "unified_ranker.training.rl"


@dataclass(frozen=True)
class Kind:
    """A recipe of one field of each type."""

    name: str
    count: int = 1
    rate: float = 0.5
    yes: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize("package", PACKAGES)
def test_recipes_are_told_by_package(package: str) -> None:
    assert PACKAGES[package] in names_in(package)
    assert names_in(package) == sorted(names_in(package))
    assert read_recipe(PACKAGES[package], package=package)["name"] == PACKAGES[package]


@pytest.mark.parametrize(
    ("package", "name"), [("unified_ranker.training", "iranker-tiny"), ("unified_ranker.training.rl", "embedded")]
)
def test_a_recipe_of_one_kind_is_none_of_another(package: str, name: str) -> None:
    with pytest.raises(OptionError, match=f"recipe='{name}' is not known"):
        read_recipe(name, package=package)


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_a_file_is_told_by_its_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine.{suffix}"
    path.write_text("a: {b: 1}\nc: [1, 2]\n", encoding="utf-8")
    assert read_recipe(path, package=RL) == read_recipe(str(path), package=RL) == {"a": {"b": 1}, "c": [1, 2]}


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["a.b=2"], {"a": {"b": 2}, "v": {"x.y": 1}}),
        (["a.c.d=2"], {"a": {"b": 1, "c": {"d": 2}}, "v": {"x.y": 1}}),
        (["v.x.y=2"], {"a": {"b": 1}, "v": {"x.y": 2}}),
        (["v.x.z.w=text"], {"a": {"b": 1}, "v": {"x.y": 1, "x.z.w": "text"}}),
        (["v={q.r: 1}"], {"a": {"b": 1}, "v": {"q.r": 1}}),
        (["w.x.y=2"], {"a": {"b": 1}, "v": {"x.y": 1}, "w": {"x.y": 2}}),
        (["vw.x=2"], {"a": {"b": 1}, "v": {"x.y": 1}, "vw": {"x": 2}}),
        (["a.b="], {"a": {"b": None}, "v": {"x.y": 1}}),
        (["a.b==2"], {"a": {"b": "=2"}, "v": {"x.y": 1}}),
        (["a.b=2", "a.b=3"], {"a": {"b": 3}, "v": {"x.y": 1}}),
    ],
)
def test_dots_lead_into_parts_but_belong_to_the_names_of_whole_ones(
    tmp_path: Path, overrides: list[str], wanted: dict[str, Any]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: {b: 1}\nv: {x.y: 1}\n", encoding="utf-8")
    assert read_recipe(path, overrides, package=RL, whole=("v", "w")) == wanted


def test_without_whole_parts_every_dot_leads_on(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\n", encoding="utf-8")
    assert read_recipe(path, ["v.x.y=2"], package=RL) == {"a": 1, "v": {"x": {"y": 2}}}


@pytest.mark.parametrize(
    ("text", "override", "named"),
    [
        ("v: 3", "v.x.y=1", "override 'v.x.y=1': 'v' is not a mapping"),
        ("v: ", "v.x.y=1", "override 'v.x.y=1': 'v' is not a mapping"),
        ("a: {b: 1}", "a.b.c=1", "override 'a.b.c=1': 'b' is not a mapping"),
        ("a: 1", "a", "override 'a' must be key=value"),
        ("a: 1", "a={", "override 'a={': the value is not YAML"),
        ("- a", "a=1", "expected a mapping"),
        ("a: [", "a=1", "not YAML"),
    ],
)
def test_what_cannot_be_overridden_is_named(tmp_path: Path, text: str, override: str, named: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=named):
        read_recipe(path, [override], package=RL, whole=("v",))


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.yaml' does not exist"):
        read_recipe(tmp_path / "none.yaml", package=RL)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=r"bytes\.yaml' is not UTF-8"):
        read_recipe(tmp_path / "bytes.yaml", package=RL)


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"name": "x"}, Kind("x")),
        ({"name": "x", "rate": "1e-4"}, Kind("x", rate=1e-4)),
        ({"name": "x", "rate": 2}, Kind("x", rate=2.0)),
        (
            {"name": "", "count": -3, "yes": True, "more": {"a.b": None}},
            Kind("", count=-3, yes=True, more={"a.b": None}),
        ),
    ],
)
def test_a_record_becomes_a_dataclass(record: dict[str, Any], wanted: Kind) -> None:
    found = build(Kind, record, where="")
    assert found == wanted
    assert type(found.rate) is float


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"count": 1}, "part: .*'name'"),
        ({"name": "x", "cuont": 1}, r"part\.cuont is not known; known are part\.name, part\.count"),
        ({"name": 3}, r"part\.name=3 must be of type str"),
        ({"name": "x", "count": 1.0}, r"part\.count=1\.0 must be of type int"),
        ({"name": "x", "count": True}, r"part\.count=True must be of type int"),
        ({"name": "x", "count": "1"}, r"part\.count='1' must be of type int"),
        ({"name": "x", "count": None}, r"part\.count=None must be of type int"),
        ({"name": "x", "rate": "fast"}, r"part\.rate='fast' must be of type float"),
        ({"name": "x", "rate": False}, r"part\.rate=False must be of type float"),
        ({"name": "x", "yes": 1}, r"part\.yes=1 must be of type bool"),
        ({"name": "x", "more": [1]}, r"part\.more=\[1\] must be a mapping"),
        ({"name": "x", "more": None}, r"part\.more=None must be a mapping"),
        ({"name": "x", 3: 1}, r"part\.3 is not known"),
        (["name"], "part must be a mapping"),
    ],
)
def test_a_field_that_does_not_fit_is_named(record: Any, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        build(Kind, record, where="part.")
