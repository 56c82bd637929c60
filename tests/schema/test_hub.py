from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unified_ranker.errors import DataError
from unified_ranker.schema.hub import from_hub, to_hub
from unified_ranker.schema.types import Candidate, RankingExample

EXAMPLE = RankingExample(
    id="e",
    query="what next?",
    candidates=(Candidate("a", "long text", title="Alien"), Candidate("b", "Brazil")),
    task="movie",
    domain="recommendation",
    context=("Contact", "Dune"),
    relevance={"b": 1.0},
)
RECORD: dict[str, Any] = {"problem": "p", "gt": "two", "candidates": ["one", "two", "one"], "task_name": "music"}


def test_an_example_is_written_with_its_context_below_the_query_and_titles_for_texts() -> None:
    assert to_hub(EXAMPLE) == {
        "problem": "what next?\n- Contact\n- Dune",
        "gt": "Brazil",
        "candidates": ["Alien", "Brazil"],
        "task_name": "movie",
    }


@pytest.mark.parametrize(
    ("relevance", "count"),
    [({}, 0), ({"a": 0.0, "b": 0.0}, 0), ({"a": 1.0, "b": 1.0}, 2)],
)
def test_a_list_without_exactly_one_best_candidate_is_refused(relevance: dict[str, float], count: int) -> None:
    with pytest.raises(DataError, match=f"example 'e': .* exactly one truth, this list has {count}"):
        to_hub(replace(EXAMPLE, relevance=relevance))


def test_the_best_of_several_grades_is_the_truth() -> None:
    assert to_hub(replace(EXAMPLE, relevance={"a": 0.5, "b": 0.25}))["gt"] == "Alien"


def test_a_truth_whose_text_stands_twice_is_refused() -> None:
    doubled = replace(EXAMPLE, candidates=(*EXAMPLE.candidates, Candidate("c", "other", title="Brazil")))
    with pytest.raises(DataError, match="example 'e': the truth 'Brazil' stands 2 times"):
        to_hub(doubled)
    assert to_hub(replace(doubled, relevance={"a": 1.0}))["gt"] == "Alien"


def test_a_record_is_read_with_positions_as_ids() -> None:
    assert from_hub(RECORD, id="r", domain="recommendation", split="train") == RankingExample(
        id="r",
        query="p",
        candidates=(Candidate("0", "one"), Candidate("1", "two"), Candidate("2", "one")),
        task="music",
        domain="recommendation",
        relevance={"1": 1.0},
        split="train",
        group="r",
    )


def test_a_record_written_again_is_the_record() -> None:
    assert to_hub(from_hub(RECORD, id="r", domain="recommendation")) == RECORD


@pytest.mark.parametrize("task", [{}, {"task_name": None}])
def test_a_record_without_a_task_has_an_empty_one(task: dict[str, Any]) -> None:
    record = {key: RECORD[key] for key in ("problem", "gt", "candidates")}
    assert from_hub({**record, **task}, id="r", domain="routing").task == ""


@pytest.mark.parametrize("name", ["problem", "gt", "candidates"])
@pytest.mark.parametrize(("where", "shown"), [("", "record 'r'"), ("hub.jsonl, row 9", "hub.jsonl, row 9")])
def test_a_missing_field_is_named_with_the_record(name: str, where: str, shown: str) -> None:
    record = {key: value for key, value in RECORD.items() if key != name}
    with pytest.raises(DataError) as caught:
        from_hub(record, id="r", domain="recommendation", where=where)
    assert str(caught.value) == f"{shown}: field {name!r} is missing"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"gt": "three"}, "'gt' is 'three', which stands 0 times"),
        ({"gt": "one"}, "'gt' is 'one', which stands 2 times"),
        ({"gt": None}, "'gt' is None, which stands 0 times"),
        ({"candidates": []}, "'gt'"),
        ({"candidates": "two", "gt": "w"}, "'candidates'"),
        ({"candidates": None}, "'candidates'"),
        ({"candidates": 3}, "'candidates'"),
        ({"candidates": [1, "two"]}, "'candidates[0]"),
        ({"problem": 5}, "'problem'"),
    ],
)
def test_a_bad_field_is_named_with_the_record(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError) as caught:
        from_hub({**RECORD, **changes}, id="r", domain="recommendation", where="hub.jsonl, row 9")
    assert str(caught.value).startswith(f"hub.jsonl, row 9: field {field}")


def test_an_unknown_domain_is_refused() -> None:
    with pytest.raises(DataError, match="field 'domain' is 'film'"):
        from_hub(RECORD, id="r", domain="film")
