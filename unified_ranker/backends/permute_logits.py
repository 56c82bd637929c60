"""vLLM: lets a reply hold labels only, none of them twice, in one decode.

A logits processor of vLLM's engine (v1), loaded by
``logits_processors=["unified_ranker.backends.permute_logits:PermuteLogits"]``. It does nothing but for requests whose
``SamplingParams.extra_args`` hold :data:`LABELS_KEY`, a list of token ids: at each position those remain that the
reply does not hold yet. Structured outputs cannot say this without naming each order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from unified_ranker.backends.permute_keys import LABELS_KEY

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate


class PermuteLogits(LogitsProcessor):  # type: ignore[misc]  # vllm carries no types
    """Keeps, row by row, the labels that are still free."""

    @classmethod
    def validate_params(cls, sampling_params: SamplingParams) -> None:
        """Check a request.

        Raises:
            ValueError: the labels are no token ids, or fewer than the tokens that are asked for.
        """
        labels = (sampling_params.extra_args or {}).get(LABELS_KEY)
        if labels is None:
            return
        if not isinstance(labels, list) or not all(type(label) is int and label >= 0 for label in labels):
            raise ValueError(f"extra_args[{LABELS_KEY!r}] must be a list of token ids, not {labels!r}")
        if sampling_params.max_tokens is None or sampling_params.max_tokens > len(set(labels)):
            raise ValueError(
                f"max_tokens={sampling_params.max_tokens} asks for more than the {len(set(labels))} labels there are"
            )

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._rows: dict[int, tuple[list[int], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """It can change the most likely token."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow the requests that come, go and move within the batch."""
        process_dict_updates(self._rows, batch_update, self._labels)

    @staticmethod
    def _labels(params: Any, _prompt: list[int] | None, output: list[int]) -> tuple[list[int], list[int]] | None:
        labels = (params.extra_args or {}).get(LABELS_KEY)
        return None if labels is None else (labels, output)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Mask everything but the free labels of each row that asked for it."""
        for row, (labels, output) in self._rows.items():
            taken = set(output)
            free = torch.tensor([label for label in labels if label not in taken], device=logits.device)
            kept = logits[row, free]
            logits[row].fill_(float("-inf"))
            logits[row, free] = kept
        return logits
