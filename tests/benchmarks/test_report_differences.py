from __future__ import annotations

import pytest
from toy_runs import graded, result, unbuilt
from unified_ranker.benchmarks.report.differences import differences

from unified_ranker.errors import DataError, OptionError


def test_lists_come_from_those_that_the_first_ranks_better_to_those_that_it_ranks_worse() -> None:
    one, other = result("a", [0.5, 1.0, 0.25, 0.5]), result("b", [0.5, 0.2, 1.0, 0.25])
    found = differences([one], [other])
    assert [entry.example.id for entry in found] == ["q1", "q3", "q0", "q2"]
    assert [(entry.first, entry.second) for entry in found] == [(1.0, 0.2), (0.5, 0.25), (0.5, 0.5), (0.25, 1.0)]
    assert {entry.task for entry in found} == {"passage-5"}


def test_the_other_way_round_the_lists_come_the_other_way_round() -> None:
    one, other = result("a", [0.1, 0.7, 0.3]), result("b", [0.3, 0.1, 0.4])
    forth = [entry.example.id for entry in differences([one], [other])]
    assert [entry.example.id for entry in differences([other], [one])] == forth[::-1] == ["q0", "q2", "q1"]


@pytest.mark.parametrize(
    ("metric", "ids"), [("cost", ["q1", "q0"]), ("regret", ["q1", "q0"]), ("reward", ["q0", "q1"])]
)
def test_what_costs_less_is_better(metric: str, ids: list[str]) -> None:
    task = unbuilt("router-balance")
    one, other = (
        result(name, [0.5, 0.5], task=task, **{metric: values})
        for name, values in (("a", [0.9, 0.1]), ("b", [0.2, 0.4]))
    )
    found = differences([one], [other], metric=metric)
    assert [entry.example.id for entry in found] == ids
    assert sorted((entry.first, entry.second) for entry in found) == [(0.1, 0.4), (0.9, 0.2)]


def test_equal_lists_keep_their_order() -> None:
    found = differences([result("a", [0.5] * 4)], [result("b", [0.5] * 4)])
    assert [entry.example.id for entry in found] == ["q0", "q1", "q2", "q3"]


def test_each_list_tells_how_both_ranked_it() -> None:
    examples = [graded(f"q{n}", {"a": 1, "b": 0, "c": 0}) for n in range(2)]
    one = result("a", [1.0, 0.0], examples=examples, orders={"q0": "abc"})
    other = result("b", [0.5, 0.5], examples=examples, orders={"q0": "bac", "q1": "cab"})
    orders = {entry.example.id: entry.orders for entry in differences([one], [other])}
    assert orders == {"q0": (["a", "b", "c"], ["b", "a", "c"]), "q1": ([], ["c", "a", "b"])}


def test_the_bounds_have_no_order_to_show() -> None:
    (entry,) = differences([result("a", [0.5])], [result("oracle", [1.0])])
    assert entry.orders == (["a", "b", "c"], [])


def test_only_lists_that_both_were_to_rank_count() -> None:
    found = differences([result("a", [0.5, 0.1])], [result("b", [0.1, 0.2, 0.3])])
    assert [entry.example.id for entry in found] == ["q0", "q1"]


def test_lists_of_all_shared_tasks_are_told_together() -> None:
    movie, game, paper = unbuilt("movie"), unbuilt("game"), unbuilt("movie", edition="paper")
    one = [result("a", [0.5], task=movie), result("a", [0.9], task=game), result("a", [0.1], task=paper)]
    other = [result("b", [0.1], task=game), result("b", [0.2], task=movie), result("b", [0.2], task=unbuilt("music"))]
    assert [(entry.task, entry.first) for entry in differences(one, other)] == [("game", 0.9), ("movie", 0.5)]


def test_those_who_share_no_task_cannot_be_compared() -> None:
    with pytest.raises(DataError, match="toy/one and bm25 have no task in common"):
        differences([result("toy/one", [0.5])], [result("bm25", [0.5], task=unbuilt("movie"))])


@pytest.mark.parametrize(("metric", "words"), [("nDCG@1", "did you mean 'nDCG@10'"), ("reward", "Choose one of: RR")])
def test_a_measure_that_a_task_does_not_know_is_told(metric: str, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        differences([result("a", [0.5])], [result("b", [0.5])], metric=metric)
