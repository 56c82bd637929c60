from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import (
    CHECKED,
    GRADE_TABLES,
    MALFORMED_GRADES,
    ROUNDING,
    LabelRow,
    example,
    graded,
    gradings,
    numbered,
    read_grade,
)
from unified_ranker.rewards import Grading, erank

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel

# Relevant are a and d; on the scale to 4 the references of b and c are 2 and 0.
LIST = example({"a": 2.0, "b": 1.0, "c": 0.0, "d": 2.0})
FORMAT = {"ok": 0.0, "repaired": -0.25, "failed": -1.0}
# What a grade of the relevant one earns beside 2 and 0: the worst rank that it can have.
RANK = {None: 0.0, "0": 1 / 3, "1": 1 / 2, "2": 1 / 2, "3": 1.0, "4": 1.0}
# What a grade of one of relevance 1 of 2 earns beside a relevant one of grade 3: nearness to 2, -1 above 3.
OTHER = {None: 0.0, "0": 1 / 2, "1": 3 / 4, "2": 1.0, "3": 3 / 4, "4": -1.0}


def grades_of(text: str) -> dict[str, int | None]:
    return {name: None if grade == "-" else int(grade) for name, grade in zip("abcd", text, strict=True)}


@pytest.mark.parametrize(
    ("candidate", "grades", "rank", "inversion", "distance"),
    [
        # A relevant one earns the reciprocal of its rank among all.
        ("a", "4103", 1, 0, 0),
        ("d", "4103", 1 / 2, 0, 0),
        ("a", "2331", 1 / 3, 0, 0),
        ("d", "2331", 1 / 4, 0, 0),
        # Others of the same grade stand before it.
        ("a", "2204", 1 / 3, 0, 0),
        ("a", "0444", 1 / 4, 0, 0),
        ("a", "0001", 1 / 4, 0, 0),
        # Those without a grade stand behind it.
        ("a", "0--4", 1 / 2, 0, 0),
        ("a", "0---", 1, 0, 0),
        # An irrelevant one above a relevant one.
        ("b", "1204", 0, -1, 0),
        ("b", "4201", 0, -1, 0),
        ("c", "0411", 0, -1, 0),
        ("c", "-404", 0, -1, 0),
        # Not above, if only just: by how near the grade is to the reference.
        ("b", "2204", 0, 0, 1),
        ("b", "4304", 0, 0, 3 / 4),
        ("b", "4104", 0, 0, 3 / 4),
        ("b", "4004", 0, 0, 1 / 2),
        ("b", "4404", 0, 0, 1 / 2),
        ("c", "4004", 0, 0, 1),
        ("c", "4014", 0, 0, 3 / 4),
        ("c", "4044", 0, 0, 0),
        # What the other irrelevant ones got does not matter to it.
        ("c", "4414", 0, 0, 3 / 4),
        ("c", "4-14", 0, 0, 3 / 4),
    ],
)
def test_a_grade_by_hand(candidate: str, grades: str, rank: float, inversion: float, distance: float) -> None:
    found = erank(LIST, *graded(candidate, grades_of(grades)))
    expected = {"rank": rank, "inversion": inversion, "distance": distance, "format": 0.0}
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(sum(expected.values()), rel=0, abs=1e-12)


@pytest.mark.parametrize(("row", "reasoning"), GRADE_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: LabelRow, reasoning: bool) -> None:
    step, parsed = read_grade(row.reply, "a", {"b": 2, "c": 0}, reasoning=reasoning)
    assert (parsed.label, parsed.outcome) == (row.label, row.outcome)
    found = erank(LIST.with_candidates(LIST.candidates[:3]), step, parsed)
    form = FORMAT[row.outcome]
    assert found.parts == {"rank": RANK[row.label], "inversion": 0.0, "distance": 0.0, "format": form}
    assert found.total == RANK[row.label] + form
    step, parsed = read_grade(row.reply, "b", {"a": 3}, reasoning=reasoning)
    found, other = erank(LIST, step, parsed), OTHER[row.label]
    expected = {"rank": 0.0, "inversion": min(other, 0.0), "distance": max(other, 0.0), "format": form}
    assert found.parts == expected
    assert found.total == other + form


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_GRADES}) == len(MALFORMED_GRADES) >= 30


