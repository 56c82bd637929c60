from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unified_ranker.errors import DataError
from unified_ranker.schema.jsonl import read_examples, write_examples
from unified_ranker.schema.parquet import features, read_parquet, write_parquet
from unified_ranker.schema.types import DOMAINS, SPLITS, Candidate, RankingExample

ANY_TEXT = st.text(st.characters(), max_size=30)
STORABLE_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ODD_TEXTS = (
    "",
    " \t ",
    "two\nlines\r\nand \r more",
    "line\u2028paragraph\u2029next\x85form\x0cvertical\x0b",
    "\x00\x1c\x1d\x1e\x1f\x7f",
    '"quoted" \\ back\\nslash',
    "\ufeffmark",
    "e\u0301 \u00e9 \u202eflipped\u202c \u200b",
    "😀 👩\u200d👩\u200d👧 𝒳",
    "NaN",
    "null",
)


def list_of(text: str, **changes: object) -> RankingExample:
    found = RankingExample(
        id=f"id {text}",
        query=text,
        candidates=(Candidate(id=f"a{text}", text=text, title=text), Candidate(id="b", text="plain")),
        task=text,
        domain="recommendation",
        context=(text, "", text),
        relevance={f"a{text}": 2.5, "b": 0.0},
        split="train",
        group=text,
    )
    return replace(found, **changes)


