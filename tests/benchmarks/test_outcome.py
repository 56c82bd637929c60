from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import log2
from statistics import fmean

import pytest
from toy_runs import graded, unbuilt
from unified_ranker.benchmarks.outcome import (
    EFFECTIVENESS,
    LOWER_IS_BETTER,
    ROUTING,
    best_order,
    measure,
    measure_names,
    measure_random,
)
from unified_ranker.tasks import ALL_TASKS, NINE
from unified_ranker.tasks.beside import LLMOutcome

#: Costs a hundredfold apart, so the middle one stands at half of the scale; half quality and half cheapness.
OUTCOMES = {"large": LLMOutcome(0.9, 1.0), "middle": LLMOutcome(0.5, 0.1), "small": LLMOutcome(0.1, 0.01)}
UTILITY = {"large": 45.0, "middle": 50.0, "small": 55.0}
ROUTED = graded("q", UTILITY, task="router-balance")
ROUTER = unbuilt("router-balance", outcomes={"q": OUTCOMES})


def ndcg_by_hand(grades: Sequence[float], *, outside: Sequence[float] = ()) -> float:
    ideal = sorted([*grades, *outside], reverse=True)[:10]
    best = sum(grade / log2(place + 1) for place, grade in enumerate(ideal, start=1))
    found = sum(grade / log2(place + 1) for place, grade in enumerate(grades[:10], start=1))
    return found / best if best else 0.0


def by_hand(grades: Sequence[float], good: Sequence[bool], *, outside: Sequence[float] = ()) -> dict[str, float]:
    first = good.index(True) + 1 if True in good else None
    return {
        "RR": 1 / first if first else 0.0,
        "nDCG@10": ndcg_by_hand(grades, outside=outside),
        **{f"Success@{k}": float(first is not None and first <= k) for k in (1, 3, 5)},
    }


@pytest.mark.parametrize("name", ALL_TASKS)
def test_a_router_is_measured_by_what_its_choice_is_worth_too(name: str) -> None:
    routing = name.startswith("router-")
    assert measure_names(unbuilt(name)) == (EFFECTIVENESS + ROUTING if routing else EFFECTIVENESS)


def test_the_nine_are_three_of_each_domain() -> None:
    assert [unbuilt(name).domain for name in NINE] == ["recommendation"] * 3 + ["routing"] * 3 + ["passage"] * 3


def test_cost_and_regret_alone_are_better_where_lower() -> None:
    assert {"cost", "regret"} == LOWER_IS_BETTER


@pytest.mark.parametrize("place", range(1, 7))
def test_every_measure_of_one_relevant_candidate_follows_from_its_place(place: int) -> None:
    example = graded("q", {f"d{n}": float(n == place) for n in range(1, 7)})
    found = measure(unbuilt("passage-5"), [example], {"q": [f"d{n}" for n in range(1, 7)]})
    assert list(found) == list(EFFECTIVENESS)
    expected = [1 / place, 1 / log2(place + 1), *(float(place <= k) for k in (1, 3, 5))]
    assert [value for (value,) in found.values()] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("order", "rr", "success"),
    [("abcd", 1 / 3, [0, 1, 1]), ("cabd", 1.0, [1, 1, 1]), ("dabc", 1.0, [1, 1, 1]), ("abdc", 1 / 3, [0, 1, 1])],
)
def test_trec_counts_as_relevant_what_is_graded_2_or_more(order: str, rr: float, success: list[int]) -> None:
    grades = {"a": 0.0, "b": 1.0, "c": 2.0, "d": 3.0}
    example = graded("q", grades, task="trec-dl-2019")
    found = measure(unbuilt("trec-dl-2019"), [example], {"q": list(order)})
    assert found["RR"] == [pytest.approx(rr)]
    assert [found[f"Success@{k}"][0] for k in (1, 3, 5)] == success
    assert found["nDCG@10"] == [pytest.approx(ndcg_by_hand([grades[id] for id in order]))]


