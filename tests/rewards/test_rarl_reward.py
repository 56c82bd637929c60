from __future__ import annotations

from itertools import pairwise
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
from unified_ranker.rewards import Grading, rarl

from unified_ranker.errors import DataError, OptionError
from unified_ranker.parsing import ParsedLabel

# The truth is 1, 1/2, 0 and 1/2 of the scale.
LIST = example({"a": 2.0, "b": 1.0, "c": 0.0, "d": 1.0})
# A list whose m lies at 3/4 of the scale, between one graded 4 and one graded 0. What a grade of m earns: 0 at half of
# the scale and beyond; 1 - (1/4)² / (1/2)² at a quarter; a tie is half right.
MIDDLE = example({"high": 4.0, "m": 3.0, "low": 0.0})
OF_MIDDLE = {
    None: (0.0, 0.0),
    "0": (0.0, 3 / 4),
    "1": (0.0, 1.0),
    "2": (3 / 4, 1.0),
    "3": (1.0, 1.0),
    "4": (3 / 4, 3 / 4),
}


def grades_of(text: str) -> dict[str, int | None]:
    return {name: None if grade == "-" else int(grade) for name, grade in zip("abcd", text, strict=True)}


@pytest.mark.parametrize(
    ("candidate", "grades", "regression", "agreement"),
    [
        ("a", "4202", 1, 1),
        ("a", "3202", 3 / 4, 1),
        ("a", "2202", 0, (1 / 2 + 1 + 1 / 2) / 3),
        ("a", "1202", 0, 1 / 3),
        ("a", "0202", 0, (0 + 1 / 2 + 0) / 3),
        ("a", "0444", 0, 0),
        # Those of the same relevance are no pairs: b and d.
        ("b", "4204", 1, 1),
        ("b", "4404", 0, (1 / 2 + 1) / 2),
        ("b", "4004", 0, (1 + 1 / 2) / 2),
        ("b", "1304", 3 / 4, (0 + 1) / 2),
        ("c", "4202", 1, 1),
        ("c", "4212", 3 / 4, 1),
        ("c", "4222", 0, (1 + 1 / 2 + 1 / 2) / 3),
        ("c", "4242", 0, (1 / 2 + 0 + 0) / 3),
        # One without a grade stands below all.
        ("c", "-202", 1, 2 / 3),
        ("a", "4-0-", 1, 1),
        ("b", "-200", 1, (0 + 1) / 2),
    ],
)
def test_a_grade_by_hand(candidate: str, grades: str, regression: float, agreement: float) -> None:
    found = rarl(LIST, *graded(candidate, grades_of(grades)))
    expected = {"regression": regression, "agreement": agreement, "format": 0.1}
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(regression + agreement + 0.1, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("grade", "delta", "regression"),
    [
        (4, 0.25, 1),
        (3, 0.25, 0),
        (2, 0.25, 0),
        (3, 0.2499, 0),
        (3, 1.0, 15 / 16),
        (2, 1.0, 3 / 4),
        (1, 1.0, 7 / 16),
        (0, 1.0, 0),
        (0, 2.0, 3 / 4),
        (3, 0.75, 8 / 9),
        (1, 0.75, 0),
        (0, float("inf"), 1),
    ],
)
def test_delta_is_a_share_of_the_scale(grade: int, delta: float, regression: float) -> None:
    found = rarl(LIST, *graded("a", {"a": grade}), delta=delta)
    assert found.parts["regression"] == pytest.approx(regression, rel=0, abs=1e-12)


@pytest.mark.parametrize(("row", "reasoning"), GRADE_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: LabelRow, reasoning: bool) -> None:
    step, parsed = read_grade(row.reply, "m", {"high": 4, "low": 0}, reasoning=reasoning)
    assert (parsed.label, parsed.outcome) == (row.label, row.outcome)
    regression, agreement = OF_MIDDLE[row.label]
    found = rarl(MIDDLE, step, parsed)
    expected = {"regression": regression, "agreement": agreement, "format": 0.1 if row.outcome == "ok" else 0.0}
    assert found.parts == expected
    assert found.total == pytest.approx(sum(expected.values()), rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_GRADES}) == len(MALFORMED_GRADES) >= 30


