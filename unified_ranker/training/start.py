"""Where a small model starts: a Llama that is laid out so that ranking can be learned at once.

A small transformer from random numbers soon knows which candidate is relevant, but stays at chance for thousands of
lists when it has to name that candidate's *label*: the pointer from the answer to the list does not form. This
layout puts it there beforehand, in the weights of a plain Llama model. The residual stream has dimensions of its own
for what words mean, for label identity, and for four flags: "the list begins here", "the prompt begins here", "this
is a label", and relevance.

- *First layer*: each token gathers what stands before it: a label its own candidate, the list mark the whole query.
- *Second layer*: each label compares its candidate with the query: it divides its attention between the list mark and
  the start of the prompt, the more to the mark the more alike the two are, and notes the result as relevance.
- *Layers between*: ordinary, for all that likeness does not tell.
- *Last layer*: the answer attends to the labels, weighted by relevance, and copies label identity into the
  prediction: one head puts all labels of the list forward, others hold back the relevant and push the irrelevant
  (or the other way round, for a model that names the best first).

So the model begins as a bag-of-words matcher with a pointer, and all of it remains trainable. What is saved is a
standard checkpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unified_ranker.errors import RecipeError
from unified_ranker.training.tokenizer import LIST, label_names, minilm_folder

# Norm of every token embedding: of the order of what a layer adds to the residual stream, which would otherwise drown
# the labels' codes. The final norm is scaled down in turn, since the embeddings are the output layer, too.
NORM = 16.0
FINAL_SCALE = 1 / 8
# How the norm of a label divides between identity and flag.
IDENTITY, FLAG = 0.8, 0.6
# The list mark starts small, so that what it gathers counts beside it.
MARK = 4.0
# How far back a label looks, head by head, in wavelengths / 2π: about so many tokens count fully.
REACH = ((4.5, 7.5, 12.4), (7.5, 12.4, 20.5), (7.5, 12.4, 20.5), (20.5, 34.0, 56.0))
# Pull of the label's flag towards its neighbourhood.
NEAR = 8.0
# Pull of the second layer towards the list mark and the start of the prompt, and how sharply it compares.
LOOK, SHARPNESS = 6.0, 0.7
# Pull of labels in the last layer: strong, since nothing else holds back the relevance dimension of other tokens.
LABELLED = 16.0
# (pull of relevance in the attention, size of what is copied) for each pointer head
POINTER_HEADS = ((0.0, 1.5), (8.0, -2.0), (16.0, -1.0), (-8.0, 2.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A small Llama with biases in its attention (those of Qwen2, and one at the output).

    Attributes:
        hidden_size: Width.
        layers: Depth, at least 3.
        heads: Attention heads; ``hidden_size / heads`` dimensions each, at least 64.
        intermediate_size: Width of the feed-forward layers.
        context: Most tokens of prompt and reply.
        labels: How many labels the tokenizer has.
        first: Whom the first label of a reply names to begin with: ``"worst"`` (elimination) or ``"best"``.
        rope_theta: Base of the rotary wavelengths. Large, so that most dimensions turn too slowly to tell a list's
            positions
            apart: comparing meanings over a distance needs those.
    """

    hidden_size: int = 256
    layers: int = 4
    heads: int = 4
    intermediate_size: int = 512
    context: int = 8192
    labels: int = 100
    first: str = "worst"
    rope_theta: float = 10_000_000.0

    def __post_init__(self) -> None:
        if self.layers < 3:
            raise RecipeError(f"model.layers={self.layers} must be ≥ 3: gathering, comparing and pointing layers")
        if self.first not in ("worst", "best"):
            raise RecipeError(f"model.first={self.first!r} must be 'worst' or 'best'")
        if self.labels < 1:
            raise RecipeError(f"model.labels={self.labels} must be ≥ 1")
        if self.heads < 1 or self.hidden_size % self.heads:
            raise RecipeError(
                f"model.hidden_size={self.hidden_size} must be a multiple of heads={self.heads}, which is ≥ 1"
            )
        if self.head_size < 64 or self.head_size % 2:
            raise RecipeError(f"model.hidden_size/heads={self.head_size} must be even and ≥ 64")
        if self.content - 1 < self.heads * len(self.slow):
            raise RecipeError(
                f"model.hidden_size={self.hidden_size} with heads={self.heads} leaves {self.content} "
                "dimensions for what words "
                f"mean, and {self.heads * len(self.slow) + 1} are compared; take more heads or a larger width"
            )

    @property
    def head_size(self) -> int:
        """Dimensions of one head, and of label identity."""
        return self.hidden_size // self.heads

    @property
    def content(self) -> int:
        """Dimensions for what words mean. The last is ballast: how much of a word's norm does not count."""
        return self.hidden_size - self.head_size - 4

    @property
    def identity(self) -> slice:
        """The dimensions of label identity, which no layer before the last writes to."""
        return slice(self.content, self.content + self.head_size)

    @property
    def list_flag(self) -> int:
        """The dimension of "the list begins here"."""
        return self.hidden_size - 4

    @property
    def start_flag(self) -> int:
        """The dimension of "the prompt begins here"."""
        return self.hidden_size - 3

    @property
    def label_flag(self) -> int:
        """The dimension of "this is a label"."""
        return self.hidden_size - 2

    @property
    def relevance(self) -> int:
        """The dimension of relevance."""
        return self.hidden_size - 1

    @property
    def slow(self) -> list[int]:
        """The dimensions of a head that turn by less than half a radian over 200 positions, less two for flags."""
        half = self.head_size // 2
        first = math.ceil(half * math.log(400) / math.log(self.rope_theta))
        return [*range(first, half - 2), *range(half + first, 2 * half - 2)]

    def local(self, head: int) -> list[int]:
        """Return the dimensions by which a head of the first layer tells near positions from far ones."""
        half = self.head_size // 2
        return sorted({round(half * math.log(reach) / math.log(self.rope_theta)) for reach in REACH[head % len(REACH)]})

    def compared(self, head: int) -> list[int]:
        """Return the dimensions of meaning that a head of the second layer compares; heads share them out evenly."""
        return list(range(head, self.content - 1, self.heads))[: len(self.slow)]


