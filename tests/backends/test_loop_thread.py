from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.backends.loop_thread import LoopThread
from unified_ranker.errors import BackendError

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    made = LoopThread("tested")
    yield made
    made.close()


def eventually(what: threading.Event) -> None:
    assert what.wait(20)


class Work:
    """Something that goes on until it is cancelled, and tells that it was."""

    def __init__(self, *, cleanup: float = 0.0) -> None:
        self.started, self.cancelled, self.cleaned = threading.Event(), threading.Event(), threading.Event()
        self._cleanup = cleanup

    async def run(self) -> None:
        self.started.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            self.cancelled.set()
            await asyncio.sleep(self._cleanup)
            self.cleaned.set()
            raise


async def returning(value: object) -> object:
    await asyncio.sleep(0)
    return value


async def raising(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("value", [None, 5, "text", [1, 2], ValueError("returned, not raised")], ids=repr)
def test_a_result_comes_back_as_it_is(value: object, thread: LoopThread) -> None:
    assert thread.run(returning(value)) is value
    assert thread.submit(returning(value)).result(20) is value


@settings(max_examples=30, deadline=None, derandomize=True)
@given(pauses=st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_many_results_come_back_each_to_its_own(pauses: list[int]) -> None:
    async def work(number: int, turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return number

    thread = LoopThread("tested")
    try:
        futures = [thread.submit(work(number, turns)) for number, turns in enumerate(pauses)]
        assert [future.result(20) for future in futures] == list(range(len(pauses)))
    finally:
        thread.close()


@pytest.mark.parametrize(
    "error", [BackendError("no"), ValueError("no"), KeyError("no"), TimeoutError("no"), AssertionError("no")], ids=repr
)
def test_an_error_comes_back_as_it_is_and_harms_nobody_else(error: Exception, thread: LoopThread) -> None:
    other = thread.submit(asyncio.sleep(0.05, "fine"))
    with pytest.raises(type(error)) as caught:
        thread.run(raising(error))
    # Python makes a TimeoutError anew on its way between threads.
    assert repr(caught.value) == repr(error)
    assert other.result(20) == "fine"
    assert thread.alive


def test_all_work_runs_on_one_loop_in_a_thread_of_its_own_with_its_name(thread: LoopThread) -> None:
    async def where() -> tuple[int, threading.Thread]:
        return id(asyncio.get_running_loop()), threading.current_thread()

    loops, threads = zip(*(thread.run(where()) for _ in range(3)), strict=True)
    assert len(set(loops)) == len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert (threads[0].name, threads[0].daemon) == ("tested", True)


def test_work_runs_at_the_same_time(thread: LoopThread) -> None:
    async def meet(mine: asyncio.Event, other: asyncio.Event) -> str:
        mine.set()
        await other.wait()
        return "met"

    async def events() -> tuple[asyncio.Event, asyncio.Event]:
        return asyncio.Event(), asyncio.Event()

    first, second = thread.run(events())
    met = [thread.submit(meet(first, second)), thread.submit(meet(second, first))]
    assert [future.result(20) for future in met] == ["met", "met"]


def test_many_threads_share_one_loop(thread: LoopThread) -> None:
    found: list[object] = []
    callers = [
        threading.Thread(target=lambda i=i: found.extend(thread.run(returning((i, j))) for j in range(20)))
        for i in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    assert sorted(found, key=repr) == sorted(((i, j) for i in range(8) for j in range(20)), key=repr)


def test_a_cancelled_future_cancels_its_work(thread: LoopThread) -> None:
    work = Work()
    future = thread.submit(work.run())
    eventually(work.started)
    future.cancel()
    eventually(work.cancelled)
    assert thread.run(returning(1)) == 1


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs a signal of one's own")
def test_whoever_is_interrupted_while_waiting_takes_the_work_down(thread: LoopThread) -> None:
    work = Work()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    async def run() -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGUSR1)
        await work.run()

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            thread.run(run())
    finally:
        signal.signal(signal.SIGUSR1, before)
    eventually(work.cancelled)
    assert thread.run(returning(1)) == 1


def test_closing_cancels_what_runs_and_waits_for_its_cleaning_up(thread: LoopThread) -> None:
    works = [Work(cleanup=0.05) for _ in range(5)]
    futures = [thread.submit(work.run()) for work in works]
    for work in works:
        eventually(work.started)
    thread.close()
    assert all(work.cleaned.is_set() for work in works)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


def test_closing_lets_a_waiting_caller_go(thread: LoopThread) -> None:
    work, raised = Work(), list[BaseException]()

    def wait() -> None:
        try:
            thread.run(work.run())
        except BaseException as error:  # noqa: BLE001 - looked at below
            raised.append(error)

    caller = threading.Thread(target=wait)
    caller.start()
    eventually(work.started)
    thread.close()
    caller.join(20)
    assert not caller.is_alive()
    assert [(type(error), str(error)) for error in raised] == [(BackendError, "this backend was closed; load it again")]


def test_what_the_work_used_is_closed_after_it_and_once(thread: LoopThread) -> None:
    # A request that finds its client closed fails in ways that nobody expects.
    works, seen = [Work(cleanup=0.05) for _ in range(3)], list[list[bool]]()
    for work in works:
        thread.submit(work.run())
    for work in works:
        eventually(work.started)

    async def last() -> None:
        seen.append([work.cleaned.is_set() for work in works])

    thread.close(last)
    thread.close(last)
    assert seen == [[True] * 3]


def test_the_thread_ends_although_what_the_work_used_does_not_close(thread: LoopThread) -> None:
    async def last() -> None:
        raise OSError("cannot close")

    with pytest.raises(OSError, match="cannot close"):
        thread.close(last)
    assert not [found for found in threading.enumerate() if found.name == "tested" and found.is_alive()]


def test_closing_ends_asynchronous_generators(thread: LoopThread) -> None:
    ended = threading.Event()

    async def numbers() -> Any:
        try:
            while True:
                yield 1
        finally:
            ended.set()

    kept = numbers()

    async def first() -> int:
        return int(await kept.__anext__())

    assert thread.run(first()) == 1
    thread.close()
    assert ended.is_set()


def test_closing_survives_work_that_fails_while_it_is_cancelled(thread: LoopThread) -> None:
    started = threading.Event()

    async def bad() -> None:
        started.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            raise ValueError("could not clean up") from None

    future = thread.submit(bad())
    eventually(started)
    thread.close()
    with pytest.raises(ValueError, match="could not clean up"):
        future.result(0)


def test_closing_ends_the_thread_and_again_does_nothing(thread: LoopThread) -> None:
    assert thread.alive
    named = [found for found in threading.enumerate() if found.name == "tested"]
    assert len(named) == 1
    for _ in range(3):
        thread.close()
        assert not thread.alive
    assert not named[0].is_alive()


@pytest.mark.parametrize("door", ["run", "submit"])
def test_work_for_a_closed_loop_is_refused_and_leaves_no_warning(door: str, thread: LoopThread) -> None:
    # A coroutine that nobody awaits warns when it is collected, which is an error here.
    thread.close()
    with pytest.raises(BackendError, match="this backend was closed; load it again"):
        getattr(thread, door)(returning(1))
    gc.collect()


def in_the_background(what: Any) -> Future[Any]:
    """Call something in a thread, and return what comes of it."""
    future: Future[Any] = Future()

    def call() -> None:
        try:
            future.set_result(what())
        except BaseException as error:  # noqa: BLE001 - raised by result()
            future.set_exception(error)

    threading.Thread(target=call, daemon=True).start()
    return future


def test_two_threads_may_close_at_the_same_time(thread: LoopThread) -> None:
    work = Work(cleanup=0.3)
    thread.submit(work.run())
    eventually(work.started)
    first = in_the_background(thread.close)
    eventually(work.cancelled)
    second = in_the_background(thread.close)
    assert (first.result(20), second.result(20)) == (None, None)
    assert not thread.alive


def test_work_that_arrives_while_closing_does_not_wait_for_ever(thread: LoopThread) -> None:
    work = Work(cleanup=0.3)
    thread.submit(work.run())
    eventually(work.started)
    closing = in_the_background(thread.close)
    eventually(work.cancelled)
    late: Coroutine[Any, Any, None] = asyncio.sleep(600)
    try:
        future = thread.submit(late)
    except BackendError:
        future = None
    closing.result(20)
    assert future is None or not wait_for([future], timeout=2).not_done


def test_work_that_starts_more_work_while_it_is_cancelled_does_not_outlive_the_loop(thread: LoopThread) -> None:
    more = Work()
    tasks: list[asyncio.Task[None]] = []
    started = threading.Event()

    async def run() -> None:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            tasks.append(asyncio.get_running_loop().create_task(more.run()))
            await asyncio.sleep(0.05)

    thread.submit(run())
    eventually(started)
    thread.close()
    assert more.started.is_set()
    pending = [task for task in tasks if not task.done()]
    # Or else asyncio complains when they are collected.
    for task in pending:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert pending == []
    assert more.cancelled.is_set()


def test_a_loop_that_is_busy_is_waited_for(thread: LoopThread) -> None:
    async def busy() -> None:
        time.sleep(0.2)

    future = thread.submit(busy())
    thread.close()
    assert future.done()
