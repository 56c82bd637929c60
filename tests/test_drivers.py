from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.drivers import MicroBatcher, run_async, run_batch
from unified_ranker.errors import BackendError, ReplyError
from unified_ranker.exchange import Completion, Request


def make_list(id: str, n: int) -> RankingExample:
    return RankingExample(
        id=id, query=f"query {id}", candidates=tuple(Candidate(f"{id}-{i}", f"text {i}") for i in range(n))
    )


def last_choice(request: Request) -> str:
    return request.choices[-1]


def first_choice(request: Request) -> str:
    return request.choices[0]


def rank(
    backend: ScriptedBackend, lengths: Sequence[int], *, concurrency: int = 64, layout: str = "append"
) -> list[Ranking]:
    strategy = Ranker(backend, layout=layout).strategy("passage")
    examples = [make_list(str(i), n) for i, n in enumerate(lengths)]
    return list(run_batch(strategy, examples, backend, concurrency=concurrency))


@pytest.mark.parametrize("layout", ["append", "rounds"])
@pytest.mark.parametrize("concurrency", [1, 2, 3, 64])
def test_lists_of_any_length_come_back_in_their_order(concurrency: int, layout: str) -> None:
    lengths = [5, 1, 2, 7, 3, 1, 1, 4]
    rankings = rank(ScriptedBackend(first_choice), lengths, concurrency=concurrency, layout=layout)
    assert [ranking.example_id for ranking in rankings] == [str(i) for i in range(len(lengths))]
    for i, (ranking, n) in enumerate(zip(rankings, lengths, strict=True)):
        assert ranking.ids == tuple(f"{i}-{place}" for place in reversed(range(n)))
        assert ranking.usage.calls == n - 1


def test_what_all_lists_ask_for_goes_out_together() -> None:
    backend = ScriptedBackend(last_choice)
    rank(backend, [4, 4, 4])
    assert backend.batches == [3, 3, 3]


def test_a_shorter_list_leaves_the_batch_when_it_is_done() -> None:
    backend = ScriptedBackend(last_choice)
    rank(backend, [2, 4, 3])
    assert backend.batches == [3, 2, 1]


@pytest.mark.parametrize("concurrency", [1, 2, 3])
def test_no_more_lists_run_than_allowed(concurrency: int) -> None:
    backend = ScriptedBackend(last_choice)
    rank(backend, [3, 2, 5, 4, 2, 2], concurrency=concurrency)
    assert max(backend.batches) == concurrency


def test_one_at_a_time_asks_one_list_after_the_other() -> None:
    backend = ScriptedBackend(last_choice)
    rank(backend, [3, 2], concurrency=1)
    assert [request.messages[-1].content.split("\n")[0] for request in backend.requests] == [
        "Query: query 0",
        "Query: query 0",
        "Query: query 1",
    ]


def test_a_list_that_is_done_makes_room_for_the_next_at_once() -> None:
    backend = ScriptedBackend(last_choice)
    rank(backend, [6, 2, 2, 2, 2, 2], concurrency=2)
    assert backend.batches == [2, 2, 2, 2, 2]


def test_no_list_gives_no_ranking_and_no_call() -> None:
    backend = ScriptedBackend(last_choice)
    assert rank(backend, []) == []
    assert backend.batches == []


def test_lists_of_one_take_no_call() -> None:
    backend = ScriptedBackend(last_choice)
    assert [ranking.ids for ranking in rank(backend, [1, 1, 1], concurrency=2)] == [("0-0",), ("1-0",), ("2-0",)]
    assert backend.batches == []


def test_the_input_is_read_as_needed() -> None:
    read: list[int] = []

    def examples() -> Iterator[RankingExample]:
        i = 0
        while True:
            read.append(i)
            yield make_list(str(i), 3)
            i += 1

    backend = ScriptedBackend(last_choice)
    rankings = run_batch(Ranker(backend).strategy("passage"), examples(), backend, concurrency=4)
    assert read == []
    assert [ranking.example_id for ranking in islice(rankings, 3)] == ["0", "1", "2"]
    assert len(read) <= 3 + 4
    assert [ranking.example_id for ranking in islice(rankings, 20)] == [str(i) for i in range(3, 23)]
    assert len(read) <= 23 + 4


