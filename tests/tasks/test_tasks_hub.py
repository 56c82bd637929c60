from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from unified_ranker.tasks import NINE, TASKS, BuildOptions, Built
from unified_ranker.tasks.build import check_splits

from unified_ranker.errors import DataError, MissingSourceError

READY_MADE = NINE[:6]
Load = Callable[..., list[dict[str, Any]]]


def from_hub(name: str, **options: Any) -> Built:
    return TASKS[name].build["paper"](BuildOptions(edition="paper", from_hub=True, **options))


def row(number: int, *, task: str, truth: str = "Beta") -> dict[str, Any]:
    return {"problem": f"Problem {number}", "gt": truth, "candidates": ["Alpha", "Beta", "Gamma"], "task_name": task}


def offer(monkeypatch: pytest.MonkeyPatch, rows: dict[str, list[dict[str, Any]]]) -> list[tuple[object, ...]]:
    asked: list[tuple[object, ...]] = []

    def load(*names: str, split: str) -> list[dict[str, Any]]:
        asked.append((*names, split))
        return rows[split]

    monkeypatch.setattr("datasets.load_dataset", load)
    return asked


@pytest.mark.parametrize("error", [ConnectionError("no route"), OSError("no route"), ValueError("no route")])
@pytest.mark.parametrize("name", NINE)
def test_a_hub_out_of_reach_says_so_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    def load(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", load)
    with pytest.raises(MissingSourceError) as raised:
        from_hub(name)
    message = str(raised.value)
    assert "could not be read from the hub (no route)" in message
    assert "--from-hub" in message
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("name", READY_MADE)
def test_ready_made_lists_become_examples_of_the_task(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    lists = [row(n, task=name) for n in range(3)]
    asked = offer(monkeypatch, {"train": lists, "test": [row(9, task=name), row(10, task="another")]})
    built = from_hub(name)
    assert asked == [("ulab-ai/Ranking-bench", "direct", "train"), ("ulab-ai/Ranking-bench", "direct", "test")]
    assert {split: len(found) for split, found in built.splits.items()} == {"train": 3, "validation": 0, "test": 1}
    check_splits(built, task=name)
    (example,) = built.splits["test"]
    assert example.query == "Problem 9"
    assert [(c.id, c.text) for c in example.candidates] == [("0", "Alpha"), ("1", "Beta"), ("2", "Gamma")]
    assert example.relevance == {"1": 1.0}
    assert (example.domain, example.split) == (TASKS[name].domain, "test")


@pytest.mark.parametrize("spelling", ["movie", "Movie", "Rec-Movie", "rec_movie", "movie_rec", "Recommendation: Movie"])
def test_a_task_is_found_under_its_spellings_and_keeps_our_name(monkeypatch: pytest.MonkeyPatch, spelling: str) -> None:
    offer(monkeypatch, {"train": [row(1, task=spelling)], "test": []})
    (example,) = from_hub("movie").splits["train"]
    assert example.task == "movie"


def test_routing_is_another_name_for_router(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"train": [row(1, task="Routing-Cost"), row(2, task="Routing-Balance")], "test": []})
    assert [example.query for example in from_hub("router-cost").splits["train"]] == ["Problem 1"]


def test_a_truth_that_is_not_exactly_one_candidate_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    double = {**row(3, task="game"), "candidates": ["Beta", "Beta", "Gamma"]}
    offer(monkeypatch, {"train": [row(1, task="game"), row(2, task="game", truth="Delta"), double], "test": []})
    built = from_hub("game")
    assert [example.query for example in built.splits["train"]] == ["Problem 1"]
    assert built.counts == {"dropped, truth not exactly one of the candidates": 2}


def test_a_hub_without_lists_of_the_task_names_those_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"train": [row(1, task="Rec-Book")], "test": [row(2, task="Rec-Film")]})
    with pytest.raises(DataError, match="no list of the task 'music'; it holds: Rec-Book, Rec-Film"):
        from_hub("music")


def test_a_limit_holds_for_ready_made_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, {"train": [row(n, task="movie") for n in range(9)], "test": [row(10, task="movie")]})
    assert {split: len(found) for split, found in from_hub("movie", limit=4).splits.items()} == {
        "train": 4,
        "validation": 0,
        "test": 1,
    }


def test_passages_of_the_hub_become_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    def query(number: int) -> dict[str, Any]:
        texts = [f"text {number} {place}" for place in range(5)]
        return {
            "query_id": number,
            "query": f"query {number}",
            "passages": {"is_selected": [0, 0, 0, 1, 0], "passage_text": texts},
        }

    asked = offer(monkeypatch, {"train": [query(1), query(2)], "validation": [query(3)], "test": [query(4)]})
    built = from_hub("passage-5")
    assert asked == [("microsoft/ms_marco", "v1.1", split) for split in ("train", "validation", "test")]
    assert {split: len(found) for split, found in built.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    (example,) = built.splits["test"]
    assert (example.query, example.relevance, example.task) == ("query 4", {"4-3": 1.0}, "passage-5")
