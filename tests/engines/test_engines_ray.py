"""A collection on a local Ray with two actors, each with a model of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from unified_ranker.tasks.build import read_split

from unified_ranker import Ranker, RankingExample
from unified_ranker.errors import BackendError, DataError, OptionError
from unified_ranker.ray_rank import finished, rank_collection
from unified_ranker.schema.jsonl import write_examples
from unified_ranker.schema.parquet import write_parquet

pytestmark = [pytest.mark.verl, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

RANKER: dict[str, Any] = {"name_or_path": None, "permute": True}


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Any:
    """Start Ray once: a run finds it and leaves it as it is."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def lists(toy_data: Path) -> list[RankingExample]:
    tasks = ("passage-5", "router-cost")
    return [replace(e, id=f"{task}/{e.id}") for task in tasks for e in read_split(toy_data, task, "test")]


def rankings(folder: Path) -> dict[str, list[str]]:
    lines = [line for part in folder.glob("part-*.jsonl") for line in part.read_text(encoding="utf-8").splitlines()]
    records = [json.loads(line) for line in lines]
    assert len({record["id"] for record in records}) == len(records)
    return {record["id"]: [place["id"] for place in record["ranking"]] for record in records}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_two_actors_give_the_rankings_of_one_process_and_a_second_start_what_is_missing(
    kind: str, lists: list[RankingExample], tmp_path: Path
) -> None:
    source, out = tmp_path / f"lists.{kind}", tmp_path / "out"
    (write_examples if kind == "jsonl" else write_parquet)(source, lists)
    done = list(rank_collection(ranker=RANKER, input=source, output=out, actors=2, block=2))
    assert sorted(done) == sorted(example.id for example in lists)
    expected = {ranking.example_id: list(ranking.ids) for ranking in Ranker(permute=True).rank_batch(lists)}
    assert rankings(out) == expected
    parts = sorted(out.glob("part-*.jsonl"))
    assert len(parts) >= len(lists) // 2
    parts[0].unlink()
    (out / "part-0.1.passing").write_text("half a li", encoding="utf-8")
    kept = {part: part.stat().st_mtime_ns for part in parts[1:]}
    list(rank_collection(ranker=RANKER, input=source, output=out, actors=2, block=2))
    assert rankings(out) == expected
    assert {part: part.stat().st_mtime_ns for part in parts[1:]} == kept
    assert not list(out.glob("*.passing"))


def test_errors_of_actors_are_ours(lists: list[RankingExample], tmp_path: Path) -> None:
    source = tmp_path / "lists.jsonl"
    write_examples(source, lists[:2])
    with pytest.raises(BackendError, match="does not exist"):
        list(rank_collection(ranker={"name_or_path": "./nowhere"}, input=source, output=tmp_path / "a"))
    with source.open("a", encoding="utf-8") as file:
        file.write('{"id": "x", "query": 3, "candidates": [{"id": "1", "text": "t"}]}\n')
    with pytest.raises(DataError, match="field 'query'"):
        list(rank_collection(ranker=RANKER, input=source, output=tmp_path / "b"))
    write_examples(source, [*lists[:2], lists[0]])
    with pytest.raises(DataError, match="two lists have the id"):
        list(rank_collection(ranker=RANKER, input=source, output=tmp_path / "c", block=1))
    with pytest.raises(OptionError, match="actors=9"):
        list(rank_collection(ranker=RANKER, input=source, output=tmp_path / "d", actors=9))


def test_a_folder_with_rankings_of_other_lists_is_told(lists: list[RankingExample], tmp_path: Path) -> None:
    source, out = tmp_path / "lists.jsonl", tmp_path / "out"
    write_examples(source, lists[:2])
    list(rank_collection(ranker=RANKER, input=source, output=out))
    assert finished(out) == {example.id for example in lists[:2]}
    write_examples(source, lists[1:3])
    with pytest.raises(DataError, match="which is not in"):
        list(rank_collection(ranker=RANKER, input=source, output=out))
