from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from unified_ranker.tasks import ALL_TASKS, NINE, Built
from unified_ranker.tasks.build import check_splits
from unified_ranker.tasks.routing import SCENARIOS

from unified_ranker.errors import DataError
from unified_ranker.schema.types import SPLITS, Candidate, RankingExample

SOURCES = {
    "movie": ("movie",),
    "music": ("music",),
    "game": ("game",),
    "routing": ("router-performance", "router-balance", "router-cost"),
    "passage": ("passage-5", "passage-7", "passage-9"),
    "trec": ("trec-dl-2019", "trec-dl-2020"),
}


def asked(example: RankingExample) -> str:
    """What an example asks: without the scenario for routing, with the history for recommendation."""
    text = example.query
    if example.task in SCENARIOS:
        text = text.removeprefix(SCENARIOS[example.task].query)
    return " ".join(" ".join([text, *example.context]).casefold().split())


def lists_of(builts: Sequence[Built], *splits: str) -> list[RankingExample]:
    return [example for built in builts for split in splits for example in built.splits[split]]


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("names", SOURCES.values(), ids=SOURCES)
def test_a_group_stands_in_one_split_over_all_tasks_of_one_source(
    build: Callable[..., Built], names: tuple[str, ...], edition: str
) -> None:
    home: dict[str, str] = {}
    for example in lists_of([build(name, edition) for name in names], *SPLITS):
        assert home.setdefault(example.group, example.split) == example.split


@pytest.mark.parametrize("edition", ["paper", "open"])
def test_no_group_of_any_test_is_in_any_training(build: Callable[..., Built], edition: str) -> None:
    builts = [build(name, edition) for name in ALL_TASKS]
    test = {example.group for example in lists_of(builts, "test")}
    shared = test & {example.group for example in lists_of(builts, "train", "validation")}
    assert sorted(shared)[:3] == []


@pytest.mark.parametrize("edition", ["paper", "open"])
def test_no_question_of_any_test_is_asked_in_any_training(build: Callable[..., Built], edition: str) -> None:
    builts = [build(name, edition) for name in ALL_TASKS]
    test = {asked(example) for example in lists_of(builts, "test")}
    assert len(test) > 20
    shared = test & {asked(example) for example in lists_of(builts, "train", "validation")}
    assert sorted(shared)[:3] == []


def test_the_same_groups_are_in_the_same_split_whatever_the_task(build: Callable[..., Built]) -> None:
    routers = [build(name) for name in SOURCES["routing"]]
    graded = {example.group: example.split for example in lists_of(routers[1:2], *SPLITS)}
    assert {example.group: example.split for example in lists_of(routers[2:], *SPLITS)} == graded


def test_groups_in_two_splits_are_refused_by_name() -> None:
    def example(id: str, split: str) -> RankingExample:
        candidates = (Candidate(id="a", text="x"), Candidate(id="b", text="y"))
        return RankingExample(
            id=id, query="q", candidates=candidates, relevance={"a": 1.0}, split=split, group="user:7"
        )

    built = Built({"train": [example("1", "train")], "test": [example("2", "test")]}, (), "by hand")
    with pytest.raises(DataError, match=r"movie.*'user:7'.*train and test"):
        check_splits(built, task="movie")


def test_examples_with_one_id_are_refused() -> None:
    example = RankingExample(id="1", query="q", candidates=(Candidate(id="a", text="x"),), group="g")
    with pytest.raises(DataError, match="two examples have the id '1'"):
        check_splits(Built({"test": [example, example]}, (), "by hand"), task="movie")


def test_the_nine_tasks_come_from_the_sources_that_this_file_lists() -> None:
    assert {name for names in SOURCES.values() for name in names} == set(ALL_TASKS) > set(NINE)