def test_the_first_rankings_come_before_the_last_are_read() -> None:
    read: list[str] = []

    def examples() -> Iterator[RankingExample]:
        for i in range(10):
            read.append(str(i))
            yield make_list(str(i), 2)

    backend = ScriptedBackend(last_choice)
    seen = {
        r.example_id: len(read)
        for r in run_batch(Ranker(backend).strategy("passage"), examples(), backend, concurrency=2)
    }
    assert seen["0"] <= 4
    assert seen["9"] == 10


def test_an_error_in_one_list_ends_the_run() -> None:
    backend = ScriptedBackend(lambda request: "?" if "query 1" in request.messages[-1].content else "A")
    strategy = Ranker(backend, layout="rounds", on_error="raise").strategy("passage")
    rankings = run_batch(strategy, [make_list("0", 2), make_list("1", 3)], backend, concurrency=1)
    assert next(rankings).example_id == "0"
    with pytest.raises(ReplyError, match="example '1'"):
        next(rankings)


def test_an_error_of_the_backend_ends_the_run() -> None:
    with pytest.raises(BackendError, match="no reply for request 3"):
        rank(ScriptedBackend(["A", "A"]), [2, 2, 2])


def test_an_error_of_the_input_ends_the_run() -> None:
    def examples() -> Iterator[RankingExample]:
        yield make_list("0", 2)
        raise OSError("disk gone")

    backend = ScriptedBackend(last_choice)
    rankings = run_batch(Ranker(backend).strategy("passage"), examples(), backend, concurrency=1)
    assert next(rankings).example_id == "0"
    with pytest.raises(OSError, match="disk gone"):
        next(rankings)


def test_each_ranking_tells_its_time() -> None:
    assert all(ranking.usage.seconds > 0 for ranking in rank(ScriptedBackend(last_choice), [3, 2]))


def arank_all(ranker: Ranker, lists: Sequence[Sequence[str]]) -> list[Ranking]:
    async def together() -> list[Ranking]:
        return await asyncio.gather(*(ranker.arank("query", candidates) for candidates in lists))

    return asyncio.run(together())


def by_length(request: Request) -> str:
    """Answer by the request alone, whatever was asked before it."""
    return request.choices[len(request.messages[-1].content) % len(request.choices)]


LISTS = [[f"text {i} {'x' * (7 * i % 5)}" for i in range(2 + number % 6)] for number in range(30)]


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_concurrent_calls_rank_as_single_ones_do(layout: str) -> None:
    ranker = Ranker(ScriptedBackend(by_length), layout=layout)
    together = arank_all(ranker, LISTS)
    assert [ranking.ids for ranking in together] == [ranker.rank("query", candidates).ids for candidates in LISTS]


def test_concurrent_calls_share_batches() -> None:
    backend = ScriptedBackend(by_length)
    arank_all(Ranker(backend), LISTS)
    assert backend.batches[0] == len(LISTS)
    assert sum(backend.batches) == sum(len(candidates) - 1 for candidates in LISTS)
    assert len(backend.batches) <= 2 * max(len(candidates) for candidates in LISTS)


def test_arank_takes_what_rank_takes() -> None:
    ranker = Ranker(ScriptedBackend(last_choice))
    ranking = asyncio.run(
        ranker.arank("q", [Candidate("x", "a"), {"text": "b"}, "c"], top_k=2, domain="routing", context=["before"])
    )
    assert ranking.ids == ("x", "1")
    assert len(ranking.order) == 3
    assert ranking.usage.seconds > 0


