"""Several rankings of one list become one, by rules that are worked out by hand here."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker import Candidate, Ranking
from unified_ranker.errors import DataError, OptionError
from unified_ranker.schema.types import places_below
from unified_ranker.strategies.fusion import FUSIONS, check_fusion, fuse
from unified_ranker.strategies.scores import decreasing


def ranking(ids: str) -> Ranking:
    return Ranking(example_id="e", order=tuple(Candidate(id, "text") for id in ids), scores=places_below(len(ids)))


def fused(orders: list[str], fusion: str, listed: str = "") -> tuple[str, tuple[float, ...]]:
    candidates = [Candidate(id, "text") for id in listed or sorted(orders[0])]
    order, scores = fuse(candidates, [ranking(ids) for ids in orders], fusion=fusion)  # type: ignore[arg-type]
    return "".join(candidate.id for candidate in order), scores


@pytest.mark.parametrize(
    ("orders", "fusion", "listed", "order", "scores"),
    [
        # The sum of 1 / (60 + rank).
        (["abc", "abc"], "rrf", "cba", "abc", (2 / 61, 2 / 62, 2 / 63)),
        (["abc", "bac", "bca"], "rrf", "abc", "bac", (1 / 62 + 2 / 61, 1 / 61 + 1 / 62 + 1 / 63, 2 / 63 + 1 / 62)),
        # 1/61 + 1/63 is a little more than 2/62: whoever is first once and last once is ahead.
        (["abc", "cba"], "rrf", "bca", "cab", (1 / 61 + 1 / 63, 1 / 61 + 1 / 63, 2 / 62)),
        (["a", "a"], "rrf", "a", "a", (2 / 61,)),
        # The mean number of candidates below.
        (["abc", "abc"], "borda", "cba", "abc", (2.0, 1.0, 0.0)),
        (["abc", "bac", "bca"], "borda", "abc", "bac", (5 / 3, 1.0, 1 / 3)),
        (["abc", "cba"], "borda", "bca", "bca", (1.0, 1.0, 1.0)),
        (["abcd", "abdc", "bcda"], "borda", "abcd", "bacd", (7 / 3, 2.0, 1.0, 2 / 3)),
        (["a", "a"], "borda", "a", "a", (0.0,)),
    ],
)
def test_sums_are_those_worked_out_by_hand(
    orders: list[str], fusion: str, listed: str, order: str, scores: tuple[float, ...]
) -> None:
    found, worth = fused(orders, fusion, listed)
    assert found == order
    assert worth == pytest.approx(scores, abs=1e-11)
    assert all(one > other for one, other in pairwise(worth))


def test_the_two_rules_differ_over_one_that_is_first_once_and_last_once() -> None:
    # a at 1 and 26, b at 13 twice: b has the better mean, 1/61 + 1/86 is more than 2/73.
    others = ascii_lowercase[2:]
    orders = [f"a{others[:11]}b{others[11:]}", f"{others[12:]}b{others[:12]}a"]
    assert [order.index("b") for order in orders] == [12, 12]
    for fusion, first in (("rrf", "a"), ("borda", "b")):
        order, _ = fused(orders, fusion)
        assert min(order.index("a"), order.index("b")) == order.index(first)


lists = st.integers(1, 7).flatmap(
    lambda n: st.lists(st.permutations("abcdefg"[:n]).map("".join), min_size=1, max_size=9)
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(orders=lists, fusion=st.sampled_from(FUSIONS), data=st.data())
def test_the_order_of_the_rankings_does_not_matter(orders: list[str], fusion: str, data: st.DataObject) -> None:
    listed = data.draw(st.permutations(sorted(orders[0])).map("".join))
    assert fused(data.draw(st.permutations(orders)), fusion, listed) == fused(orders, fusion, listed)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(orders=lists, fusion=st.sampled_from(FUSIONS), data=st.data())
def test_the_order_is_that_of_the_exact_sums_and_of_the_list_where_they_are_equal(
    orders: list[str], fusion: str, data: st.DataObject
) -> None:
    listed = data.draw(st.permutations(sorted(orders[0])).map("".join))
    exact = {
        id: sum(
            Fraction(1, 61 + order.index(id)) if fusion == "rrf" else Fraction(-order.index(id)) for order in orders
        )
        for id in listed
    }
    found, scores = fused(orders, fusion, listed)
    assert list(found) == sorted(listed, key=lambda id: -exact[id])
    assert all(one > other for one, other in pairwise(scores))
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            assert not all(order.index(other) < order.index(one) for order in orders)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("ids", ["ab", "abcd", "abd", ""])
def test_a_ranking_of_another_list_is_refused(fusion: str, ids: str) -> None:
    with pytest.raises(DataError, match="'e': it does not hold the candidates of the list"):
        fused(["abc", ids], fusion)


@pytest.mark.parametrize("name", ["rff", "Borda", "", None])
def test_an_unknown_rule_is_refused(name: str) -> None:
    with pytest.raises(OptionError, match=r"fusion=.* is not known"):
        fused(["ab", "ba"], name)
    with pytest.raises(OptionError, match=r"fusion=.* is not known"):
        check_fusion(name)


def test_a_place_that_the_result_does_not_show_counts_as_well() -> None:
    short = Ranking(example_id="e", order=ranking("cab").order, scores=places_below(3), top_k=1)
    order, _ = fuse(ranking("abc").order, [short, ranking("acb")], fusion="borda")
    assert [candidate.id for candidate in order] == ["a", "c", "b"]


# decreasing()


@pytest.mark.parametrize(
    "scores", [[], [1.0], [3.0, 2.0, 1.0], [0.0, -1.0], [1.0, math.nextafter(1.0, 0.0), 0.5], [1e300, -1e300]]
)
def test_scores_that_decrease_are_left_as_they_are(scores: list[float]) -> None:
    assert decreasing(scores) == tuple(scores)


@pytest.mark.parametrize("tie", [0.0, 1.0, -1.0, 1e-320, 1e300, -1e300])
def test_equal_scores_are_told_apart_by_the_least_there_is(tie: float) -> None:
    found = decreasing([tie] * 4)
    assert found[0] == tie
    assert [math.nextafter(one, -math.inf) for one in found[:-1]] == list(found[1:])


def test_a_tie_lowers_those_farther_down_only_where_it_has_to() -> None:
    below = math.nextafter(1.0, 0.0)
    assert decreasing([1.0, 1.0, 0.5]) == (1.0, below, 0.5)
    assert decreasing([1.0, 1.0, below]) == (1.0, below, math.nextafter(below, 0.0))
    assert decreasing([0.0, -0.0]) == (0.0, -5e-324)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1.0]), max_size=30))
def test_scores_strictly_decrease_and_stay_what_they_were(scores: list[float]) -> None:
    given_scores = sorted(scores, reverse=True)
    found = decreasing(given_scores)
    assert all(one > other for one, other in pairwise(found))
    assert found == pytest.approx(tuple(given_scores), abs=1e-300, rel=1e-12)
