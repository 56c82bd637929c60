"""An event loop in a thread of its own, so that synchronous and asynchronous callers share one asynchronous client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from unified_ranker.errors import BackendError

T = TypeVar("T")

# Seconds that cleaning up may take.
PATIENCE = 30.0

_CLOSED = "this backend was closed; load it again"


async def all_or_none(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run coroutines side by side; the first error, or being cancelled, ends all of them."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


class LoopThread:
    """Runs coroutines on a loop that lives until :meth:`close`, or until the process ends.

    Args:
        name: Name of the thread, for debuggers.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = False
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the loop takes work."""
        return not self._closing

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine.

        Raises:
            BackendError: the loop was closed.
        """
        with self._lock:
            if not self._closing:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise BackendError(_CLOSED)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result, or raise its error.

        Whoever is interrupted while waiting takes the coroutine down with it.

        Raises:
            BackendError: the loop was closed, before or while the coroutine ran.
        """
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError:
            if self._closing:
                raise BackendError(_CLOSED) from None
            raise
        except BaseException:
            future.cancel()
            raise

    def close(self, last: Callable[[], Awaitable[object]] | None = None) -> None:
        """Cancel what runs, and end the thread; doing it again does nothing.

        Args:
            last: Closes what the coroutines used; awaited on the loop when none of them runs any more.
        """
        with self._lock:
            first, self._closing = not self._closing, True
        if not first:
            self._closed.wait(timeout=PATIENCE)
            return
        try:
            asyncio.run_coroutine_threadsafe(self._finish(last), self._loop).result(timeout=PATIENCE)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=PATIENCE)
            if not self._thread.is_alive():
                self._loop.close()
            self._closed.set()

    async def _finish(self, last: Callable[[], Awaitable[object]] | None) -> None:
        """Cancel all tasks, and those that they start while they are cancelled."""
        while True:
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if not others:
                break
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        if last is not None:
            await last()
        await self._loop.shutdown_asyncgens()
