from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import DataError, UnifiedRankerError
from unified_ranker.schema import check_example
from unified_ranker.schema.jsonl import example_from_dict, read_examples
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.schema.validate import check_unique

GOOD: dict[str, Any] = {
    "id": "e",
    "query": "q",
    "candidates": [{"id": "a", "text": "one", "title": "t"}, {"id": "b", "text": "two"}],
    "task": "movie",
    "domain": "recommendation",
    "context": ["seen"],
    "relevance": {"a": 1},
    "split": "train",
    "group": "u",
}
EXAMPLE = RankingExample(id="e", query="q", candidates=(Candidate("a", "one"), Candidate("b", "two")))


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


def candidate(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "text": "one"}, {"id": "b", "text": "two", **changes}]


BAD_RECORDS: list[tuple[Any, str]] = [
    ({**GOOD, "candidates": []}, "field 'candidates' is empty"),
    ({**GOOD, "candidates": candidate(id="a")}, "field 'candidates' holds the id 'a' 2 times"),
    ({**GOOD, "candidates": "one two"}, "field 'candidates' is str"),
    ({**GOOD, "candidates": None}, "field 'candidates' is NoneType"),
    ({**GOOD, "candidates": {"a": "one"}}, "field 'candidates' is dict"),
    ({**GOOD, "candidates": ["one", "two"]}, "field 'candidates[0]' is 'one'"),
    ({**GOOD, "candidates": [*candidate(), None]}, "field 'candidates[2]' is None"),
    ({**GOOD, "candidates": candidate(id=7)}, "field 'candidates[1].id' is 7 (int)"),
    ({**GOOD, "candidates": candidate(id=["b"])}, "field 'candidates[1].id' is ['b'] (list)"),
    ({**GOOD, "candidates": candidate(id="")}, "field 'candidates[1].id' is empty"),
    ({**GOOD, "candidates": candidate(text=None)}, "field 'candidates[1].text' is None (NoneType)"),
    ({**GOOD, "candidates": candidate(title=1.5)}, "field 'candidates[1].title' is 1.5 (float)"),
    ({**GOOD, "candidates": candidate(score=1)}, "candidates[1]: field 'score' is not known"),
    ({**GOOD, "candidates": [{"id": "a", "text": "one"}, {"id": "b"}]}, "candidates[1]: field 'text' is missing"),
    ({**GOOD, "candidates": [{"text": "one"}]}, "candidates[0]: field 'id' is missing"),
    ({**GOOD, "relevance": {"z": 1.0}}, "field 'relevance' grades 'z'"),
    ({**GOOD, "relevance": {"a": float("nan")}}, "field 'relevance['a']' is nan"),
    ({**GOOD, "relevance": {"a": float("inf")}}, "field 'relevance['a']' is inf"),
    ({**GOOD, "relevance": {"a": -float("inf")}}, "field 'relevance['a']' is -inf"),
    ({**GOOD, "relevance": {"a": -0.5}}, "field 'relevance['a']' is -0.5"),
    ({**GOOD, "relevance": {"a": -1}}, "field 'relevance['a']' is -1"),
    ({**GOOD, "relevance": {"a": "1"}}, "field 'relevance['a']' is '1'"),
    ({**GOOD, "relevance": {"a": True}}, "field 'relevance['a']' is True"),
    ({**GOOD, "relevance": {"a": None}}, "field 'relevance['a']' is None"),
    ({**GOOD, "relevance": {"a": [1]}}, "field 'relevance['a']' is [1]"),
    ({**GOOD, "relevance": {"a": 10**400}}, "field 'relevance['a']' is 1000"),
    ({**GOOD, "relevance": ["a"]}, "field 'relevance' is ['a']"),
    ({**GOOD, "relevance": 1}, "field 'relevance' is 1"),
    ({**GOOD, "relevance": []}, "field 'relevance' is []"),
    ({**GOOD, "relevance": 0}, "field 'relevance' is 0"),
    ({**GOOD, "relevance": ""}, "field 'relevance' is ''"),
    ({**GOOD, "relevance": False}, "field 'relevance' is False"),
    ({**GOOD, "context": "seen"}, "field 'context' is 'seen'"),
    ({**GOOD, "context": None}, "field 'context' is None"),
    ({**GOOD, "context": {"seen": 1}}, "field 'context' is {'seen': 1}"),
    ({**GOOD, "context": ["seen", 2]}, "field 'context[1]' is 2"),
    ({**GOOD, "id": 4}, "field 'id' is 4 (int)"),
    ({**GOOD, "id": ""}, "field 'id' is empty"),
    ({**GOOD, "query": None}, "field 'query' is None (NoneType)"),
    ({**GOOD, "query": ["q"]}, "field 'query' is ['q'] (list)"),
    ({**GOOD, "task": 3}, "field 'task' is 3 (int)"),
    ({**GOOD, "group": 3}, "field 'group' is 3 (int)"),
    ({**GOOD, "domain": "song"}, "field 'domain' is 'song'"),
    ({**GOOD, "domain": "Passage"}, "field 'domain' is 'Passage'"),
    ({**GOOD, "domain": []}, "field 'domain' is [] (list)"),
    ({**GOOD, "split": "dev"}, "field 'split' is 'dev'"),
    ({**GOOD, "split": None}, "field 'split' is None (NoneType)"),
    ({**GOOD, "score": 1}, "field 'score' is not known"),
    ({**GOOD, "candidate": []}, "field 'candidate' is not known"),
    (without("id"), "field 'id' is missing"),
    (without("query"), "field 'query' is missing"),
    (without("candidates"), "field 'candidates' is missing"),
    ([], "expected an object, found list"),
    ("e", "expected an object, found str"),
    (None, "expected an object, found NoneType"),
]


