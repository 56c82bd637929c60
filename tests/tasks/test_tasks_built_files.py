from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from unified_ranker.tasks import ALL_TASKS, NINE, BuildOptions, Built, task_named
from unified_ranker.tasks.build import build_task, read_card, read_split

from unified_ranker.errors import MissingSourceError
from unified_ranker.schema.types import SPLITS

BESIDE = {"recommendation": ["histories.parquet"], "routing": ["outcomes.parquet"], "passage": []}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", ALL_TASKS)
def test_building_twice_gives_the_same_bytes(data_dir: Path, tmp_path: Path, name: str, edition: str) -> None:
    options = BuildOptions(edition=edition, data_dir=data_dir)
    build_task(name, tmp_path / "first", options)
    build_task(name, tmp_path / "second", options)
    first = contents(tmp_path / "first" / name)
    beside = ["judged.parquet"] if name.startswith("trec") else BESIDE[task_named(name).domain]
    assert set(first) == {"card.json", *(f"{split}.parquet" for split in SPLITS), *beside}
    assert contents(tmp_path / "second" / name) == first


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", NINE)
def test_another_seed_gives_other_lists_and_another_card(
    data_dir: Path, tmp_path: Path, name: str, edition: str
) -> None:
    for seed in (42, 43):
        build_task(name, tmp_path / str(seed), BuildOptions(edition=edition, data_dir=data_dir, seed=seed))
    first, second = (contents(tmp_path / seed / name) for seed in ("42", "43"))
    assert first["card.json"] != second["card.json"]
    assert first["train.parquet"] != second["train.parquet"]
    assert first["test.parquet"] != second["test.parquet"]


def test_where_the_raw_files_lie_is_not_part_of_what_is_built(data_dir: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "link"
    elsewhere.symlink_to(data_dir)
    build_task("movie", tmp_path / "first", BuildOptions(data_dir=data_dir))
    build_task("movie", tmp_path / "second", BuildOptions(data_dir=elsewhere))
    assert contents(tmp_path / "first" / "movie") == contents(tmp_path / "second" / "movie")


@pytest.mark.parametrize("name", ALL_TASKS)
def test_what_is_written_reads_back_equal_empty_splits_too(
    build: Callable[..., Built], data_dir: Path, tmp_path: Path, name: str
) -> None:
    build_task(name, tmp_path, BuildOptions(data_dir=data_dir))
    for split in SPLITS:
        assert list(read_split(tmp_path, name, split)) == build(name).splits[split]


def test_the_splits_for_training_of_trec_are_empty_files(data_dir: Path, tmp_path: Path) -> None:
    card = build_task("trec-dl-2019", tmp_path, BuildOptions(data_dir=data_dir))
    assert list(read_split(tmp_path, "trec-dl-2019", "train")) == []
    assert card["splits"]["train"] == {"lists": 0}
    assert card["splits"]["test"]["lists"] == 4


def test_the_card_is_returned_and_written_alike(data_dir: Path, tmp_path: Path) -> None:
    card = build_task("music", tmp_path, BuildOptions(data_dir=data_dir))
    assert read_card(tmp_path / "music") == card
    assert json.loads((tmp_path / "music" / "card.json").read_text(encoding="utf-8")) == card


def test_a_smaller_build_over_an_older_one_leaves_nothing_of_it(data_dir: Path, tmp_path: Path) -> None:
    build_task("game", tmp_path / "a", BuildOptions(data_dir=data_dir))
    build_task("game", tmp_path / "a", BuildOptions(data_dir=data_dir, limit=1))
    build_task("game", tmp_path / "b", BuildOptions(data_dir=data_dir, limit=1))
    assert contents(tmp_path / "a" / "game") == contents(tmp_path / "b" / "game")


def test_reading_what_was_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie --out"):
        read_split(tmp_path, "movie", "test")
