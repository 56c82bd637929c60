from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from built_tasks import choice, costs, history, passages, question, write_task
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks.beside import Beside

from unified_ranker.errors import DataError, MissingSourceError, OptionError

LISTS = [passages(f"q{n}", f"query {n}", [f"text {n}", "other"]) for n in range(3)]
HISTORIES = (history("ann", "ab"), history("tim", "c", "test"))


def test_a_built_task_knows_its_name_domain_and_card(tmp_path: Path) -> None:
    task = write_task(tmp_path, "passage-5", LISTS)
    assert (task.name, task.domain, task.folder) == ("passage-5", "passage", tmp_path / "passage-5")
    assert task.card["splits"]["test"]["lists"] == 3
    assert task.card["splits"]["train"] == {"lists": 0}


def test_an_unknown_task_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="did you mean 'passage-5'"):
        BuiltTask.open(tmp_path, "passage5")


def test_a_task_that_was_not_built_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build music --out"):
        BuiltTask.open(tmp_path, "music")


@pytest.mark.parametrize(
    ("options", "edition"),
    [
        ({}, "open"),
        ({"edition": "paper"}, "paper"),
        ({"negatives": "popularity"}, "open-popularity"),
        ({"edition": "paper", "negatives": "popularity"}, "paper-popularity"),
    ],
)
def test_the_edition_says_how_negatives_were_drawn(tmp_path: Path, options: dict[str, str], edition: str) -> None:
    assert write_task(tmp_path, "movie", [choice("ann", "ab", "a")], **options).edition == edition


def test_negatives_are_no_part_of_the_edition_of_passages(tmp_path: Path) -> None:
    assert write_task(tmp_path, "passage-5", LISTS, negatives="popularity").edition == "open"


def test_lists_come_in_their_order_with_all_their_fields(tmp_path: Path) -> None:
    assert write_task(tmp_path, "passage-5", LISTS).lists("test") == tuple(LISTS)


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (2, 2), (3, 3), (9, 3), (None, 3)])
def test_a_limit_takes_the_first_lists_and_forgets_none(tmp_path: Path, limit: int | None, count: int) -> None:
    task = write_task(tmp_path, "passage-5", LISTS)
    assert task.lists("test", limit=limit) == tuple(LISTS[:count])
    assert task.lists("test") == tuple(LISTS)


def test_an_unknown_split_names_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="split='valid' is not known; did you mean 'validation'"):
        write_task(tmp_path, "passage-5", LISTS).lists("valid")


def test_an_empty_split_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="task 'passage-5' has no validation lists"):
        write_task(tmp_path, "passage-5", LISTS).lists("validation")


def test_what_stands_beside_the_lists_is_read(tmp_path: Path) -> None:
    movie = write_task(tmp_path, "movie", [choice("tim", "ab", "a")], beside=Beside(histories=HISTORIES))
    assert movie.histories == HISTORIES
    beside = costs(q1={"small": 1.0, "large": 3.0})
    asked = question("q1", "Why?", {"small": 1.0, "large": 2.0})
    assert write_task(tmp_path, "router-balance", [asked], beside=beside).outcomes == beside.outcomes
    judged = {"q0": {"d9": 2.0}}
    assert write_task(tmp_path, "trec-dl-2019", LISTS, beside=Beside(judged=judged)).judged == judged


@pytest.mark.parametrize("name", ["histories", "outcomes"])
def test_what_is_not_there_is_missed_when_it_is_asked_for(tmp_path: Path, name: str) -> None:
    task = write_task(tmp_path, "passage-5", LISTS)
    with pytest.raises(MissingSourceError, match=rf"{name}\.parquet.* is not there"):
        getattr(task, name)
    assert task.judged == {}


def test_the_fingerprint_is_that_of_the_lists(tmp_path: Path) -> None:
    first = write_task(tmp_path / "1", "passage-5", LISTS).fingerprint("test")
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert write_task(tmp_path / "2", "passage-5", LISTS).fingerprint("test") == first
    assert write_task(tmp_path / "3", "passage-5", LISTS[::-1]).fingerprint("test") != first
    assert write_task(tmp_path / "4", "passage-5", LISTS[:2]).fingerprint("test") != first


@pytest.mark.parametrize(
    "change", [{"query": "another"}, {"relevance": {"q0-1": 1.0}}, {"id": "q9"}, {"context": ("seen",)}]
)
def test_any_change_of_a_list_changes_the_fingerprint(tmp_path: Path, change: dict[str, object]) -> None:
    other = [replace(LISTS[0], **change), *LISTS[1:]]  # type: ignore[arg-type]
    first, second = (
        write_task(tmp_path / str(n), "passage-5", lists).fingerprint("test") for n, lists in enumerate((LISTS, other))
    )
    assert first != second


def test_each_split_has_a_fingerprint_of_its_own(tmp_path: Path) -> None:
    task = write_task(tmp_path, "passage-5", [replace(LISTS[0], split="train"), *LISTS[1:]])
    alone = write_task(tmp_path / "alone", "passage-5", LISTS[1:])
    assert task.fingerprint("test") == alone.fingerprint("test")
    assert task.fingerprint("train") != task.fingerprint("test")
