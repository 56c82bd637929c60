from __future__ import annotations

import copy
from typing import Any

import pytest

from unified_ranker.errors import DataError
from unified_ranker.schema.parquet import example_from_row
from unified_ranker.schema.types import Candidate, RankingExample

WHERE = "lists.parquet, list 'q'"
ROW: dict[str, Any] = {
    "id": "q",
    "task": "movie",
    "domain": "recommendation",
    "split": "train",
    "group": "user 1",
    "query": "what next",
    "context": ["one", "two"],
    "candidates": [{"id": "a", "title": "A", "text": "first"}, {"id": "b", "title": "", "text": "second"}],
    "relevance": [{"id": "b", "grade": 2.5}, {"id": "a", "grade": 0.0}],
}


def test_a_row_becomes_an_example_and_stays_as_it_is() -> None:
    row = copy.deepcopy(ROW)
    assert example_from_row(row, where=WHERE) == RankingExample(
        id="q",
        query="what next",
        candidates=(Candidate("a", "first", title="A"), Candidate("b", "second")),
        task="movie",
        domain="recommendation",
        context=("one", "two"),
        relevance={"b": 2.5, "a": 0.0},
        split="train",
        group="user 1",
    )
    assert row == ROW


@pytest.mark.parametrize("relevance", [None, []])
def test_a_row_without_grades_is_unjudged(relevance: object) -> None:
    assert example_from_row({**ROW, "relevance": relevance}, where=WHERE).relevance == {}
    without = {key: value for key, value in ROW.items() if key != "relevance"}
    assert example_from_row(without, where=WHERE).relevance == {}


def test_a_row_of_the_least_is_enough() -> None:
    least = {key: ROW[key] for key in ("id", "query", "candidates")}
    found = example_from_row(least, where=WHERE)
    assert (found.task, found.domain, found.split, found.context) == ("", "passage", "test", ())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"relevance": {"a": 1.0}}, "field 'relevance' is {'a': 1.0}; it must be a list of id and grade"),
        ({"relevance": ["a"]}, "field 'relevance' is ['a']; it must be a list of id and grade"),
        ({"relevance": [{"id": "a"}]}, "field 'relevance' is [{'id': 'a'}]; it must be a list of id and grade"),
        ({"relevance": "a"}, "field 'relevance' is 'a'; it must be a list of id and grade"),
        ({"relevance": [{"id": "a", "grade": 1.0}, {"id": "a", "grade": 1.0}]}, "field 'relevance' grades a candidate"),
        ({"relevance": [{"id": "z", "grade": 1.0}]}, "field 'relevance' grades 'z', which is not among the candidates"),
        ({"relevance": [{"id": "a", "grade": None}]}, "field 'relevance['a']' is None; it must be a number"),
        ({"candidates": []}, "field 'candidates' is empty"),
        (
            {"candidates": [{"id": "a", "title": "", "text": None}], "relevance": []},
            "field 'candidates[0].text' is None",
        ),
        ({"path": "x"}, "field 'path' is not known"),
        ({"domain": "song"}, "field 'domain' is 'song'"),
    ],
)
def test_a_row_that_breaks_the_format_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        example_from_row({**ROW, **changes}, where=WHERE)
    assert str(caught.value).startswith(f"{WHERE}: {words}")


@pytest.mark.parametrize("field", ["id", "query", "candidates"])
def test_a_field_that_is_missing_is_named(field: str) -> None:
    row = {key: value for key, value in ROW.items() if key not in (field, "relevance")}
    with pytest.raises(DataError, match=f"field '{field}' is missing"):
        example_from_row(row, where=WHERE)
