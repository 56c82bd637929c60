"""verl's FSDP engine on a CPU: a group's prompt is computed once, and the policy is the one that is sampled.

verl's own engine pads every sequence and applies the output layer to every token. On an accelerator neither is felt; on
two cores, with a small model, nine tenths of a step went there. :class:`SharedPromptEngine` is verl's engine but for
what goes into the model and what is read off it, see :mod:`~unified_ranker.training.rl.shared_prompt`; losses,
optimizer, checkpoints and weight sync are verl's.

Where replies are restricted to labels, so are its probabilities: ``model.override_config.ranking_labels`` holds the
labels' tokens, and a label's probability is that among the labels which are still free (or
``ranking_answers`` those of grades, which are always free). verl's engine would take it
among the whole vocabulary, so that much of each update would go into words which can never be drawn. Without the
setting it gives the log-probabilities of verl's engine (tested).
"""

from __future__ import annotations

from typing import Any

import torch
from verl.utils import tensordict_utils
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead, FSDPEngineWithValueHead

from unified_ranker.errors import RecipeError
from unified_ranker.training.rl.kept import freeze, keep_all_but_meanings, narrow
from unified_ranker.training.rl.shared_prompt import ANSWERS, FROZEN, LABELS, WORDS_ALONE, Packed, pack
from unified_ranker.training.start import MEANINGS


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class SharedPromptEngine(FSDPEngineWithLMHead):  # type: ignore[misc]  # verl carries no types
    """Computes each prompt of a micro-batch once. Log-probabilities of prompts, which no loss reads, are 0."""

    def _build_module(self) -> Any:
        module = super()._build_module()
        attention = module.config._attn_implementation
        if attention != "sdpa":
            # Others take the mask for something to add.
            raise RecipeError(
                f"attn_implementation={attention!r}: prompts that are shared need 'sdpa'; leave "
                "actor_rollout_ref.model.override_config.attn_implementation as it is"
            )
        self._labels: list[int] = list(getattr(module.config, LABELS, None) or [])
        self._answers: list[int] = list(getattr(module.config, ANSWERS, None) or [])
        frozen = bool(getattr(module.config, FROZEN, False))
        alone = bool(getattr(module.config, WORDS_ALONE, False))
        if self._answers:
            narrow(module.get_output_embeddings(), self._answers, frozen=alone)
        elif self._labels:
            narrow(module.get_output_embeddings(), self._labels, frozen=frozen or alone)
        if alone:
            keep_all_but_meanings(module, *getattr(module.config, MEANINGS))
        elif self._labels and frozen:
            freeze(module.get_input_embeddings(), self._labels)
        if self._answers:
            # Labels stand in the prompts alone, and restrict nothing.
            self._labels = []
        return module

    def prepare_model_inputs(self, micro_batch: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the model's arguments, and what reading its output needs."""
        if "prompts" not in micro_batch.keys():  # noqa: SIM118 - no mapping
            # Supervised fine-tuning: nothing is shared.
            found: tuple[dict[str, Any], dict[str, Any]] = super().prepare_model_inputs(micro_batch)
            return found
        prompts = list(micro_batch["prompts"].unbind())
        responses = list(micro_batch["responses"].unbind())
        masks = micro_batch["response_mask"].unbind()
        # What stands behind the model's last token is padding, or of the strategy.
        lengths = [int(mask.nonzero()[-1]) + 1 if mask.any() else 0 for mask in masks]
        pad = tensordict_utils.get_non_tensor_data(data=micro_batch, key="pad_token_id", default=0)
        packed = pack(prompts, responses, lengths, pad=pad, labels=self._labels, answers=self._answers)
        temperature = micro_batch["temperature"]
        scale = float(temperature) if not isinstance(temperature, torch.Tensor) else float(temperature.reshape(-1)[0])
        inputs = {
            "input_ids": packed.ids,
            "attention_mask": packed.mask,
            "position_ids": packed.positions,
            "logits_to_keep": packed.kept,
        }
        return inputs, {"packed": packed, "temperature": scale}

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: Any, logits_processor_func: Any
    ) -> dict[str, Any]:
        """Return log-probabilities, and entropies where they are asked for, in verl's nested layout."""
        if "packed" not in output_args:
            plain: dict[str, Any] = super().prepare_model_outputs(
                output, output_args, micro_batch, logits_processor_func
            )
            return plain
        packed: Packed = output_args["packed"]
        logits = output.logits[packed.rows, packed.places].float() / output_args["temperature"]
        targets = packed.targets
        if packed.free is not None:
            # A finite stand-in for minus infinity, whose product with probability 0 is a number.
            logits = logits.masked_fill(~packed.free, -1e9)
            column = {label: place for place, label in enumerate(self._labels or self._answers)}
            # Tokens that the strategy put in are no labels; they are masked out of the loss, and any column does.
            targets = torch.tensor([column.get(token, 0) for token in targets.tolist()])
        logprobs = logits.log_softmax(-1)
        ids = micro_batch["input_ids"]

        def laid_out(values: torch.Tensor) -> torch.Tensor:
            flat = torch.zeros(ids.values().shape[0], dtype=values.dtype).index_put((packed.flat,), values)
            return torch.nested.nested_tensor_from_jagged(flat, ids.offsets())

        found = {"log_probs": laid_out(logprobs.gather(-1, targets[:, None])[:, 0])}
        if tensordict_utils.get_non_tensor_data(data=micro_batch, key="calculate_entropy", default=False):
            found["entropy"] = laid_out(-(logprobs.exp() * logprobs).sum(-1))
        return found


@EngineRegistry.register(model_type="value_model", backend=["fsdp2"], device="cpu")
class CpuValueEngine(FSDPEngineWithValueHead):  # type: ignore[misc]
    """verl's engine for critics, made known for CPUs."""
