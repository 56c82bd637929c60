"""What verl loads of this package by itself, through its entry-point group ``verl.plugins``.

It makes the advantage estimator ``step_grpo`` known in every process, and the CPU platform where the recipe asks for
it.
"""

from __future__ import annotations

from typing import Any

import torch
from verl.trainer.ppo.core_algos import register_adv_est

from unified_ranker.training.rl import cpu_platform
from unified_ranker.training.rl.credit import step_advantage

STEP_GRPO = "step_grpo"


@register_adv_est(STEP_GRPO)  # type: ignore[untyped-decorator]  # verl carries no types
def step_grpo(
    token_level_rewards: torch.Tensor, response_mask: torch.Tensor, config: Any, index: Any, **_: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return :func:`~unified_ranker.training.rl.credit.step_advantage` under verl's configuration.

    ``algorithm.gamma`` is its ``gamma``, ``algorithm.norm_adv_by_std_in_grpo`` its ``by_deviation``.
    """
    return step_advantage(
        token_level_rewards,
        response_mask,
        list(index),
        gamma=float(config.gamma),
        by_deviation=bool(config.get("norm_adv_by_std_in_grpo", True)),
    )


if cpu_platform.asked_for():
    cpu_platform.install()