@pytest.mark.parametrize(("record", "message"), BAD_RECORDS, ids=[message for _, message in BAD_RECORDS])
def test_a_bad_record_in_a_file_is_named_by_file_row_and_field(tmp_path: Path, record: Any, message: str) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(record)}\n", encoding="utf-8")
    reading = read_examples(path)
    assert next(reading).id == "e"
    with pytest.raises(DataError) as caught:
        next(reading)
    assert str(caught.value).startswith(f"{path}, row 3")
    assert message in str(caught.value)


def test_a_good_record_is_read_with_every_field() -> None:
    found = example_from_dict(GOOD, where="here")
    assert found == RankingExample(
        id="e",
        query="q",
        candidates=(Candidate("a", "one", "t"), Candidate("b", "two")),
        task="movie",
        domain="recommendation",
        context=("seen",),
        relevance={"a": 1.0},
        split="train",
        group="u",
    )


def test_a_record_needs_no_more_than_id_query_and_candidates() -> None:
    found = example_from_dict({"id": "e", "query": "", "candidates": [{"id": "a", "text": ""}]}, where="here")
    assert (found.domain, found.split, found.task, found.context, found.relevance) == ("passage", "test", "", (), {})


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"id": "e"',
        b"{'id': 'e'}",
        b'{"id": "e"} {"id": "f"}',
        b"\xef\xbb\xbf{}",
        b'{"id": "raw \t tab"}',
        b"id",
        b'{"id": "e", "query": "\xff"}',
        b"[" * 200_000,
        b'{"id": "e", "query": "q", "candidates": [], "relevance": {"a": ' + b"9" * 5000 + b"}}",
    ],
    ids=["brace", "cut", "quotes", "two", "bom", "tab", "word", "no utf-8", "deep", "long number"],
)
def test_a_line_that_is_no_json_is_named_by_file_and_row(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "lists.jsonl"
    path.write_bytes(json.dumps(GOOD).encode() + b"\n" + line + b"\n")
    reading = read_examples(path)
    with pytest.raises(UnifiedRankerError) as caught:
        list(reading)
    assert f"{path}, row 2" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": ""}, "field 'id' is empty"),
        ({"id": 1}, "field 'id' is 1 (int)"),
        ({"query": b"q"}, "field 'query' is b'q' (bytes)"),
        ({"task": None}, "field 'task' is None (NoneType)"),
        ({"group": 1}, "field 'group' is 1 (int)"),
        ({"domain": ""}, "field 'domain' is ''"),
        ({"split": "Test"}, "field 'split' is 'Test'"),
        ({"context": ("seen", None)}, "field 'context[1]' is None"),
        ({"context": "seen"}, "field 'context' is 'seen'"),
        ({"candidates": ()}, "field 'candidates' is empty"),
        ({"candidates": (Candidate("a", "x"), Candidate("a", "y"))}, "field 'candidates' holds the id 'a' 2 times"),
        ({"candidates": (Candidate("a", 1),)}, "field 'candidates[0].text' is 1 (int)"),  # type: ignore[arg-type]
        ({"relevance": {"z": 1.0}}, "field 'relevance' grades 'z'"),
        ({"relevance": {0: 1.0}}, "field 'relevance' grades 0"),
        ({"relevance": {"a": float("nan")}}, "field 'relevance['a']' is nan"),
        ({"relevance": {"a": float("inf")}}, "field 'relevance['a']' is inf"),
        ({"relevance": {"a": -1e-9}}, "field 'relevance['a']' is -1e-09"),
        ({"relevance": {"a": True}}, "field 'relevance['a']' is True"),
        ({"relevance": {"a": 1j}}, "field 'relevance['a']' is 1j"),
        ({"relevance": {"a": 10**400}}, "field 'relevance['a']' is 1000"),
    ],
)
@pytest.mark.parametrize("where", ["", "lists.jsonl, row 3"])
def test_check_example_names_the_place_and_the_field(changes: dict[str, Any], message: str, where: str) -> None:
    broken = replace(EXAMPLE, **changes)
    with pytest.raises(DataError) as caught:
        check_example(broken, where=where)
    assert str(caught.value).startswith((where or f"example {broken.id!r}") + ": " + message)


@pytest.mark.parametrize(
    "good",
    [
        EXAMPLE,
        replace(EXAMPLE, candidates=(Candidate("a", "same"), Candidate("b", "same"))),
        replace(EXAMPLE, relevance={"a": 0, "b": 3.5}),
        replace(EXAMPLE, query="", candidates=(Candidate(" ", ""),)),
    ],
)
def test_check_example_returns_what_is_well_formed(good: RankingExample) -> None:
    assert check_example(good) is good


def test_two_examples_of_one_id_are_named() -> None:
    check_unique([EXAMPLE, replace(EXAMPLE, id="f")], where="movie, test")
    with pytest.raises(DataError, match="movie, test: two examples have the id 'e'"):
        check_unique([EXAMPLE, replace(EXAMPLE, id="f"), EXAMPLE], where="movie, test")
