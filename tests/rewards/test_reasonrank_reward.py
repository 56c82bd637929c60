from __future__ import annotations

from math import log2
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_cases import (
    CHECKED,
    LETTERS,
    MALFORMED_ORDERS,
    ORDER_TABLES,
    ROUNDING,
    OrderRow,
    example,
    numbered,
    orders,
    read_order,
    whole,
)
from unified_ranker.rewards import Order, reasonrank
from unified_ranker.rewards.reasonrank import rank_biased_overlap

from unified_ranker.errors import DataError, OptionError
from unified_ranker.parsing import ParsedOrder, parse_order

NAMES = ("fair", "poor", "good")
LIST = example({"fair": 1.0, "poor": 0.0, "good": 3.0})
L = 1 / log2(3)
IDEAL = 3 + L
# By hand, with the labels A (1), B (0) and C (3), whose ideal order is C > A > B: nDCG, share of A and C that was
# found, and the mean over depths 1 to 3 of how much of the ideal order's top is there.
WORTH: dict[str, tuple[float, float, float]] = {
    "A": (1 / IDEAL, 1 / 2, (0 + 1 / 2 + 1 / 3) / 3),
    "B": (0, 0, (0 + 0 + 1 / 3) / 3),
    "C": (3 / IDEAL, 1 / 2, (1 + 1 / 2 + 1 / 3) / 3),
    "AB": (1 / IDEAL, 1 / 2, (0 + 1 / 2 + 2 / 3) / 3),
    "AC": ((1 + 3 * L) / IDEAL, 1, (0 + 1 + 2 / 3) / 3),
    "BA": (L / IDEAL, 1 / 2, (0 + 1 / 2 + 2 / 3) / 3),
    "BC": (3 * L / IDEAL, 1 / 2, (0 + 1 / 2 + 2 / 3) / 3),
    "CA": (1, 1, (1 + 1 + 2 / 3) / 3),
    "CB": (3 / IDEAL, 1 / 2, (1 + 1 / 2 + 2 / 3) / 3),
    "ABC": (2.5 / IDEAL, 1, (0 + 1 / 2 + 1) / 3),
    "ACB": ((1 + 3 * L) / IDEAL, 1, (0 + 1 + 1) / 3),
    "BAC": ((L + 1.5) / IDEAL, 1, (0 + 1 / 2 + 1) / 3),
    "BCA": ((3 * L + 0.5) / IDEAL, 1, (0 + 1 / 2 + 1) / 3),
    "CAB": (1, 1, 1),
    "CBA": (3.5 / IDEAL, 1, (1 + 1 / 2 + 1) / 3),
}


@pytest.mark.parametrize(("row", "labels", "options"), ORDER_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: OrderRow, labels: tuple[str, ...], options: dict[str, bool]) -> None:
    step, parsed = read_order(row.reply, labels, NAMES, **options)
    assert parsed.tagged == row.tags
    assert "".join("ABC"[NAMES.index(name)] for name in step.named) == row.named
    ndcg, recall, overlap = WORTH[row.named] if row.named and row.tags and row.form else (0.0, 0.0, 0.0)
    expected = {
        "ranking": ndcg,
        "recall": 0.2 * recall,
        "overlap": 0.1 * overlap,
        "format": 0.0 if row.tags else -1.0,
    }
    found = reasonrank(LIST, step, parsed)
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(sum(expected.values()), rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_ORDERS}) == len(MALFORMED_ORDERS) >= 30


def test_the_bounds_are_reached() -> None:
    step, parsed = read_order("C > A > B", LETTERS, NAMES)
    assert reasonrank(LIST, step, parsed).total == pytest.approx(1.3, rel=0, abs=1e-12)
    step, parsed = read_order("C > A > B", LETTERS, NAMES, reasoning=True)
    assert reasonrank(LIST, step, parsed).total == -1


def test_only_ten_places_count_for_gain_and_recall() -> None:
    # The two relevant ones stand at places 10 and 11 of twelve.
    asked = numbered([0.0] * 9 + [1.0, 1.0, 0.0])
    found = reasonrank(asked, *whole(range(12)))
    assert found.parts["ranking"] == pytest.approx(1 / log2(11) / (1 + L), rel=0, abs=1e-12)
    assert found.parts["recall"] == pytest.approx(0.2 / 2, rel=0, abs=1e-12)
    # The ideal order is 9, 10, 0, 1, …, 8, 11: at depth d ≥ 3 it shares d - 2 with this one, at 10 all but 10, at 11
    # and 12 all.
    shared = [0, 0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12]
    expected = sum(count / depth for depth, count in enumerate(shared, start=1)) / 12
    assert found.parts["overlap"] == pytest.approx(0.1 * expected, rel=0, abs=1e-12)


