from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from toy_tasks import build_toy, toy_list
from unified_ranker.benchmarks.speed.lists import speed_lists

from unified_ranker.errors import DataError, MissingSourceError
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample

# No grade twice, so that no text stands in two lists.
GRADES = [[10 * number + place for place in range(6)] for number in range(5)]
ALL_TEXTS = 30


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return build_toy(tmp_path, "movie", test=GRADES, validation=GRADES[:2])


def texts(example: RankingExample) -> list[str]:
    return [candidate.text for candidate in example.candidates]


def own(number: int) -> set[str]:
    return {f"grade {grade} of place 0{place}" for place, grade in enumerate(GRADES[number])}


@pytest.mark.parametrize("size", [2, 3, 5, 6, 7, 12, ALL_TEXTS])
def test_lists_have_the_size_that_is_asked_for_and_nothing_twice(data: Path, size: int) -> None:
    found = speed_lists(data, "movie", queries=4, candidates=size)
    assert [example.id for example in found] == ["test0", "test1", "test2", "test3"]
    for example in found:
        assert len(example.candidates) == size
        assert len({candidate.id for candidate in example.candidates}) == size
        assert len(set(texts(example))) == size


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_list_that_is_too_long_keeps_its_best(data: Path, size: int) -> None:
    for number, example in enumerate(speed_lists(data, "movie", queries=5, candidates=size)):
        grades = [example.grade(candidate.id) for candidate in example.candidates]
        assert sorted(grades, reverse=True) == sorted(GRADES[number], reverse=True)[:size]
        assert set(texts(example)) <= own(number)


def test_of_equal_grades_any_may_go(tmp_path: Path) -> None:
    build_toy(tmp_path, "movie", test=[[0] * 8 + [1]])
    kept = {
        frozenset(
            candidate.id
            for candidate in speed_lists(tmp_path, "movie", queries=1, candidates=3, seed=seed)[0].candidates
        )
        for seed in range(6)
    }
    assert all("c8" in ids for ids in kept)
    assert len(kept) > 1


@pytest.mark.parametrize("size", [7, 20, ALL_TEXTS])
def test_a_list_that_is_too_short_gets_candidates_of_others_that_count_as_unjudged(data: Path, size: int) -> None:
    everything = set().union(*(own(number) for number in range(5)))
    for number, example in enumerate(speed_lists(data, "movie", queries=5, candidates=size)):
        mine = [c for c in example.candidates if not c.id.startswith("added-")]
        added = [c for c in example.candidates if c.id.startswith("added-")]
        assert {c.text for c in mine} == own(number)
        assert {example.grade(c.id) for c in mine} == {float(grade) for grade in GRADES[number]}
        assert len(added) == size - 6
        assert {c.text for c in added} <= everything - own(number)
        assert all(example.grade(c.id) == 0 and c.id not in example.relevance for c in added)


def test_query_and_task_stay(data: Path) -> None:
    for size in (3, 6, 9):
        (example,) = speed_lists(data, "movie", queries=1, candidates=size)
        assert (example.query, example.task, example.domain) == ("query of test0", "movie", "recommendation")


def test_the_same_arguments_give_the_same_lists(data: Path) -> None:
    for size in (3, 6, 15):
        first = speed_lists(data, "movie", queries=5, candidates=size)
        assert speed_lists(data, "movie", queries=5, candidates=size) == first
        assert speed_lists(data, "movie", queries=2, candidates=size) == first[:2]
        assert speed_lists(data, "movie", queries=5, candidates=size, seed=1) != first


def test_lists_are_shuffled_so_that_added_candidates_do_not_stand_at_the_end(data: Path) -> None:
    orders = [
        [candidate.id.startswith("added-") for candidate in example.candidates]
        for example in speed_lists(data, "movie", queries=5, candidates=12)
    ]
    assert [False] * 6 + [True] * 6 not in orders
    assert len({tuple(order) for order in orders}) > 1


def test_the_split_is_the_one_asked_for(data: Path) -> None:
    found = speed_lists(data, "movie", queries=2, candidates=8, split="validation")
    assert [example.id for example in found] == ["validation0", "validation1"]
    # Nothing comes from lists of another split.
    assert all(set(texts(example)) <= own(0) | own(1) for example in found)


def test_texts_that_several_lists_share_are_added_once(tmp_path: Path) -> None:
    build_toy(tmp_path, "movie", test=[[1, 2], [1, 3], [1, 4]])
    # Place 0 looks the same everywhere, so that there are four candidates.
    for example in speed_lists(tmp_path, "movie", queries=3, candidates=4):
        assert sorted(texts(example)) == [
            "grade 1 of place 00",
            "grade 2 of place 01",
            "grade 3 of place 01",
            "grade 4 of place 01",
        ]
    with pytest.raises(DataError, match="only 4 different candidates, not 5"):
        speed_lists(tmp_path, "movie", queries=3, candidates=5)


def test_too_many_candidates_are_refused(data: Path) -> None:
    with pytest.raises(DataError, match=f"only {ALL_TEXTS} different candidates, not {ALL_TEXTS + 1}"):
        speed_lists(data, "movie", queries=1, candidates=ALL_TEXTS + 1)


def test_too_many_queries_are_refused(data: Path) -> None:
    with pytest.raises(DataError, match=r"task 'movie' has 2 validation lists, not 3; ask for fewer lists"):
        speed_lists(data, "movie", queries=3, candidates=3, split="validation")


def test_a_task_that_was_not_built_names_the_command_that_builds_it(data: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build game"):
        speed_lists(data, "game", queries=1, candidates=2)


def test_candidates_that_differ_in_their_title_alone_are_different(tmp_path: Path) -> None:
    build_toy(tmp_path, "music", test=[[1, 0], [1, 0], [0, 1]])
    written = [
        replace(
            example,
            candidates=tuple(
                Candidate(f"{example.id}-{c.id}", "", title=f"artist {example.id} {c.id}") for c in example.candidates
            ),
            relevance={},
        )
        for example in (toy_list(f"test{n}", [1, 0], task="music") for n in range(3))
    ]
    write_parquet(tmp_path / "music" / "test.parquet", written)
    for example in speed_lists(tmp_path, "music", queries=3, candidates=6):
        assert len({candidate.title for candidate in example.candidates}) == 6
