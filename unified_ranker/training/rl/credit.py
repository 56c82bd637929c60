"""Credit step by step: how the reward of each step reaches its own tokens, and the advantage of a step in its group.

verl's advantage estimators see rewards and a mask, one row a sequence, and the group that a row belongs to. A step-wise
advantage needs three things more: where each step ends, which step of the episode a sequence begins with, and which
sequences are of one episode. They travel within the tensor of rewards:

- a step's reward stands at its last token; one of exactly 0 as :data:`MARK`, so that every end of a step is seen;
- two tokens that are masked out close each sequence, and carry ``(first step + 1) · MARK`` and
  ``(session + 1) · MARK``.

:data:`MARK` is ``2**-100``: multiples of it are exact in float32, and whatever sums them up with rewards does not
change.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

MARK = 2.0**-100
# Rewards are above this in size, marks below it.
_BORDER = 2.0**-60
#: Tokens that :func:`reward_tensor` needs after the last one of the response.
TRAILER = 2


def reward_tensor(length: int, ends: Sequence[tuple[int, float]], *, first_step: int, session: int) -> torch.Tensor:
    """Return the rewards of one sequence.

    Args:
        length: Tokens of the response, its :data:`TRAILER` included.
        ends: Index of the last token of each step, and the step's reward.
        first_step: Number of the first step within the episode.
        session: Number of the episode within its group.

    Returns:
        A float32 tensor of ``length``.
    """
    rewards = torch.zeros(length, dtype=torch.float32)
    for place, reward in ends:
        rewards[place] = reward if abs(reward) > _BORDER else MARK
    rewards[-2] = (first_step + 1) * MARK
    rewards[-1] = (session + 1) * MARK
    return rewards


def step_advantage(
    rewards: torch.Tensor,
    mask: torch.Tensor,
    group: Sequence[object],
    *,
    gamma: float,
    by_deviation: bool,
    epsilon: float = 1e-6,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the step-wise group advantage; its derivation stands in ``docs/reinforcement.md``.

    With ``r(g, i)`` the reward of step ``i`` of episode ``g``, the return of the step is
    ``R(g, i) = r(g, i) + gamma · R(g, i + 1)``, and its advantage is the return less the mean over the group's episodes
    *at the same step*, divided by their standard deviation there. Every token of the step gets it.

    Args:
        rewards: (sequences, tokens), from :func:`reward_tensor`.
        mask: (sequences, tokens), 1 for tokens of the model.
        group: The group of each sequence.
        gamma: How much of what comes later a step answers for: 0 for its own reward alone, 1 for all that follows.
        by_deviation: Divide by the standard deviation.
        epsilon: Added to it.

    Returns:
        Advantages and returns, both (sequences, tokens), 0 where the mask is. A step that no other episode of its group
        reached has nothing to be compared with: its advantage is 0.
    """
    advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
    episodes: dict[tuple[object, int], list[tuple[int, int, int, int, float]]] = {}
    for row in range(rewards.shape[0]):
        for session, step, start, end, reward in _steps(rewards[row], mask[row]):
            episodes.setdefault((group[row], session), []).append((step, row, start, end, reward))
    found: dict[tuple[object, int], list[tuple[int, int, int, float]]] = {}
    for (name, _), steps in episodes.items():
        total = 0.0
        for step, row, start, end, reward in sorted(steps, reverse=True):
            total = reward + gamma * total
            found.setdefault((name, step), []).append((row, start, end, total))
    for entries in found.values():
        totals = torch.tensor([entry[3] for entry in entries], dtype=torch.float64)
        centred = totals - totals.mean() if len(entries) > 1 else torch.zeros_like(totals)
        if by_deviation and len(entries) > 1:
            centred = centred / (totals.std() + epsilon)
        for (row, start, end, total), advantage in zip(entries, centred.tolist(), strict=True):
            returns[row, start:end] = total
            advantages[row, start:end] = advantage
    return advantages * mask, returns * mask


def _steps(rewards: torch.Tensor, mask: torch.Tensor) -> list[tuple[int, int, int, int, float]]:
    """Return ``(session, step, first token, after its last token, reward)`` of each step of one sequence."""
    written = mask.bool()
    marks = [value for value in rewards[~written].tolist() if value]
    ends = [place for place in range(len(rewards)) if written[place] and rewards[place] != 0]
    if not ends:
        # A row that was added to fill a batch.
        return []
    first, session = (round(value / MARK) - 1 for value in marks)
    found, start = [], 0
    for offset, end in enumerate(ends):
        reward = float(rewards[end])
        found.append((session, first + offset, start, end + 1, reward if abs(reward) > _BORDER else 0.0))
        start = end + 1
    return found
