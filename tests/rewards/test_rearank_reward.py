from __future__ import annotations

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
from unified_ranker.rewards import Order, rearank

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedOrder

NAMES = ("fair", "poor", "good")
LIST = example({"fair": 1.0, "poor": 0.0, "good": 3.0})
L = 1 / log2(3)
# DCG by hand, with the labels A (1), B (0) and C (3). The list as shown has 2.5, the best order 3 + L.
DCG = {
    "A": 1,
    "B": 0,
    "C": 3,
    "AB": 1,
    "AC": 1 + 3 * L,
    "BA": L,
    "BC": 3 * L,
    "CA": 3 + L,
    "CB": 3,
    "ABC": 2.5,
    "ACB": 1 + 3 * L,
    "BAC": L + 1.5,
    "BCA": 3 * L + 0.5,
    "CAB": 3 + L,
    "CBA": 3.5,
}
# The relative gain (DCG - 2.5) / (3 + L - 2.5), at least -1.
GAIN = {named: max(-1.0, (dcg - 2.5) / (0.5 + L)) for named, dcg in DCG.items()} | {"": -1.0}


def test_the_gains_are_these_numbers() -> None:
    found = [round(GAIN[named], 4) for named in ("A", "C", "BC", "BCA", "BAC", "ABC", "ACB", "CBA", "CAB")]
    assert found == [-1, 0.4421, -0.5369, -0.0948, -0.3263, 0, 0.3473, 0.8842, 1]


@pytest.mark.parametrize(("row", "labels", "options"), ORDER_TABLES, ids=lambda value: repr(value)[:60])
def test_each_reply_has_exactly_these_parts(row: OrderRow, labels: tuple[str, ...], options: dict[str, bool]) -> None:
    step, parsed = read_order(row.reply, labels, NAMES, **options)
    expected = {
        "gain": 0.8 * GAIN[row.named],
        "tags": 0.1 if row.tags else 0.0,
        "format": 0.1 if row.form and row.named else 0.0,
    }
    found = rearank(LIST, step, parsed)
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(sum(expected.values()), rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row.reply for row in MALFORMED_ORDERS}) == len(MALFORMED_ORDERS) >= 30


def test_the_bounds_are_reached() -> None:
    step, parsed = read_order("C > A > B", LETTERS, NAMES)
    assert rearank(LIST, step, parsed).total == pytest.approx(1, rel=0, abs=1e-12)
    step, parsed = read_order("", LETTERS, NAMES, reasoning=True)
    assert rearank(LIST, step, parsed).total == pytest.approx(-0.8, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("grades", "order", "gain"),
    [
        # Shown in an ideal order: 1 for an order as good, else what is left of it.
        ([3, 1, 0], [0, 1, 2], 1),
        ([3, 0, 0], [0, 2, 1], 1),
        ([3, 1, 0], [1, 0, 2], (1 + 3 * L) / (3 + L)),
        ([1, 0, 0], [2, 1, 0], 1 / 2),
        ([1, 1], [1, 0], 1),
        ([0, 0], [1, 0], 1),
        # Shown in another order: 1 for the best, 0 for the one shown.
        ([0, 1, 0], [1, 0, 2], 1),
        ([0, 1, 0], [0, 1, 2], 0),
        ([0, 1, 0], [0, 2, 1], (1 / 2 - L) / (1 - L)),
        # Shown: 3 L + 1/2 + 2/log2(5). Best: 3 + 2 L + 1/2. Reached: 2 + 3 L + 1/2.
        ([0, 3, 1, 2], [3, 1, 2, 0], (2 - 2 / log2(5)) / (3 - L - 2 / log2(5))),
        # Shown: 2 + 3 L. Best: 3 + 2 L. Reached: 2 L + 1.5, which would be -3.06.
        ([2, 3, 0], [2, 0, 1], -1),
    ],
)
def test_the_gain_is_relative_to_the_best_attainable(grades: list[float], order: list[int], gain: float) -> None:
    assert rearank(numbered(grades), *whole(order)).parts["gain"] == pytest.approx(0.8 * gain, rel=0, abs=1e-12)


def test_only_ten_places_count() -> None:
    asked = numbered([0.0] * 10 + [1.0, 0.0])
    others = list(range(10))
    for order, gain in (
        ([*others, 10, 11], 0.0),
        ([*others, 11, 10], 0.0),
        ([*others[:9], 10, 9, 11], 1 / log2(11)),
        ([10, *others, 11], 1.0),
    ):
        assert rearank(asked, *whole(order)).parts["gain"] == pytest.approx(0.8 * gain, rel=0, abs=1e-12)


def test_to_give_the_list_back_as_it_was_shown_pays_the_form_alone() -> None:
    step, parsed = read_order("A > B > C", LETTERS, NAMES)
    assert rearank(LIST, step, parsed).parts == {"gain": 0.0, "tags": 0.1, "format": 0.1}


def test_a_reply_that_names_nobody_earns_least_even_among_equals() -> None:
    for grades in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (2.0, 2.0, 2.0)):
        step, parsed = read_order("none", LETTERS, ("0", "1", "2"))
        assert rearank(numbered(grades), step, parsed).parts == {"gain": -0.8, "tags": 0.1, "format": 0.0}


@CHECKED
@given(drawn=orders(), place=st.integers(0, 10))
def test_the_gain_never_falls_when_a_better_one_moves_up_or_equals_change_places(
    drawn: tuple[list[float], list[int]], place: int
) -> None:
    grades, order = drawn
    place %= len(order) - 1
    swapped = [*order[:place], order[place + 1], order[place], *order[place + 2 :]]
    before, after = rearank(numbered(grades), *whole(order)), rearank(numbered(grades), *whole(swapped))
    if grades[order[place + 1]] > grades[order[place]]:
        assert after.total >= before.total - ROUNDING
    elif grades[order[place + 1]] == grades[order[place]]:
        assert after == before
    best = rearank(numbered(grades), *whole(sorted(order, key=lambda one: -grades[one])))
    assert best.total == pytest.approx(1, abs=ROUNDING)
    assert -0.8 - ROUNDING <= before.total <= best.total + ROUNDING


@CHECKED
@given(drawn=orders(), kept=st.integers(1, 12))
def test_to_name_fewer_never_pays(drawn: tuple[list[float], list[int]], kept: int) -> None:
    grades, order = drawn
    some = tuple(str(place) for place in order[:kept])
    parsed = ParsedOrder("repaired", some, len(some), missing=len(order) - len(some))
    less, more = rearank(numbered(grades), Order(some), parsed), rearank(numbered(grades), *whole(order))
    assert less.total <= more.total + ROUNDING


@pytest.mark.parametrize("named", [("good", "good"), ("good", "fair", "poor", "fair"), ("stranger",), ("good", "")])
def test_what_is_not_an_order_of_candidates_is_refused(named: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"example 'list': .* must be different candidates of the list"):
        rearank(LIST, Order(named), ParsedOrder("ok", LETTERS, len(named)))