@st.composite
def examples(draw: st.DrawFn, text: st.SearchStrategy[str]) -> RankingExample:
    ids = draw(st.lists(text.filter(bool), min_size=1, max_size=4, unique=True))
    grades = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
    return RankingExample(
        id=draw(text.filter(bool)),
        query=draw(text),
        candidates=tuple(Candidate(id=key, text=draw(text), title=draw(text)) for key in ids),
        task=draw(text),
        domain=draw(st.sampled_from(DOMAINS)),
        context=tuple(draw(st.lists(text, max_size=3))),
        relevance=draw(st.dictionaries(st.sampled_from(ids), grades)),
        split=draw(st.sampled_from(SPLITS)),
        group=draw(text),
    )


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.lists(examples(ANY_TEXT), max_size=3))
@example([list_of("\ud83d")])
@example([list_of("\ude00 low first \ud83d")])
def test_json_lines_read_back_equal_for_any_text(written: list[RankingExample]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lists.jsonl"
        assert write_examples(path, written) == len(written)
        assert list(read_examples(path)) == written


def test_two_surrogates_that_form_a_pair_are_refused_rather_than_joined(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="pair of surrogates"):
        write_examples(tmp_path / "lists.jsonl", [list_of("\ud83d\ude00")])


@pytest.mark.parametrize("text", [*ODD_TEXTS, "\udcff", "lone \ud800 high"])
def test_json_lines_keep_odd_text_on_one_line_each(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lists.jsonl"
    written = [list_of(text), list_of(text, id="second")]
    write_examples(path, written)
    assert path.read_bytes().count(b"\n") == 2
    assert list(read_examples(path)) == written


def test_json_lines_keep_text_readable_where_utf8_can_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    write_examples(path, [list_of("naïve 猫")])
    assert "naïve 猫" in path.read_text(encoding="utf-8")


def test_json_lines_skip_blank_lines_and_take_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "lists.jsonl"
    write_examples(path, [list_of("x"), list_of("y")])
    path.write_bytes(b"\r\n" + path.read_bytes().replace(b"\n", b"\r\n\r\n") + b"  \n")
    assert list(read_examples(path)) == [list_of("x"), list_of("y")]


@pytest.mark.parametrize("grade", [0.0, 5e-324, 0.1 + 0.2, 1 / 3, 1.7976931348623157e308, 2.0**53 + 2])
def test_both_formats_keep_every_bit_of_a_grade(tmp_path: Path, grade: float) -> None:
    written = [list_of("x", relevance={"b": grade})]
    write_examples(tmp_path / "lists.jsonl", written)
    write_parquet(tmp_path / "lists.parquet", written)
    assert list(read_examples(tmp_path / "lists.jsonl")) == written
    assert list(read_parquet(tmp_path / "lists.parquet")) == written


@pytest.mark.parametrize("grade", [float("nan"), float("inf"), -float("inf")])
def test_json_lines_refuse_to_write_a_number_that_json_lacks(tmp_path: Path, grade: float) -> None:
    with pytest.raises(DataError, match="record 'id x' holds a number"):
        write_examples(tmp_path / "lists.jsonl", [list_of("x", relevance={"b": grade})])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(examples(STORABLE_TEXT), max_size=3))
def test_parquet_reads_back_equal_for_any_text_without_surrogates(written: list[RankingExample]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lists.parquet"
        assert write_parquet(path, written) == len(written)
        assert list(read_parquet(path)) == written


def test_parquet_keeps_odd_texts(tmp_path: Path) -> None:
    written = [list_of(text) for text in ODD_TEXTS]
    write_parquet(tmp_path / "lists.parquet", written)
    assert list(read_parquet(tmp_path / "lists.parquet")) == written


def test_parquet_keeps_the_order_of_more_rows_than_one_batch(tmp_path: Path) -> None:
    written = [list_of("x", id=str(number)) for number in range(600)]
    write_parquet(tmp_path / "lists.parquet", written)
    assert list(read_parquet(tmp_path / "lists.parquet")) == written


def test_the_same_examples_give_the_same_parquet_bytes(tmp_path: Path) -> None:
    written = [list_of("x"), list_of("y")]
    write_parquet(tmp_path / "one.parquet", written)
    write_parquet(tmp_path / "two.parquet", written)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize("field", ["id", "query", "task", "group", "context", "title", "text", "candidate id"])
def test_a_surrogate_in_parquet_is_refused_in_any_field(tmp_path: Path, field: str) -> None:
    broken = "x\ud800"
    key = broken if field == "candidate id" else "a"
    shown = {"title": "t", "text": "t", field: broken}
    written = RankingExample(
        id=broken if field == "id" else "e",
        query=broken if field == "query" else "q",
        candidates=(Candidate(id=key, text=shown["text"], title=shown["title"]),),
        task=broken if field == "task" else "",
        context=(broken,) if field == "context" else (),
        relevance={key: 1.0},
        group=broken if field == "group" else "",
    )
    with pytest.raises(DataError, match="lone surrogate"):
        write_parquet(tmp_path / "lists.parquet", [written])


def rows_of(path: Path, columns: dict[str, list[object]]) -> Path:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def plain_row() -> dict[str, list[object]]:
    return {
        "id": ["e", "f"],
        "task": ["", ""],
        "domain": ["passage", "passage"],
        "split": ["test", "test"],
        "group": ["", ""],
        "query": ["q", "q"],
        "context": [[""], [""]],
        "candidates": [[{"id": "a", "title": "", "text": "t"}]] * 2,
        "relevance": [[{"id": "a", "grade": 1.0}]] * 2,
    }


def test_parquet_of_another_hand_is_read(tmp_path: Path) -> None:
    path = rows_of(tmp_path / "lists.parquet", plain_row())
    assert [found.id for found in read_parquet(path)] == ["e", "f"]


@pytest.mark.parametrize("column", sorted(features()))
def test_a_missing_parquet_column_is_named_with_the_file(tmp_path: Path, column: str) -> None:
    columns = plain_row()
    del columns[column]
    path = rows_of(tmp_path / "lists.parquet", columns)
    with pytest.raises(DataError) as caught:
        list(read_parquet(path))
    assert str(path) in str(caught.value)
    assert f"column {column!r} is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "values", "field"),
    [
        ("id", ["e", None], "'id'"),
        ("id", ["e", ""], "'id'"),
        ("query", ["q", None], "'query'"),
        ("domain", ["passage", "song"], "'domain'"),
        ("split", ["test", "dev"], "'split'"),
        ("context", [[""], None], "'context'"),
        ("context", [[""], ["x", None]], "'context[1]'"),
        ("candidates", [[{"id": "a", "title": "", "text": "t"}], []], "'candidates'"),
        ("candidates", [[{"id": "a", "title": "", "text": "t"}], None], "'candidates'"),
        (
            "candidates",
            [[{"id": "a", "title": "", "text": "t"}], [{"id": "a", "title": "", "text": None}]],
            "'candidates[0].text'",
        ),
        ("relevance", [[], [{"id": "z", "grade": 1.0}]], "'relevance'"),
        ("relevance", [[], [{"id": "a", "grade": -1.0}]], "'relevance['a']'"),
        ("relevance", [[], [{"id": "a", "grade": float("nan")}]], "'relevance['a']'"),
        ("relevance", [[], [{"id": "a", "grade": 1.0}, {"id": "a", "grade": 0.0}]], "'relevance'"),
        ("relevance", [["a"], ["a"]], "'relevance'"),
        ("extra", [1, 2], "'extra'"),
    ],
)
def test_a_bad_parquet_cell_is_named_by_file_row_and_field(
    tmp_path: Path, column: str, values: list[object], field: str
) -> None:
    path = rows_of(tmp_path / "lists.parquet", {**plain_row(), column: values})
    with pytest.raises(DataError) as caught:
        list(read_parquet(path))
    row = 1 if column in ("extra",) or values == [["a"], ["a"]] else 2
    assert str(caught.value).startswith(f"{path}, row {row}: field {field}")


def test_a_file_that_is_no_parquet_is_a_data_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "lists.parquet"
    path.write_bytes(b"not parquet")
    with pytest.raises(DataError, match=r"lists\.parquet"):
        list(read_parquet(path))
