"""The advantage of each step, against sums by hand and against an implementation that takes the long way."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.training.rl.credit import MARK, TRAILER, reward_tensor, step_advantage

CHECKED = settings(deadline=None, derandomize=True, max_examples=120)
EPSILON = 1e-6


@dataclass(frozen=True)
class Played:
    """An episode: the reward and the length in tokens of each step, and before which steps a new sequence begins."""

    rewards: tuple[float, ...]
    tokens: tuple[int, ...] = ()
    cuts: tuple[int, ...] = ()
    forced: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.tokens or (1,) * len(self.rewards)


@dataclass(frozen=True)
class Row:
    """A sequence as it goes into a batch, and where each of its steps lies."""

    group: str
    session: int
    rewards: torch.Tensor
    mask: list[int]
    places: dict[int, tuple[int, int]]


def rows_of(group: str, session: int, episode: Played) -> list[Row]:
    """Lay an episode out as the agent loop does: its steps, masked tokens between them, and the trailer."""
    starts = [0, *episode.cuts]
    found = []
    for low, high in zip(starts, [*starts[1:], len(episode.rewards)], strict=True):
        mask: list[int] = []
        places: dict[int, tuple[int, int]] = {}
        for step in range(low, high):
            if step > low:
                mask += [0] * episode.forced
            places[step] = (len(mask), len(mask) + episode.lengths[step])
            mask += [1] * episode.lengths[step]
        ends = [(places[step][1] - 1, episode.rewards[step]) for step in range(low, high)]
        mask += [0] * TRAILER
        rewards = reward_tensor(len(mask), ends, first_step=low, session=session)
        found.append(Row(group, session, rewards, mask, places))
    return found


def batch_of(rows: Sequence[Row], *, fill: int = 0) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Pad rows on the right, and add rows of zeros, of a group of their own and of the first one."""
    width = max(len(row.mask) for row in rows) + 3
    rewards, mask = torch.zeros(len(rows) + fill, width), torch.zeros(len(rows) + fill, width, dtype=torch.long)
    for number, row in enumerate(rows):
        rewards[number, : len(row.mask)] = row.rewards
        mask[number, : len(row.mask)] = torch.tensor(row.mask)
    return rewards, mask, [*(row.group for row in rows), *("fill" if i % 2 else rows[0].group for i in range(fill))]


def advantages_of(
    groups: dict[str, list[Played]], *, gamma: float, by_deviation: bool = False, seed: int | None = None, fill: int = 0
) -> tuple[dict[tuple[str, int, int], float], dict[tuple[str, int, int], float]]:
    """Return advantage and return of each (group, session, step); all of a step's tokens have to agree."""
    rows = [
        row for name, list_ in groups.items() for session, ep in enumerate(list_) for row in rows_of(name, session, ep)
    ]
    if seed is not None:
        random.Random(seed).shuffle(rows)
    rewards, mask, names = batch_of(rows, fill=fill)
    before = rewards.clone()
    advantages, returns = step_advantage(rewards, mask, names, gamma=gamma, by_deviation=by_deviation)
    assert torch.equal(rewards, before)
    assert advantages.shape == returns.shape == rewards.shape
    for given_, found in (("advantages", advantages), ("returns", returns)):
        assert torch.equal(found * (1 - mask), torch.zeros_like(found)), given_
        assert torch.isfinite(found).all()
    taken: tuple[dict[tuple[str, int, int], float], ...] = ({}, {})
    for number, row in enumerate(rows):
        for step, (start, end) in row.places.items():
            for place, found in enumerate((advantages, returns)):
                (value,) = set(found[number, start:end].tolist())
                taken[place][row.group, row.session, step] = value
    return taken[0], taken[1]


def by_the_long_way(
    groups: dict[str, list[Played]], *, gamma: float, by_deviation: bool
) -> tuple[dict[tuple[str, int, int], float], dict[tuple[str, int, int], float]]:
    returns = {
        (name, session, step): sum(
            reward * gamma ** (later - step) for later, reward in enumerate(ep.rewards) if later >= step
        )
        for name, episodes in groups.items()
        for session, ep in enumerate(episodes)
        for step in range(len(ep.rewards))
    }
    advantages = {}
    for (name, session, step), value in returns.items():
        peers = [other for (group, _, at), other in returns.items() if (group, at) == (name, step)]
        advantages[name, session, step] = 0.0
        if len(peers) > 1:
            scale = stdev(peers) + EPSILON if by_deviation else 1.0
            advantages[name, session, step] = (value - fmean(peers)) / scale
    return advantages, returns