@pytest.mark.parametrize(
    ("chosen", "performance", "cost", "reward", "regret"),
    [("large", 0.9, 1.0, 0.45, 0.10), ("middle", 0.5, 0.5, 0.50, 0.05), ("small", 0.1, 0.0, 0.55, 0.0)],
)
def test_a_router_is_worth_what_its_first_choice_is(
    chosen: str, performance: float, cost: float, reward: float, regret: float
) -> None:
    order = [chosen, *(name for name in OUTCOMES if name != chosen)]
    found = measure(ROUTER, [ROUTED], {"q": order})
    assert list(found) == [*EFFECTIVENESS, *ROUTING]
    assert [found[name][0] for name in ROUTING] == pytest.approx([performance, cost, reward, regret])


def test_only_the_first_choice_of_a_router_counts() -> None:
    first, second = (
        measure(ROUTER, [ROUTED], {"q": order})
        for order in (["middle", "large", "small"], ["middle", "small", "large"])
    )
    assert [first[name] for name in ROUTING] == [second[name] for name in ROUTING]
    assert first["RR"] != second["RR"]


@pytest.mark.parametrize("orders", [{}, {"q": []}, {"other": ["small"]}])
def test_a_list_without_a_ranking_counts_as_worst_in_each_measure(orders: dict[str, list[str]]) -> None:
    found = {name: value for name, (value,) in measure(ROUTER, [ROUTED], orders).items()}
    assert [found[name] for name in EFFECTIVENESS] == [0.0] * 5
    assert [found[name] for name in ROUTING] == pytest.approx([0.1, 1.0, 0.45, 0.10])
    for order in permutations(OUTCOMES):
        for name, (value,) in measure(ROUTER, [ROUTED], {"q": list(order)}).items():
            assert found[name] >= value if name in LOWER_IS_BETTER else found[name] <= value


def test_llms_of_one_price_cost_nothing_on_the_scale() -> None:
    task = unbuilt("router-cost", outcomes={"q": {"a": LLMOutcome(1.0, 7.0), "b": LLMOutcome(0.0, 7.0)}})
    example = graded("q", {"a": 100.0, "b": 80.0}, task="router-cost")
    for orders in ({"q": ["a", "b"]}, {"q": ["b", "a"]}, {}):
        assert measure(task, [example], orders)["cost"] == [0.0]
    assert measure_random(task, [example])["cost"] == [0.0]


def test_all_llms_that_share_the_best_utility_are_relevant() -> None:
    same = LLMOutcome(0.5, 1.0)
    task = unbuilt("router-performance", outcomes={"q": dict.fromkeys("abc", same)})
    example = graded("q", {"a": 50.0, "b": 50.0, "c": 20.0}, task="router-performance")
    found = [measure(task, [example], {"q": list(order)}) for order in ("abc", "bac", "cab")]
    assert [each["RR"][0] for each in found] == [1.0, 1.0, 0.5]
    assert [each["regret"][0] for each in found] == pytest.approx([0.0, 0.0, 0.3])


def test_values_come_in_the_order_of_the_lists() -> None:
    names = ["q2", "q10", "q1"]
    task = unbuilt("router-balance", outcomes=dict.fromkeys(names, OUTCOMES))
    lists = [graded(name, UTILITY, task="router-balance") for name in names]
    orders = {"q1": ["small", "middle", "large"], "q10": ["middle", "small", "large"], "q2": list(OUTCOMES)}
    found = measure(task, lists, orders)
    assert found["RR"] == pytest.approx([1 / 3, 1 / 2, 1.0])
    assert found["performance"] == pytest.approx([0.9, 0.5, 0.1])


def test_judged_documents_outside_the_list_lower_ndcg_alone() -> None:
    example = graded("q", {"a": 3.0, "b": 0.0, "c": 2.0}, task="trec-dl-2019")
    plain, judged = unbuilt("trec-dl-2019"), unbuilt("trec-dl-2019", judged={"q": {"x": 3.0, "y": 1.0}})
    order = {"q": ["a", "b", "c"]}
    without, found = measure(plain, [example], order), measure(judged, [example], order)
    gained = 3 + 2 / log2(4)
    assert without["nDCG@10"] == [pytest.approx(gained / (3 + 2 / log2(3)))]
    assert found["nDCG@10"] == [pytest.approx(gained / (3 + 3 / log2(3) + 2 / log2(4) + 1 / log2(5)))]
    assert {name: found[name] for name in EFFECTIVENESS if name != "nDCG@10"} == {
        name: without[name] for name in EFFECTIVENESS if name != "nDCG@10"
    }


