"""Cascades and aggregates on one model: who is shown what, and how rankings are joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from judges import Critic, best_first, counting, erratic, ids_listed, items, mixed

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import Candidate, Step, Usage, places_below
from unified_ranker.strategies.aggregate import Aggregate
from unified_ranker.strategies.base import Asking, listing
from unified_ranker.strategies.cascade import Cascade


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, **options).rank("fruit", items(n)), backend


@dataclass(frozen=True)
class Fixed:
    """Gives an order that was written down, after asking as often as it is told to."""

    order: str
    calls: int = 0
    name: str = "fixed"

    def rank(self, example: RankingExample) -> Asking:
        """Return the order, of the candidates that there are."""
        steps = []
        for index in range(self.calls):
            (completion,) = yield [Request(messages=())]
            steps.append(Step(index=index, reply=completion.text, outcome="ok"))
        by_id = {candidate.id: candidate for candidate in example.candidates}
        order = tuple(by_id[id] for id in self.order if id in by_id)
        # Scores that mean something, and that a method which joins rankings must not hand on.
        scores = tuple(score * 7 for score in places_below(len(order)))
        return Ranking(
            example_id=example.id,
            order=order,
            scores=scores,
            steps=tuple(steps),
            usage=Usage(calls=self.calls, prompt_tokens=10 * self.calls, failed_steps=1),
            method=self.name,
        )


def run(strategy: Any, ids: str) -> tuple[Ranking, list[int]]:
    """Run a strategy; return its ranking and how many requests went out together."""
    running = strategy.rank(RankingExample("one", "q", tuple(Candidate(id, "text") for id in ids)))
    sizes: list[int] = []
    try:
        wanted = next(running)
        while True:
            sizes.append(len(wanted))
            wanted = running.send([Completion(f"batch {len(sizes)}")] * len(wanted))
    except StopIteration as stop:
        return stop.value, sizes


# Cascade


@pytest.mark.parametrize(
    ("depth", "expected"), [(1, "dcbae"), (2, "cdbae"), (3, "bcdae"), (4, "abcde"), (5, "abcde"), (99, "abcde")]
)
def test_the_second_orders_the_first_places_of_the_first(depth: int, expected: str) -> None:
    ranking, _ = run(Cascade(first=Fixed("dcbae"), then=Fixed("abcde"), depth=depth), "abcde")
    assert "".join(ranking.ids) == expected
    assert ranking.scores == places_below(5)
    assert (ranking.method, ranking.example_id) == ("cascade", "one")


def test_steps_are_numbered_through_and_costs_added() -> None:
    ranking, sizes = run(Cascade(first=Fixed("cab", 2), then=Fixed("abc", 3), depth=2), "abc")
    assert sizes == [1] * 5
    assert [(step.index, step.reply) for step in ranking.steps] == [(i, f"batch {i + 1}") for i in range(5)]
    assert ranking.usage == Usage(calls=5, prompt_tokens=50, failed_steps=2)


@pytest.mark.parametrize(("depth", "ids"), [(1, "abc"), (3, "a")])
def test_where_the_top_is_one_candidate_the_second_is_not_asked(depth: int, ids: str) -> None:
    ranking, sizes = run(Cascade(first=Fixed("cab", 2), then=Fixed("abc", 3), depth=depth), ids)
    assert sizes == [1, 1]
    assert ranking.usage.calls == 2
    assert (ranking.method, ranking.scores) == ("cascade", places_below(len(ids)))


@pytest.mark.parametrize("depth", [2, 4, 10, 50])
def test_the_second_is_shown_the_top_in_the_order_of_the_first(depth: int) -> None:
    worth = mixed(12)
    ranking, backend = ask(Critic(worth), 12, method="cascade", first="dranker", then="dranker", depth=depth)
    assert [ids_listed(request) for request in backend.requests] == [list(worth), list(best_first(worth)[:depth])]
    assert ranking.ids == best_first(worth)
    assert [step.index for step in ranking.steps] == [0, 1]


def test_the_default_reads_the_first_token_and_then_eliminates_ten() -> None:
    worth = mixed(15)
    ranking, backend = ask(Critic(worth), 15, method="cascade")
    assert ranking.ids == best_first(worth)
    assert len(backend.requests) == 1 + 9
    first, *others = backend.requests
    assert "Rank all candidates" in first.messages[-1].content
    assert all("Remove the candidates" in request.messages[-1].content for request in others)
    assert ids_listed(others[0]) == list(best_first(worth)[:10])


def test_the_list_is_shuffled_for_the_first_alone() -> None:
    worth = mixed(9)
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(9))), 4)]
    assert shown != list(worth)
    _, backend = ask(Critic(worth), 9, method="cascade", first="dranker", then="dranker", depth=5, shuffle_seed=4)
    assert [ids_listed(request) for request in backend.requests] == [shown, list(best_first(worth)[:5])]


def test_cascades_of_several_queries_go_side_by_side() -> None:
    worth = mixed(9)
    backend = ScriptedBackend(Critic(worth))
    examples = [RankingExample(id=str(n), query="q", candidates=tuple(items(n))) for n in (9, 1, 5)]
    list(Ranker(backend, method="cascade", first="dranker", then="dranker").rank_batch(examples))
    assert backend.batches == [2, 2]


def test_what_a_cascade_cost_is_added_up_and_its_errors_come_through() -> None:
    paid: list[Completion] = []
    ranking, _ = ask(counting(Critic(mixed(9)), paid), 9, method="cascade", depth=4)
    assert ranking.usage.calls == len(paid) == 4
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    with pytest.raises(ReplyError, match="'nonsense'"):
        replies = ["C > B > A", "nonsense"]
        ask(replies, 3, method="cascade", first="dranker", then="dranker", on_error="raise")


@pytest.mark.parametrize("depth", [0, -1, True, 2.0, "3"])
def test_a_depth_that_cannot_be_used_is_refused(depth: Any) -> None:
    with pytest.raises(OptionError, match=r"depth=.* must be ≥ 1"):
        Ranker(ScriptedBackend([]), method="cascade", depth=depth)
    with pytest.raises(OptionError, match=r"depth=.* must be ≥ 1"):
        Cascade(first=Fixed("a"), then=Fixed("a"), depth=depth)


# Aggregate


def test_all_ways_are_asked_at_once_and_joined() -> None:
    ranking, sizes = run(Aggregate(of=(Fixed("abc", 2), Fixed("bac", 1), Fixed("bca", 3))), "cab")
    assert sizes == [3, 2, 1]
    assert "".join(ranking.ids) == "bac"
    assert ranking.scores == pytest.approx((1 / 62 + 2 / 61, 1 / 61 + 1 / 62 + 1 / 63, 2 / 63 + 1 / 62))
    assert (ranking.method, ranking.example_id) == ("aggregate", "one")
    # The steps of one way after those of another.
    assert [(step.index, step.reply) for step in ranking.steps] == list(
        enumerate(["batch 1", "batch 2", "batch 1", "batch 1", "batch 2", "batch 3"])
    )
    assert ranking.usage == Usage(calls=6, prompt_tokens=60, failed_steps=3)


@pytest.mark.parametrize(("fusion", "expected"), [("rrf", "cab"), ("borda", "bca")])
def test_the_rule_is_the_one_that_was_asked_for(fusion: Any, expected: str) -> None:
    ranking, _ = run(Aggregate(of=(Fixed("abc"), Fixed("cba")), fusion=fusion), "bca")
    assert "".join(ranking.ids) == expected


@pytest.mark.parametrize("fusion", ["rrf", "borda"])
def test_the_order_of_the_list_may_be_one_of_the_rankings(fusion: Any) -> None:
    way = Fixed("bca", 2)
    ranking, sizes = run(Aggregate(of=(way,), fusion=fusion, listed=True), "abc")
    assert "".join(ranking.ids) == "bac"
    # It costs nothing, and leaves no steps.
    assert sizes == [1, 1]
    assert len(ranking.steps) == ranking.usage.calls == 2
    several, _ = run(Aggregate(of=(way, way), fusion=fusion, listed=True), "acb")
    assert "".join(several.ids) == "bca"


def test_a_list_joined_with_its_reverse_keeps_its_order() -> None:
    ranking, _ = run(Aggregate(of=(Fixed("cba"),), fusion="borda", listed=True), "abc")
    assert "".join(ranking.ids) == "abc"


def test_rrf_is_the_rule_where_nothing_is_said() -> None:
    assert Aggregate(of=(Fixed("abc"), Fixed("cba"))).fusion == "rrf"


def test_ways_may_be_methods_of_any_kind() -> None:
    worth = mixed(8)
    ways = ["iranker", "dranker", {"method": "setwise", "places": 8}, "first_token", "pointwise"]
    ranking, backend = ask(Critic(worth), 8, method="aggregate", of=ways)
    assert ranking.ids == best_first(worth)
    assert backend.batches[0] == 1 + 1 + 1 + 1 + 8
    alone = [ask(Critic(worth), 8, **(way if isinstance(way, dict) else {"method": way}))[0] for way in ways]
    assert [replace(step, index=0) for step in ranking.steps] == [
        replace(step, index=0) for other in alone for step in other.steps
    ]
    assert [step.index for step in ranking.steps] == list(range(len(ranking.steps)))
    assert ranking.usage.calls == sum(other.usage.calls for other in alone)


def test_each_chain_is_drawn_with_a_seed_of_its_own() -> None:
    _, backend = ask(erratic, 5, method="aggregate", of="dranker", chains=3, temperature=0.7, seed=11)
    assert backend.batches == [3]
    assert [request.seed for request in backend.requests] == [11, 12, 13]
    assert {request.temperature for request in backend.requests} == {0.7}
    _, unseeded = ask(erratic, 5, method="aggregate", of="dranker", chains=2, temperature=0.7)
    assert [request.seed for request in unseeded.requests] == [0, 1]


def test_chains_of_several_ways_are_so_many_of_each() -> None:
    ways = ["dranker", {"method": "dranker", "reasoning": True}]
    _, backend = ask(erratic, 5, method="aggregate", of=ways, chains=2, temperature=1.0, seed=1)
    assert [(request.seed, bool(request.stop)) for request in backend.requests] == [
        (1, False),
        (2, False),
        (1, True),
        (2, True),
    ]


def test_one_chain_keeps_the_seed_as_it_is() -> None:
    _, backend = ask(erratic, 5, method="aggregate", of=["dranker", "dranker"], temperature=0.7)
    assert [request.seed for request in backend.requests] == [None, None]


def test_chains_of_a_way_with_a_seed_of_its_own_differ_as_well() -> None:
    _, backend = ask(erratic, 5, method="aggregate", of={"method": "dranker", "seed": 5}, chains=3, temperature=1.0)
    assert len({request.seed for request in backend.requests}) == 3


def test_chains_of_a_way_that_draws_nothing_are_refused() -> None:
    with pytest.raises(OptionError, match="chains=3"):
        ask(erratic, 5, method="aggregate", of={"method": "dranker", "temperature": 0.0}, chains=3, temperature=1.0)


def test_the_shuffle_is_the_same_for_all_ways_and_shuffles_are_a_way() -> None:
    _, backend = ask(erratic, 8, method="aggregate", of=["dranker", "dranker"], shuffle_seed=3)
    shown = [c.id for c in listing(RankingExample(id="query", query="", candidates=tuple(items(8))), 3)]
    assert [ids_listed(request) for request in backend.requests] == [shown, shown]
    _, several = ask(erratic, 8, method="aggregate", of=["dranker", {"method": "dranker", "shuffles": 3}])
    assert several.batches == [4]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "of: 1 ways to rank; give at least two"),
        ({"of": []}, "of: 0 ways to rank; give at least two"),
        ({"of": "iranker"}, "of: 1 ways to rank"),
        ({"of": {"method": "iranker"}}, "of: 1 ways to rank"),
        ({"of": ["iranker", "drankr"]}, "of='drankr' is not known; did you mean 'dranker'"),
        ({"of": ["iranker", 3]}, "of=3 must be the name of a method, or a mapping"),
        ({"of": ["iranker", "dranker"], "fusion": "rff"}, "fusion='rff' is not known; did you mean 'rrf'"),
        ({"of": [], "listed": True}, "of: 0 ways to rank; give at least two"),
        ({"of": "iranker", "listed": 1}, "listed=1 must be true or false"),
        ({"of": "iranker", "chains": 0, "temperature": 1.0}, "chains=0 must be ≥ 1"),
        ({"of": "iranker", "chains": True, "temperature": 1.0}, "chains=True must be ≥ 1"),
        ({"of": "iranker", "chains": 3}, "chains=3 at temperature=0.0 would be 3 times the same"),
    ],
)
def test_what_cannot_be_joined_is_refused_at_once(options: dict[str, Any], named: str) -> None:
    with pytest.raises(OptionError, match=named):
        Ranker(ScriptedBackend([]), method="aggregate", **options)


@pytest.mark.parametrize("of", [5, None, True, 1.5])
def test_ways_that_are_no_list_are_refused_by_name(of: Any) -> None:
    with pytest.raises(OptionError, match="of="):
        Ranker(ScriptedBackend([]), method="aggregate", of=of)


def test_one_candidate_is_ranked_without_a_call() -> None:
    for options in ({"method": "cascade"}, {"method": "aggregate", "of": ["iranker", "dranker"]}):
        ranking, backend = ask([], 1, **options)
        assert (ranking.ids, ranking.steps, backend.requests) == (("0",), (), [])
        assert ranking.method == options["method"]
