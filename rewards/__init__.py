"""Rewards for reinforcement learning: pure functions of the example, the step and the parsed reply."""

from __future__ import annotations

from unified_ranker.rewards.elimination import binary
from unified_ranker.rewards.reward import Reward

__all__ = ["Reward", "binary"]
