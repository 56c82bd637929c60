"""Run strategies: the same generators, advanced in batches, one at a time, or concurrently."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from unified_ranker.exchange import AsyncBackend, Backend, Completion, Request
from unified_ranker.schema.types import Ranking, RankingExample
from unified_ranker.strategies.base import Asking, Strategy


@dataclass
class _Running:
    asking: Asking
    started: float
    wanted: list[Request] = field(default_factory=list)
    result: Ranking | None = None

    @property
    def sessions(self) -> set[str]:
        """Sessions that a backend may keep something for."""
        return {request.session for request in self.wanted if request.session} if self.result is None else set()

    def advance(self, completions: list[Completion] | None) -> None:
        try:
            self.wanted = next(self.asking) if completions is None else self.asking.send(completions)
        except StopIteration as stop:
            ranking: Ranking = stop.value
            seconds = time.perf_counter() - self.started
            self.result = replace(ranking, usage=replace(ranking.usage, seconds=seconds))


def run_batch(
    strategy: Strategy, examples: Iterable[RankingExample], backend: Backend, *, concurrency: int = 64
) -> Iterator[Ranking]:
    """Rank examples, gathering what all running strategies ask for into one backend call.

    A query that finishes makes room for the next at once, so that lists of different length do not wait for each other;
    only where one of them takes very long do finished ones wait to be yielded in order, at most four times
    ``concurrency`` of them.

    Args:
        strategy: The method.
        examples: What to rank; read as needed.
        backend: The model.
        concurrency: Most queries that run at the same time.

    Yields:
        The rankings, in the order of the examples.
    """
    source = iter(examples)
    running: deque[_Running] = deque()
    exhausted = False
    try:
        while True:
            while running and running[0].result is not None:
                yield running.popleft().result  # type: ignore[misc]  # narrowed by the loop's condition
            active = sum(entry.result is None for entry in running)
            while not exhausted and active < concurrency and len(running) < 4 * concurrency:
                example = next(source, None)
                if example is None:
                    exhausted = True
                    break
                entry = _Running(strategy.rank(example), time.perf_counter())
                running.append(entry)
                entry.advance(None)
                active += entry.result is None
            asking = [entry for entry in running if entry.result is None]
            if not asking:
                if exhausted and not running:
                    return
                continue
            replies = iter(backend.generate([request for entry in asking for request in entry.wanted]))
            for entry in asking:
                entry.advance([next(replies) for _ in entry.wanted])
    finally:
        # Whoever stops listening, or an error in one list, leaves the others' sessions behind.
        abandoned = {session for entry in running for session in entry.sessions}
        if abandoned:
            backend.forget(abandoned)


class MicroBatcher:
    """Lets each query advance at its own pace, and sends what arrives at the same time as one batch.

    While the backend is busy, new requests gather; they go out together as soon as it is free.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: list[tuple[list[Request], asyncio.Future[list[Completion]]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def ask(self, requests: list[Request]) -> list[Completion]:
        """Answer requests.

        Raises:
            BackendError: the backend failed on the batch.
        """
        future: asyncio.Future[list[Completion]] = asyncio.get_running_loop().create_future()
        self._waiting.append((requests, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        # One turn of the loop, so that queries started together are asked together.
        await asyncio.sleep(0)
        while self._waiting:
            batch, self._waiting = self._waiting, []
            flat = [request for requests, _ in batch for request in requests]
            try:
                replies = iter(await asyncio.to_thread(self._backend.generate, flat))
            except BaseException as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                if not isinstance(error, Exception):
                    raise
                continue
            for requests, future in batch:
                answers = [next(replies) for _ in requests]
                if not future.done():
                    future.set_result(answers)
        # A task holds its event loop; without it the loop can go when its user is done with it.
        self._worker = None

    def forget(self, sessions: set[str]) -> None:
        """Drop what the backend keeps for sessions that will not go on."""
        self._backend.forget(sessions)


class Asker(Protocol):
    """Whoever answers requests without blocking: a :class:`MicroBatcher`, or an asynchronous backend itself."""

    async def ask(self, requests: list[Request]) -> list[Completion]:
        """Answer requests, in their order."""

    def forget(self, sessions: set[str]) -> None:
        """Drop what is kept for sessions that will not go on."""


async def run_async(strategy: Strategy, example: RankingExample, asker: Asker) -> Ranking:
    """Rank one example without blocking the event loop."""
    entry = _Running(strategy.rank(example), time.perf_counter())
    entry.advance(None)
    try:
        while entry.result is None:
            entry.advance(await asker.ask(entry.wanted))
    finally:
        if entry.sessions:
            asker.forget(entry.sessions)
    return entry.result


def run_concurrent(
    strategy: Strategy, examples: Iterable[RankingExample], backend: AsyncBackend, *, concurrency: int = 64
) -> Iterator[Ranking]:
    """Rank examples on an asynchronous backend, each at its own pace.

    Nobody waits for a batch: a query asks its next request as soon as its last is answered, and the next query starts
    as soon as one is done. Arguments and order of the results are those of :func:`run_batch`.
    """
    source = iter(examples)
    waiting: deque[Future[Ranking]] = deque()
    running: set[Future[Ranking]] = set()
    exhausted = False
    try:
        while True:
            while waiting and waiting[0].done():
                yield waiting.popleft().result()
            while not exhausted and len(running) < concurrency and len(waiting) < 4 * concurrency:
                example = next(source, None)
                if example is None:
                    exhausted = True
                    break
                future = backend.submit(run_async(strategy, example, backend))
                waiting.append(future)
                running.add(future)
            if not waiting:
                return
            wait(running, return_when=FIRST_COMPLETED)
            running = {future for future in running if not future.done()}
    finally:
        for future in waiting:
            future.cancel()
