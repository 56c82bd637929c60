"""Conversations of a file for verl's own trainer, and the recipe that takes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scripted_teachers import setting_of, talks_in, teacher_of, thinks
from toy_tasks import build_toy

from unified_ranker.errors import DataError, RecipeError
from unified_ranker.training import verl_sft
from unified_ranker.training.recipe_file import read_recipe
from unified_ranker.training.rl import config
from unified_ranker.training.synthesis.run import run

PLAIN: dict[str, Any] = {"name": "mine", "trainer": "verl", "tasks": {"passage-5": 1}, "batch": 2, "rows": 4}


def recipe_of(path: Path, **changes: Any) -> verl_sft.VerlSFTRecipe:
    return verl_sft.parse({**PLAIN, "conversations": str(path), **changes})


def talk(number: int) -> list[dict[str, str]]:
    return [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": f"answer {number}"}]


def write(path: Path, count: int) -> Path:
    pq.write_table(pa.table({"messages": [talk(number) for number in range(count)]}), path)
    return path


@pytest.mark.parametrize("rows", [2, 5, 7, 10, 23])
def test_rows_are_drawn_until_there_are_enough_and_each_as_often_as_another(tmp_path: Path, rows: int) -> None:
    path = write(tmp_path / "sft.parquet", 5)
    found = verl_sft._given(recipe_of(path, rows=rows))
    assert len(found) == rows
    assert all(row in [talk(number) for number in range(5)] for row in found)
    counts = Counter(row[0]["content"] for row in found)
    assert max(counts.values()) - min(counts[f"question {n}"] for n in range(5)) <= 1
    # Each pass over the file is whole before the next begins.
    for start in range(0, rows - 4, 5):
        assert len({row[0]["content"] for row in found[start : start + 5]}) == 5


def test_the_order_is_random_and_the_seeds_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "sft.parquet", 12)
    one, other, third = (verl_sft._given(recipe_of(path, rows=24, seed=seed)) for seed in (3, 3, 4))
    assert one == other
    assert one != third
    assert one[:12] != one[12:]
    assert [row[0]["content"] for row in one[:12]] != [f"question {n}" for n in range(12)]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (None, r"does not exist; make it with: train synthesize"),
        ({"messages": pa.array([], pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})))}, "0 rows"),
        ({"prompt": ["a"], "reply": ["b"]}, "a column 'messages'"),
    ],
    ids=["missing", "empty", "other columns"],
)
def test_a_file_that_teaches_nothing_is_named(tmp_path: Path, table: Any, words: str) -> None:
    path = tmp_path / "sft.parquet"
    if table is not None:
        pq.write_table(pa.table(table), path)
    with pytest.raises(DataError, match=words) as told:
        verl_sft._given(recipe_of(path))
    assert str(path) in str(told.value)


@pytest.mark.parametrize("content", [b"", b"messages\n", b"PAR1 and no more PAR1"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "sft.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a parquet file"):
        verl_sft._given(recipe_of(path))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        verl_sft._given(recipe_of(tmp_path))


@pytest.mark.parametrize(
    "column",
    [["just words"], [None], [["a", "b"]], [[]], [[{"from": "human", "value": "hello"}]], [1]],
    ids=["text", "null", "texts", "no message", "other fields", "number"],
)
def test_a_column_of_something_else_is_named(tmp_path: Path, column: list[Any]) -> None:
    # or TypeError; empty conversations, and those with other fields, pass, and end later in IndexError or KeyError.
    path = tmp_path / "sft.parquet"
    pq.write_table(pa.table({"messages": column}), path)
    with pytest.raises(DataError):
        verl_sft._given(recipe_of(path))


def test_what_a_synthesis_writes_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_toy(tmp_path / "data", "passage-5", train=[(0, 3, 1), (2, 0)], test=[(0, 1)])
    setting = setting_of(methods=("dranker", "pointwise"))
    teacher, _ = teacher_of(thinks(), setting)
    run(setting, teacher, data=data, out=tmp_path / "out")
    # Without verl its settings come back as they are; and no task needs to be built.
    monkeypatch.setattr(config, "compose", lambda found, schema: dict(found))
    recipe = recipe_of(tmp_path / "out" / "sft.parquet", rows=14, platform="cpu", methods={"dranker": 1})
    found, setting_found, rows = verl_sft.plan(recipe, data=tmp_path / "nowhere", out=tmp_path / "run")
    given = talks_in(tmp_path / "out")
    assert len(given) == 7
    assert sorted(map(str, rows)) == sorted(map(str, given * 2))
    chats = setting_found.tokenizer.apply_chat_template(rows, tokenize=True, return_dict=True)["input_ids"]
    assert max(map(len, chats)) <= found["data.max_length"]
    assert found["data.messages_key"] == "messages"


def test_without_a_file_the_lists_are_taught(tmp_path: Path) -> None:
    assert verl_sft.parse(PLAIN).conversations == ""
    with pytest.raises(RecipeError, match="conversations"):
        verl_sft.parse({**PLAIN, "conversations": 3})


def test_the_recipe_of_reasonranks_cold_start_has_the_papers_figures() -> None:
    record = read_recipe("reasonrank-7b-sft", package="unified_ranker.training", whole=("verl",))
    recipe = verl_sft.parse(record)
    assert recipe.conversations == "runs/synthesis/sft.parquet"
    assert recipe.rows == 5 * 9_347
    assert (recipe.batch, recipe.gpus, recipe.token_budget) == (64, 8, 23_552)
    assert recipe.steps == 730
    assert dict(recipe.methods) == {"dranker": 1.0}
    assert recipe.verl["optim.lr"] == 5e-6
    # Another file by an override, as the documentation has it.
    other = read_recipe(
        "reasonrank-7b-sft", ["conversations=elsewhere.parquet"], package="unified_ranker.training", whole=("verl",)
    )
    assert verl_sft.parse(other).conversations == "elsewhere.parquet"
