from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.errors import DataError
from unified_ranker.schema.trec import qrels_lines, read_qrels, read_run, write_qrels, write_run
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, places_below

BLANK_IDS = ("", " ", "a b", "a\tb", "a\n", "\u00a0a", "a\u2028b", "a\x1fb", "a\u3000")


def ranking_of(ids: list[str], *, query: str = "q", top_k: int | None = None) -> Ranking:
    order = tuple(Candidate(key, "") for key in ids)
    return Ranking(example_id=query, order=order, scores=places_below(len(ids)), top_k=top_k)


def judged(relevance: dict[str, float], *, query: str = "q") -> RankingExample:
    ids = relevance or {"a": 0}
    return RankingExample(query, "", tuple(Candidate(key, "") for key in ids), relevance=relevance)


def test_a_run_has_one_line_a_place_with_decreasing_scores() -> None:
    lines = ranking_of(["b", "a", "c"]).to_trec(tag="mine")
    assert lines == "q Q0 b 1 2.0 mine\nq Q0 a 2 1.0 mine\nq Q0 c 3 0.0 mine\n"


def test_a_run_holds_only_the_places_shown() -> None:
    assert ranking_of(["b", "a", "c"], top_k=1).to_trec() == "q Q0 b 1 2.0 unified-ranker\n"


def test_the_scores_of_a_run_stay_apart_however_close_they_are() -> None:
    close = Ranking("q", (Candidate("a", ""), Candidate("b", "")), scores=(1.0, 1.0 - 2**-53))
    first, second = (float(line.split()[4]) for line in close.to_trec().splitlines())
    assert first > second


def test_a_run_can_be_read_where_the_scores_are_numpy_numbers(tmp_path: Path) -> None:
    import numpy as np

    scores = tuple(np.asarray([0.5, 0.25]))
    write_run(tmp_path / "run", [Ranking("q", (Candidate("a", ""), Candidate("b", "")), scores=scores)])
    assert read_run(tmp_path / "run") == {"q": [("a", 0.5), ("b", 0.25)]}


@pytest.mark.parametrize("key", BLANK_IDS)
def test_an_id_with_white_space_is_refused_wherever_it_stands(key: str) -> None:
    with pytest.raises(DataError, match=r"candidate id .* white space"):
        ranking_of([key]).to_trec()
    with pytest.raises(DataError, match=r"example id .* white space"):
        ranking_of(["a"], query=key).to_trec()
    with pytest.raises(DataError, match=r"tag .* white space"):
        ranking_of(["a"]).to_trec(tag=key)
    with pytest.raises(DataError, match=r"candidate id .* white space"):
        qrels_lines(judged({key: 1}))
    with pytest.raises(DataError, match=r"example id .* white space"):
        qrels_lines(judged({"a": 1}, query=key))


def test_an_id_that_utf8_cannot_hold_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_run(tmp_path / "run", [ranking_of(["a\ud800"])])
    with pytest.raises(DataError):
        write_qrels(tmp_path / "qrels", [judged({"a\ud800": 1})])


@pytest.mark.parametrize("grade", [0.5, 1e-9, float("inf"), float("nan")])
def test_qrels_refuse_a_grade_that_is_no_whole_number(grade: float) -> None:
    with pytest.raises(DataError, match=r"example 'q': grade .* of 'a' is no whole number"):
        qrels_lines(judged({"a": grade}))


def test_qrels_hold_the_judged_candidates_alone() -> None:
    example = RankingExample("q", "", (Candidate("a", ""), Candidate("b", "")), relevance={"b": 2.0})
    assert qrels_lines(example) == "q 0 b 2\n"
    assert qrels_lines(judged({})) == ""


ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda text: text.split() == [text]
)


@settings(deadline=None, derandomize=True, max_examples=80)
@given(st.dictionaries(ids, st.lists(ids, min_size=1, max_size=6, unique=True), max_size=3), st.data())
def test_a_run_reads_back_in_the_order_in_which_it_was_written(
    orders: dict[str, list[str]], data: st.DataObject
) -> None:
    number = st.floats(allow_nan=False, allow_infinity=False)
    written = []
    for query, keys in orders.items():
        scores = sorted(data.draw(st.sets(number, min_size=len(keys), max_size=len(keys))), reverse=True)
        written.append(Ranking(query, tuple(Candidate(key, "") for key in keys), scores=tuple(scores)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        write_run(path, written)
        found = read_run(path)
    assert found == {r.example_id: [(place.id, place.score) for place in r] for r in written}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.dictionaries(ids, st.dictionaries(ids, st.integers(0, 2**53), min_size=1, max_size=5), max_size=3))
def test_qrels_read_back_equal(grades: dict[str, dict[str, float]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "qrels"
        write_qrels(path, [judged(relevance, query=query) for query, relevance in grades.items()])
        assert read_qrels(path) == grades


def test_a_run_is_read_by_score_and_not_by_line_or_rank(tmp_path: Path) -> None:
    path = tmp_path / "run"
    path.write_text("q Q0 low 1 -2 t\n\np Q0 x 1 1e3 t\nq Q0 high 2 7 t\r\nq\tQ0   mid 3 0.5 t\n", encoding="utf-8")
    assert read_run(path) == {"q": [("high", 7.0), ("mid", 0.5), ("low", -2.0)], "p": [("x", 1000.0)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 b 2 1.0", "5 columns; expected 6"),
        ("q Q0 b 2 1.0 t more", "7 columns; expected 6"),
        ("q", "1 columns; expected 6"),
        ("q Q0 b 2 high t", "column 'score' is 'high'"),
        ("q Q0 b 2 1,5 t", "column 'score' is '1,5'"),
        ("q Q0 b 2 nan t", "column 'score' is NaN"),
        ("q Q0 a 2 1.0 t", "column 'document': 'a' stands twice for query 'q'"),
    ],
)
def test_a_bad_line_of_a_run_is_named_by_file_and_row(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "run.txt"
    path.write_text(f"q Q0 a 1 2.0 t\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_run(path)
    assert str(caught.value).startswith(f"{path}, row 3: {message}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q 0 b", "3 columns; expected 4"),
        ("q 0 b 1 x", "5 columns; expected 4"),
        ("q 0 b 1.0", "column 'grade' is '1.0'"),
        ("q 0 b high", "column 'grade' is 'high'"),
        ("q 0 b nan", "column 'grade' is 'nan'"),
        ("q 0 a 1", "column 'document': 'a' is judged twice for query 'q'"),
    ],
)
def test_a_bad_line_of_qrels_is_named_by_file_and_row(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "qrels.txt"
    path.write_text(f"q 0 a 1\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_qrels(path)
    assert str(caught.value).startswith(f"{path}, row 3: {message}")


def test_a_document_may_stand_under_several_queries(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q 0 a 1\np 0 a 0\nq 0 b 2\n", encoding="utf-8")
    assert read_qrels(tmp_path / "qrels") == {"q": {"a": 1.0, "b": 2.0}, "p": {"a": 0.0}}
