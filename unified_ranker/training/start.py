"""Where a small model starts: a Qwen2 that is laid out so that ranking can be learned at once.

A small transformer from random numbers learns quickly which candidate is relevant, but stays at chance for thousands
of lists when it has to name that candidate's *label*: the pointer from the answer to the list does not form.
``pointer`` lays it out beforehand, in the weights of a plain Qwen2 model:

- the residual stream keeps dimensions of their own for label identity, one for "this is a label", and one for
  relevance;
- label tokens hold nearly orthogonal codes in the first, and a constant in the second;
- the first layer attends locally (a label gathers the candidate it follows), the middle layers attend to like content
  (a candidate finds words of the query), both as gentle starts that training overwrites (after *Mimetic
  initialization*, arXiv 2305.09828);
- the last layer's heads attend from the answer to the labels, weighted by the relevance dimension, and copy label
  identity into the
  prediction: one head puts all labels forward, one holds back the relevant.

Everything remains trainable, and what is saved is a standard checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unified_ranker.errors import RecipeError
from unified_ranker.training.tokenizer import label_names, minilm_folder

# Scale of token embeddings. Larger than the customary .02, since layers add to the residual stream what RMSNorm has
# brought to unit scale, and would drown the labels' codes.
EMBEDDING_NORM = 1.6
# Wavelengths of the rotary dimensions by which each head of the first layer looks at its neighbourhood: lower ones
# see less far.
LOCAL_BANDS = ((0, 9), (2, 11), (4, 13), (6, 15))
# (weight of relevance in the attention of each pointer head, sign and size of what it copies)
POINTER_HEADS = ((0.0, 0.5), (8.0, -0.5), (-4.0, 0.3), (2.0, -0.3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A small Qwen2.

    Attributes:
        hidden_size: Width.
        layers: Depth, at least 3.
        heads: Attention heads; ``hidden_size / heads`` dimensions each.
        intermediate_size: Width of the feed-forward layers.
        context: Most tokens of prompt and reply.
        labels: How many labels the tokenizer has.
        rope_theta: Base of the rotary wavelengths.
    """

    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 512
    context: int = 8192
    labels: int = 100
    rope_theta: float = 10_000.0

    def __post_init__(self) -> None:
        if self.layers < 3:
            raise RecipeError(f"model.layers={self.layers} must be ≥ 3: local, matching and pointing layers")
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise RecipeError(f"model.hidden_size={self.hidden_size} must be a multiple of 2·heads={2 * self.heads}")
        if self.hidden_size // self.heads < 32:
            raise RecipeError(f"model.hidden_size/heads={self.hidden_size // self.heads} must be ≥ 32")

    @property
    def head_size(self) -> int:
        """Dimensions of one head, and of label identity."""
        return self.hidden_size // self.heads

    @property
    def content(self) -> int:
        """Dimensions left for what words mean."""
        return self.hidden_size - self.head_size - 2

    @property
    def label_flag(self) -> int:
        """The dimension that says "this is a label"."""
        return self.hidden_size - 2

    @property
    def relevance(self) -> int:
        """The dimension of relevance."""
        return self.hidden_size - 1


def label_codes(count: int, size: int, *, seed: int) -> torch.Tensor:
    """Return ``count`` unit vectors of ``size`` dimensions whose largest overlap is small.

    Found by pushing random vectors apart; for 100 vectors in 64 dimensions the largest overlap comes out near .12
    (the Welch bound is .075).
    """
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randn(count, size, generator=generator).requires_grad_(True)
    optimizer = torch.optim.Adam([codes], lr=0.02)
    for _ in range(500):
        unit = nn.functional.normalize(codes, dim=1)
        overlap = ((unit @ unit.T - torch.eye(count)) ** 8).sum()
        optimizer.zero_grad()
        overlap.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return nn.functional.normalize(codes, dim=1).detach()


def minilm_embeddings(size: int) -> torch.Tensor:
    """Return MiniLM's word embeddings, centred and reduced to ``size`` dimensions by PCA, each of the same norm.

    Raises:
        MissingExtraError: MiniLM's files are not installed.
    """
    from safetensors.torch import load_file

    weights = load_file(minilm_folder() / "model.safetensors")
    (name,) = [key for key in weights if key.endswith("word_embeddings.weight")]
    words = weights[name].float()
    words = words - words.mean(0)
    torch.manual_seed(0)
    _, _, directions = torch.pca_lowrank(words, q=size, niter=4)
    return EMBEDDING_NORM * nn.functional.normalize(words @ directions, dim=1)


