from __future__ import annotations

from math import log2, sqrt
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
from unified_ranker.rewards import Grading, tfrank, tfrank_list
from unified_ranker.rewards.grade import whole_grade

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel

# Targets on the scale to 4: 4, 8/3 → 3, 4/3 → 1, 0.
LIST = example({"a": 3.0, "b": 2.0, "c": 1.0, "d": 0.0})
# What a grade of b earns by its accuracy and its nearness to 3.
OF_B = {
    None: (0.0, 0.0),
    "0": (0.0, 1 / 8),
    "1": (0.0, 1 / 4),
    "2": (0.0, 3 / 8),
    "3": (1 / 2, 1 / 2),
    "4": (0.0, 3 / 8),
}
L = 1 / log2(3)
# Shown as p (1), q (3), r (0), whose targets are 4/3 → 1, 4 and 0: DCG 1 + 3 L as shown, 3 + L at best.
SHOWN = example({"p": 1.0, "q": 3.0, "r": 0.0})


def grades_of(text: str) -> dict[str, int | None]:
    return {name: None if grade == "-" else int(grade) for name, grade in zip("pqr", text, strict=True)}


@pytest.mark.parametrize(
    ("candidate", "grade", "top", "accuracy", "nearness"),
    [
        ("a", 4, 4, 1, 1),
        ("a", 3, 4, 0, 3 / 4),
        ("a", 0, 4, 0, 0),
        ("b", 3, 4, 1, 1),
        ("b", 2, 4, 0, 3 / 4),
        ("b", 0, 4, 0, 1 / 4),
        ("c", 1, 4, 1, 1),
        ("c", 4, 4, 0, 1 / 4),
        ("d", 0, 4, 1, 1),
        ("d", 1, 4, 0, 3 / 4),
        ("d", 4, 4, 0, 0),
        # By yes and no: b is relevant, c is not.
        ("b", 1, 1, 1, 1),
        ("b", 0, 1, 0, 0),
        ("c", 0, 1, 1, 1),
        ("c", 1, 1, 0, 0),
        # To 10: 20/3 → 7 and 10/3 → 3.
        ("b", 7, 10, 1, 1),
        ("b", 10, 10, 0, 7 / 10),
        ("c", 3, 10, 1, 1),
        ("c", 9, 10, 0, 4 / 10),
    ],
)
def test_a_single_grade_by_hand(candidate: str, grade: int, top: int, accuracy: float, nearness: float) -> None:
    found = tfrank(LIST, *graded(candidate, {candidate: grade}, top=top))
    expected = {"accuracy": accuracy / 2, "nearness": nearness / 2, "format": 0.5}
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx((accuracy + nearness) / 2 + 0.5, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("grades", "accuracy", "gain", "squares"),
    [
        ("140", 1, 1, 0),
        ("230", 1 / 3, 1, 1 + 1),
        ("021", 0, (3 + 0.5 - 1 - 3 * L) / (2 - 2 * L), 1 + 4 + 1),
        ("243", 1 / 3, (3 + 0.5 - 1 - 3 * L) / (2 - 2 * L), 1 + 0 + 9),
        # Equal grades stand in the order of the list.
        ("000", 1 / 3, 0, 1 + 16 + 0),
        ("444", 1 / 3, 0, 9 + 0 + 16),
        ("400", 1 / 3, 0, 9 + 16 + 0),
        ("220", 1 / 3, 0, 1 + 4 + 0),
        ("040", 2 / 3, 1, 1),
        # r, p, q would be -1.03.
        ("004", 0, -1, 1 + 16 + 16),
        ("203", 0, -1, 1 + 16 + 9),
        # p has no grade, which is not its target; then r, whose target is 0, neither.
        ("-4-", 1 / 3, 1, 1),
        ("-40", 2 / 3, 1, 1),
    ],
)
def test_a_list_of_grades_by_hand(grades: str, accuracy: float, gain: float, squares: float) -> None:
    nearness = 1 - sqrt(squares / 3) / 4
    expected = {"accuracy": accuracy / 3, "gain": gain / 3, "nearness": nearness / 3}
    for name, grade in grades_of(grades).items():
        found = tfrank_list(SHOWN, *graded(name, grades_of(grades)))
        form = 0.0 if grade is None else 0.5
        assert found.parts == pytest.approx({**expected, "format": form}, rel=0, abs=1e-12)
        assert found.total == pytest.approx((accuracy + gain + nearness) / 3 + form, rel=0, abs=1e-12)


