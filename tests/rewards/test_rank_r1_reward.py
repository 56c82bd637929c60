from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import CHECKED, LABEL_TABLES, LETTERS, MALFORMED_LABELS, LabelRow, example
from unified_ranker.rewards import Choice, rank_r1

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel, parse_label

IDS = dict(zip(LETTERS, ("fair", "poor", "good"), strict=True))
LIST = example({"fair": 1.0, "poor": 0.0, "good": 3.0})
OUTCOMES: dict[str, ParsedLabel] = {
    "ok": ParsedLabel("ok", "A"),
    "repaired": ParsedLabel("repaired", "A", "wrong case"),
}


@pytest.mark.parametrize(
    ("in_play", "chosen", "right"),
    [
        ("abcd", "a", True),
        ("abcd", "b", False),
        ("abcd", "c", False),
        ("abcd", "d", True),
        # The best of the set counts, not that of the list.
        ("bc", "b", True),
        ("bc", "c", False),
        ("cb", "b", True),
        ("ad", "d", True),
        # Where all are equal anyone is right.
        ("ce", "c", True),
        ("ce", "e", True),
        ("c", "c", True),
        # A candidate that was not judged counts as 0.
        ("bx", "x", False),
        ("cx", "x", True),
    ],
)
def test_the_label_of_one_of_the_best_grade_in_the_set_is_right(in_play: str, chosen: str, right: bool) -> None:
    asked = example({"a": 3.0, "b": 1.0, "c": 0.0, "d": 3.0, "e": 0.0})
    step = Choice(tuple(in_play), chosen)
    found = rank_r1(asked, step, OUTCOMES["ok"])
    assert found.parts == {"choice": float(right), "format": 0.0}
    assert found.total == float(right)
    # A form that does not hold takes all of it away, and no more.
    found = rank_r1(asked, step, OUTCOMES["repaired"])
    assert found.parts == {"choice": float(right), "format": -float(right)}
    assert found.total == 0


@pytest.mark.parametrize(("row", "reasoning"), LABEL_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_is_worth_1_or_0(row: LabelRow, reasoning: bool) -> None:
    parsed = parse_label(row.reply, LETTERS, reasoning=reasoning)
    assert (parsed.label, parsed.outcome) == (row.label, row.outcome)
    chosen = None if row.label is None else IDS[row.label]
    found = rank_r1(LIST, Choice(tuple(IDS.values()), chosen), parsed)
    choice = 1.0 if row.label == "C" else 0.0
    assert found.parts == {"choice": choice, "format": 0.0 if row.outcome == "ok" else -choice}
    assert found.total == (1.0 if row.label == "C" and row.outcome == "ok" else 0.0)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_LABELS}) == len(MALFORMED_LABELS) >= 30


def test_whoever_won_in_the_place_of_a_failed_reply_earns_nothing() -> None:
    for label in (None, "C"):
        found = rank_r1(LIST, Choice(("good", "fair"), None), ParsedLabel("failed", label, "empty answer"))
        assert (found.total, found.parts) == (0.0, {"choice": 0.0, "format": 0.0})


@CHECKED
@given(
    grades=st.lists(st.sampled_from([0.0, 0.5, 1.0, 3.0]), min_size=1, max_size=8),
    ok=st.booleans(),
    data=st.data(),
)
def test_a_better_choice_never_earns_less_and_equals_earn_the_same(
    grades: list[float], ok: bool, data: st.DataObject
) -> None:
    asked = example({str(place): grade for place, grade in enumerate(grades)})
    in_play = tuple(data.draw(st.permutations([c.id for c in asked.candidates])))[: data.draw(st.integers(1, 8))]
    parsed = OUTCOMES["ok" if ok else "repaired"]
    earned = {name: rank_r1(asked, Choice(in_play, name), parsed).total for name in in_play}
    assert set(earned.values()) <= {0.0, 1.0}
    for one in in_play:
        for other in in_play:
            if asked.grade(one) >= asked.grade(other):
                assert earned[one] >= earned[other]
    # One of the best earns all there is.
    assert max(earned.values()) == float(ok)


@pytest.mark.parametrize("chosen", ["stranger", "", "poor", "A"])
@pytest.mark.parametrize("outcome", ["ok", "repaired"])
def test_a_choice_that_is_not_in_the_set_is_refused(chosen: str, outcome: Any) -> None:
    with pytest.raises(DataError, match=f"example 'list': the chosen candidate '{chosen}' is not in the set"):
        rank_r1(LIST, Choice(("fair", "good"), chosen), OUTCOMES[outcome])