# Two episodes of two steps, with rewards 1, 0 and 0, 1.
CROSSED = {"g": [Played((1.0, 0.0)), Played((0.0, 1.0))]}


@pytest.mark.parametrize(
    ("gamma", "returns", "advantages"),
    [
        (0.0, [[1.0, 0.0], [0.0, 1.0]], [[0.5, -0.5], [-0.5, 0.5]]),
        (0.5, [[1.0, 0.0], [0.5, 1.0]], [[0.25, -0.5], [-0.25, 0.5]]),
        (1.0, [[1.0, 0.0], [1.0, 1.0]], [[0.0, -0.5], [0.0, 0.5]]),
    ],
)
def test_advantages_by_hand(gamma: float, returns: list[list[float]], advantages: list[list[float]]) -> None:
    found, totals = advantages_of(CROSSED, gamma=gamma)
    assert totals == {("g", s, i): returns[s][i] for s in range(2) for i in range(2)}
    assert found == {("g", s, i): advantages[s][i] for s in range(2) for i in range(2)}


@pytest.mark.parametrize(
    ("gamma", "advantages"),
    [
        # Two values that differ by d have the (unbiased) deviation d / √2, whatever d is.
        (0.0, [[0.5**0.5, -(0.5**0.5)], [-(0.5**0.5), 0.5**0.5]]),
        (0.5, [[0.5**0.5, -(0.5**0.5)], [-(0.5**0.5), 0.5**0.5]]),
        (1.0, [[0.0, -(0.5**0.5)], [0.0, 0.5**0.5]]),
    ],
)
def test_advantages_by_hand_in_deviations(gamma: float, advantages: list[list[float]]) -> None:
    found, _ = advantages_of(CROSSED, gamma=gamma, by_deviation=True)
    for (_, session, step), value in found.items():
        assert value == pytest.approx(advantages[session][step], abs=5e-6)


def test_the_epsilon_keeps_small_differences_small() -> None:
    rows = [row for s, reward in enumerate((0.0, 2e-6)) for row in rows_of("g", s, Played((reward,)))]
    rewards, mask, names = batch_of(rows)
    found, _ = step_advantage(rewards, mask, names, gamma=0.0, by_deviation=True, epsilon=1.0)
    assert found.abs().max() == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize(
    ("gamma", "returns", "first"),
    [(0.0, [1.0, 1.0, 1.0], 0.5), (0.5, [1.75, 1.5, 1.0], 0.875), (1.0, [3.0, 2.0, 1.0], 1.5)],
)
@pytest.mark.parametrize("by_deviation", [False, True])
def test_a_step_that_no_other_episode_reached_has_no_advantage(
    gamma: float, returns: list[float], first: float, by_deviation: bool
) -> None:
    groups = {"g": [Played((1.0, 1.0, 1.0)), Played((0.0,))]}
    found, totals = advantages_of(groups, gamma=gamma, by_deviation=by_deviation)
    assert [totals["g", 0, step] for step in range(3)] == returns
    assert [found["g", 0, 1], found["g", 0, 2]] == [0.0, 0.0]
    wanted = 0.5**0.5 if by_deviation else first
    assert found["g", 0, 0] == pytest.approx(wanted, abs=5e-6) == -found["g", 1, 0]


def test_an_episode_without_a_peer_has_no_advantage() -> None:
    found, totals = advantages_of({"g": [Played((1.0, -2.0))]}, gamma=1.0, by_deviation=True)
    assert found == {("g", 0, 0): 0.0, ("g", 0, 1): 0.0}
    assert totals == {("g", 0, 0): -1.0, ("g", 0, 1): -2.0}


@pytest.mark.parametrize("by_deviation", [False, True])
@pytest.mark.parametrize("reward", [0.0, 1.0, -1.25, 0.3])
def test_equal_episodes_have_no_advantage(reward: float, by_deviation: bool) -> None:
    found, _ = advantages_of({"g": [Played((reward,) * 4)] * 5}, gamma=0.7, by_deviation=by_deviation)
    assert max(map(abs, found.values())) < 1e-6


