from __future__ import annotations

import asyncio
import threading
import time
import zlib
from collections.abc import Callable, Collection, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from itertools import count, islice
from typing import Any, TypeVar

import pytest

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker import drivers as subject
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.backends.loop_thread import LoopThread
from unified_ranker.drivers import run_batch, run_concurrent
from unified_ranker.errors import BackendError, DataError, ReplyError
from unified_ranker.exchange import AsyncBackend, Completion, Message, Request

T = TypeVar("T")

pytestmark = pytest.mark.timeout(60)


def query_of(request: Request) -> int:
    """Return the number of the query that a request belongs to."""
    return int(request.messages[-1].content.split("Query: query ")[1].split()[0])


def by_content(request: Request) -> str:
    """Answer by the request alone, whatever was asked before it."""
    if not request.choices:
        return "B > A"
    said = "".join(message.content for message in request.messages) + request.reply_prefix
    return request.choices[zlib.crc32(said.encode()) % len(request.choices)]


class AsyncScripted:
    """Answers from a script, on a loop of its own, after a pause that the script knows.

    Attributes:
        requests: Every request that arrived, in order.
        running: Queries whose requests are being answered now.
        peak: Most that ever were.
        forgotten: Sessions that were given up.
    """

    patterns = False

    def __init__(
        self,
        script: Callable[[Request], str] = by_content,
        *,
        pause: Callable[[Request], float] = lambda request: 0.0,
        held: Callable[[Request], bool] = lambda request: False,
        meeting: int = 1,
    ) -> None:
        self.text = WordTools()
        self.requests: list[Request] = []
        self.forgotten: list[str] = []
        self.running = self.peak = 0
        self._script, self._pause, self._held, self._meeting = script, pause, held, meeting
        self._gate, self._met = asyncio.Event(), asyncio.Event()
        self._thread = LoopThread("scripted")

    @property
    def started(self) -> list[int]:
        """Numbers of the queries that asked something, in the order in which they first did."""
        return list(dict.fromkeys(query_of(request) for request in list(self.requests)))

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("an asynchronous backend is asked one by one")

    def forget(self, sessions: Collection[str]) -> None:
        self.forgotten.extend(sessions)

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return self._thread.submit(work)

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        self.running += 1
        self.peak = max(self.peak, self.running)
        if self.running >= self._meeting:
            self._met.set()
        try:
            await self._met.wait()
            return list(await asyncio.gather(*(self._answer(request) for request in requests)))
        finally:
            self.running -= 1

    async def _answer(self, request: Request) -> Completion:
        self.requests.append(request)
        if self._held(request):
            await self._gate.wait()
        await asyncio.sleep(self._pause(request))
        text = self._script(request)
        return Completion(text, prompt_tokens=self.text.count_prompt(request.messages, request.reply_prefix))

    def release(self) -> None:
        """Let those go on that are held."""

        async def open_gate() -> None:
            self._gate.set()

        self._thread.run(open_gate())

    def close(self) -> None:
        self._thread.close()


Make = Callable[..., AsyncScripted]


@pytest.fixture
def make() -> Iterator[Make]:
    """Return what makes backends, which are closed when the test ends."""
    made: list[AsyncScripted] = []

    def call(*arguments: Any, **options: Any) -> AsyncScripted:
        made.append(AsyncScripted(*arguments, **options))
        return made[-1]

    yield call
    for backend in made:
        backend.close()