def test_judged_documents_outside_the_list_lower_the_oracle_too() -> None:
    example = graded("q", {"a": 1.0, "b": 2.0}, task="trec-dl-2020")
    task = unbuilt("trec-dl-2020", judged={"q": {"x": 3.0}, "another": {"z": 3.0}})
    found = measure(task, [example], {"q": best_order(example)})["nDCG@10"]
    assert found == [pytest.approx((2 + 1 / log2(3)) / (3 + 2 / log2(3) + 1 / log2(4)))]


@pytest.mark.parametrize("outside", [[], [3.0], [1.0, 2.0, 3.0]])
@pytest.mark.parametrize(
    ("task", "grades", "good"),
    [
        ("passage-5", [1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [True, False, False, False, False, False]),
        ("movie", [0.0, 1.0, 1.0, 0.0], [False, True, True, False]),
        ("movie", [0.0, 0.0, 0.0], [False, False, False]),
        ("movie", [1.0], [True]),
        ("game", [1.0, 1.0], [True, True]),
        ("trec-dl-2019", [0.0, 1.0, 2.0, 3.0, 2.0, 0.0], [False, False, True, True, True, False]),
        ("trec-dl-2020", [1.0, 1.0, 1.0], [False, False, False]),
    ],
)
def test_random_order_is_the_mean_of_all_orders(
    task: str, grades: list[float], good: list[bool], outside: list[float]
) -> None:
    orders = [
        by_hand([grades[n] for n in order], [good[n] for n in order], outside=outside)
        for order in permutations(range(len(grades)))
    ]
    example = graded("q", {f"d{n}": grade for n, grade in enumerate(grades)}, task=task)
    judged = {"q": {f"x{n}": grade for n, grade in enumerate(outside)}}
    found = measure_random(unbuilt(task, judged=judged), [example])
    assert list(found) == list(EFFECTIVENESS)
    for name, values in found.items():
        assert values == [pytest.approx(fmean(order[name] for order in orders))], name


@pytest.mark.parametrize("utilities", [(45.0, 50.0, 55.0), (55.0, 55.0, 20.0), (30.0, 30.0, 30.0), (0.0, 0.0, 0.0)])
def test_random_order_of_llms_is_the_mean_of_all_orders_as_they_are_measured(
    utilities: tuple[float, ...],
) -> None:
    orders = {f"q{n}": list(order) for n, order in enumerate(permutations(OUTCOMES))}
    grades = dict(zip(OUTCOMES, utilities, strict=True))
    lists = [graded(id, grades, task="router-balance") for id in orders]
    task = unbuilt("router-balance", outcomes=dict.fromkeys(orders, OUTCOMES))
    measured, random = measure(task, lists, orders), measure_random(task, lists)
    assert list(random) == list(measured)
    for name, values in random.items():
        assert values == pytest.approx([fmean(measured[name])] * 6), name


def test_random_order_of_llms_costs_and_pays_the_mean_of_the_list() -> None:
    found = measure_random(ROUTER, [ROUTED])
    assert [found[name][0] for name in ROUTING] == pytest.approx([0.5, 0.5, 0.5, 0.05])


def test_random_order_of_more_than_ten_may_miss_the_places_that_count() -> None:
    example = graded("q", {f"d{n}": float(n == 0) for n in range(12)}, task="movie")
    found = measure_random(unbuilt("movie"), [example])
    assert found["nDCG@10"] == [pytest.approx(sum(1 / log2(place + 1) for place in range(1, 11)) / 12)]
    assert found["RR"] == [pytest.approx(sum(1 / place for place in range(1, 13)) / 12)]
    assert [found[f"Success@{k}"][0] for k in (1, 3, 5)] == pytest.approx([1 / 12, 3 / 12, 5 / 12])


def test_the_best_order_goes_by_grades_and_keeps_ties_as_they_stand() -> None:
    assert best_order(graded("q", {"a": 0.0, "b": 2.0, "c": 1.0, "d": 2.0, "e": 0.0})) == ["b", "d", "c", "a", "e"]


def test_nothing_exceeds_the_best_order() -> None:
    best = measure(ROUTER, [ROUTED], {"q": best_order(ROUTED)})
    assert [best[name][0] for name in EFFECTIVENESS] == pytest.approx([1.0] * 5)
    assert (best["reward"], best["regret"]) == ([pytest.approx(0.55)], [pytest.approx(0.0)])
