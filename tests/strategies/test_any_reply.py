"""Whatever a model writes, every method gives back each candidate exactly once and tells what it made of it."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker import Ranker
from unified_ranker.backends import ScriptedBackend, WordTools

WAYS = [
    {"method": "iranker", "layout": "append"},
    {"method": "iranker", "layout": "rounds"},
    {"method": "iranker", "layout": "append", "style": "compact"},
    {"method": "dranker"},
    {"method": "dranker", "style": "compact"},
]

pieces = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ["A", "B", "C", " > ", "\n", "[", "]", "<think>", "</think>", "<answer>", "</answer>", "<1>", "<2>"]
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
