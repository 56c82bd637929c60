from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.errors import DataError
from unified_ranker.schema.documents import as_candidates, from_documents, to_documents
from unified_ranker.schema.types import Candidate, RankingExample


def test_strings_and_mappings_without_an_id_get_their_position() -> None:
    given_forms = ["one", {"text": "two"}, {"text": "three", "id": "x", "title": "t"}, Candidate("y", "four")]
    assert as_candidates(given_forms, where="here") == (
        Candidate("0", "one"),
        Candidate("1", "two"),
        Candidate("x", "three", "t"),
        Candidate("y", "four"),
    )


def test_candidates_may_come_from_a_generator() -> None:
    assert [c.id for c in as_candidates((text for text in "ab"), where="here")] == ["0", "1"]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "field 'candidates' is empty"),
        ("one", "field 'candidates' is str"),
        (b"one", "field 'candidates' is bytes"),
        ({"text": "one"}, "field 'candidates' is dict"),
        (None, "field 'candidates' is NoneType"),
        (7, "field 'candidates' is int"),
        ([1], "field 'candidates[0]' is 1 (int)"),
        (["one", None], "field 'candidates[1]' is None (NoneType)"),
        (["one", b"two"], "field 'candidates[1]' is b'two' (bytes)"),
        (["one", ["two"]], "field 'candidates[1]' is ['two'] (list)"),
        (["one", {}], "candidates[1]: field 'text' is missing"),
        (["one", {"text": None}], "field 'candidates[1].text' is None"),
        (["one", {"text": "two", "id": 1}], "field 'candidates[1].id' is 1 (int)"),
        (["one", {"text": "two", "id": None}], "field 'candidates[1].id' is None"),
        (["one", {"text": "two", "url": "x"}], "candidates[1]: field 'url' is not known"),
        (["one", {"text": "two", "id": "0"}], "field 'candidates' holds the id '0' 2 times"),
        ([Candidate("a", "x"), Candidate("a", "y")], "field 'candidates' holds the id 'a' 2 times"),
        ([Candidate("", "x")], "field 'candidates[0].id' is empty"),
    ],
)
def test_a_list_that_cannot_be_read_names_the_place_and_the_field(items: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        as_candidates(items, where="here")
    assert str(caught.value).startswith("here")
    assert message in str(caught.value)


def test_a_rerank_request_is_read() -> None:
    found = from_documents({"query": "q", "documents": ["one", {"text": "two"}], "top_n": 1}, id="r")
    assert found == RankingExample("r", "q", (Candidate("0", "one"), Candidate("1", "two")))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"documents": ["one"]}, "field 'query' is missing"),
        ({"query": "q"}, "field 'documents' is missing"),
        ({"query": 1, "documents": ["one"]}, "field 'query' is 1 (int)"),
        ({"query": None, "documents": ["one"]}, "field 'query' is None"),
        ({"query": "q", "documents": []}, "is empty"),
        ({"query": "q", "documents": None}, "is NoneType"),
        ({"query": "q", "documents": "one"}, "is str"),
        ({"query": "q", "documents": 1}, "is int"),
    ],
)
@pytest.mark.parametrize(("where", "shown"), [("", "record 'r'"), ("body", "body")])
def test_a_bad_rerank_request_names_the_record_and_the_field(
    record: dict[str, Any], message: str, where: str, shown: str
) -> None:
    with pytest.raises(DataError) as caught:
        from_documents(record, id="r", where=where)
    assert str(caught.value).startswith(f"{shown}: field ")
    assert message in str(caught.value)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.text(), st.dictionaries(st.text(min_size=1), st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_query_and_candidates_survive_the_way_to_documents_and_back(
    query: str, texts: dict[str, tuple[str, str]]
) -> None:
    candidates = tuple(Candidate(key, text, title) for key, (text, title) in texts.items())
    example = RankingExample("r", query, candidates)
    assert from_documents(to_documents(example), id="r") == example


def test_a_document_without_a_title_has_no_such_field() -> None:
    example = RankingExample("r", "q", (Candidate("a", "one"), Candidate("b", "two", "t")))
    assert to_documents(example) == {
        "query": "q",
        "documents": [{"id": "a", "text": "one"}, {"id": "b", "text": "two", "title": "t"}],
    }