def test_an_error_reaches_every_waiting_call() -> None:
    class Broken(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            raise BackendError("out of memory")

    ranker = Ranker(Broken([]))

    async def together() -> list[Ranking | BaseException]:
        calls = (ranker.arank("q", ["a", "b"]) for _ in range(5))
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout=20)

    results = asyncio.run(together())
    assert [str(result) for result in results] == ["out of memory"] * 5
    assert {type(result) for result in results} == {BackendError}


def test_calls_after_an_error_are_answered() -> None:
    failing = iter([True, False])

    class Shaky(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            if next(failing, False):
                raise BackendError("once")
            return super().generate(requests)

    ranker = Ranker(Shaky(last_choice))

    async def twice() -> Ranking:
        with pytest.raises(BackendError, match="once"):
            await ranker.arank("q", ["a", "b"])
        return await asyncio.wait_for(ranker.arank("q", ["a", "b"]), timeout=20)

    assert asyncio.run(twice()).ids == ("0", "1")


def test_an_error_of_one_list_leaves_the_others_alone() -> None:
    backend = ScriptedBackend(lambda request: "?" if "bad" in request.messages[-1].content else request.choices[-1])
    ranker = Ranker(backend, on_error="raise")

    async def together() -> list[Ranking | BaseException]:
        calls = [ranker.arank("q", texts) for texts in (["a", "b", "c"], ["bad", "b"], ["d", "e"])]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert isinstance(second, ReplyError)
    assert isinstance(first, Ranking)
    assert isinstance(third, Ranking)
    assert (first.ids, third.ids) == (("0", "1", "2"), ("0", "1"))


def test_the_event_loop_goes_on_while_the_backend_works() -> None:
    free = threading.Event()

    class Slow(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            assert free.wait(timeout=20), "the loop was blocked"
            return super().generate(requests)

    async def both() -> Ranking:
        call = asyncio.create_task(Ranker(Slow(last_choice)).arank("q", ["a", "b"]))
        await asyncio.sleep(0.01)
        free.set()
        return await call

    assert asyncio.run(both()).ids == ("0", "1")


def test_what_arrives_while_the_backend_works_goes_out_together() -> None:
    free, started = threading.Event(), threading.Event()

    class Slow(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            started.set()
            assert free.wait(timeout=20)
            return super().generate(requests)

    backend = Slow(last_choice)
    strategy = Ranker(backend).strategy("passage")

    async def run() -> None:
        batcher = MicroBatcher(backend)
        tasks = [asyncio.create_task(run_async(strategy, make_list("0", 2), batcher))]
        while not started.is_set():
            await asyncio.sleep(0.001)
        tasks += [asyncio.create_task(run_async(strategy, make_list(str(i), 2), batcher)) for i in (1, 2, 3)]
        await asyncio.sleep(0.01)
        free.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert backend.batches == [1, 3]


def test_a_call_that_is_cancelled_does_not_hold_up_the_others() -> None:
    free, started = threading.Event(), threading.Event()

    class Slow(ScriptedBackend):
        def generate(self, requests: Sequence[Request]) -> list[Completion]:
            started.set()
            assert free.wait(timeout=20)
            return super().generate(requests)

    ranker = Ranker(Slow(last_choice))

    async def run() -> Ranking:
        given_up = asyncio.create_task(ranker.arank("q", ["a", "b"]))
        kept = asyncio.create_task(ranker.arank("q", ["a", "b", "c"]))
        while not started.is_set():
            await asyncio.sleep(0.001)
        given_up.cancel()
        await asyncio.sleep(0)
        free.set()
        return await asyncio.wait_for(kept, timeout=20)

    assert asyncio.run(run()).ids == ("0", "1", "2")


def test_one_ranker_serves_several_event_loops_and_forgets_them() -> None:
    ranker = Ranker(ScriptedBackend(last_choice))
    for _ in range(3):
        assert asyncio.run(ranker.arank("q", ["a", "b"])).ids == ("0", "1")
    gc.collect()
    assert len(ranker._batchers) == 0
