"""Rankers made of rankers: two models, one ranking, and everything that a ranker can do."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

import unified_ranker
from unified_ranker import AggregateRanker, Candidate, CascadeRanker, Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError, DataError, OptionError, ReplyError
from unified_ranker.exchange import Completion, Request
from unified_ranker.schema.types import places_below

LISTED = re.compile(r"^\[(.)\] item(\d+)$", re.MULTILINE)


def items(n: int) -> list[Candidate]:
    return [Candidate(str(number), f"item{number}") for number in range(n)]


def examples(*lengths: int) -> list[RankingExample]:
    return [RankingExample(id=f"list {i}", query="q", candidates=tuple(items(n))) for i, n in enumerate(lengths)]


def listed(request: Request) -> list[str]:
    return [id for _, id in LISTED.findall(request.messages[-1].content)]


def turned(request: Request) -> Completion:
    """Turn the list round."""
    labels = [label for label, _ in LISTED.findall(request.messages[-1].content)]
    return Completion(" > ".join(reversed(labels)), prompt_tokens=100, generated_tokens=5)


def by_number(request: Request) -> Completion:
    """Order the list by the numbers of its items."""
    found = sorted(LISTED.findall(request.messages[-1].content), key=lambda entry: int(entry[1]))
    return Completion(" > ".join(label for label, _ in found), prompt_tokens=10, generated_tokens=3)


def ranker(script: Any, **options: Any) -> Ranker:
    return Ranker(ScriptedBackend(script), **{"method": "dranker", **options})


def requests_of(part: Any) -> list[Request]:
    assert isinstance(part.backend, ScriptedBackend)
    return part.backend.requests


def comparable(ranking: Ranking) -> dict[str, Any]:
    record = ranking.to_dict()
    record["usage"] = {key: value for key, value in record["usage"].items() if key != "seconds"}
    return record


def test_the_package_offers_both() -> None:
    assert {"AggregateRanker", "CascadeRanker"} <= set(unified_ranker.__all__)
    assert unified_ranker.CascadeRanker is CascadeRanker


# A cascade of two models


def test_the_second_model_sees_the_top_of_the_first_in_its_order() -> None:
    small, large = ranker(turned), ranker(by_number)
    ranking = CascadeRanker(small, large, depth=3).rank("q", items(6))
    assert [listed(request) for request in requests_of(small)] == [["0", "1", "2", "3", "4", "5"]]
    assert [listed(request) for request in requests_of(large)] == [["5", "4", "3"]]
    assert ranking.ids == ("3", "4", "5", "2", "1", "0")
    assert ranking.scores == places_below(6)
    assert (ranking.method, ranking.example_id) == ("cascade", "query")
    assert [step.index for step in ranking.steps] == [0, 1]
    assert (ranking.usage.calls, ranking.usage.prompt_tokens, ranking.usage.generated_tokens) == (2, 110, 8)


def test_twenty_is_the_depth_where_none_is_given() -> None:
    small, large = ranker(turned), ranker(turned)
    ranking = CascadeRanker(small, large).rank("q", items(25))
    assert [len(listed(request)) for request in requests_of(large)] == [20]
    assert ranking.ids == (*map(str, range(5, 25)), "4", "3", "2", "1", "0")


@pytest.mark.parametrize("depth", [1, 2, 6, 7, 99])
@pytest.mark.parametrize("n", [1, 2, 6])
def test_any_depth_goes_with_any_length(depth: int, n: int) -> None:
    ranking = CascadeRanker(ranker(turned), ranker(by_number), depth=depth).rank("q", items(n))
    order = list(reversed(range(n)))
    assert ranking.ids == tuple(map(str, [*sorted(order[:depth]), *order[depth:]]))


def test_methods_and_prompts_of_the_parts_are_their_own() -> None:
    small = ranker(lambda request: Completion("A", {name: -i for i, name in enumerate(request.choices)}))
    small = Ranker(small.backend, method="first_token", style="compact")
    large = ranker(lambda request: request.choices[0], method="iranker")
    ranking = CascadeRanker(small, large, depth=3).rank("q", items(5))
    assert requests_of(small)[0].messages[-1].content.endswith("<|best|>")
    assert "Remove the candidates one after another" in requests_of(large)[0].messages[-1].content
    assert len(requests_of(large)) == 2
    assert ranking.ids == ("2", "1", "0", "3", "4")


@pytest.mark.parametrize("depth", [0, -3, True, 2.0, "3", None])
def test_a_depth_that_cannot_be_used_is_refused(depth: Any) -> None:
    with pytest.raises(OptionError, match=r"depth=.* must be ≥ 1"):
        CascadeRanker(ranker(turned), ranker(turned), depth=depth)


# An aggregate of several models


def test_all_models_see_the_list_and_their_rankings_are_joined() -> None:
    parts = [ranker(by_number), ranker(turned), ranker(by_number)]
    ranking = AggregateRanker(*parts).rank("q", items(4))
    assert [listed(request) for part in parts for request in requests_of(part)] == [["0", "1", "2", "3"]] * 3
    assert ranking.ids == ("0", "1", "2", "3")
    assert ranking.scores == pytest.approx(tuple(2 / (60 + rank) + 1 / (65 - rank) for rank in range(1, 5)))
    assert (ranking.method, ranking.example_id) == ("aggregate", "query")
    assert [step.index for step in ranking.steps] == [0, 1, 2]
    assert (ranking.usage.calls, ranking.usage.prompt_tokens) == (3, 120)


@pytest.mark.parametrize(("fusion", "order"), [("rrf", ("2", "0", "1")), ("borda", ("1", "2", "0"))])
def test_the_rule_is_the_one_that_was_asked_for(fusion: Any, order: tuple[str, ...]) -> None:
    candidates = [items(3)[number] for number in (1, 2, 0)]
    backwards = ranker(lambda request: "B > A > C")
    ranking = AggregateRanker(ranker(lambda request: "C > A > B"), backwards, fusion=fusion).rank("q", candidates)
    assert ranking.ids == order


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_are_refused(count: int) -> None:
    with pytest.raises(OptionError, match=f"{count} rankers; give at least two"):
        AggregateRanker(*[ranker(turned)] * count)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(OptionError, match="fusion='rff' is not known; did you mean 'rrf'"):
        AggregateRanker(ranker(turned), ranker(turned), fusion="rff")  # type: ignore[arg-type]


def cascade() -> CascadeRanker:
    return CascadeRanker(ranker(turned), ranker(by_number), depth=3)


def aggregate() -> AggregateRanker:
    return AggregateRanker(ranker(by_number), ranker(by_number), ranker(turned))


def nested() -> CascadeRanker:
    return CascadeRanker(aggregate(), AggregateRanker(cascade(), ranker(turned), fusion="borda"), depth=4)


EACH = pytest.mark.parametrize("make", [cascade, aggregate, nested])


# What both can do, as a ranker can


@EACH
def test_many_lists_come_in_their_order_and_as_they_do_alone(make: Any) -> None:
    lists = examples(6, 1, 3, 9, 2)
    found = list(make().rank_batch(lists, concurrency=2))
    assert [ranking.example_id for ranking in found] == [example.id for example in lists]
    alone = [next(make().rank_batch([example])) for example in lists]
    assert list(map(comparable, found)) == list(map(comparable, alone))


@EACH
def test_no_lists_give_no_rankings(make: Any) -> None:
    assert list(make().rank_batch([])) == []


@EACH
def test_lists_are_read_as_they_are_needed(make: Any) -> None:
    read: list[int] = []

    def endless() -> Iterator[RankingExample]:
        while True:
            read.append(len(read))
            yield examples(4)[0]

    found = make().rank_batch(endless(), concurrency=2)
    assert [next(found).ids for _ in range(3)] == [make().rank("q", items(4)).ids] * 3
    assert len(read) < 100


def test_the_second_model_begins_before_the_first_is_done_with_all() -> None:
    small, large = ranker(turned), ranker(by_number)
    found = CascadeRanker(small, large, depth=2).rank_batch(examples(*[4] * 20), concurrency=3)
    next(found)
    assert len(requests_of(large)) == 3
    assert len(requests_of(small)) < 20
    assert len(list(found)) == 19
    assert len(requests_of(small)) == len(requests_of(large)) == 20


def test_lists_share_the_batches_of_each_model() -> None:
    small, large = ranker(turned), ranker(by_number)
    list(CascadeRanker(small, large, depth=2).rank_batch(examples(4, 5, 6)))
    assert [small.backend.batches, large.backend.batches] == [[3], [3]]  # type: ignore[attr-defined]


@EACH
@pytest.mark.parametrize("domain", ["passage", "recommendation"])
def test_without_blocking_the_same_is_found(make: Any, domain: str) -> None:
    plain = make().rank("q", items(6), domain=domain, context=["before"], top_k=2)
    found = asyncio.run(make().arank("q", items(6), domain=domain, context=["before"], top_k=2))
    assert comparable(found) == comparable(plain)
    assert (len(found), len(found.order)) == (2, 6)


def test_without_blocking_many_queries_share_batches() -> None:
    small, large = ranker(turned), ranker(by_number)
    composed = CascadeRanker(small, large, depth=2)

    async def both() -> list[Ranking]:
        return await asyncio.gather(*(composed.arank("q", items(n)) for n in (4, 5, 6)))

    assert [len(ranking.order) for ranking in asyncio.run(both())] == [4, 5, 6]
    assert sum(small.backend.batches) == sum(large.backend.batches) == 3  # type: ignore[attr-defined]
    assert small.backend.batches == [3]  # type: ignore[attr-defined]


@EACH
def test_domain_and_context_reach_every_model(make: Any) -> None:
    composed = make()
    composed.rank("what next", items(4), domain="recommendation", context=("seen before",))
    parts = [composed]
    models = []
    while parts:
        part = parts.pop()
        if isinstance(part, Ranker):
            models.append(part)
        else:
            parts += part.rankers if isinstance(part, AggregateRanker) else [part.first, part.then]
    assert len(models) >= 2
    for model in models:
        assert len(requests_of(model)) == 1
        content = requests_of(model)[0].messages[-1].content
        assert "seen before" in content
        assert "Task: what next" in content


@EACH
@pytest.mark.parametrize("top_k", [1, 3, None])
def test_top_k_shows_the_first_places_and_keeps_all(make: Any, top_k: int | None) -> None:
    whole = make().rank("q", items(5))
    ranking = make().rank("q", items(5), top_k=top_k)
    assert ranking.ids == whole.ids[:top_k]
    assert len(ranking.order) == 5
    # In a batch, a shorter list shows all of its places.
    assert [len(found) for found in make().rank_batch(examples(5, 2), top_k=3)] == [3, 2]


@EACH
def test_strings_and_mappings_may_be_given(make: Any) -> None:
    ranking = make().rank("q", ["item1", {"text": "item0", "id": "zero"}, Candidate("c", "item2")])
    assert sorted(ranking.ids) == ["0", "c", "zero"]
    assert make().rank("q", (f"item{number}" for number in range(3))).ids


@EACH
@pytest.mark.parametrize(
    ("arguments", "error", "named"),
    [
        ({"candidates": []}, DataError, "'candidates' is empty"),
        ({"candidates": ["a", 1]}, DataError, "rank"),
        ({"candidates": [Candidate("x", "a"), Candidate("x", "b")]}, DataError, "holds the id 'x' 2 times"),
        ({"query": 3}, DataError, "'query'"),
        ({"context": "one string"}, DataError, "context"),
        ({"domain": "music"}, OptionError, "domain='music'"),
        ({"top_k": 0}, OptionError, "top_k"),
        ({"top_k": 9}, OptionError, "top_k=9 must be between 1 and"),
    ],
)
def test_what_cannot_be_ranked_is_refused(
    make: Any, arguments: dict[str, Any], error: type[Exception], named: str
) -> None:
    given = {"query": "q", "candidates": items(3), **arguments}
    with pytest.raises(error, match=named):
        make().rank(**given)
    with pytest.raises(error, match=named):
        asyncio.run(make().arank(**given))


@EACH
@pytest.mark.parametrize("options", [{"concurrency": 0}, {"top_k": 0}, {"top_k": True}, {"concurrency": 1.5}])
def test_counts_that_cannot_be_used_are_refused(make: Any, options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(options))}=.* must be a whole number ≥ 1"):
        list(make().rank_batch(examples(3), **options))


@EACH
def test_progress_does_not_change_what_is_found(make: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(make().rank_batch(examples(4, 3), progress=True))
    assert list(map(comparable, found)) == list(map(comparable, make().rank_batch(examples(4, 3))))
    assert capsys.readouterr().out == ""


# Errors of a part


def broken(request: Request) -> Completion:
    raise BackendError("the engine is gone")


@pytest.mark.parametrize(
    "composed",
    [
        lambda: CascadeRanker(ranker(broken), ranker(turned)),
        lambda: CascadeRanker(ranker(turned), ranker(broken)),
        lambda: AggregateRanker(ranker(turned), ranker(broken)),
        lambda: CascadeRanker(AggregateRanker(ranker(turned), ranker(broken)), ranker(turned)),
    ],
)
def test_the_error_of_a_part_comes_through(composed: Any) -> None:
    with pytest.raises(BackendError, match="the engine is gone"):
        composed().rank("q", items(4))
    with pytest.raises(BackendError, match="the engine is gone"):
        asyncio.run(composed().arank("q", items(4)))


def test_a_reply_that_cannot_be_read_is_repaired_or_raised_as_its_part_says() -> None:
    ranking = CascadeRanker(ranker(turned), ranker(lambda request: "nonsense"), depth=2).rank("q", items(4))
    assert ranking.ids == ("3", "2", "1", "0")
    assert ranking.usage.failed_steps == 1
    strict = ranker(lambda request: "nonsense", on_error="raise")
    with pytest.raises(ReplyError, match="nonsense"):
        CascadeRanker(ranker(turned), strict, depth=2).rank("q", items(4))


@EACH
def test_an_example_that_breaks_the_format_is_refused(make: Any) -> None:
    with pytest.raises(DataError):
        list(make().rank_batch([*examples(3), RankingExample(id="bad", query="q", candidates=())]))


def test_whoever_stops_listening_leaves_no_session_behind() -> None:
    small = ranker(lambda request: request.choices[0], method="iranker")
    large = ranker(lambda request: request.choices[0], method="iranker")
    found = CascadeRanker(small, large, depth=3).rank_batch(examples(2, *[6] * 9), concurrency=2)
    next(found)
    # Whoever drops it, closes it.
    del found
    for part in (small, large):
        begun = {request.session for request in requests_of(part)}
        ended = {request.session for request in requests_of(part) if request.last}
        assert begun == ended | set(part.backend.forgotten)  # type: ignore[attr-defined]


# Rankers of rankers of rankers


def test_composed_rankers_are_parts_of_composed_rankers() -> None:
    ranking = nested().rank("q", items(6))
    # By two of three, 0 1 2 3 go on; there 2 1 0 3 (turned round, and its first three put right again) meets 3 2 1 0.
    assert set(ranking.ids[:4]) == {"0", "1", "2", "3"}
    assert ranking.ids[4:] == ("4", "5")
    assert ranking.usage.calls == len(ranking.steps) == 3 + 2 + 1
    assert [step.index for step in ranking.steps] == list(range(6))
    assert ranking.method == "cascade"


def test_a_ranker_may_be_a_part_of_itself_twice() -> None:
    one = ranker(turned)
    assert CascadeRanker(one, one, depth=4).rank("q", items(4)).ids == ("0", "1", "2", "3")
    assert AggregateRanker(one, one).rank("q", items(4)).ids == ("3", "2", "1", "0")
    assert len(requests_of(one)) == 4


def test_one_model_composed_is_what_the_method_of_that_name_is() -> None:
    composed = CascadeRanker(ranker(turned), ranker(by_number), depth=3).rank("q", items(6))
    one = Ranker(
        ScriptedBackend(lambda request: (turned if len(listed(request)) == 6 else by_number)(request)),
        method="cascade",
        first="dranker",
        then="dranker",
        depth=3,
    ).rank("q", items(6))
    assert comparable(one) == comparable(composed)
    joint = AggregateRanker(ranker(turned), ranker(turned)).rank("q", items(5))
    voted = ranker(turned, method="aggregate", of=["dranker", "dranker"]).rank("q", items(5))
    assert comparable(voted) == comparable(joint)
