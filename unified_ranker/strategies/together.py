"""Several strategies at once: what all of them ask for goes out as one batch."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from unified_ranker.exchange import Completion, Request

T = TypeVar("T")


def together(
    asked: Sequence[Generator[list[Request], list[Completion], T]],
) -> Generator[list[Request], list[Completion], list[T]]:
    """Run strategies, or parts of one, side by side, and return what they come to in the same order.

    Whoever is done leaves; the others go on.
    """
    done: dict[int, T] = {}
    wanted: dict[int, list[Request]] = {}

    def advance(number: int, completions: list[Completion] | None) -> None:
        try:
            wanted[number] = next(asked[number]) if completions is None else asked[number].send(completions)
        except StopIteration as stop:
            wanted.pop(number, None)
            done[number] = stop.value

    for number in range(len(asked)):
        advance(number, None)
    while wanted:
        sizes = {number: len(requests) for number, requests in wanted.items()}
        completions = iter((yield [request for requests in wanted.values() for request in requests]))
        for number, size in sizes.items():
            advance(number, [next(completions) for _ in range(size)])
    return [done[number] for number in range(len(asked))]
