"""Several strategies side by side, and the loop in which each of them asks until a reply can be used."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judges import erratic, items

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import ReplyError
from unified_ranker.exchange import Completion, Message, Request
from unified_ranker.schema.types import Candidate, Step, Usage
from unified_ranker.strategies.base import Asking, Sampling, ask
from unified_ranker.strategies.together import together

Plan = list[int]


def request_of(text: str) -> Request:
    return Request(messages=(Message("user", text),))


def reply_to(request: Request) -> Completion:
    """Return a reply that is another one for each request, and the same for the same."""
    text = f"{request.messages[-1].content}/{request.reply_prefix}"
    return Completion(f"reply to {text}", prompt_tokens=crc32(text.encode()) % 1000)


def planned(name: str, plan: Plan) -> Asking:
    """Ask so many requests at each turn; what a turn asks depends on what came back before."""
    heard = 0
    steps = []
    for turn, size in enumerate(plan):
        asked = [request_of(f"{name} turn {turn} number {number} after {heard}") for number in range(size)]
        completions = yield asked
        assert len(completions) == size
        heard += sum(completion.prompt_tokens for completion in completions)
        steps += [Step(index=len(steps), reply=completion.text, outcome="ok") for completion in completions]
    candidate = Candidate(f"{name} {heard}", "text")
    return Ranking(
        example_id=name, order=(candidate,), scores=(0.0,), steps=tuple(steps), usage=Usage(calls=len(steps))
    )


def run(
    running: Generator[list[Request], list[Completion], Any], answer: Callable[[Request], Completion]
) -> tuple[Any, list[list[Request]]]:
    """Run a generator to its end; return what it gave and what it asked for, batch by batch."""
    batches = []
    try:
        wanted = next(running)
        while True:
            batches.append(wanted)
            wanted = running.send([answer(request) for request in wanted])
    except StopIteration as stop:
        return stop.value, batches


plans = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=6)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(plans=plans)
def test_side_by_side_each_strategy_finds_what_it_finds_alone(plans: list[Plan]) -> None:
    alone = [run(planned(f"strategy {number}", plan), reply_to) for number, plan in enumerate(plans)]
    rankings, batches = run(together([planned(f"strategy {i}", plan) for i, plan in enumerate(plans)]), reply_to)
    assert rankings == [ranking for ranking, _ in alone]
    # Each batch holds what everyone who is not done asks for at that turn, in the order of the strategies.
    turns = max((len(plan) for plan in plans), default=0)
    assert batches == [
        [request for _, own in alone if turn < len(own) for request in own[turn]] for turn in range(turns)
    ]


WAYS: list[dict[str, Any]] = [
    {"method": "iranker"},
    {"method": "iranker", "layout": "rounds"},
    {"method": "iranker", "style": "compact", "permute": True},
    {"method": "iranker", "drop_per_step": 2},
    {"method": "iranker", "stop_at": 2, "finish": "dranker"},
    {"method": "dranker"},
    {"method": "dranker", "shuffles": 2},
    {"method": "tournament", "block": 3},
]


@settings(max_examples=40, deadline=None, derandomize=True)
@given(lists=st.lists(st.tuples(st.sampled_from(WAYS), st.integers(1, 7)), max_size=5))
def test_the_strategies_of_the_package_find_side_by_side_what_they_find_alone(
    lists: list[tuple[dict[str, Any], int]],
) -> None:
    def running(number: int) -> Asking:
        way, n = lists[number]
        example = RankingExample(id=f"list {number}", query=f"query {number}", candidates=tuple(items(n)))
        return Ranker(ScriptedBackend([]), **way).strategy("passage").rank(example)

    alone = [run(running(number), erratic) for number in range(len(lists))]
    rankings, batches = run(together([running(number) for number in range(len(lists))]), erratic)
    assert rankings == [ranking for ranking, _ in alone]
    assert [len(batch) for batch in batches] == [
        sum(len(own[turn]) for _, own in alone if turn < len(own))
        for turn in range(max((len(own) for _, own in alone), default=0))
    ]
    wanted = [replace(request, session="") for _, own in alone for batch in own for request in batch]
    asked = [replace(request, session="") for batch in batches for request in batch]
    assert sorted(map(repr, asked)) == sorted(map(repr, wanted))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_strategies_that_ask_nothing_are_done_without_a_batch(count: int) -> None:
    rankings, batches = run(together([planned(f"strategy {i}", []) for i in range(count)]), reply_to)
    assert [ranking.example_id for ranking in rankings] == [f"strategy {i}" for i in range(count)]
    assert batches == []


@pytest.mark.parametrize("done", [0, 1, 2])
def test_whoever_is_done_at_once_does_not_hold_up_or_mix_up_the_others(done: int) -> None:
    plans = [[1, 2], [2, 1], [1, 1]]
    plans[done] = []
    rankings, batches = run(together([planned(f"strategy {i}", plan) for i, plan in enumerate(plans)]), reply_to)
    assert [ranking.example_id for ranking in rankings] == ["strategy 0", "strategy 1", "strategy 2"]
    assert [len(batch) for batch in batches] == [sum(plan[turn] for plan in plans if plan) for turn in range(2)]
    for ranking in rankings:
        assert all(step.reply.startswith(f"reply to {ranking.example_id} ") for step in ranking.steps)


def test_whoever_is_done_first_leaves_and_the_others_go_on() -> None:
    rankings, batches = run(together([planned("short", [1]), planned("long", [1, 1, 1])]), reply_to)
    assert [[request.messages[0].content.split()[0] for request in batch] for batch in batches] == [
        ["short", "long"],
        ["long"],
        ["long"],
    ]
    assert [ranking.usage.calls for ranking in rankings] == [1, 3]


def test_an_error_of_one_is_an_error_of_all() -> None:
    def failing() -> Asking:
        yield [request_of("once")]
        raise ReplyError("cannot be read")

    running = together([planned("fine", [1, 1]), failing()])
    first = next(running)
    with pytest.raises(ReplyError, match="cannot be read"):
        running.send([reply_to(request) for request in first])


# ask(): until a reply can be used


def tries(texts: Sequence[str], **sampling: Any) -> tuple[Any, list[Request]]:
    """Ask for a number; return what ask() gives and the requests."""
    script = iter([Completion(text, {}, 100 + i, 10 * i, 1 + i) for i, text in enumerate(texts)])
    result, batches = run(
        ask(
            Sampling(**sampling),
            replace(request_of("a number"), temperature=sampling.get("temperature", 0.0), seed=sampling.get("seed")),
            read=lambda completion: int(completion.text) if completion.text.isdigit() else None,
            failed=lambda number: number is None,
        ),
        lambda request: next(script),
    )
    assert all(len(batch) == 1 for batch in batches)
    return result, [request for batch in batches for request in batch]


@pytest.mark.parametrize(
    ("sampling", "texts", "number", "attempts"),
    [
        ({}, ["5"], 5, 1),
        ({}, ["x"], None, 1),
        ({"on_error": "raise", "retries": 4}, ["x"], None, 1),
        ({"retries": 4}, ["x"], None, 1),
        ({"on_error": "retry"}, ["5"], 5, 1),
        ({"on_error": "retry"}, ["x", "5"], 5, 2),
        ({"on_error": "retry"}, ["x", "y", "5"], 5, 3),
        ({"on_error": "retry"}, ["x", "y", "z"], None, 3),
        ({"on_error": "retry", "retries": 0}, ["x"], None, 1),
        ({"on_error": "retry", "retries": 1}, ["x", "y"], None, 2),
    ],
)
def test_a_reply_is_asked_for_as_often_as_it_may_be(
    sampling: dict[str, Any], texts: list[str], number: int | None, attempts: int
) -> None:
    (found, completion, usage, count), requests = tries(texts, **sampling)
    assert (found, count, completion.text) == (number, attempts, texts[-1])
    assert len(requests) == attempts
    # What failed attempts cost counts, too.
    assert usage == Usage(
        calls=attempts,
        prompt_tokens=sum(100 + i for i in range(attempts)),
        reused_tokens=sum(10 * i for i in range(attempts)),
        generated_tokens=sum(1 + i for i in range(attempts)),
    )


@pytest.mark.parametrize(("seed", "seeds"), [(None, [None, 1, 2]), (5, [5, 6, 7]), (0, [0, 1, 2])])
def test_a_further_attempt_differs_by_temperature_and_seed_alone(seed: int | None, seeds: list[int | None]) -> None:
    _, requests = tries(["x", "y", "z"], on_error="retry", seed=seed)
    assert [request.seed for request in requests] == seeds
    assert [request.temperature for request in requests] == [0.0, 0.7, 0.7]
    assert len({replace(request, seed=None, temperature=0.0) for request in requests}) == 1
    _, warm = tries(["x", "y", "z"], on_error="retry", seed=seed, temperature=0.3)
    assert [request.temperature for request in warm] == [0.3, 0.3, 0.3]