def test_a_candidate_without_a_grade_is_taken_for_0_and_is_not_accurate() -> None:
    missing, given = (tfrank_list(SHOWN, *graded("q", grades_of(text))).parts for text in ("14-", "140"))
    assert {name: missing[name] for name in ("gain", "nearness")} == {
        name: given[name] for name in ("gain", "nearness")
    }
    assert missing["accuracy"] == pytest.approx(given["accuracy"] - 1 / 9)


@pytest.mark.parametrize(
    ("relevance", "grades", "gain"),
    [
        # Shown in an ideal order: all or nothing.
        ([3, 1, 0], [4, 1, 0], 1),
        ([3, 1, 0], [2, 2, 2], 1),
        ([3, 1, 0], [4, 0, 1], -1),
        ([3, 1, 0], [3, 4, 0], -1),
        ([2, 2, 2], [0, 1, 4], 1),
        ([0, 0], [0, 1], 1),
        ([1], [0], 1),
    ],
)
def test_the_gain_over_an_ideal_list(relevance: list[float], grades: list[int], gain: float) -> None:
    given: dict[str, int | None] = {str(place): grade for place, grade in enumerate(grades)}
    assert tfrank_list(numbered(relevance), *graded("0", given)).parts["gain"] == gain / 3


@pytest.mark.parametrize(("row", "reasoning"), GRADE_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: LabelRow, reasoning: bool) -> None:
    form = 0.5 if row.outcome == "ok" else 0.0
    step, parsed = read_grade(row.reply, "b", {"a": 0}, reasoning=reasoning)
    assert (parsed.label, parsed.outcome) == (row.label, row.outcome)
    accuracy, nearness = OF_B[row.label]
    found = tfrank(LIST, step, parsed)
    assert found.parts == {"accuracy": accuracy, "nearness": nearness, "format": form}
    assert found.total == accuracy + nearness + form
    # Of p (1) and r (0), shown as r, p: with r at 1 the gain is 1 from grade 2 on; p's target is 4, r's is 0.
    step, parsed = read_grade(row.reply, "p", {"r": 1}, reasoning=reasoning)
    grade = 0 if row.label is None else int(row.label)
    gain = 1.0 if grade >= 2 else 0.0
    expected = {
        "accuracy": 1 / 6 if grade == 4 else 0.0,
        "gain": gain / 3,
        "nearness": (1 - sqrt(((4 - grade) ** 2 + 1) / 2) / 4) / 3,
        "format": form,
    }
    found = tfrank_list(example({"r": 0.0, "p": 1.0}), step, parsed)
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_GRADES}) == len(MALFORMED_GRADES) >= 30


def test_the_bounds_are_reached() -> None:
    assert tfrank(LIST, *graded("b", {"b": 3})).total == 1.5
    assert tfrank(LIST, *graded("b", {"b": None})).total == 0
    repaired = ParsedLabel("repaired", "4")
    assert tfrank(LIST, Grading("d", 4, 4, {"d": 4}), repaired).total == 0
    assert tfrank_list(SHOWN, *graded("p", grades_of("140"))).total == pytest.approx(1.5, rel=0, abs=1e-12)
    pair = example({"x": 1.0, "y": 0.0})
    assert tfrank_list(pair, Grading("y", 4, 4, {"x": 0, "y": 4}), repaired).total == pytest.approx(-1 / 3, abs=1e-12)


@CHECKED
@given(drawn=gradings(), data=st.data())
def test_a_grade_nearer_to_the_target_never_earns_less_whatever_the_others_got(
    drawn: tuple[list[float], dict[str, int | None], int], data: st.DataObject
) -> None:
    relevance, given, top = drawn
    asked = numbered(relevance)
    name = data.draw(st.sampled_from(list(given)))
    # The target is the reference that supervised training teaches.
    target = whole_grade(asked, asked.candidates[int(name)].id, top=top)
    earned = [tfrank(asked, *graded(name, {**given, name: grade}, top=top)) for grade in range(top + 1)]
    assert earned == [tfrank(asked, *graded(name, {name: grade}, top=top)) for grade in range(top + 1)]
    assert earned[target].total == 1.5
    falling = sorted(range(top + 1), key=lambda grade: abs(grade - target))
    totals = [earned[grade].total for grade in falling]
    assert totals == sorted(totals, reverse=True)
    assert all(0.5 <= total < 1.5 for total in totals[1:])


