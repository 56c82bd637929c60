"""Rewards for reinforcement learning: pure functions of the example, the step and the parsed reply."""

from __future__ import annotations

from unified_ranker.rewards.elimination import binary, graded
from unified_ranker.rewards.permutation import permutation
from unified_ranker.rewards.reward import Order, Removal, Reward

__all__ = ["Order", "Removal", "Reward", "binary", "graded", "permutation"]
