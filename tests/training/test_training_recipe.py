from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.training.recipe import PARTS, Recipe, load_recipe, parse_recipe, recipe_names
from unified_ranker.training.verl_sft import parse as parse_for_verl

PLAIN: dict[str, Any] = {"name": "plain", "tasks": {"movie": 1}}
# A value for each field that differs from its default.
CHANGES = {
    "name": "other",
    "tasks": "{game: 1}",
    "methods": "{dranker: 1}",
    "subsets": "0.5",
    "fresh": "0.5",
    "cloze": "0.5",
    "top_grade": "7",
    "tokens": "7",
    "batch_tokens": "7",
    "average": "0.5",
    "checkpoint_every": "7",
    "validate_every": "7",
    "validate_lists": "7",
    "seed": "7",
    "model.source": "folder",
    "model.architecture": "{layers: 5}",
    "model.embeddings": "random",
    "model.dtype": "bfloat16",
    "prompts.style": "compact",
    "prompts.token_budget": "77",
    "words.further": "7",
    "words.names": "7",
    "words.least": "7",
    "words.together": "true",
    "words.window": "7",
    "words.power": "0.5",
    "words.lists": "7",
    "words.runs": "7",
    "words.learning_rate": "0.5",
    "words.teachers": "{movie: {of: [{item-knn: {}}]}}",
    "questions.share": "0.5",
    "questions.tasks": "[trec-dl-2019]",
    "questions.temperature": "0.5",
    "optimizer.learning_rate": "1e-4",
    "optimizer.last_layer_factor": "0.5",
    "optimizer.last_layer_from": "0.5",
    "optimizer.words_factor": "0.5",
    "optimizer.frozen_labels": "true",
    "optimizer.weight_decay": "0.5",
    "optimizer.beta1": "0.5",
    "optimizer.beta2": "0.5",
    "optimizer.clip": "0.5",
    "optimizer.warmup": "0.5",
    "optimizer.final": "0.5",
    "loss.readout": "0.5",
    "loss.vocabulary": "0.5",
    "loss.frozen_output": "true",
    "loss.distil": "0.5",
    "loss.sharpness": "0.5",
}


