from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import Command

from unified_ranker.training.recipe import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_a_dry_run_prints_the_resolved_recipe_and_stops(
    name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = command("train", "sft", "--recipe", name, "--dry-run")
    assert result.code == 0, result.err
    assert json.loads(result.out) == load_recipe(name).to_dict()
    assert list(tmp_path.iterdir()) == []


def test_overrides_reach_the_recipe(command: Command) -> None:
    overrides = [
        "optimizer.learning_rate=1e-4",
        "tokens=1234",
        "tasks={movie: 2, passage-5: 0.5}",
        "model.architecture.layers=2",
        "loss.frozen_output=false",
        "name=mine",
    ]
    given = json.loads(command("train", "sft", "--dry-run", *overrides).out)
    plain = json.loads(command("train", "sft", "--dry-run").out)
    assert given["optimizer"] == {**plain["optimizer"], "learning_rate": 1e-4}
    assert (given["tokens"], given["name"]) == (1234, "mine")
    assert given["tasks"] == {"movie": 2, "passage-5": 0.5}
    assert given["model"]["architecture"] == {**plain["model"]["architecture"], "layers": 2}
    assert given["loss"]["frozen_output"] is False
    assert given["words"] == plain["words"]


def test_a_recipe_file_of_ones_own_is_used(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine\ntasks: {movie: 1}\ntokens: 99\n", encoding="utf-8")
    record = json.loads(command("train", "sft", "--recipe", tmp_path / "mine.yaml", "--dry-run", "seed=7").out)
    assert (record["name"], record["tasks"], record["tokens"], record["seed"]) == ("mine", {"movie": 1}, 99, 7)
    assert record["optimizer"]["learning_rate"] == 5e-4


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("tokens", "key=value"),
        ("token=1", "token is not known"),
        ("tokens=many", "tokens='many'"),
        ("tokens=0", "tokens=0 must be"),
        ("tokens=", "tokens="),
        ("tokens=[1", "tokens=[1"),
        ("optimizer.learning_rat=1", "optimizer.learning_rat is not known"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate='fast'"),
        ("tokens.more=1", "'tokens' is not a mapping"),
        ("tasks.movei=1", "did you mean 'movie'"),
        ("tasks={}", "tasks"),
        ("tasks=movie", "tasks"),
        ("tasks.movie=many", "tasks"),
        ("methods.ranker=1", "'ranker' is not known"),
        ("model.embeddings=glove", "model.embeddings='glove'"),
        ("model.source=somewhere", "model.source"),
        ("average=1", "average"),
        ("optimizer=3", "optimizer must be a mapping"),
    ],
)
def test_an_override_that_cannot_be_used_is_told(override: str, words: str, command: Command) -> None:
    assert words in command("train", "sft", "--dry-run", override).complaint()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("embeded", None, "did you mean 'embedded'"),
        ("missing.yaml", None, "'missing.yaml' does not exist"),
        ("mine.yaml", b"[", "not YAML"),
        ("mine.yaml", b"- a\n- b\n", "expected a mapping"),
        ("mine.yaml", b"", "expected a mapping"),
        ("mine.yaml", b"name: mine\n", "tasks"),
        ("mine.yaml", b"tasks: {movie: 1}\n", "name"),
        ("mine.yaml", "name: é\ntasks: {movie: 1}\n".encode("latin-1"), "mine.yaml"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_told(
    name: str, content: bytes | None, words: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert words in command("train", "sft", "--recipe", name, "--dry-run").complaint()


def test_tasks_that_were_not_built_are_told_with_the_command_that_builds_them(
    command: Command, tmp_path: Path, tiny_model: Path
) -> None:
    (tmp_path / "mine.yaml").write_text(
        f"name: mine\ntasks: {{movie: 1}}\nmodel: {{source: {json.dumps(str(tiny_model))}}}\n", encoding="utf-8"
    )
    given = ("--recipe", tmp_path / "mine.yaml", "--data", tmp_path / "data", "--out", tmp_path / "out")
    result = command("train", "sft", *given, "--device", "cpu")
    assert "unified-ranker data build movie" in result.complaint()