def test_the_bounds_are_reached() -> None:
    assert rarl(LIST, *graded("a", grades_of("4202"))).total == pytest.approx(2.1, rel=0, abs=1e-12)
    assert rarl(LIST, *graded("a", grades_of("-202"))).total == 0
    assert rarl(LIST, Grading("a", 0, 4, grades_of("0444")), ParsedLabel("repaired", "0")).total == 0


@pytest.mark.parametrize("relevance", [[1], [0], [0, 0, 0], [2, 2]])
def test_where_no_pair_differs_any_order_is_right(relevance: list[float]) -> None:
    given: dict[str, int | None] = {str(place): place for place in range(len(relevance))}
    found = rarl(numbered(relevance), *graded("0", given))
    # The grade is 0, the truth is 1 where there is any relevance and else 0.
    assert found.parts == {"regression": 0.0 if max(relevance) else 1.0, "agreement": 1.0, "format": 0.1}


@CHECKED
@given(drawn=gradings(), delta=st.sampled_from([0.1, 0.5, 1.0]), data=st.data())
def test_a_grade_nearer_to_the_truth_has_no_less_regression_and_agreement_is_the_share_of_pairs(
    drawn: tuple[list[float], dict[str, int | None], int], delta: float, data: st.DataObject
) -> None:
    relevance, given, top = drawn
    asked, best = numbered(relevance), max(relevance)
    name = data.draw(st.sampled_from(list(given)))
    truth = asked.grade(name) / best if best > 0 else 0.0
    earned = [rarl(asked, *graded(name, {**given, name: grade}, top=top), delta=delta) for grade in range(top + 1)]
    near = sorted(range(top + 1), key=lambda grade: abs(grade / top - truth))
    regressions = [earned[grade].parts["regression"] for grade in near]
    assert all(later <= sooner + ROUNDING for sooner, later in pairwise(regressions))
    for grade, found in enumerate(earned):
        assert (found.parts["regression"] > ROUNDING) == (abs(grade / top - truth) < delta - ROUNDING)
        pairs = [other for other in asked.candidates if asked.grade(other.id) != asked.grade(name)]
        right = 0.0
        for other in pairs:
            theirs = given[other.id]
            if theirs == grade:
                right += 0.5
            elif (theirs is not None and theirs > grade) == (asked.grade(other.id) > asked.grade(name)):
                right += 1
        expected = right / len(pairs) if pairs else 1.0
        assert found.parts["agreement"] == pytest.approx(expected, abs=ROUNDING)
    # The best of a list never loses agreement by a higher grade, the worst never by a lower one.
    agreements = [found.parts["agreement"] for found in earned]
    if asked.grade(name) == best:
        assert agreements == sorted(agreements)
    if asked.grade(name) == min(relevance):
        assert agreements == sorted(agreements, reverse=True)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Grading("x", 3, 4, {}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 3, 4, {"a": 3, "x": 1}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 5, 4, {}), "the grade 5 of 'a' is not between 0 and 4"),
        (Grading("a", -1, 4, {}), "the grade -1 of 'a' is not between 0 and 4"),
        (Grading("a", None, 4, {"b": 5}), "the grade 5 of 'b' is not between 0 and 4"),
        (Grading("a", 0, 0, {}), "top=0 must be ≥ 1"),
    ],
)
def test_what_is_no_grade_of_a_candidate_is_refused(step: Grading, message: str) -> None:
    with pytest.raises(DataError, match=f"example 'list': {message}"):
        rarl(LIST, step, ParsedLabel("ok", "3"))


@pytest.mark.parametrize("delta", [0, -0.5, float("nan"), float("-inf")])
@pytest.mark.parametrize("grade", [3, None])
def test_a_delta_that_is_not_above_0_is_refused_whatever_the_reply(delta: Any, grade: int | None) -> None:
    with pytest.raises(OptionError, match=f"delta={delta} must be above 0"):
        rarl(LIST, *graded("a", {"a": grade}), delta=delta)