def label_codes(count: int, size: int, *, seed: int) -> torch.Tensor:
    """Return ``count`` unit vectors of ``size`` dimensions whose largest overlap is small.

    Found by pushing random vectors apart; for 100 vectors in 64 dimensions the largest overlap comes out near .12 (the
    Welch bound is .075).
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
    """Return MiniLM's word embeddings, centred, reduced to ``size - 1`` dimensions by PCA, and made unit vectors.

    The last dimension is ballast, 0 to begin with.

    Raises:
        MissingExtraError: MiniLM's files are not installed.
    """
    from safetensors.torch import load_file

    weights = load_file(minilm_folder() / "model.safetensors")
    (name,) = [key for key in weights if key.endswith("word_embeddings.weight")]
    words = weights[name].float()
    words = words - words.mean(0)
    torch.manual_seed(0)
    _, _, directions = torch.pca_lowrank(words, q=size - 1, niter=4)
    return nn.functional.pad(nn.functional.normalize(words @ directions, dim=1), (0, 1))


def make_model(architecture: Architecture, tokenizer: Any, *, seed: int, words: torch.Tensor | None = None) -> Any:
    """Make the small Llama in its starting layout.

    Args:
        architecture: Its sizes.
        tokenizer: Its tokenizer, from :func:`~unified_ranker.training.tokenizer.make_tokenizer`.
        seed: Seed of what is random.
        words: Unit vectors, (words, ``architecture.content``), for the first tokens of the vocabulary; random by
            default.

    Raises:
        RecipeError: ``words`` does not fit the vocabulary or the sizes.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    codes = label_codes(architecture.labels, architecture.head_size, seed=seed)
    # Not Qwen2, of which this is a superset: AutoTokenizer, and with it vLLM and verl, rebuilds Qwen2's own tokenizer
    # beside a Qwen2 model, whatever tokenizer lies there.
    config = LlamaConfig(
        attention_bias=True,
        vocab_size=len(tokenizer),
        hidden_size=architecture.hidden_size,
        intermediate_size=architecture.intermediate_size,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.heads,
        max_position_embeddings=architecture.context,
        rope_parameters={"rope_type": "default", "rope_theta": architecture.rope_theta},
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with torch.no_grad():
        _lay_out_embeddings(model, tokenizer, architecture, words, codes)
        layers = list(model.model.layers)
        _lay_out_gathering(layers[0].self_attn, architecture)
        _lay_out_comparing(layers[1].self_attn, architecture)
        _lay_out_pointing(layers[-1].self_attn, architecture)
        for layer in layers[:-1]:
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight[architecture.identity] = 0
        model.model.norm.weight.fill_(FINAL_SCALE)
    return model


def _lay_out_embeddings(
    model: Any, tokenizer: Any, architecture: Architecture, words: torch.Tensor | None, codes: torch.Tensor
) -> None:
    weight, content = model.model.embed_tokens.weight, architecture.content
    weight.zero_()
    weight[:, : content - 1] = NORM * nn.functional.normalize(torch.randn(weight.shape[0], content - 1), dim=1)
    if words is not None:
        if words.shape[1] != content or words.shape[0] > weight.shape[0]:
            raise RecipeError(
                f"words of shape {tuple(words.shape)} do not fit {weight.shape[0]} tokens of {content} dimensions"
            )
        weight[: words.shape[0], :content] = NORM * words
    labels = tokenizer.convert_tokens_to_ids(list(label_names(architecture.labels)))
    weight[labels] = 0
    weight[labels, content : content + architecture.head_size] = NORM * IDENTITY * codes
    weight[labels, architecture.label_flag] = NORM * FLAG
    for token, flag, size in (
        (LIST, architecture.list_flag, MARK),
        ("<|user|>", architecture.start_flag, NORM),
        ("<|system|>", architecture.start_flag, NORM),
    ):
        row = tokenizer.convert_tokens_to_ids(token)
        weight[row] = 0
        weight[row, flag] = size


def _lay_out_gathering(attention: Any, architecture: Architecture) -> None:
    """Labels attend to their neighbourhood, other tokens to all before them; mean meanings are carried over."""
    size, content = architecture.head_size, architecture.content
    attention.q_proj.weight *= 0.2
    attention.k_proj.weight *= 0.2
    attention.v_proj.weight *= 0.2
    for head in range(architecture.heads):
        local = [head * size + place for place in architecture.local(head)]
        # NEAR = the sum over these dimensions of query · key / √size at distance 0; the flag is FLAG·√hidden_size
        # there.
        pull = NEAR * math.sqrt(size) / (len(local) * 2 * FLAG * math.sqrt(architecture.hidden_size))
        attention.q_proj.weight[local, architecture.label_flag] = pull
        attention.k_proj.bias[local] = 2.0
        for place, meaning in enumerate(range(head, content, architecture.heads)):
            attention.v_proj.weight[head * size + place] = 0
            attention.v_proj.weight[head * size + place, meaning] = 1.0
            attention.o_proj.weight[:, head * size + place] = 0
            attention.o_proj.weight[meaning, head * size + place] = 1.0


def _lay_out_comparing(attention: Any, architecture: Architecture) -> None:
    """Attention divides between list mark and start by how alike candidate and query are, and is noted down."""
    size, slow = architecture.head_size, architecture.slow
    look = size // 2 - 1
    attention.q_proj.weight *= 0.2
    attention.k_proj.weight *= 0.2
    for head in range(architecture.heads):
        for place, meaning in zip(slow, architecture.compared(head), strict=True):
            for projection in (attention.q_proj, attention.k_proj):
                projection.weight[head * size + place] = 0
                projection.weight[head * size + place, meaning] = SHARPNESS
        row = head * size + look
        attention.k_proj.weight[row] = 0
        # The list mark is about 10 after the norm, the start of the prompt 16; both are looked at alike.
        attention.k_proj.weight[row, architecture.list_flag] = 1.6
        attention.k_proj.weight[row, architecture.start_flag] = 1.0
        attention.q_proj.bias[row] = LOOK
        noted = head * size
        attention.v_proj.weight[noted] = 0
        attention.v_proj.weight[noted, architecture.list_flag] = 0.1
        attention.v_proj.weight[noted, architecture.start_flag] = -1 / NORM
        attention.o_proj.weight[:, noted] = 0
        attention.o_proj.weight[architecture.relevance, noted] = 3.0


def _lay_out_pointing(attention: Any, architecture: Architecture) -> None:
    """The answer attends to labels by their relevance, and copies their identity."""
    size, content = architecture.head_size, architecture.content
    identity = torch.zeros(size, architecture.hidden_size)
    identity[:, content : content + size] = torch.eye(size)
    relevant, labelled = size // 2 - 1, size // 2 - 2
    attention.q_proj.weight *= 0.02
    attention.k_proj.weight *= 0.02
    for head in range(architecture.heads):
        pull, copied = POINTER_HEADS[head % len(POINTER_HEADS)]
        pull = pull if architecture.first == "worst" else -pull
        rows = slice(head * size, (head + 1) * size)
        attention.v_proj.weight[rows] = identity
        attention.o_proj.weight[:, rows] = copied * identity.T
        for place, dimension, strength in (
            (relevant, architecture.relevance, pull),
            (labelled, architecture.label_flag, LABELLED),
        ):
            attention.k_proj.weight[head * size + place] = 0
            attention.k_proj.weight[head * size + place, dimension] = 1.0
            attention.q_proj.bias[head * size + place] = strength