@CHECKED
@given(drawn=gradings(), data=st.data())
def test_all_of_a_list_earn_the_same_but_for_the_format_and_no_more_than_for_the_targets(
    drawn: tuple[list[float], dict[str, int | None], int], data: st.DataObject
) -> None:
    relevance, given, top = drawn
    asked = numbered(relevance)
    found = {name: tfrank_list(asked, *graded(name, given, top=top)) for name in given}
    shared = {tuple(sorted({**reward.parts, "format": 0.0}.items())) for reward in found.values()}
    assert len(shared) == 1
    for name, reward in found.items():
        assert reward.parts["format"] == (0.0 if given[name] is None else 0.5)
        assert -1 / 3 - ROUNDING <= reward.total <= 1.5 + ROUNDING
    # One grade nearer to its target: accuracy and nearness do not fall.
    name = data.draw(st.sampled_from(list(given)))
    target = whole_grade(asked, asked.candidates[int(name)].id, top=top)
    better = tfrank_list(asked, *graded(name, {**given, name: target}, top=top))
    assert better.parts["accuracy"] >= found[name].parts["accuracy"]
    assert better.parts["nearness"] >= found[name].parts["nearness"] - ROUNDING


@CHECKED
@given(drawn=gradings(least=2), place=st.integers(0, 5))
def test_the_gain_of_a_list_does_not_fall_where_a_better_one_gets_the_higher_of_two_grades(
    drawn: tuple[list[float], dict[str, int | None], int], place: int
) -> None:
    relevance, given, top = drawn
    asked, names = numbered(relevance), list(given)
    # Neighbours in the list: nobody of the same grade stands between them.
    place %= len(names) - 1
    worse, better = sorted(names[place : place + 2], key=lambda name: relevance[int(name)])
    low, high = sorted((given[worse] or 0, given[better] or 0))
    right = tfrank_list(asked, *graded(better, {**given, better: high, worse: low}, top=top)).parts["gain"]
    wrong = tfrank_list(asked, *graded(better, {**given, better: low, worse: high}, top=top)).parts["gain"]
    assert right >= wrong - ROUNDING
    if relevance[int(worse)] == relevance[int(better)]:
        assert right == pytest.approx(wrong, abs=ROUNDING)


@pytest.mark.parametrize("reward", [tfrank, tfrank_list])
@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Grading("x", 3, 4, {}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 3, 4, {"a": 3, "x": 1}), "'x' was graded, and is no candidate of the list"),
        (Grading("a", 5, 4, {}), "the grade 5 of 'a' is not between 0 and 4"),
        (Grading("a", -1, 4, {}), "the grade -1 of 'a' is not between 0 and 4"),
        (Grading("a", 3, 4, {"b": 5}), "the grade 5 of 'b' is not between 0 and 4"),
        (Grading("a", 0, 0, {}), "top=0 must be ≥ 1"),
    ],
)
def test_what_is_no_grade_of_a_candidate_is_refused(step: Grading, message: str, reward: Any) -> None:
    with pytest.raises(DataError, match=f"example 'list': {message}"):
        reward(LIST, step, ParsedLabel("ok", "3"))


@pytest.mark.parametrize("names", ["", "a", "abc"])
def test_the_view_of_a_list_needs_all_of_its_grades(names: str) -> None:
    step = Grading("a", 3, 4, dict.fromkeys(names, 3))
    with pytest.raises(DataError, match=f"example 'list': {len(names)} grades for 4 candidates; give all of them"):
        tfrank_list(LIST, step, ParsedLabel("ok", "3"))
    assert tfrank(LIST, step, ParsedLabel("ok", "3")).total > 0


def test_a_grade_off_the_scale_is_refused_among_those_of_all_too() -> None:
    step = Grading("p", 1, 4, {"p": 99, "q": 4, "r": 0})
    with pytest.raises(DataError, match="'p'"):
        tfrank_list(SHOWN, step, ParsedLabel("ok", "1"))