def test_the_ideal_gain_is_that_of_ten_places_too() -> None:
    # Twelve relevant ones of fourteen, the two others first: eight of ten places count.
    asked = numbered([0.0] * 2 + [1.0] * 12)
    found = reasonrank(asked, *whole(range(14)))
    gains = [1 / log2(rank + 1) for rank in range(1, 11)]
    assert found.parts["ranking"] == pytest.approx(sum(gains[2:]) / sum(gains), rel=0, abs=1e-12)
    assert found.parts["recall"] == pytest.approx(0.2 * 8 / 12, rel=0, abs=1e-12)


@pytest.mark.parametrize("grades", [(0, 0, 0), (2, 2, 2)])
def test_no_order_among_equals_is_better_than_another(grades: tuple[int, ...]) -> None:
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        assert reasonrank(numbered(grades), *whole(order)).total == pytest.approx(1.3, rel=0, abs=1e-12)


def test_what_was_left_out_among_equals_overlaps_with_nothing() -> None:
    step, parsed = read_order("B", LETTERS, ("0", "1", "2"))
    found = reasonrank(numbered([1.0, 1.0, 1.0]), step, parsed)
    # The ideal order begins with the one that was named.
    assert found.parts["overlap"] == pytest.approx(0.1 * (1 + 1 / 2 + 1 / 3) / 3, rel=0, abs=1e-12)
    assert found.parts["recall"] == pytest.approx(0.2 / 3, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("ranking", "ideal", "persistence", "expected"),
    [
        ("abc", "abc", 1.0, 1),
        ("abc", "abc", 0.3, 1),
        ("cba", "abc", 1.0, (0 + 1 / 2 + 1) / 3),
        # (1 - p) Σ p^(d-1) … / (1 - p³) with p = 1/2: 4/7 of the sum.
        ("cba", "abc", 0.5, (0 + 1 / 4 + 1 / 4) * 4 / 7),
        ("bac", "abc", 0.5, (0 + 1 / 2 + 1 / 4) * 4 / 7),
        ("acb", "abc", 0.5, (1 + 1 / 4 + 1 / 4) * 4 / 7),
        ("ba", "abcd", 0.5, (0 + 1 / 2 + 2 / 3 / 4 + 2 / 4 / 8) * 8 / 15),
        ("bac", "abc", 0.9, (0 + 0.9 + 0.81) / 2.71),
        ("", "abc", 0.9, 0),
        ("", "abc", 1.0, 0),
        ("xyz", "abc", 1.0, 0),
        ("abcx", "abc", 1.0, 1),
        ("", "", 1.0, 1),
    ],
)
def test_overlap_by_hand(ranking: str, ideal: str, persistence: float, expected: float) -> None:
    found = rank_biased_overlap(ranking, ideal, persistence=persistence)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


def test_the_overlap_of_the_reward_goes_by_its_persistence() -> None:
    step, parsed = read_order("A > C > B", LETTERS, NAMES)
    expected = 0.1 * (0 + 1 / 2 + 1 / 4) * 4 / 7
    assert reasonrank(LIST, step, parsed, persistence=0.5).parts["overlap"] == pytest.approx(expected, abs=1e-12)
    assert reasonrank(LIST, step, parsed).parts["overlap"] == pytest.approx(0.1 * 2 / 3, abs=1e-12)


@CHECKED
@given(drawn=orders(least=0), persistence=st.sampled_from([1.0, 0.99, 0.5, 1e-3, 1e-200]), data=st.data())
def test_an_overlap_lies_between_0_and_1_and_is_1_only_for_equal_rankings(
    drawn: tuple[list[float], list[int]], persistence: float, data: st.DataObject
) -> None:
    ranking = [str(place) for place in drawn[1]]
    ideal = data.draw(st.permutations(ranking))
    found = rank_biased_overlap(ranking, ideal, persistence=persistence)
    assert 0 <= found <= 1 + ROUNDING
    assert rank_biased_overlap(ideal, ranking, persistence=persistence) == pytest.approx(found, abs=ROUNDING)
    assert rank_biased_overlap(ranking, ranking, persistence=persistence) == pytest.approx(1, abs=ROUNDING)
    if persistence == 1 and ranking != list(ideal):
        assert found < 1 - ROUNDING
    short = ranking[: data.draw(st.integers(0, len(ranking)))]
    assert rank_biased_overlap(short, ideal, persistence=persistence) <= found + ROUNDING