def make_model(architecture: Architecture, tokenizer: Any, *, seed: int, embeddings: torch.Tensor | None = None) -> Any:
    """Make the small Qwen2 in its starting layout.

    Args:
        architecture: Its sizes.
        tokenizer: Its tokenizer, from :func:`~unified_ranker.training.tokenizer.make_tokenizer`.
        seed: Seed of what is random.
        embeddings: Word embeddings, (words, ``architecture.content``), for the first tokens of the vocabulary; random
            by default.
    """
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(seed)
    codes = label_codes(architecture.labels, architecture.head_size, seed=seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        max_position_embeddings=architecture.context,
        rope_theta=architecture.rope_theta,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with torch.no_grad():
        _lay_out_embeddings(model, tokenizer, architecture, embeddings, codes)
        layers = list(model.model.layers)
        _lay_out_local(layers[0].self_attn, architecture)
        for layer in layers[1:-1]:
            _lay_out_matching(layer.self_attn, architecture)
        _lay_out_pointer(layers[-1].self_attn, architecture)
    return model


def _lay_out_embeddings(
    model: Any, tokenizer: Any, architecture: Architecture, embeddings: torch.Tensor | None, codes: torch.Tensor
) -> None:
    weight, content = model.model.embed_tokens.weight, architecture.content
    weight.zero_()
    weight[:, :content] = torch.randn(weight.shape[0], content) * EMBEDDING_NORM / math.sqrt(content)
    if embeddings is not None:
        if embeddings.shape[1] != content or embeddings.shape[0] > weight.shape[0]:
            raise RecipeError(
                f"embeddings of shape {tuple(embeddings.shape)} do not fit a vocabulary of {weight.shape[0]} "
                f"and {content} dimensions"
            )
        weight[: embeddings.shape[0], :content] = embeddings
    rows = tokenizer.convert_tokens_to_ids(list(label_names(architecture.labels)))
    weight[rows] = 0
    weight[rows, content : content + architecture.head_size] = EMBEDDING_NORM * codes
    weight[rows, architecture.label_flag] = EMBEDDING_NORM


def _rotation(size: int) -> torch.Tensor:
    rotation: torch.Tensor = torch.linalg.qr(torch.randn(size, size))[0]
    return rotation


def _lay_out_values(attention: Any, architecture: Architecture, gain: float) -> None:
    """Let the heads together carry the residual stream over, ``gain`` times."""
    size = architecture.hidden_size
    rotation = _rotation(size)
    attention.v_proj.weight.copy_(rotation + 0.02 * torch.randn(size, size))
    attention.o_proj.weight.copy_(gain * rotation.T + 0.002 * torch.randn(size, size))


def _lay_out_local(attention: Any, architecture: Architecture) -> None:
    _lay_out_values(attention, architecture, 0.07)
    size = architecture.head_size
    for head in range(architecture.heads):
        low, high = LOCAL_BANDS[head % len(LOCAL_BANDS)]
        bias = torch.zeros(size)
        bias[low : min(high, size // 2)] = 1.9
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.bias[rows] = bias
        attention.k_proj.bias[rows] = bias


def _lay_out_matching(attention: Any, architecture: Architecture) -> None:
    _lay_out_values(attention, architecture, 0.03)
    rotation = _rotation(architecture.hidden_size)
    attention.q_proj.weight.copy_(rotation)
    attention.k_proj.weight.copy_(rotation)


def _lay_out_pointer(attention: Any, architecture: Architecture) -> None:
    size, content = architecture.head_size, architecture.content
    identity = torch.zeros(size, architecture.hidden_size)
    identity[:, content : content + size] = torch.eye(size)
    # The slowest rotary dimensions: what is written there does not depend on the distance.
    slow, slower = size // 2 - 2, size // 2 - 1
    for head in range(architecture.heads):
        relevance, copied = POINTER_HEADS[head % len(POINTER_HEADS)]
        rows = slice(head * size, (head + 1) * size)
        attention.q_proj.weight[rows] *= 0.1
        attention.k_proj.weight[rows] *= 0.1
        attention.v_proj.weight[rows] = identity
        attention.o_proj.weight[:, rows] = copied * identity.T
        for place, dimension, pull in (
            (slower, architecture.relevance, relevance),
            (slow, architecture.label_flag, 6.0),
        ):
            attention.k_proj.weight[head * size + place] = 0
            attention.k_proj.weight[head * size + place, dimension] = 1.0
            attention.q_proj.bias[head * size + place] = pull
