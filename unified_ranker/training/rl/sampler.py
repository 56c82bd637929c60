"""verl's replay buffer, but quick, strict, and with a word on what the rollouts earned.

verl looks for finished rollouts every two seconds, as long as a whole step of a small model takes. It trains on what is
left where a rollout failed: the error stands in a log, the step goes on without it. And of the parts of a reward it
logs those of validation only.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import transfer_queue
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from unified_ranker.errors import BackendError

POLL_SECONDS = 0.1


class StrictReplayBuffer(ReplayBuffer):  # type: ignore[misc]  # verl carries no types
    """Waits in short steps, stops the run when a rollout failed, and reports the parts of rewards."""

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """Return a batch and its figures; those of a training batch hold the mean of each part of its rewards.

        Raises:
            BackendError: a rollout failed.
        """
        batch, figures = super().sample(global_steps, partition_id, batch_size)
        if partition_id != "val":
            fields = transfer_queue.kv_batch_get(
                keys=batch.keys, partition_id=partition_id, select_fields=["extra_fields"]
            )
            figures = {**figures, **means_of(batch.keys, fields.pop("extra_fields").tolist())}
        return batch, figures

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        self._refuse(set(self.failure_keys[partition_id]))
        time.sleep(POLL_SECONDS)
        return last_debug_time

    def _materialize_batch(self, partition_id: str, selected: list[str], snapshot: dict[str, Any]) -> Any:
        self._refuse(set(selected) & set(self.failure_keys[partition_id]))
        return super()._materialize_batch(partition_id, selected, snapshot)

    @staticmethod
    def _refuse(failed: set[str]) -> None:
        if failed:
            raise BackendError(
                f"{len(failed)} lists could not be played; the error of each stands above, at 'Error in _run_prompt'"
            )


def means_of(keys: Iterable[str], extras: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean of what the agent loop reported of each rollout, as ``reward/NAME``.

    Args:
        keys: verl's keys, ``{list}_{rollout}_{sequence}``; a rollout of several sequences counts once.
        extras: The extra fields of each.
    """
    reports = {
        key.rsplit("_", 1)[0]: extra.get("reward_extra_info", {}) for key, extra in zip(keys, extras, strict=True)
    }
    found: dict[str, list[float]] = {}
    for report in reports.values():
        for name, value in report.items():
            found.setdefault(name, []).append(float(value))
    return {f"reward/{name}": sum(values) / len(values) for name, values in found.items()}