def eventually(what: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end, "waited for 20 seconds"
        time.sleep(0.002)


def make_list(number: int, size: int) -> RankingExample:
    return RankingExample(
        id=str(number),
        query=f"query {number} ",
        candidates=tuple(Candidate(f"{number}-{i}", f"text {i}") for i in range(size)),
    )


def run(
    backend: AsyncScripted, lengths: Sequence[int], *, concurrency: int = 64, **options: Any
) -> Generator[Ranking, None, None]:
    strategy = Ranker(backend, **options).strategy("passage")
    examples = (make_list(number, size) for number, size in enumerate(lengths))
    rankings = run_concurrent(strategy, examples, backend, concurrency=concurrency)
    assert isinstance(rankings, Generator)
    return rankings


def ids(rankings: Sequence[Ranking]) -> list[str]:
    return [ranking.example_id for ranking in rankings]


LENGTHS = [5, 1, 2, 7, 3, 1, 1, 4, 2, 6, 2, 2, 3, 1, 9, 2]


def uneven(request: Request) -> float:
    """Return a pause that no two neighbours share."""
    return (query_of(request) * 7 % 5) / 500


def test_what_the_tests_run_on_is_an_asynchronous_backend(make: Make) -> None:
    assert isinstance(make(), AsyncBackend)
    assert not isinstance(ScriptedBackend([]), AsyncBackend)


@pytest.mark.parametrize("options", [{"layout": "append"}, {"layout": "rounds"}, {"method": "dranker"}], ids=str)
@pytest.mark.parametrize("concurrency", [1, 2, 3, 64])
def test_rankings_are_those_of_batches_in_the_same_order(concurrency: int, options: Any, make: Make) -> None:
    found = list(run(make(pause=uneven), LENGTHS, concurrency=concurrency, **options))
    scripted = ScriptedBackend(lambda request: Completion(by_content(request), prompt_tokens=words(request)))
    examples = [make_list(number, size) for number, size in enumerate(LENGTHS)]
    expected = list(run_batch(Ranker(scripted, **options).strategy("passage"), examples, scripted))
    assert ids(found) == [str(number) for number in range(len(LENGTHS))]
    assert [timeless(ranking) for ranking in found] == [timeless(ranking) for ranking in expected]
    assert all(ranking.usage.seconds > 0 for ranking in found)


def words(request: Request) -> int:
    return WordTools().count_prompt(request.messages, request.reply_prefix)


def timeless(ranking: Ranking) -> Ranking:
    return replace(ranking, usage=replace(ranking.usage, seconds=0.0))


def test_each_request_is_asked_once(make: Make) -> None:
    backend = make(pause=uneven)
    list(run(backend, LENGTHS, concurrency=3))
    asked = [(query_of(request), request.reply_prefix) for request in backend.requests]
    assert len(asked) == len(set(asked)) == sum(size - 1 for size in LENGTHS)


class Pairs:
    """Asks for two things at once, twice, and keeps the order in which the replies came."""

    name = "pairs"

    def rank(self, example: RankingExample) -> Generator[list[Request], list[Completion], Ranking]:
        said: list[str] = []
        for turn in range(2):
            pair = [Request((Message("user", f"Query: {example.query} {turn} {side}"),)) for side in "lr"]
            said += [completion.text for completion in (yield pair)]
        assert said == ["0 l", "0 r", "1 l", "1 r"]
        return Ranking(example.id, example.candidates, (1.0, 0.0))


def test_replies_to_several_requests_keep_their_order(make: Make) -> None:
    backend = make(
        lambda request: request.messages[0].content[-3:],
        pause=lambda request: 0.01 if request.messages[0].content.endswith("l") else 0.0,
    )
    examples = [make_list(number, 2) for number in range(5)]
    assert ids(list(run_concurrent(Pairs(), examples, backend, concurrency=2))) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_as_many_queries_run_as_allowed_and_no_more(concurrency: int, make: Make) -> None:
    backend = make(pause=uneven, meeting=concurrency)
    assert len(list(run(backend, [3] * 20, concurrency=concurrency))) == 20
    assert backend.peak == concurrency


def test_one_at_a_time_asks_one_list_after_the_other(make: Make) -> None:
    backend = make()
    list(run(backend, [3, 2, 4], concurrency=1))
    assert [query_of(request) for request in backend.requests] == [0, 0, 1, 2, 2, 2]


def test_nothing_is_read_or_asked_before_the_first_ranking_is_wanted(make: Make) -> None:
    read: list[int] = []
    backend = make()
    rankings = run_concurrent(Ranker(backend).strategy("passage"), reading(read), backend, concurrency=2)
    time.sleep(0.02)
    assert (read, backend.requests) == ([], [])
    assert next(rankings).example_id == "0"


def reading(read: list[int], size: int = 2) -> Iterator[RankingExample]:
    """Return lists without end, and note which were read."""
    for number in count():
        read.append(number)
        yield make_list(number, size)


def test_no_list_gives_no_ranking_and_no_call(make: Make) -> None:
    backend = make()
    assert list(run(backend, [])) == []
    assert backend.requests == []


@pytest.mark.parametrize("concurrency", [1, 2, 64])
def test_lists_of_one_take_no_call(concurrency: int, make: Make) -> None:
    backend = make()
    assert [ranking.ids for ranking in run(backend, [1] * 9, concurrency=concurrency)] == [
        (f"{i}-0",) for i in range(9)
    ]
    assert backend.requests == []


@pytest.mark.parametrize("concurrency", [2, 3])
def test_a_slow_first_query_lets_others_start_up_to_four_times_as_many(concurrency: int, make: Make) -> None:
    backend = make(held=lambda request: query_of(request) == 0)
    rankings = run(backend, [2] * (5 * concurrency), concurrency=concurrency)
    first: list[Ranking] = []
    waiting = threading.Thread(target=lambda: first.append(next(rankings)))
    waiting.start()
    eventually(lambda: len(backend.started) >= 4 * concurrency)
    # Time for one more to start, if it could.
    time.sleep(0.1)
    assert backend.started == list(range(4 * concurrency))
    assert first == []
    backend.release()
    waiting.join(20)
    assert ids([*first, *rankings]) == [str(number) for number in range(5 * concurrency)]


def test_a_query_that_is_done_makes_room_for_the_next_whatever_the_others_do(make: Make) -> None:
    # The second of two runs on while the first is held, list by list.
    backend = make(held=lambda request: query_of(request) == 0)
    rankings = run(backend, [2, 4, 3, 2], concurrency=2)
    first: list[Ranking] = []
    waiting = threading.Thread(target=lambda: first.append(next(rankings)))
    waiting.start()
    eventually(lambda: len(backend.requests) >= 7)
    assert [query_of(request) for request in backend.requests if query_of(request)] == [1, 1, 1, 2, 2, 3]
    backend.release()
    waiting.join(20)
    assert ids([*first, *rankings]) == ["0", "1", "2", "3"]


def test_a_ranking_comes_while_the_next_is_under_way(make: Make) -> None:
    backend = make(held=lambda request: query_of(request) > 0)
    rankings = run(backend, [2, 2, 2], concurrency=3)
    assert next(rankings).example_id == "0"
    backend.release()
    assert ids(list(rankings)) == ["1", "2"]


def test_lists_without_end_are_read_as_needed(make: Make) -> None:
    read: list[int] = []
    backend = make()
    rankings = run_concurrent(Ranker(backend).strategy("passage"), reading(read), backend, concurrency=4)
    for wanted in (3, 20, 1):
        before = len(read)
        assert len(list(islice(rankings, wanted))) == wanted
        assert len(read) <= before + wanted + 4 * 4
    assert isinstance(rankings, Generator)
    rankings.close()
    after = len(read)
    time.sleep(0.05)
    assert len(read) == after


def failing_at(number: int) -> Callable[[Request], str]:
    def script(request: Request) -> str:
        if query_of(request) == number:
            raise BackendError(f"query {number} failed")
        return by_content(request)

    return script


def test_an_error_surfaces_in_its_turn_and_the_others_are_cancelled_and_forgotten(make: Make) -> None:
    backend = make(failing_at(2), held=lambda request: query_of(request) > 2)
    rankings = run(backend, [2, 3, 3, 3, 3, 3, 3, 3, 3], concurrency=6, layout="append")
    assert ids([next(rankings), next(rankings)]) == ["0", "1"]
    eventually(lambda: {3, 4, 5} <= set(backend.started))
    with pytest.raises(BackendError, match="query 2 failed"):
        next(rankings)
    eventually(lambda: backend.running == 0)
    open_sessions = {request.session for request in backend.requests if query_of(request) >= 2}
    eventually(lambda: set(backend.forgotten) == open_sessions)
    assert len(backend.forgotten) == len(open_sessions) >= 4
    before = len(backend.requests)
    backend.release()
    time.sleep(0.05)
    assert len(backend.requests) == before
    assert list(rankings) == []


def test_an_error_of_the_method_ends_the_run_and_its_session_is_forgotten(make: Make) -> None:
    backend = make(lambda request: "?" if query_of(request) == 1 else by_content(request))
    rankings = run(backend, [2, 3, 2], concurrency=1, on_error="raise", layout="append")
    assert next(rankings).example_id == "0"
    with pytest.raises(ReplyError, match="example '1'"):
        next(rankings)
    (session,) = {request.session for request in backend.requests if query_of(request) == 1}
    assert backend.forgotten == [session]


def test_an_error_before_the_first_request_ends_the_run(make: Make) -> None:
    class Refusing:
        name = "refusing"

        def rank(self, example: RankingExample) -> Generator[list[Request], list[Completion], Ranking]:
            raise DataError(f"no {example.id}")
            yield []

    backend = make()
    with pytest.raises(DataError, match="no 0"):
        list(run_concurrent(Refusing(), [make_list(0, 2), make_list(1, 2)], backend, concurrency=2))


@pytest.mark.parametrize("how", ["close", "forget about it"])
def test_whoever_stops_listening_ends_what_runs(how: str, make: Make) -> None:
    backend = make(held=lambda request: query_of(request) > 0)
    rankings = run(backend, [2, 3, 3, 3], concurrency=4, layout="append")
    assert next(rankings).example_id == "0"
    eventually(lambda: set(backend.started) == {0, 1, 2, 3})
    if how == "close":
        rankings.close()
    else:
        del rankings
    eventually(lambda: backend.running == 0)
    eventually(lambda: len(backend.forgotten) == 3)
    assert set(backend.forgotten) == {request.session for request in backend.requests if query_of(request) > 0}


def test_an_error_of_the_input_ends_what_runs(make: Make) -> None:
    backend = make(held=lambda request: query_of(request) > 0)

    def examples() -> Iterator[RankingExample]:
        yield from (make_list(number, 3) for number in range(3))
        eventually(lambda: set(backend.started) == {0, 1, 2})
        raise OSError("disk gone")

    strategy = Ranker(backend, layout="append").strategy("passage")
    with pytest.raises(OSError, match="disk gone"):
        list(run_concurrent(strategy, examples(), backend, concurrency=8))
    eventually(lambda: backend.running == 0)
    eventually(lambda: {r.session for r in backend.requests if query_of(r) > 0} <= set(backend.forgotten))


def test_an_error_of_the_input_comes_after_what_was_done_before_it(make: Make) -> None:
    def examples() -> Iterator[RankingExample]:
        yield make_list(0, 2)
        raise OSError("disk gone")

    backend = make(pause=lambda request: 0.02)
    rankings = run_concurrent(Ranker(backend).strategy("passage"), examples(), backend, concurrency=1)
    assert next(rankings).example_id == "0"
    with pytest.raises(OSError, match="disk gone"):
        next(rankings)


def test_whoever_is_interrupted_while_waiting_ends_what_runs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = make(held=lambda request: True)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        eventually(lambda: backend.running == 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(subject, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run(backend, [3, 3, 3], concurrency=3, layout="append"))
    eventually(lambda: backend.running == 0)
    eventually(lambda: len(backend.forgotten) == 3)


def test_a_closed_backend_is_told(make: Make) -> None:
    backend = make()
    backend.close()
    with pytest.raises(BackendError, match="was closed; load it again"):
        list(run(backend, [2, 2]))


# The ranker.


@pytest.mark.parametrize("layout", ["append", "rounds"])
def test_a_ranker_ranks_as_it_does_in_batches(layout: str, make: Make) -> None:
    examples = [make_list(number, size) for number, size in enumerate(LENGTHS)]
    found = list(Ranker(make(pause=uneven), layout=layout).rank_batch(iter(examples), concurrency=3, top_k=2))
    expected = list(Ranker(ScriptedBackend(by_content), layout=layout).rank_batch(examples, top_k=2))
    assert [(ranking.example_id, ranking.ids) for ranking in found] == [(r.example_id, r.ids) for r in expected]


def test_a_ranker_runs_no_more_queries_than_allowed(make: Make) -> None:
    backend = make(pause=uneven, meeting=3)
    assert len(list(Ranker(backend).rank_batch([make_list(i, 3) for i in range(12)], concurrency=3))) == 12
    assert backend.peak == 3


def test_lists_of_several_domains_run_together(make: Make) -> None:
    backend = make(lambda request: request.choices[-1], meeting=3)
    domains = ["passage", "recommendation", "routing"]
    examples = [replace(make_list(i, 2), domain=domain) for i, domain in enumerate(domains)]
    assert ids(list(Ranker(backend).rank_batch(examples, concurrency=3))) == ["0", "1", "2"]
    assert len({request.messages[0].content for request in backend.requests}) == 3


def test_a_malformed_list_is_told_in_its_turn(make: Make) -> None:
    twice = replace(make_list(1, 2), candidates=(Candidate("x", "a"), Candidate("x", "b")))
    rankings = Ranker(make()).rank_batch([make_list(0, 2), twice], concurrency=1)
    assert next(rankings).example_id == "0"
    with pytest.raises(DataError, match="holds the id 'x' 2 times"):
        next(rankings)


def test_one_ranking_is_made_by_the_asynchronous_backend(make: Make) -> None:
    backend = make(lambda request: request.choices[-1])
    assert Ranker(backend).rank("query 0 ", ["a", "b", "c"], top_k=2).ids == ("0", "1")
    assert len(backend.requests) == 2


def test_calls_from_several_event_loops_run_at_the_same_time(make: Make) -> None:
    # Six in three loops: none is answered before all have asked.
    backend = make(lambda request: request.choices[-1], meeting=6)
    ranker, found = Ranker(backend), list[tuple[str, ...]]()

    async def two() -> None:
        calls = (ranker.arank(f"query {i} ", ["a", "b", "c"], top_k=2) for i in range(2))
        found.extend(ranking.ids for ranking in await asyncio.gather(*calls))

    threads = [threading.Thread(target=lambda: asyncio.run(two())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [("0", "1")] * 6
    assert backend.peak == 6


def test_the_callers_loop_goes_on_while_a_call_waits(make: Make) -> None:
    backend = make(held=lambda request: True)

    async def both() -> Ranking:
        call = asyncio.create_task(Ranker(backend).arank("query 0 ", ["a", "b"]))
        while not backend.requests:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(backend.release)
        return await asyncio.wait_for(call, timeout=20)

    assert len(asyncio.run(both())) == 2


def test_an_error_of_one_call_leaves_the_others_alone(make: Make) -> None:
    ranker = Ranker(make(failing_at(1), pause=uneven))

    async def together() -> list[Ranking | BaseException]:
        calls = (ranker.arank(f"query {i} ", ["a", "b", "c"]) for i in range(3))
        return await asyncio.gather(*calls, return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert (type(first), type(second), type(third)) == (Ranking, BackendError, Ranking)


def test_a_call_that_is_cancelled_ends_its_work_and_no_other(make: Make) -> None:
    backend = make(held=lambda request: query_of(request) == 0)
    ranker = Ranker(backend, layout="append")

    async def both() -> Ranking:
        given_up = asyncio.create_task(ranker.arank("query 0 ", ["a", "b", "c"]))
        kept = asyncio.create_task(ranker.arank("query 1 ", ["a", "b", "c"]))
        while set(backend.started) != {0, 1}:
            await asyncio.sleep(0.001)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        return await asyncio.wait_for(kept, timeout=20)

    assert len(asyncio.run(both())) == 3
    eventually(lambda: backend.running == 0)
    (session,) = {request.session for request in backend.requests if query_of(request) == 0}
    eventually(lambda: backend.forgotten == [session])
