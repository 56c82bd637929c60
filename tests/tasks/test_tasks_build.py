from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from unified_ranker.tasks import ALL_TASKS, NINE, TASKS, BuildOptions, Built, task_named

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import SPLITS
from unified_ranker.schema.validate import check_example

EVERY_EDITION = [(name, edition) for name in ALL_TASKS for edition in ("paper", "open")]


@pytest.mark.parametrize(("name", "edition"), EVERY_EDITION)
def test_every_task_builds_and_every_example_holds_to_the_format(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    built = build(name, edition)
    assert set(built.splits) == set(SPLITS)
    assert built.splits["test"]
    for split, examples in built.splits.items():
        for example in examples:
            check_example(example)
            assert (example.task, example.domain, example.split) == (name, TASKS[name].domain, split)
            assert example.group
            assert example.query.strip()
            assert all(candidate.title or candidate.text for candidate in example.candidates)
            assert max(example.relevance.values()) > 0


@pytest.mark.parametrize(("name", "edition"), EVERY_EDITION)
def test_ids_are_unique_over_all_splits(build: Callable[..., Built], name: str, edition: str) -> None:
    ids = [example.id for examples in build(name, edition).splits.values() for example in examples]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("edition", ["paper", "open"])
@pytest.mark.parametrize("name", NINE)
def test_each_of_the_nine_tasks_has_lists_in_all_three_splits(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    assert all(build(name, edition).splits[split] for split in SPLITS)


@pytest.mark.parametrize(("name", "edition"), EVERY_EDITION)
def test_what_a_task_is_made_of_is_what_the_registry_lists(
    build: Callable[..., Built], name: str, edition: str
) -> None:
    built = build(name, edition)
    assert {source.url for source in built.sources} == {source.url for source in TASKS[name].sources[edition]}
    assert all(source.title and source.licence for source in built.sources)


@pytest.mark.parametrize(("name", "edition"), EVERY_EDITION)
def test_a_limit_keeps_a_sample_of_the_same_lists(build: Callable[..., Built], name: str, edition: str) -> None:
    whole, few = build(name, edition), build(name, edition, limit=2)
    for split in SPLITS:
        assert len(few.splits[split]) == min(2, len(whole.splits[split]))
        assert all(example in whole.splits[split] for example in few.splits[split])


@pytest.mark.parametrize("name", ["movie", "music", "game", "passage-5", "passage-9"])
def test_lists_per_group_bounds_the_training_lists_of_one_group(build: Callable[..., Built], name: str) -> None:
    for most in (1, 3):
        groups = [example.group for example in build(name, lists_per_group=most).splits["train"]]
        assert max(map(groups.count, groups)) == most
    for split in ("validation", "test"):
        groups = [example.group for example in build(name).splits[split]]
        assert len(set(groups)) == len(groups)


def test_the_nine_tasks_are_three_of_each_domain() -> None:
    domains = [TASKS[name].domain for name in NINE]
    assert {domain: domains.count(domain) for domain in domains} == {"recommendation": 3, "routing": 3, "passage": 3}


def test_the_data_directory_is_taken_from_the_variable(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIFIED_RANKER_DATA", str(data_dir))
    assert BuildOptions().root() == data_dir
    assert TASKS["movie"].build["open"](BuildOptions()).splits["test"]


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ({"edition": "papr"}, "did you mean 'paper'"),
        ({"edition": "opne"}, "did you mean 'open'"),
        ({"negatives": "popular"}, "did you mean 'popularity'"),
        ({"negatives": "unifrom"}, "did you mean 'uniform'"),
    ],
)
def test_a_bad_choice_names_the_field_and_the_nearest_one(options: dict[str, str], meant: str) -> None:
    with pytest.raises(OptionError, match=meant) as raised:
        BuildOptions(**options)  # type: ignore[arg-type]
    assert str(raised.value).startswith(next(iter(options)))


def test_an_unknown_task_names_the_nearest_one() -> None:
    with pytest.raises(OptionError, match="did you mean 'router-balance'"):
        task_named("router-balanced")


@pytest.mark.parametrize("name", ["limit", "lists_per_group"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_below_one_is_refused(name: str, value: int) -> None:
    with pytest.raises(OptionError, match=f"{name}={value}"):
        BuildOptions(**{name: value})  # type: ignore[arg-type]
