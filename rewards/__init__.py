"""Rewards for reinforcement learning: pure functions of the example, the step and the parsed reply."""

from __future__ import annotations

from unified_ranker.rewards.elimination import binary, graded
from unified_ranker.rewards.erank import erank
from unified_ranker.rewards.gr2 import gr2
from unified_ranker.rewards.permutation import permutation
from unified_ranker.rewards.rank_r1 import rank_r1
from unified_ranker.rewards.rarl import rarl
from unified_ranker.rewards.rearank import rearank
from unified_ranker.rewards.reasonrank import reasonrank
from unified_ranker.rewards.reward import Choice, Grading, Order, Removal, Reward
from unified_ranker.rewards.tfrank import tfrank, tfrank_list

__all__ = [
    "Choice",
    "Grading",
    "Order",
    "Removal",
    "Reward",
    "binary",
    "erank",
    "gr2",
    "graded",
    "permutation",
    "rank_r1",
    "rarl",
    "rearank",
    "reasonrank",
    "tfrank",
    "tfrank_list",
]