def write(folder: Path, record: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(record if isinstance(record, str) else yaml.safe_dump(record), encoding="utf-8")
    return path


def flat(record: dict[str, Any]) -> dict[str, Any]:
    """Return every field by its dotted name."""
    found = {key: value for key, value in record.items() if key not in PARTS}
    return {**found, **{f"{part}.{key}": value for part in PARTS for key, value in record[part].items()}}


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_the_package_loads_and_survives_yaml(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_the_embedded_recipe_is_there() -> None:
    assert "embedded" in recipe_names()
    assert len(load_recipe("embedded").tasks) == 9


def test_the_table_of_changes_knows_every_field() -> None:
    known = {entry.name for entry in fields(Recipe)} - set(PARTS)
    known |= {f"{part}.{entry.name}" for part, kind in PARTS.items() for entry in fields(kind)}
    assert set(CHANGES) == known


@pytest.mark.parametrize("key", CHANGES)
def test_an_override_changes_its_field_and_no_other(tmp_path: Path, key: str) -> None:
    # A share of questions needs tasks to take them from.
    path = write(tmp_path, {**PLAIN, "questions": {"tasks": ["trec-dl-2020"]}})
    before, after = flat(load_recipe(path).to_dict()), flat(load_recipe(path, [f"{key}={CHANGES[key]}"]).to_dict())
    assert {name for name in before if before[name] != after[name]} == {key}


@pytest.mark.parametrize("written", ["1e-4", "0.0001", "1.0e-4"])
def test_a_number_may_be_written_with_an_exponent(written: str) -> None:
    recipe = load_recipe("embedded", [f"optimizer.learning_rate={written}"])
    assert recipe.optimizer.learning_rate == 1e-4
    assert isinstance(recipe.optimizer.learning_rate, float)


def test_a_whole_number_becomes_a_float_where_one_is_wanted() -> None:
    assert isinstance(load_recipe("embedded", ["loss.readout=1"]).loss.readout, float)


def test_overrides_reach_into_mappings_and_the_last_one_counts() -> None:
    recipe = load_recipe("embedded", ["model.architecture.layers=5", "tasks.movie=3", "seed=1", "seed=2"])
    assert (recipe.model.architecture["layers"], recipe.tasks["movie"], recipe.seed) == (5, 3, 2)
    assert recipe.model.architecture["heads"] == load_recipe("embedded").model.architecture["heads"]


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.rate=1", r"optimizer\.rate is not known; known are .*optimizer\.learning_rate"),
        ("epochs=3", "epochs is not known; known are .*tokens"),
        ("loss.part.weight=1", "loss.part is not known"),
        ("tokens", "must be key=value"),
        ("name.first=1", "'name' is not a mapping"),
        ("tokens=many", "tokens='many' must be of type int"),
        ("words.teachers={films: {of: [{item-knn: {}}]}}", "words.teachers: .*'films'"),
        ("words.teachers={movie: item-knn}", "words.teachers.movie must be a mapping, not 'item-knn'"),
        ("words.teachers={movie: {item-knn: {}}}", "words.teachers.movie.item-knn is not known; .*movie.of"),
        ("words.teachers={movie: {}}", r"words.teachers.movie.of=\[\] must list baselines"),
        ("words.teachers={movie: {of: item-knn}}", "words.teachers.movie.of='item-knn' must list baselines"),
        ("words.teachers={movie: {of: [item-knn]}}", "words.teachers.movie.of=.* must list baselines"),
        ("words.teachers={movie: {of: [{item-knn: 3}]}}", "words.teachers.movie.of=.* must list baselines"),
        ("words.teachers={movie: {of: [{item-knn: {}, popularity: {}}]}}", "words.teachers.movie.of=.* must list"),
        ("words.teachers={movie: {of: [{item-knn: {}}], odds: 1}}", "words.teachers.movie.odds=1 must be of type bool"),
        (
            "words.teachers={movie: {of: [{item-knn: {}}], temperature: 0}}",
            "words.teachers.movie.temperature=0.0 must be > 0 and finite",
        ),
        ("tokens=1.5", "tokens=1.5 must be of type int"),
        ("tokens=true", "tokens=True must be of type int"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate='fast' must be of type float"),
        ("optimizer.learning_rate=true", "must be of type float"),
        ("optimizer.frozen_labels=1", "optimizer.frozen_labels=1 must be of type bool"),
        ("prompts.style=3", "prompts.style=3 must be of type str"),
        ("optimizer=3", "optimizer must be a mapping"),
        ("optimizer=", "optimizer must be a mapping"),
        ("tasks={}", "tasks is empty"),
        ("tasks={movy: 1}", "did you mean 'movie'"),
        ("methods={elimination: 1}", "methods: 'elimination' is not known; choose among iranker, dranker"),
        ("methods={tournament: 1}", "methods: 'tournament' is not known; choose among iranker, dranker"),
        ("methods={iranker: 1, tournament: 0}", "methods: 'tournament' is not known; choose among iranker, dranker"),
        ("tasks={movie: -1}", "must hold weights"),
        ("tasks={movie: 0}", "must hold weights"),
        ("tasks={movie: much}", "must hold weights"),
        ("tasks={movie: .nan}", "must hold weights"),
        ("methods={}", "must hold weights"),
        ("methods={iranker: 0}", "must hold weights"),
        ("tokens=0", "tokens=0 must be ≥ 1"),
        ("batch_tokens=-1", "must be ≥ 1"),
        ("checkpoint_every=0", "must be ≥ 1"),
        ("validate_every=0", "must be ≥ 1"),
        ("average=1", r"average=1.0 must be in \[0, 1\)"),
        ("average=-0.1", "must be in"),
        ("model.embeddings=glove", "must be 'minilm' or 'random'"),
        ("model.source=folder", "excludes model.architecture"),
        # Below: what a user may well write, and only finds out about in the middle of a run.
        ("model.dtype=float16", "model.dtype"),
        ("tasks=[movie]", "tasks"),
        ("methods=[iranker]", "methods"),
        ("model.architecture=[5]", "model.architecture"),
        ("optimizer.learning_rate=[", "optimizer.learning_rate"),
        ("optimizer.learning_rate=.nan", "optimizer.learning_rate"),
        ("optimizer.learning_rate=-1", "optimizer.learning_rate"),
        ("optimizer.clip=0", "optimizer.clip"),
        ("validate_lists=-1", "validate_lists"),
        ("prompts.token_budget=0", "prompts.token_budget"),
        ("words.lists=-1", "words.lists"),
        ("words.further=-1", "words.further"),
        ("words.names=-1", "words.names"),
        ("words.least=0", "words.least"),
        ("words.window=-2", "words.window=-2 must be ≥ 2, or 0"),
        ("words.window=1", "words.window=1 must be ≥ 2, or 0"),
        ("words.power=0", "words.power=0.0 must be > 0"),
        ("cloze=1.5", "cloze"),
        ("optimizer.words_factor=-1", "optimizer.words_factor"),
        ("optimizer.words_factor=.nan", "optimizer.words_factor"),
    ],
)
def test_a_mistake_is_named(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe("embedded", [override])


@pytest.mark.parametrize("methods", [{"tournament": 1}, {"iranker": 1, "tournament": 1}])
def test_verls_trainer_teaches_the_same_methods(methods: dict[str, float]) -> None:
    record = {**PLAIN, "trainer": "verl"}
    assert dict(parse_for_verl(record).methods) == {"iranker": 1.0}
    with pytest.raises(RecipeError, match="methods: 'tournament' is not known; choose among iranker, dranker"):
        parse_for_verl({**record, "methods": methods})


@pytest.mark.parametrize("change", ["model.architecture={layers: 5}", "loss.readout=0.5"])
def test_a_given_checkpoint_has_no_layout_of_ours(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, PLAIN)
    assert load_recipe(path, ["model.source=folder"]).model.source == "folder"
    with pytest.raises(RecipeError, match=r"model\.source excludes"):
        load_recipe(path, ["model.source=folder", change])


@pytest.mark.parametrize("name", ["embeded", "Embedded", "nothing"])
def test_a_recipe_that_does_not_exist_is_an_option_error(name: str) -> None:
    with pytest.raises(OptionError, match="embedded"):
        load_recipe(name)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="does not exist"):
        load_recipe(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["name: [", "a: b: c", "\t- x"])
def test_a_file_that_is_not_yaml_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="not YAML"):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_without_a_mapping_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="expected a mapping"):
        load_recipe(write(tmp_path, text))


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml"):
        load_recipe(path)


@pytest.mark.parametrize("missing", ["name", "tasks"])
def test_a_field_that_must_be_there_is_named(missing: str) -> None:
    with pytest.raises(RecipeError, match=missing):
        parse_recipe({key: value for key, value in PLAIN.items() if key != missing})
