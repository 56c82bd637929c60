from __future__ import annotations

from itertools import permutations
from math import log2

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
from unified_ranker.rewards import Order, gr2

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedOrder

NAMES = ("fair", "poor", "good")
LIST = example({"fair": 1.0, "poor": 0.0, "good": 3.0})
L = 1 / log2(3)
# With the labels A (1), B (0) and C (3) the DCG is 2.5 as shown, 3 + L at best and L + 1.5 at worst. What is won is a
# share of L + .5, what is lost a share of 1 - L, at most all of it.
PROMOTION = {
    "": -1,
    "A": -1,  # 1
    "B": -1,  # 0
    "C": 0.5 / (0.5 + L),  # 3
    "AB": -1,  # 1
    "AC": (3 * L - 1.5) / (0.5 + L),  # 1 + 3 L
    "BA": -1,  # L
    "BC": -1,  # 3 L = 1.89, less than L + 1.5 = 2.13
    "CA": 1,  # 3 + L
    "CB": 0.5 / (0.5 + L),  # 3
    "ABC": 0,  # 2.5
    "ACB": (3 * L - 1.5) / (0.5 + L),  # 1 + 3 L
    "BAC": -1,  # L + 1.5
    "BCA": (3 * L - 2) / (1 - L),  # 3 L + .5
    "CAB": 1,  # 3 + L
    "CBA": 1 / (0.5 + L),  # 3.5
}


@pytest.mark.parametrize(("row", "labels", "options"), ORDER_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: OrderRow, labels: tuple[str, ...], options: dict[str, bool]) -> None:
    step, parsed = read_order(row.reply, labels, NAMES, **options)
    assert (parsed.outcome == "ok") == row.ok
    promotion = PROMOTION[row.named]
    expected = {"promotion": promotion, "format": 0.2 if row.ok and promotion > 0 else 0.0}
    found = gr2(LIST, step, parsed)
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(sum(expected.values()), rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_ORDERS}) == len(MALFORMED_ORDERS) >= 30


def test_the_bounds_are_reached() -> None:
    totals = [gr2(LIST, *read_order(" > ".join(order), LETTERS, NAMES)).total for order in permutations(LETTERS)]
    assert (min(totals), max(totals)) == (-1, pytest.approx(1.2, rel=0, abs=1e-12))


@pytest.mark.parametrize(
    ("grades", "order", "promotion", "form"),
    [
        # A perfect copy of the order shown.
        ([0, 1, 0], [0, 1, 2], 0, 0),
        ([3, 1, 0], [0, 1, 2], 0, 0),
        ([0, 1, 3], [0, 1, 2], 0, 0),
        # Equals may change places.
        ([0, 1, 0], [2, 1, 0], 0, 0),
        ([3, 0, 0], [0, 2, 1], 0, 0),
        ([2, 2, 2], [2, 0, 1], 0, 0),
        ([0, 0], [1, 0], 0, 0),
        # Better than shown.
        ([0, 1, 0], [1, 0, 2], 1, 0.2),
        ([0, 0, 1], [0, 2, 1], (L - 0.5) / 0.5, 0.2),
        ([0, 1, 3], [2, 1, 0], 1, 0.2),
        # Worse than shown: the lowest of all is place 3.
        ([0, 1, 0], [0, 2, 1], -1, 0),
        ([1, 0, 0], [1, 0, 2], (L - 1) / 0.5, 0),
        ([1, 0, 0], [1, 2, 0], -1, 0),
        # The whole list counts, not its first ten places.
        ([0] * 11 + [1], [*range(10), 11, 10], (1 / log2(12) - 1 / log2(13)) / (1 - 1 / log2(13)), 0.2),
    ],
)
def test_promotion_by_hand(grades: list[float], order: list[int], promotion: float, form: float) -> None:
    found = gr2(numbered(grades), *whole(order))
    assert found.parts == pytest.approx({"promotion": promotion, "format": form}, rel=0, abs=1e-12)


def test_the_form_is_paid_for_only_where_the_ranking_improves() -> None:
    for reply, total in (("[A] [B] [C]", 0), ("C > A > B", 1.2), ("c > a > b", 1), ("C > A", 1), ("B > A > C", -1)):
        assert gr2(LIST, *read_order(reply, LETTERS, NAMES)).total == pytest.approx(total, rel=0, abs=1e-12)


def test_an_order_of_the_same_ndcg_is_no_improvement() -> None:
    # As shown: 1 / log2(2) + 4 / log2(8) = 7/3. Reached: 4 / log2(4) + 1 / log2(8) = 7/3.
    found = gr2(numbered([1, 0, 0, 0, 0, 0, 4]), *whole([1, 2, 6, 3, 4, 5, 0]))
    assert found.total == pytest.approx(0, rel=0, abs=1e-9)


def test_a_list_shown_in_its_worst_order_loses_only_by_what_is_left_out() -> None:
    worst = {"A": 0.0, "B": 1.0, "C": 3.0}
    assert gr2(example(worst), *read_order("A > B > C", LETTERS, LETTERS)).total == 0
    assert gr2(example(worst), *read_order("A > B", LETTERS, LETTERS)).total == -1
    assert gr2(example(worst), *read_order("nobody", LETTERS, LETTERS)).total == -1


@CHECKED
@given(drawn=orders(), place=st.integers(0, 10))
def test_it_never_falls_when_a_better_one_moves_up_or_equals_change_places(
    drawn: tuple[list[float], list[int]], place: int
) -> None:
    grades, order = drawn
    place %= len(order) - 1
    swapped = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]
    before, after = gr2(numbered(grades), *whole(order)), gr2(numbered(grades), *whole(swapped))
    if grades[order[place + 1]] > grades[order[place]]:
        assert after.total >= before.total - ROUNDING
    elif grades[order[place + 1]] == grades[order[place]]:
        assert after == before
    ideal = sorted(order, key=lambda one: -grades[one])
    best, worst = gr2(numbered(grades), *whole(ideal)), gr2(numbered(grades), *whole(ideal[::-1]))
    shown = gr2(numbered(grades), *whole(range(len(grades))))
    assert shown.total == 0
    assert -1 <= worst.total <= before.total + ROUNDING <= best.total + 2 * ROUNDING <= 1.2 + 3 * ROUNDING
    # 1 for the best and -1 for the worst, unless that is how the list was shown.
    falling = sorted(grades, reverse=True)
    assert best.total == pytest.approx(0 if grades == falling else 1.2, abs=ROUNDING)
    assert worst.total == pytest.approx(0 if grades == falling[::-1] else -1, abs=ROUNDING)


@CHECKED
@given(drawn=orders(), kept=st.integers(1, 12))
def test_to_name_fewer_never_pays(drawn: tuple[list[float], list[int]], kept: int) -> None:
    grades, order = drawn
    some = tuple(str(place) for place in order[:kept])
    missing = len(order) - len(some)
    parsed = ParsedOrder("repaired" if missing else "ok", some, len(some), missing=missing)
    less, more = gr2(numbered(grades), Order(some), parsed), gr2(numbered(grades), *whole(order))
    assert less.total <= more.total + ROUNDING


@pytest.mark.parametrize("named", [("good", "good"), ("good", "fair", "poor", "fair"), ("stranger",), ("good", "")])
def test_what_is_not_an_order_of_candidates_is_refused(named: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"example 'list': .* must be different candidates of the list"):
        gr2(LIST, Order(named), ParsedOrder("ok", LETTERS, len(named)))