def test_the_bounds_are_reached() -> None:
    repaired = ParsedLabel("repaired", "4", "wrong case")
    assert erank(LIST, Grading("b", 4, 4, grades_of("2404")), repaired).total == -1.25
    assert erank(LIST, *graded("a", grades_of("4000"))).total == 1


@pytest.mark.parametrize(("grades", "reference"), [([0, 0, 0], [0, 0, 0]), ([2, 2, 2], None)])
def test_among_equals_nobody_or_everybody_is_relevant(grades: list[float], reference: list[float] | None) -> None:
    given = {"0": 4, "1": 2, "2": 0}
    found = [erank(numbered(grades), *graded(name, given)).parts for name in given]
    if reference is None:
        assert [parts["rank"] for parts in found] == pytest.approx([1, 1 / 2, 1 / 3])
    else:
        assert [parts["distance"] for parts in found] == [0, 1 / 2, 1]
        assert all(parts["rank"] == parts["inversion"] == 0 for parts in found)


@pytest.mark.parametrize("top", [1, 2, 4, 10])
def test_to_give_everybody_the_same_grade_puts_the_relevant_one_last(top: int) -> None:
    asked = numbered([0, 0, 1, 0, 0])
    for grade in range(top + 1):
        given = {str(place): grade for place in range(5)}
        assert erank(asked, *graded("2", given, top=top)).total == 1 / 5


def test_relevant_ones_of_one_grade_do_not_stand_in_each_others_way() -> None:
    found = [erank(LIST, *graded(name, grades_of("4004"))).parts["rank"] for name in "ad"]
    assert found == [1, 1]


@CHECKED
@given(drawn=gradings(), data=st.data())
def test_a_better_grade_never_earns_less(
    drawn: tuple[list[float], dict[str, int | None], int], data: st.DataObject
) -> None:
    relevance, given, top = drawn
    asked, best = numbered(relevance), max(relevance)
    name = data.draw(st.sampled_from(list(given)))
    earned = [erank(asked, *graded(name, {**given, name: grade}, top=top)) for grade in range(top + 1)]
    assert all(-1 <= found.total <= 1 + ROUNDING for found in earned)
    if best > 0 and asked.grade(name) == best:
        assert [found.total for found in earned] == sorted(found.total for found in earned)
        assert earned[0].total >= 1 / len(given)
        return
    reference = top * asked.grade(name) / best if best > 0 else 0.0
    winners = [given[c.id] for c in asked.candidates if best > 0 and asked.grade(c.id) == best]
    lowest = min((-1 if grade is None else grade for grade in winners), default=top)
    for grade, found in enumerate(earned):
        assert found.parts["inversion"] == (-1.0 if grade > lowest else 0.0)
        if grade <= lowest:
            assert found.total == pytest.approx(1 - abs(grade - reference) / top, abs=ROUNDING)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Grading("x", 3, 4, {}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 3, 4, {"a": 3, "x": 1}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 5, 4, {}), "the grade 5 of 'a' is not between 0 and 4"),
        (Grading("a", -1, 4, {}), "the grade -1 of 'a' is not between 0 and 4"),
        (Grading("a", 3, 4, {"b": 5}), "the grade 5 of 'b' is not between 0 and 4"),
        (Grading("a", None, 4, {"b": -1}), "the grade -1 of 'b' is not between 0 and 4"),
        (Grading("a", 0, 0, {}), "top=0 must be ≥ 1"),
        (Grading("a", None, -1, {}), "top=-1 must be ≥ 1"),
    ],
)
def test_what_is_no_grade_of_a_candidate_is_refused(step: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"example 'list': {message}"):
        erank(LIST, step, ParsedLabel("ok", "3"))
