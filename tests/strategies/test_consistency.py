"""Several shuffles of a list, and one ranking of them all."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import Judge, best_first, counting, erratic, ids_listed, items

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import Step, Usage, places_below
from unified_ranker.strategies import METHODS, make_strategy
from unified_ranker.strategies.base import Asking, listing
from unified_ranker.strategies.consistency import Consistency

WAYS: list[dict[str, Any]] = [
    {"method": "iranker"},
    {"method": "iranker", "layout": "rounds"},
    {"method": "iranker", "style": "compact", "permute": True},
    {"method": "iranker", "drop_per_step": 2},
    {"method": "iranker", "stop_at": 3, "finish": "dranker"},
    {"method": "dranker"},
    {"method": "dranker", "style": "compact", "permute": True},
    {"method": "tournament"},
    {"method": "tournament", "block": 4, "style": "compact", "permute": True},
]
# Ways that find the first places alone, or that ask for more than one end of the list.
MORE_WAYS: list[dict[str, Any]] = [
    {"method": "best_first", "picks": 3},
    {"method": "setwise", "set_size": 4, "places": 3},
    {"method": "window", "size": 4, "step": 2},
    {"method": "cascade", "first": "dranker", "depth": 4},
    {"method": "aggregate", "of": ["dranker", "iranker"]},
]
EACH_WAY = pytest.mark.parametrize(
    "way", WAYS + MORE_WAYS, ids=lambda way: "-".join(str(value) for value in way.values())
)


def ask(script: Any, n: int, **options: Any) -> tuple[Ranking, ScriptedBackend]:
    backend = ScriptedBackend(script)
    return Ranker(backend, **options).rank("fruit", items(n)), backend


def mixed(n: int, seed: int = 0) -> dict[str, float]:
    """Return what each of n candidates is worth, the list being in no order of it."""
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return {str(number): float(worth) for number, worth in enumerate(order)}


def shown(n: int, seed: int) -> list[str]:
    """Return the ids of a list as a seed shuffles it."""
    example = RankingExample(id="query", query="fruit", candidates=tuple(items(n)))
    return [candidate.id for candidate in listing(example, seed)]


def borda(n: int, rankings: list[list[str]]) -> tuple[str, ...]:
    """Return the order of the mean places, and of the list where they are the same."""
    places = {str(i): sum(ranking.index(str(i)) for ranking in rankings) for i in range(n)}
    return tuple(sorted(places, key=lambda id: (places[id], int(id))))


def misplaced(ranking: Ranking) -> int:
    """Return how many pairs do not stand in the order of their numbers."""
    return sum(one > other for place, one in enumerate(ranking.ids) for other in ranking.ids[place + 1 :])


def without_session(requests: list[Request]) -> list[Request]:
    return [replace(request, session="") for request in requests]


@dataclass(frozen=True)
class Fixed:
    """Gives an order that was written down, and asks nothing."""

    order: str
    name: str = "fixed"

    def rank(self, example: RankingExample) -> Asking:
        """Return the order."""
        by_id = {candidate.id: candidate for candidate in example.candidates}
        return Ranking(
            example_id=example.id,
            order=tuple(by_id[id] for id in self.order),
            scores=places_below(len(self.order)),
            steps=(Step(index=0, reply=self.order, outcome="ok"), Step(index=1, reply="", outcome="failed")),
            usage=Usage(calls=len(self.order), failed_steps=1),
            method=self.name,
        )
        yield []


def joined(orders: list[str], given_order: str = "") -> Ranking:
    candidates = tuple(Candidate(id, "text") for id in given_order or sorted(orders[0]))
    running = Consistency(shuffles=tuple(Fixed(order) for order in orders)).rank(
        RankingExample(id="one", query="fruit", candidates=candidates)
    )
    with pytest.raises(StopIteration) as stop:
        next(running)
    ranking: Ranking = stop.value.value
    return ranking


# Borda's rule


@pytest.mark.parametrize(
    ("orders", "given_order", "expected"),
    [
        # Places of a, b, c: 0 0, 1 1, 2 2.
        (["abc", "abc"], "abc", "abc"),
        (["abc", "abc"], "cba", "abc"),
        # 0+0+1, 1+2+0, 2+1+2.
        (["abc", "acb", "bac"], "cba", "abc"),
        # 1+2+0, 0+0+1, 2+1+2.
        (["bac", "bca", "abc"], "abc", "bac"),
        # 0+1+1, 2+2+0, 1+0+2: b is first once and last twice.
        (["acb", "cab", "bac"], "abc", "acb"),
        # 0+0+3, 1+1+0, 2+3+1, 3+2+2: a is first in most rankings, but b has the better mean.
        (["abcd", "abdc", "bcda"], "abcd", "bacd"),
        # All the same: the list as it came.
        (["abc", "cba"], "abc", "abc"),
        (["abc", "cba"], "bca", "bca"),
        (["abc", "bca", "cab"], "cab", "cab"),
        (["abcd", "dcba"], "dbca", "dbca"),
        # a and b 1, c and d 5: ties among the first two and among the last two.
        (["abcd", "badc"], "abcd", "abcd"),
        (["abcd", "badc"], "dcba", "badc"),
        # c in the middle of a tie: a 0+2, b 2+0, c 1+1.
        (["acb", "bca"], "bca", "bca"),
        # A tie among some: a 0+1+2, b 1+0+1, c 2+2+0; b has 2, a 3, c 4.
        (["abc", "bac", "cba"], "cab", "bac"),
        (["ab", "ba", "ba"], "ab", "ba"),
        (["ab", "ba"], "ba", "ba"),
        (["a", "a"], "a", "a"),
    ],
)
def test_places_are_added_up_and_the_list_as_it_came_decides_ties(
    orders: list[str], given_order: str, expected: str
) -> None:
    ranking = joined(orders, given_order)
    assert "".join(ranking.ids) == expected
    assert ranking.scores == places_below(len(expected))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    orders=st.integers(1, 6).flatmap(lambda n: st.lists(st.permutations("abcdef"[:n]).map("".join), min_size=2)),
    data=st.data(),
)
def test_who_is_preferred_everywhere_is_above_and_the_order_of_rankings_does_not_matter(
    orders: list[str], data: st.DataObject
) -> None:
    found = "".join(joined(orders).ids)
    assert sorted(found) == sorted(orders[0])
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            assert not all(order.index(other) < order.index(one) for order in orders)
    assert "".join(joined(data.draw(st.permutations(orders))).ids) == found


def test_steps_and_costs_of_all_rankings_are_joined_in_their_order() -> None:
    ranking = joined(["abc", "cba", "bca"])
    assert [(step.index, step.reply, step.outcome) for step in ranking.steps] == [
        (0, "abc", "ok"),
        (1, "", "failed"),
        (2, "cba", "ok"),
        (3, "", "failed"),
        (4, "bca", "ok"),
        (5, "", "failed"),
    ]
    assert ranking.usage == Usage(calls=9, failed_steps=3)
    assert (ranking.method, ranking.example_id) == ("fixed", "one")


# What is asked


@pytest.mark.parametrize("shuffles", [2, 3, 5])
def test_all_shuffles_are_asked_at_once(shuffles: int) -> None:
    _, one_shot = ask(erratic, 6, method="dranker", shuffles=shuffles)
    assert one_shot.batches == [shuffles]
    _, permuted = ask(erratic, 6, method="iranker", style="compact", permute=True, shuffles=shuffles)
    assert permuted.batches == [shuffles]
    _, stepwise = ask(erratic, 6, method="iranker", shuffles=shuffles)
    assert stepwise.batches == [shuffles] * 5
    _, blocks = ask(erratic, 12, method="tournament", block=6, style="compact", permute=True, shuffles=shuffles)
    assert blocks.batches == [2 * shuffles, shuffles]


@pytest.mark.parametrize(("seed", "first"), [(None, 0), (0, 0), (7, 7)])
@pytest.mark.parametrize("method", list(METHODS))
def test_each_shuffle_has_a_seed_of_its_own_counted_from_the_one_that_was_given(
    method: str, seed: int | None, first: int
) -> None:
    ways = ["dranker", "iranker"] if method == "aggregate" else []
    options: dict[str, Any] = {"of": ways} if ways else {}
    if method == "pointwise":
        # Without labels, and one candidate a prompt.
        backend = ScriptedBackend(lambda request: "1")
        Ranker(backend, method=method, score="grade", shuffles=4, shuffle_seed=seed).rank("fruit", items(8))
        ids = [re.findall(r"item(\d+)", request.messages[-1].content)[0] for request in backend.requests]
        listed = [ids[first : first + 8] for first in range(0, 32, 8)]
        assert len(ids) == 32
    else:
        _, backend = ask(erratic, 8, method=method, shuffles=4, shuffle_seed=seed, **options)
        # All ways of a list show it in the same order.
        each = max(1, len(ways))
        begun = [ids_listed(request) for request in backend.requests[: 4 * each]]
        listed = begun[::each]
        assert begun == [ids for ids in listed for _ in range(each)]
    assert listed == [shown(8, first + number) for number in range(4)]
    assert len({tuple(ids) for ids in listed}) == 4


@EACH_WAY
def test_each_shuffle_is_what_a_shuffle_seed_asks_for(way: dict[str, Any]) -> None:
    joint, backend = ask(erratic, 9, shuffles=3, shuffle_seed=5, **way)
    alone = [ask(erratic, 9, shuffle_seed=5 + number, **way) for number in range(3)]
    wanted = without_session([request for _, other in alone for request in other.requests])
    assert sorted(map(repr, without_session(backend.requests))) == sorted(map(repr, wanted))
    assert joint.ids == borda(9, [list(ranking.ids) for ranking, _ in alone])
    assert [replace(step, index=0) for step in joint.steps] == [
        replace(step, index=0) for ranking, _ in alone for step in ranking.steps
    ]
    assert [step.index for step in joint.steps] == list(range(len(joint.steps)))
    total = sum((ranking.usage for ranking, _ in alone), Usage())
    assert replace(joint.usage, seconds=0.0) == replace(total, seconds=0.0)
    assert joint.method == way["method"]


@EACH_WAY
def test_the_same_is_asked_and_found_again(way: dict[str, Any]) -> None:
    (first, one), (second, two) = (ask(erratic, 9, shuffles=4, **way) for _ in range(2))
    assert first.ids == second.ids
    assert without_session(one.requests) == without_session(two.requests)


@EACH_WAY
@pytest.mark.parametrize("seed", [None, 3])
def test_one_shuffle_is_the_strategy_itself(way: dict[str, Any], seed: int | None) -> None:
    one, asked_one = ask(erratic, 9, shuffles=1, shuffle_seed=seed, **way)
    plain, asked_plain = ask(erratic, 9, shuffle_seed=seed, **way)
    assert (one.ids, one.steps) == (plain.ids, plain.steps)
    assert without_session(asked_one.requests) == without_session(asked_plain.requests)
    assert asked_one.batches == asked_plain.batches


@EACH_WAY
def test_one_candidate_needs_no_shuffle(way: dict[str, Any]) -> None:
    ranking, backend = ask([], 1, shuffles=3, **way)
    assert (ranking.ids, ranking.scores, ranking.steps) == (("0",), (0.0,), ())
    assert backend.requests == []
    assert ranking.method == way["method"]


def test_what_comes_before_the_candidates_is_the_same_in_all_shuffles() -> None:
    backend = ScriptedBackend(erratic)
    Ranker(backend, method="dranker", shuffles=3).rank("fruit", items(5), context=("said before",))
    heads = {request.messages[-1].content.split("[A]")[0] for request in backend.requests}
    assert len(heads) == 1
    assert "said before" in heads.pop()


def test_two_lists_and_their_shuffles_share_batches_and_are_shuffled_each_in_its_own_way() -> None:
    backend = ScriptedBackend(erratic)
    examples = [RankingExample(id=name, query="fruit", candidates=tuple(items(8))) for name in ("one", "two")]
    list(Ranker(backend, method="dranker", shuffles=3).rank_batch(examples))
    assert backend.batches == [6]
    assert len({tuple(ids_listed(request)) for request in backend.requests}) == 6


def test_no_two_shuffles_share_a_session() -> None:
    _, backend = ask(erratic, 4, method="iranker", shuffles=3)
    sessions = [request.session for request in backend.requests]
    assert len(set(sessions)) == 3
    assert all(sessions.count(session) == 3 for session in set(sessions))


@EACH_WAY
def test_what_all_shuffles_cost_is_added_up(way: dict[str, Any]) -> None:
    paid: list[Completion] = []
    ranking, backend = ask(counting(erratic, paid), 9, shuffles=3, **way)
    assert ranking.usage.calls == len(paid) == len(backend.requests)
    assert ranking.usage.prompt_tokens == sum(entry.prompt_tokens for entry in paid)
    assert ranking.usage.reused_tokens == sum(entry.reused_tokens for entry in paid)
    assert ranking.usage.generated_tokens == sum(entry.generated_tokens for entry in paid)


def test_failed_replies_of_some_shuffles_are_counted() -> None:
    ranking, _ = ask(["?", "A > B > C", "A > B"], 3, method="dranker", shuffles=3)
    assert [step.outcome for step in ranking.steps] == ["failed", "ok", "repaired"]
    assert (ranking.usage.repaired_steps, ranking.usage.failed_steps) == (1, 1)


# What comes of it


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(str(value) for value in way.values()))
@settings(max_examples=8, deadline=None, derandomize=True)
@given(n=st.integers(1, 9), seed=st.integers(0, 9), shuffles=st.integers(1, 5))
def test_a_judge_that_reads_in_any_order_finds_the_same_however_often_it_is_asked(
    way: dict[str, Any], n: int, seed: int, shuffles: int
) -> None:
    worth = mixed(n, seed)
    ranking, _ = ask(Judge(worth), n, shuffles=shuffles, **way)
    if way.get("block", n) < n:
        # Blocks lose something, but never the best.
        assert ranking.ids[0] == best_first(worth)[0]
        assert sorted(ranking.ids) == sorted(worth)
    else:
        assert ranking.ids == best_first(worth)


@pytest.mark.parametrize("end", [0, -1])
@pytest.mark.parametrize("shuffles", [2, 3, 16])
def test_of_a_judge_that_goes_by_the_place_alone_only_the_shuffles_are_left(shuffles: int, end: int) -> None:
    ranking, _ = ask(lambda request: request.choices[end], 6, method="iranker", shuffles=shuffles)
    # It finds each list in the order in which it is listed, or in the reverse.
    found = [shown(6, seed) if end else shown(6, seed)[::-1] for seed in range(shuffles)]
    assert ranking.ids == borda(6, found)


def test_a_judge_that_goes_by_the_place_alone_says_nothing_over_all_shuffles() -> None:
    # Each order and its reverse: everyone has the same mean place, and the list as it came is what is left.
    orders = ["abcdef", "cafebd", "fbdaec"]
    for given_order in ("abcdef", "fedcba", "cadbfe"):
        ranking = joined([*orders, *(order[::-1] for order in orders)], given_order)
        assert "".join(ranking.ids) == given_order


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_a_judge_that_prefers_what_stands_late_is_put_right_by_shuffles(method: str) -> None:
    # The best first, and each place is worth more to the judge than the next candidate is worth less.
    worth = {str(i): 8.0 - i for i in range(8)}
    biased = Judge(worth, bias=1.25)
    once, _ = ask(biased, 8, method=method)
    often, _ = ask(biased, 8, method=method, shuffles=40)
    assert once.ids == tuple(reversed(best_first(worth)))
    assert often.ids[:4] == best_first(worth)[:4]
    assert misplaced(often) <= 2


# What is refused


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("value", [0, -1, True, False, "3", 2.0, 1.5, None, [2]])
def test_a_number_of_shuffles_that_is_none_is_refused_at_once(method: str, value: Any) -> None:
    backend = ScriptedBackend([])
    with pytest.raises(OptionError, match=r"shuffles=.* must be a whole number ≥ 1") as raised:
        Ranker(backend, method=method, shuffles=value)
    assert f"shuffles={value!r}" in str(raised.value)
    assert backend.requests == []


@pytest.mark.parametrize("orders", [[], ["abc"]])
def test_fewer_than_two_rankings_are_not_joined(orders: list[str]) -> None:
    with pytest.raises(OptionError, match=f"shuffles={len(orders)} must be ≥ 2"):
        Consistency(shuffles=tuple(Fixed(order) for order in orders))


def test_an_option_that_cannot_be_used_is_told_with_shuffles_too() -> None:
    writer: Any = None
    with pytest.raises(OptionError, match="stop_at=0 must be ≥ 1"):
        make_strategy("iranker", writer=writer, shuffles=2, stop_at=0)
    with pytest.raises(OptionError, match="layout='append': the method 'dranker' does not take it"):
        make_strategy("dranker", writer=writer, shuffles=2, layout="append")
