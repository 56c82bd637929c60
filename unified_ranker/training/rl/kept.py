"""What of a model does not learn, and what its output layer need not compute."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any

import torch


def narrow(output_layer: Any, labels: Sequence[int], *, frozen: bool) -> None:
    """Let an output layer give the logits of some tokens only; its weights stay whole."""
    rows = torch.tensor(list(labels))

    def forward(self: Any, states: torch.Tensor) -> torch.Tensor:
        weight = self.weight.detach() if frozen else self.weight
        return torch.nn.functional.linear(states, weight[rows], None if self.bias is None else self.bias[rows])

    output_layer.forward = types.MethodType(forward, output_layer)


def freeze(embeddings: Any, labels: Sequence[int]) -> None:
    """Let no gradient reach the embeddings of some tokens: they stand in every list, and Adam would carry them far."""
    rows = torch.tensor(list(labels))

    def forward(self: Any, ids: torch.Tensor) -> torch.Tensor:
        states = torch.nn.functional.embedding(ids, self.weight)
        return torch.where(torch.isin(ids, rows)[..., None], states.detach(), states)

    embeddings.forward = types.MethodType(forward, embeddings)


def keep_all_but_meanings(module: Any, words: int, dimensions: int) -> None:
    """Let nothing learn but the first dimensions of the first embeddings: what words mean.

    A rate at which some hundred lists teach words anything is hundreds of times what the other weights can bear.
    """
    embeddings = module.get_input_embeddings()
    for parameter in module.parameters():
        parameter.requires_grad_(parameter is embeddings.weight)

    def forward(self: Any, ids: torch.Tensor) -> torch.Tensor:
        states = torch.nn.functional.embedding(ids, self.weight)
        meaning = (ids < words)[..., None] & (torch.arange(states.shape[-1]) < dimensions)
        return torch.where(meaning, states, states.detach())

    embeddings.forward = types.MethodType(forward, embeddings)