def test_every_token_of_a_step_has_the_steps_advantage_and_tokens_between_have_none() -> None:
    (row,), (other,) = (
        rows_of("g", session, Played(rewards, tokens=(2, 3), forced=1))
        for session, rewards in enumerate([(1.0, 2.0), (0.0, 0.0)])
    )
    rewards, mask, names = batch_of([row, other])
    advantages, returns = step_advantage(rewards, mask, names, gamma=0.0, by_deviation=False)
    assert row.mask == [1, 1, 0, 1, 1, 1, 0, 0]
    assert advantages[0].tolist() == [0.5, 0.5, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert returns[0].tolist() == [1.0, 1.0, 0.0, 2.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert advantages[1].tolist() == (-advantages[0]).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_an_episode_of_several_sequences_is_put_together_in_any_order_of_rows(seed: int) -> None:
    whole = {"g": [Played((1.0, 0.0, 2.0, -1.0)), Played((0.5, 0.5, 0.0, 3.0)), Played((0.0, 0.0, 0.0, 1.0))]}
    cut = {
        "g": [
            Played(whole["g"][0].rewards, cuts=(1, 2, 3)),
            Played(whole["g"][1].rewards, cuts=(2,), tokens=(1, 4, 2, 1)),
            Played(whole["g"][2].rewards),
        ]
    }
    assert advantages_of(cut, gamma=0.5, seed=seed) == advantages_of(whole, gamma=0.5)


def test_groups_are_compared_with_themselves_alone() -> None:
    first, second = [Played((1.0, 0.0)), Played((0.0, 1.0))], [Played((7.0,)), Played((3.0,)), Played((5.0,))]
    together, _ = advantages_of({"a": first, "b": second}, gamma=1.0, seed=3)
    apart = [advantages_of({name: list_}, gamma=1.0)[0] for name, list_ in (("a", first), ("b", second))]
    assert together == {**apart[0], **apart[1]}
    assert [together["b", session, 0] for session in range(3)] == [2.0, -2.0, 0.0]


@pytest.mark.parametrize("fill", [1, 2, 5])
@pytest.mark.parametrize("by_deviation", [False, True])
def test_rows_that_fill_a_batch_change_nothing(fill: int, by_deviation: bool) -> None:
    groups = {"a": [Played((1.0, 0.0)), Played((0.0, 0.0))], "b": [Played((0.0,)), Played((3.0,))]}
    plain = advantages_of(groups, gamma=1.0, by_deviation=by_deviation)
    assert advantages_of(groups, gamma=1.0, by_deviation=by_deviation, fill=fill) == plain


def test_a_batch_of_nothing_but_filling_has_no_advantage() -> None:
    zero, mask = torch.zeros(3, 5), torch.zeros(3, 5, dtype=torch.long)
    advantages, returns = step_advantage(zero, mask, ["a", "a", "b"], gamma=1.0, by_deviation=True)
    assert not advantages.any()
    assert not returns.any()


def test_a_reward_of_zero_is_a_step_like_any_other() -> None:
    found, totals = advantages_of({"g": [Played((0.0, 0.0, 0.0)), Played((0.0, 3.0, 0.0))]}, gamma=0.0)
    assert [totals["g", 0, step] for step in range(3)] == [0.0, 0.0, 0.0]
    assert [found["g", 0, step] for step in range(3)] == [0.0, -1.5, 0.0]


def test_negative_rewards_count_as_such() -> None:
    found, totals = advantages_of({"g": [Played((-1.25, -0.25)), Played((-0.5, 1.0))]}, gamma=1.0)
    assert totals == {("g", 0, 0): -1.5, ("g", 0, 1): -0.25, ("g", 1, 0): 0.5, ("g", 1, 1): 1.0}
    assert found == {("g", 0, 0): -1.0, ("g", 0, 1): -0.625, ("g", 1, 0): 1.0, ("g", 1, 1): 0.625}


@pytest.mark.parametrize("kind", [torch.long, torch.float32, torch.bool])
def test_the_mask_may_be_of_any_type(kind: torch.dtype) -> None:
    rows = [row for s in range(2) for row in rows_of("g", s, Played((float(s), 1.0)))]
    rewards, mask, names = batch_of(rows)
    wanted = step_advantage(rewards, mask, names, gamma=1.0, by_deviation=False)
    found = step_advantage(rewards, mask.to(kind), np.array(names, dtype=object), gamma=1.0, by_deviation=False)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert torch.equal(one, other)


def test_the_tensor_of_a_sequence_by_hand() -> None:
    found = reward_tensor(6, [(0, 1.0), (1, 0.0), (3, -0.25)], first_step=4, session=7)
    assert found.dtype == torch.float32
    assert found.tolist() == [1.0, MARK, 0.0, -0.25, 5 * MARK, 8 * MARK]


@pytest.mark.parametrize("first_step", [0, 1, 30, 4095])
@pytest.mark.parametrize("session", [0, 7, 1023, 65_535])
def test_marks_are_exact_and_do_not_show_beside_rewards(first_step: int, session: int) -> None:
    found = reward_tensor(4, [(0, 0.0), (1, 0.5)], first_step=first_step, session=session)
    assert found[2].item() / MARK == first_step + 1
    assert found[3].item() / MARK == session + 1
    assert found.sum().item() == 0.5
    assert torch.cumsum(found, 0)[-1].item() == 0.5


@pytest.mark.parametrize("session", [0, 3, 1000, 65_535])
def test_a_session_of_any_number_is_told_from_others(session: int) -> None:
    rows = rows_of("g", session, Played((1.0, 2.0), cuts=(1,))) + rows_of("g", session + 1, Played((0.0, 0.0)))
    rewards, mask, names = batch_of(rows)
    _, returns = step_advantage(rewards, mask, names, gamma=1.0, by_deviation=False)
    assert [returns[row, 0].item() for row in range(3)] == [3.0, 2.0, 0.0]


rewards_ = st.one_of(
    st.sampled_from([0.0, 1.0, -1.25, 0.75, 0.5]), st.floats(-10, 10, width=32, allow_subnormal=False)
).map(lambda value: value if abs(value) > 1e-6 else 0.0)


@st.composite
def episodes(draw: st.DrawFn, *, steps: int | None = None) -> Played:
    size = steps or draw(st.integers(1, 5))
    return Played(
        tuple(draw(st.lists(rewards_, min_size=size, max_size=size))),
        tuple(draw(st.lists(st.integers(1, 3), min_size=size, max_size=size))),
        tuple(sorted(draw(st.sets(st.integers(1, size - 1), max_size=size - 1)))) if size > 1 else (),
        draw(st.integers(0, 2)),
    )


batches = st.dictionaries(
    st.sampled_from(["a", "b", "c"]), st.lists(episodes(), min_size=1, max_size=4), min_size=1, max_size=3
)


@CHECKED
@given(batches, st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.booleans(), st.integers(0, 9), st.integers(0, 2))
def test_the_long_way_gives_the_same(
    groups: dict[str, list[Played]], gamma: float, by_deviation: bool, seed: int, fill: int
) -> None:
    found = advantages_of(groups, gamma=gamma, by_deviation=by_deviation, seed=seed, fill=fill)
    wanted = by_the_long_way(groups, gamma=gamma, by_deviation=by_deviation)
    for one, other in zip(found, wanted, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)


@CHECKED
@given(batches, st.sampled_from([0.0, 0.5, 1.0]), st.booleans())
def test_advantages_average_to_nothing_over_the_episodes_of_a_step(
    groups: dict[str, list[Played]], gamma: float, by_deviation: bool
) -> None:
    found, _ = advantages_of(groups, gamma=gamma, by_deviation=by_deviation)
    for name, step in {(name, step) for name, _, step in found}:
        values = [value for (group, _, at), value in found.items() if (group, at) == (name, step)]
        assert fmean(values) == pytest.approx(0.0, abs=1e-5)


@CHECKED
@given(episodes(), st.integers(0, 40))
def test_the_sum_of_a_tensor_is_the_sum_of_its_rewards(episode: Played, session: int) -> None:
    for row in rows_of("g", session, episode):
        wanted = torch.zeros(len(row.mask))
        for step, (_, end) in row.places.items():
            wanted[end - 1] = episode.rewards[step]
        # Marks alone add up to something, but far below any reward.
        assert row.rewards.sum().item() == pytest.approx(wanted.sum().item(), rel=0, abs=2.0**-80)
        if wanted.sum():
            assert row.rewards.sum().item() == wanted.sum().item()


@CHECKED
@given(batches, st.integers(0, 5), st.integers(0, 5))
def test_the_order_of_rows_changes_nothing(groups: dict[str, list[Played]], one: int, other: int) -> None:
    for by_deviation in (False, True):
        first, second = (advantages_of(groups, gamma=0.5, by_deviation=by_deviation, seed=s) for s in (one, other))
        assert first[1] == second[1]
        assert first[0] == pytest.approx(second[0], abs=1e-6)


@CHECKED
@given(st.lists(episodes(steps=3), min_size=2, max_size=5), st.floats(-3, 3, width=16))
def test_a_bonus_that_all_episodes_get_at_a_step_changes_no_advantage(group: list[Played], bonus: float) -> None:
    raised = [
        Played((ep.rewards[0], ep.rewards[1] + bonus, ep.rewards[2]), ep.tokens, ep.cuts, ep.forced) for ep in group
    ]
    plain, _ = advantages_of({"g": group}, gamma=1.0)
    lifted, _ = advantages_of({"g": raised}, gamma=1.0)
    assert lifted == pytest.approx(plain, abs=1e-4)
