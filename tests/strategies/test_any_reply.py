"""Whatever a model writes, every method gives back each candidate exactly once and tells what it made of it."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker import Ranker, Ranking
from unified_ranker.backends import ScriptedBackend, WordTools
from unified_ranker.exchange import Completion, Request

WAYS = [
    {"method": "iranker", "layout": "append"},
    {"method": "iranker", "layout": "rounds"},
    {"method": "iranker", "layout": "append", "style": "compact"},
    {"method": "dranker"},
    {"method": "dranker", "style": "compact"},
    {"method": "best_first", "layout": "append"},
    {"method": "best_first", "layout": "rounds"},
    {"method": "best_first", "style": "compact"},
]

# Methods whose number of steps depends on what is said.
MORE_WAYS: list[dict[str, Any]] = [
    {"method": "tournament", "block": 3},
    {"method": "best_first", "picks": 2},
    {"method": "setwise", "set_size": 3},
    {"method": "setwise", "sort": "bubblesort", "set_size": 2, "style": "compact"},
    {"method": "setwise", "sort": "insertion", "set_size": 3, "places": 2},
    {"method": "window", "size": 3, "step": 2, "passes": 2},
    {"method": "window", "size": 3, "order": "partition"},
    {"method": "window", "size": 4, "step": 2, "inner": "iranker", "style": "compact"},
    {"method": "pointwise", "score": "grade"},
    {"method": "pointwise", "score": "grade", "scale": "yes_no", "style": "compact"},
    {"method": "cascade", "first": "dranker", "then": "best_first", "depth": 3},
    {"method": "cascade", "first": {"method": "pointwise", "score": "grade"}, "then": {"method": "setwise"}},
    {"method": "aggregate", "of": ["dranker", "iranker", {"method": "pointwise", "score": "grade"}]},
    {"method": "aggregate", "of": ["best_first", "setwise"], "fusion": "borda"},
]
# Methods that go by the log-probabilities of what they ask for, whatever the reply says.
TOLD_WAYS: list[dict[str, Any]] = [
    {"method": "first_token"},
    {"method": "first_token", "ask": "worst", "style": "compact"},
    {"method": "setwise", "ask": "worst", "set_size": 3},
    {"method": "pointwise"},
    {"method": "pointwise", "scale": "yes_no", "score": "likely"},
    {"method": "cascade", "depth": 3},
]

pieces = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            "A",
            "B",
            "C",
            "0",
            "3",
            "yes",
            " > ",
            "\n",
            "[",
            "]",
            "<think>",
            "</think>",
            "<answer>",
            "</answer>",
            "<1>",
            "<2>",
        ]
    ),
)
replies = st.lists(st.lists(pieces, max_size=8).map("".join), min_size=1, max_size=5)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: "-".join(way.values()))
@pytest.mark.parametrize("reasoning", [False, True], ids=["bare", "reasoning"])
@pytest.mark.parametrize("labels", [(), tuple(f"<{i}>" for i in range(1, 9))], ids=["letters", "own-labels"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(replies=replies, n=st.integers(1, 6), unguided=st.booleans(), shuffle_seed=st.none() | st.integers(0, 3))
def test_the_ranking_is_a_permutation_and_every_flaw_is_counted(
    way: dict[str, Any],
    reasoning: bool,
    labels: tuple[str, ...],
    replies: list[str],
    n: int,
    unguided: bool,
    shuffle_seed: int | None,
) -> None:
    script = cycle(replies)
    ranker = Ranker(
        ScriptedBackend(lambda request: next(script), text=WordTools(labels=labels)),
        reasoning=reasoning,
        unguided=unguided,
        shuffle_seed=shuffle_seed,
        on_error="repair",
        **way,
    )
    ranking = ranker.rank("anything", ["same text"] * n)
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    flawed = [step for step in ranking.steps if step.outcome != "ok"]
    assert ranking.usage.repaired_steps + ranking.usage.failed_steps == len(flawed)
    assert all(bool(step.reason) == (step.outcome != "ok") for step in ranking.steps)
    assert len(ranking.steps) == (min(n - 1, 1) if way["method"] == "dranker" else n - 1)


def check_told(ranking: Ranking, n: int) -> None:
    """Check that each candidate is there once, and that what the trace tells adds up."""
    assert sorted(ranking.ids, key=int) == [str(i) for i in range(n)]
    assert ranking.usage.repaired_steps == sum(step.outcome == "repaired" for step in ranking.steps)
    assert ranking.usage.failed_steps == sum(step.outcome == "failed" for step in ranking.steps)
    assert all(bool(step.reason) == (step.outcome != "ok") for step in ranking.steps)
    assert [step.index for step in ranking.steps] == list(range(len(ranking.steps)))


@pytest.mark.parametrize("way", MORE_WAYS, ids=str)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    replies=replies,
    n=st.integers(1, 7),
    own_labels=st.booleans(),
    reasoning=st.booleans(),
    unguided=st.booleans(),
    shuffle_seed=st.none() | st.integers(0, 3),
    retry=st.booleans(),
)
def test_methods_of_any_number_of_steps_give_a_permutation_and_count_every_flaw(
    way: dict[str, Any],
    replies: list[str],
    n: int,
    own_labels: bool,
    reasoning: bool,
    unguided: bool,
    shuffle_seed: int | None,
    retry: bool,
) -> None:
    script = cycle(replies)
    labels = tuple(f"<{i}>" for i in range(1, 9)) if own_labels else ()
    ranker = Ranker(
        ScriptedBackend(lambda request: next(script), text=WordTools(labels=labels)),
        reasoning=reasoning,
        unguided=unguided,
        shuffle_seed=shuffle_seed,
        on_error="retry" if retry else "repair",
        retries=1,
        **way,
    )
    ranking = ranker.rank("anything", ["same text"] * n)
    check_told(ranking, n)
    assert ranking.usage.calls == sum(step.attempts for step in ranking.steps)


@pytest.mark.parametrize("way", TOLD_WAYS, ids=str)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    replies=replies,
    n=st.integers(1, 7),
    told=st.lists(st.sampled_from([0.0, -0.5, -1.0, -1e-12, -800.0]), min_size=1, max_size=5),
    shuffle_seed=st.none() | st.integers(0, 3),
)
def test_methods_that_go_by_log_probabilities_give_a_permutation_whatever_is_written(
    way: dict[str, Any], replies: list[str], n: int, told: list[float], shuffle_seed: int | None
) -> None:
    script, values = cycle(replies), cycle(told)

    def answer(request: Request) -> Completion:
        return Completion(next(script), {choice: next(values) for choice in request.choices})

    ranking = Ranker(ScriptedBackend(answer), shuffle_seed=shuffle_seed, **way).rank("anything", ["same text"] * n)
    check_told(ranking, n)