@CHECKED
@given(drawn=orders(), persistence=st.sampled_from([1.0, 0.9, 0.5]), place=st.integers(0, 10))
def test_no_part_falls_when_a_better_one_moves_up_or_equals_change_places(
    drawn: tuple[list[float], list[int]], persistence: float, place: int
) -> None:
    grades, order = drawn
    place %= len(order) - 1
    swapped = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]
    before = reasonrank(numbered(grades), *whole(order), persistence=persistence)
    after = reasonrank(numbered(grades), *whole(swapped), persistence=persistence)
    if grades[order[place + 1]] > grades[order[place]]:
        assert all(after.parts[name] >= before.parts[name] - ROUNDING for name in before.parts)
    elif grades[order[place + 1]] == grades[order[place]]:
        assert after.parts == pytest.approx(before.parts, abs=ROUNDING)
    ideal = sorted(order, key=lambda one: -grades[one])
    best = reasonrank(numbered(grades), *whole(ideal), persistence=persistence)
    assert -1 <= before.total <= best.total + ROUNDING <= 1.3 + 2 * ROUNDING
    assert best.parts["ranking"] == 1
    assert best.parts["overlap"] == pytest.approx(0.1, abs=ROUNDING)


@CHECKED
@given(drawn=orders(), kept=st.integers(1, 12))
def test_to_name_fewer_never_pays(drawn: tuple[list[float], list[int]], kept: int) -> None:
    grades, order = drawn
    some = tuple(str(place) for place in order[:kept])
    parsed = ParsedOrder("repaired", some, len(some), missing=len(order) - len(some))
    less, more = reasonrank(numbered(grades), Order(some), parsed), reasonrank(numbered(grades), *whole(order))
    assert 0 <= less.total <= more.total + ROUNDING


@pytest.mark.parametrize("named", [("good", "good"), ("good", "fair", "poor", "fair"), ("stranger",), ("good", "")])
@pytest.mark.parametrize("tagged", [True, False])
def test_what_is_not_an_order_of_candidates_is_refused(named: tuple[str, ...], tagged: bool) -> None:
    parsed = ParsedOrder("ok", LETTERS, len(named), tagged=tagged)
    with pytest.raises(DataError, match=r"example 'list': .* must be different candidates of the list"):
        reasonrank(LIST, Order(named), parsed)


@pytest.mark.parametrize("persistence", [0, -0.5, 1.0000001, 2, float("nan"), float("inf")])
def test_a_persistence_out_of_range_is_refused(persistence: Any) -> None:
    message = rf"persistence={persistence} must be in \(0, 1\]"
    with pytest.raises(OptionError, match=message):
        rank_biased_overlap("ab", "ab", persistence=persistence)
    step, parsed = read_order("A > C > B", LETTERS, NAMES)
    with pytest.raises(OptionError, match=message):
        reasonrank(LIST, step, parsed, persistence=persistence)


@pytest.mark.parametrize("reply", ["", "none fits", "<answer>A > B > C</answer>"])
def test_a_persistence_out_of_range_is_refused_whatever_the_reply(reply: str) -> None:
    step, parsed = read_order(reply, LETTERS, NAMES)
    with pytest.raises(OptionError, match=r"persistence=2 must be in \(0, 1\]"):
        reasonrank(LIST, step, parsed, persistence=2)


def test_tags_with_text_around_them_are_not_those_that_were_asked_for() -> None:
    # The published format is matched against the whole reply.
    parsed = parse_order("<think>hm</think> so <answer>C > A > B</answer>", LETTERS, reasoning=True)
    assert not parsed.tagged
    step, parsed = read_order("<think>hm</think><answer>C > A > B</answer>.", LETTERS, NAMES, reasoning=True)
    assert reasonrank(LIST, step, parsed).total == -1


@pytest.mark.parametrize("reply", ["<think>hm</think>C > A > B", "<think>A</think> [C] > [A] > [B]"])
def test_thoughts_that_nobody_asked_for_are_tags_of_another_kind(reply: str) -> None:
    assert not parse_order(reply, LETTERS).tagged
