"""Where a small model starts: a Llama that is laid out so that ranking can be learned at once.

A small transformer from random numbers soon knows which candidate is relevant, but stays at chance for thousands of
lists when it has to name that candidate's *label*: the pointer from the answer to the list does not form. This
layout puts it there beforehand, in the weights of a plain Llama model, so exactly that the model ranks as the
bag-of-words comparison of :mod:`~unified_ranker.training.words` does before its first step. The residual stream has
dimensions of its own for what words mean, for label identity, for "which candidate's text is this", and for flags.

- *First layer*: a word of a candidate notes the nearest label before it, whose identity names its segment of the
  list; the list mark takes the mean of all words before it, which are the query and its context.
- *Second layer*: a label notes the segment of the nearest word, which is its own candidate; every token notes
  whether the nearest of the words "worst" and "best" asks for the one or for the other.
- *Third layer*: a label takes the mean of the words of its segment.
- *Last but one*: a label compares that mean with the list mark's, and notes the result as relevance.
- *Last layer*: the answer attends to the labels by their relevance, and copies their identity into the prediction:
  one head puts all labels of the list forward, one puts the irrelevant forward and one holds the relevant back, or the
  other way round, as the prompt asks.

"The nearest" is found by rotary positions: a sum of their cosines and sines that falls with distance, see
:func:`nearness`. Identities are orthogonal, so that labels do not disturb each other. All of it remains trainable, and
what is saved is a standard checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from unified_ranker.errors import RecipeError
from unified_ranker.training.tokenizer import LIST, label_names, minilm_folder

# Norm of every word: of the order of what a layer adds to the residual stream.
NORM = 16.0
# The parts of a label: its identity, and the flag that it is one. The flag is large, so that what a label gathers
# hardly changes its norm, by which a layer divides.
CODE, FLAG = 12.0, 40.0
# The list mark (beside an identity of its own) and the start of the prompt, to which attention goes that is to do
# nothing.
MARK, START = 24.0, 24.0
# Identity of its segment at a word, beside its meaning.
SEGMENT = 12.0
# "worst" and "best": that it is one of them, and which. Large for the same reason: whoever looks for the nearest of
# them must not find one that seems larger instead.
DIRECTED = 40.0
# What is noted of it by every token.
DIRECTION = 8.0
# How much the nearness of two labels differs for each token of distance, and over how many tokens it has to fall.
SLOPE, NEAR = 1.0, 70
# Pulls of attention: towards the start of the prompt, of words towards the label of the same segment, of a label
# towards the two that it compares with.
IDLE, SAME, LOOK = 60.0, 20.0, 15.0
# How sharply two meanings are compared, and the size of what is noted.
SHARPNESS, RELEVANCE = 1.4, 20.0
# (pull of relevance in the attention, size of what is copied) for each pointer head, where the best is asked for
POINTER_HEADS = ((0.0, 6.0), (-1.0, -6.0), (1.0, 6.0))
# Pull of labels in the last layer.
LABELLED = 10.0
# The output layer is the word embeddings, so that what comes to it has to be small.
FINAL_SCALE = 1 / 8
# What else there is at the start is small: training is to find it, ranking is not to suffer.
QUIET = 0.1
# Dimensions of a head whose angle between two tokens stays below half a radian over so many positions.
SLOW_OVER = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A small Llama with biases in its attention (those of Qwen2, and one at the output).

    Attributes:
        hidden_size: Width.
        layers: Depth, at least 5.
        heads: Attention heads, at least 3; ``hidden_size / heads`` dimensions each, at least 64 and more than labels.
        intermediate_size: Width of the feed-forward layers.
        context: Most tokens of prompt and reply.
        labels: How many labels the tokenizer has.
        rope_theta: Base of the rotary wavelengths. Large, so that many dimensions turn too slowly to tell a list's
            positions apart: comparing meanings over a distance needs those.
    """

    hidden_size: int = 384
    layers: int = 5
    heads: int = 3
    intermediate_size: int = 640
    context: int = 8192
    labels: int = 100
    rope_theta: float = 10_000_000.0

    def __post_init__(self) -> None:
        if self.layers < 5:
            raise RecipeError(
                f"model.layers={self.layers} must be ≥ 5: to tell segments, to pass them on, to gather, to compare and "
                "to point"
            )
        if self.heads < 3 or self.hidden_size % self.heads:
            raise RecipeError(
                f"model.hidden_size={self.hidden_size} must be a multiple of heads={self.heads}, which is ≥ 3"
            )
        if self.head_size < 64 or self.head_size % 2:
            raise RecipeError(f"model.hidden_size/heads={self.head_size} must be even and ≥ 64")
        if not 1 <= self.labels < self.head_size:
            raise RecipeError(
                f"model.labels={self.labels} must be ≥ 1 and below hidden_size/heads={self.head_size}: each label has "
                "an identity of its own there, and so has the list mark"
            )

    @property
    def head_size(self) -> int:
        """Dimensions of one head, and of label identity."""
        return self.hidden_size // self.heads

    @property
    def content(self) -> int:
        """Dimensions for what words mean. The last is ballast: how much of a word's norm does not count."""
        return self.hidden_size - self.head_size - self.head_size // 2 - 6

    @property
    def identity(self) -> slice:
        """The dimensions of label identity, which no layer before the last writes to."""
        return slice(self.content, self.content + self.head_size)

    @property
    def segment(self) -> slice:
        """The dimensions in which words and labels note whose text they are."""
        return slice(self.identity.stop, self.identity.stop + self.head_size // 2)

    @property
    def list_flag(self) -> int:
        """The dimension of "the list begins here"."""
        return self.hidden_size - 6

    @property
    def start_flag(self) -> int:
        """The dimension of "the prompt begins here"."""
        return self.hidden_size - 5

    @property
    def label_flag(self) -> int:
        """The dimension of "this is a label"."""
        return self.hidden_size - 4

    @property
    def directed(self) -> int:
        """The dimension of "this says which end of the ranking is asked for"."""
        return self.hidden_size - 3

    @property
    def direction(self) -> int:
        """The dimension of which end that is: negative for the worst, positive for the best."""
        return self.hidden_size - 2

    @property
    def relevance(self) -> int:
        """The dimension of relevance."""
        return self.hidden_size - 1

    @property
    def gates(self) -> tuple[int, int]:
        """The two dimensions of a head that turn slowest, for what does not depend on distance at all."""
        return self.head_size // 2 - 1, self.head_size - 1

    @property
    def slow(self) -> list[int]:
        """The dimensions of a head that hardly turn over the length of a list, slowest first, less its gates."""
        half = self.head_size // 2
        first = math.ceil(half * math.log(2 * SLOW_OVER) / math.log(self.rope_theta))
        return [place for pair in reversed(range(first, half - 2)) for place in (pair, half + pair)]

    @property
    def exclusion(self) -> int:
        """The dimension of a head by which labels are left out."""
        return self.head_size // 2 - 2

    def compared(self, head: int) -> list[int]:
        """Return the dimensions of meaning that a head compares: heads share them out, those that vary most first."""
        return list(range(head, self.content - 1, self.heads))[: len(self.slow)]

    def carried(self, heads: range) -> list[tuple[int, range]]:
        """Return which dimensions of meaning each of some heads carries over, as many as it can."""
        starts = range(0, self.content, self.head_size)
        return [
            (head, range(start, min(start + self.head_size, self.content)))
            for head, start in zip(heads, starts, strict=False)
        ]


@lru_cache
def nearness(head_size: int, rope_theta: float, context: int) -> tuple[tuple[float, float], ...]:
    """Return for each rotary pair of a head what a query holds, so that attention falls with distance.

    With keys of (1, 0) in every pair *i* of angle *θᵢ*, a query of *(aᵢ, bᵢ)* meets a key at distance *Δ* with
    *f(Δ) = Σ aᵢ cos(θᵢΔ) - bᵢ sin(θᵢΔ)*. Found by linear programming: the smallest sum of absolute values for which
    *f* falls by :data:`SLOPE` a token over :data:`NEAR` tokens, stays above a pull of 10 there, and below that
    beyond.
    """
    import numpy
    from scipy.optimize import linprog

    angles = rope_theta ** (-2 * numpy.arange(head_size // 2) / head_size)
    distances = numpy.concatenate([numpy.arange(min(400, context)), numpy.arange(400, max(context, 401), 7)])
    met = numpy.hstack([numpy.cos(numpy.outer(distances, angles)), -numpy.sin(numpy.outer(distances, angles))])
    falling = met[1 : NEAR + 1] - met[:NEAR]
    beyond = met[NEAR + 1 :] - met[NEAR]
    bounds = numpy.concatenate([numpy.full(NEAR, -SLOPE), numpy.zeros(len(beyond)), [-10.0]])
    rows = numpy.vstack([falling, beyond, -met[NEAR : NEAR + 1]])
    found = linprog(
        numpy.ones(2 * head_size),
        A_ub=numpy.hstack([rows, -rows]),
        b_ub=bounds,
        bounds=(0, 25),
        method="highs",
    )
    if found.status != 0:
        raise RecipeError(f"heads of {head_size} dimensions cannot tell near from far with rope_theta={rope_theta:g}")
    held = found.x[:head_size] - found.x[head_size:]
    return tuple((float(a), float(b)) for a, b in zip(held[: head_size // 2], held[head_size // 2 :], strict=True))


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
    size = architecture.head_size
    # Rows of a random rotation: identities, and what is left of them in half as many dimensions.
    codes = torch.linalg.qr(torch.randn(size, size))[0][: architecture.labels + 1]
    short = torch.linalg.qr(torch.randn(size, size))[0][: size // 2]
    with torch.no_grad():
        _lay_out_embeddings(model, tokenizer, architecture, words, codes)
        for layer in model.model.layers:
            for projection in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                projection.weight *= QUIET
            for projection in (layer.self_attn.o_proj, layer.mlp.down_proj):
                projection.weight *= QUIET
                projection.weight[architecture.content :] = 0
        first, second, third, *_, comparing, pointing = (layer.self_attn for layer in model.model.layers)
        _lay_out_segments(first, architecture, short)
        _lay_out_query(first, architecture)
        _lay_out_own_segments(second, architecture)
        _lay_out_direction(second, architecture)
        _lay_out_gathering(third, architecture)
        _lay_out_comparing(comparing, architecture)
        _lay_out_pointing(pointing, architecture)
        # Flags are for layers; the output, whose rows are the embeddings, would take them for likeness.
        model.model.norm.weight[: architecture.identity.stop] = FINAL_SCALE
        model.model.norm.weight[architecture.identity.stop :] = 0
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
    weight[labels, architecture.identity] = CODE * codes[:-1]
    weight[labels, architecture.label_flag] = FLAG
    (mark, *starts) = tokenizer.convert_tokens_to_ids([LIST, "<|user|>", "<|system|>"])
    weight[[mark, *starts]] = 0
    weight[mark, architecture.identity] = CODE * codes[-1]
    weight[mark, architecture.list_flag] = MARK
    weight[starts, architecture.start_flag] = START
    for word, sign in (("worst", -1), ("best", 1)):
        row = tokenizer.convert_tokens_to_ids(word)
        if row == tokenizer.unk_token_id:
            raise RecipeError(
                f"the vocabulary lacks {word!r}, by which a prompt says which end of the ranking it asks for"
            )
        weight[row, architecture.directed] = DIRECTED
        weight[row, architecture.direction] = sign * DIRECTED


class _Head:
    """One attention head that is laid out: what it held before is gone.

    Args:
        attention: The layer's attention.
        architecture: The sizes.
        number: Which head.
        norms: Norms of the tokens before this layer: of labels, of the list mark, of words.
    """

    def __init__(self, attention: Any, architecture: Architecture, number: int, norms: Mapping[str, float]) -> None:
        self.sizes, self.first = architecture, number * architecture.head_size
        self.query, self.key, self.value, self.out = (
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            attention.o_proj,
        )
        rows = slice(self.first, self.first + architecture.head_size)
        for projection in (self.query, self.key, self.value):
            projection.weight[rows] = 0
            projection.bias[rows] = 0
        self.out.weight[:, rows] = 0
        width = math.sqrt(architecture.hidden_size)
        #: What turns a number in a token's embedding into what a layer sees of it.
        self.seen = {kind: width / norm for kind, norm in norms.items()}
        self.scale = math.sqrt(architecture.head_size)

    def at(self, place: int) -> int:
        """Return the row of a dimension of this head."""
        return self.first + place

    def idle(self, *, unless: Mapping[int, float]) -> None:
        """Have all tokens look at the start of the prompt, but those with a flag; ``unless`` gives its seen size."""
        gate = self.at(self.sizes.gates[0])
        self.key.weight[gate, self.sizes.start_flag] = self._one_at_start
        self.query.bias[gate] = IDLE * self.scale
        for flag, size in unless.items():
            self.query.weight[gate, flag] = -IDLE * self.scale / size

    def nearest(self, *, flag: int | None = None, size: float = 1.0) -> None:
        """Have queries look for the nearest key: those of all tokens, or of those with a flag."""
        half = self.sizes.head_size // 2
        held = nearness(self.sizes.head_size, self.sizes.rope_theta, self.sizes.context)
        for pair, parts in enumerate(held):
            for place, part in zip((pair, half + pair), parts, strict=True):
                if flag is None:
                    self.query.bias[self.at(place)] = part * self.scale
                else:
                    self.query.weight[self.at(place), flag] = part * self.scale / size

    def found_by(self, weights: Mapping[int, float], *, bias: float = 0.0) -> None:
        """Say who can be found: by weights of dimensions that come to 1 for them, and a bias."""
        half = self.sizes.head_size // 2
        rows = slice(self.first, self.first + half)
        self.key.bias[rows] = bias
        for dimension, weight in weights.items():
            self.key.weight[rows, dimension] = weight

    def carry(
        self, source: range | slice, target: range | slice, *, weight: float, matrix: torch.Tensor | None = None
    ) -> None:
        """Copy dimensions of what is looked at to dimensions of who looks, through a matrix if there is one."""
        taken, given = _indices(source), _indices(target)
        mapped = torch.eye(len(taken)) if matrix is None else matrix
        rows = slice(self.first, self.first + len(mapped))
        self.value.weight[rows, taken[0] : taken[-1] + 1] = weight * mapped
        self.out.weight[given, rows] = torch.eye(len(given))

    @property
    def _one_at_start(self) -> float:
        # The start of the prompt is a flag alone, which is all that a layer sees of it.
        return 1 / math.sqrt(self.sizes.hidden_size)


def _indices(part: range | slice) -> list[int]:
    return list(part) if isinstance(part, range) else list(range(part.start, part.stop))


# Norms of tokens as they come to a layer, from what they are made of; words bring their segment, and what labels and
# the list mark gather is taken at its usual size.
_LABEL, _MARK = math.hypot(CODE, FLAG), math.hypot(CODE, MARK)
_SHORT = SEGMENT * math.sqrt(0.5)
_GATHERED = 7.0
_WORD = math.hypot(NORM, _SHORT)


def _lay_out_segments(attention: Any, architecture: Architecture, short: torch.Tensor) -> None:
    """Words note the nearest label before them, or the list mark."""
    head = _Head(attention, architecture, 0, {"label": _LABEL, "mark": _MARK})
    label, mark = FLAG * head.seen["label"], MARK * head.seen["mark"]
    head.found_by({architecture.label_flag: 1 / label, architecture.list_flag: 1 / mark})
    head.nearest()
    # Labels and the mark themselves look away, at the start of the prompt.
    gate = head.at(architecture.gates[1])
    head.key.weight[gate, architecture.start_flag] = head._one_at_start
    for flag, size in ((architecture.label_flag, label), (architecture.list_flag, mark)):
        head.query.weight[gate, flag] = 200 * head.scale / size
    head.carry(architecture.identity, architecture.segment, weight=SEGMENT / (CODE * head.seen["label"]), matrix=short)


def _lay_out_query(attention: Any, architecture: Architecture) -> None:
    """The list mark takes the mean of all words before it."""
    for number, part in architecture.carried(range(1, architecture.heads)):
        head = _Head(attention, architecture, number, {"mark": _MARK, "word": NORM})
        head.idle(unless={architecture.list_flag: MARK * head.seen["mark"]})
        head.carry(part, part, weight=1 / head.seen["word"])


def _lay_out_own_segments(attention: Any, architecture: Architecture) -> None:
    """A label notes the segment of the nearest word."""
    head = _Head(attention, architecture, 0, {"label": _LABEL, "mark": _MARK, "word": _WORD})
    label, mark = FLAG * head.seen["label"], MARK * head.seen["mark"]
    head.found_by(
        {
            architecture.label_flag: -1 / label,
            architecture.list_flag: -1 / mark,
            architecture.start_flag: -head._one_at_start,
        },
        bias=1.0,
    )
    head.nearest(flag=architecture.label_flag, size=label)
    gate = head.at(architecture.gates[1])
    head.key.weight[gate] = 0
    head.key.bias[gate] = 0
    head.key.weight[gate, architecture.start_flag] = head._one_at_start
    head.query.bias[gate] = 200 * head.scale
    head.query.weight[gate, architecture.label_flag] = -200 * head.scale / label
    head.carry(architecture.segment, architecture.segment, weight=1 / head.seen["word"])


def _lay_out_direction(attention: Any, architecture: Architecture) -> None:
    """Every token notes which end of the ranking the nearest "worst" or "best" asks for."""
    head = _Head(attention, architecture, 1, {"word": math.sqrt(_WORD**2 + 2 * DIRECTED**2)})
    size = DIRECTED * head.seen["word"]
    head.found_by({architecture.directed: 1 / size})
    head.nearest()
    place = slice(architecture.direction, architecture.direction + 1)
    head.carry(place, place, weight=DIRECTION / size)


def _lay_out_gathering(attention: Any, architecture: Architecture) -> None:
    """A label takes the mean of the words of its segment."""
    for number, part in architecture.carried(range(architecture.heads)):
        head = _Head(attention, architecture, number, {"label": math.hypot(_LABEL, _SHORT), "word": _WORD})
        label = FLAG * head.seen["label"]
        rows = [head.at(place) for place in architecture.slow[: architecture.head_size // 2]]
        same = torch.eye(architecture.head_size // 2)[: len(rows)] * math.sqrt(SAME * head.scale) / _SHORT
        head.query.weight[rows, architecture.segment] = same / head.seen["label"]
        head.key.weight[rows, architecture.segment] = same / head.seen["word"]
        head.idle(unless={architecture.label_flag: label})
        # A label is of its own segment, too, but none of its words.
        head.query.bias[head.at(architecture.exclusion)] = head.scale
        head.key.weight[head.at(architecture.exclusion), architecture.label_flag] = -IDLE / label
        head.carry(part, part, weight=1 / head.seen["word"])


def _lay_out_comparing(attention: Any, architecture: Architecture) -> None:
    """A label's attention divides between list mark and start by how alike candidate and query are; that is noted."""
    norms = {"label": math.hypot(_LABEL, _SHORT, _GATHERED), "mark": math.hypot(_MARK, _GATHERED)}
    for number in range(architecture.heads):
        head = _Head(attention, architecture, number, norms)
        for place, meaning in zip(architecture.slow, architecture.compared(number), strict=False):
            for projection in (head.query, head.key):
                projection.weight[head.at(place), meaning] = SHARPNESS
        mark = 1 / (MARK * head.seen["mark"])
        gate, noted = head.at(architecture.gates[0]), head.at(architecture.gates[1])
        head.query.weight[gate, architecture.label_flag] = LOOK * head.scale / (FLAG * head.seen["label"])
        for projection, row, sign in ((head.key, gate, 1), (head.value, noted, -1)):
            projection.weight[row, architecture.list_flag] = mark
            projection.weight[row, architecture.start_flag] = sign * head._one_at_start
        head.out.weight[architecture.relevance, noted] = RELEVANCE


def noted_relevance(query: torch.Tensor, candidate: torch.Tensor, architecture: Architecture) -> torch.Tensor:
    """Return the relevance that the starting layout notes at labels, as the last layer sees it.

    Args:
        query: What the list mark gathered, (rows, ``architecture.content``).
        candidate: What the label gathered, of the same shape.
        architecture: The sizes.
    """
    mark = (query.square().sum(-1) + _MARK**2).sqrt()
    label = (candidate.square().sum(-1) + _LABEL**2 + _SHORT**2).sqrt()
    usual_mark, usual_label = math.hypot(_MARK, _GATHERED), math.hypot(_LABEL, _SHORT, _GATHERED)
    # Gathering more than usual makes a flag look smaller.
    look = LOOK * usual_label / label * (usual_mark / mark - 1)
    scale = SHARPNESS**2 * architecture.hidden_size / (mark * label * math.sqrt(architecture.head_size))
    noted = torch.zeros_like(label)
    for head in range(architecture.heads):
        dimensions = architecture.compared(head)
        alike = scale * (query[:, dimensions] * candidate[:, dimensions]).sum(-1)
        # The difference of the two weights of a softmax over two.
        noted = noted + ((alike + look) / 2).tanh()
    return RELEVANCE * noted * math.sqrt(architecture.hidden_size) / (label.square() + (RELEVANCE * noted) ** 2).sqrt()


def _lay_out_pointing(attention: Any, architecture: Architecture) -> None:
    """The answer attends to labels by their relevance, and copies their identity."""
    norms = {"label": math.hypot(_LABEL, _SHORT, _GATHERED), "word": _WORD}
    for number, (pull, copied) in enumerate(POINTER_HEADS):
        head = _Head(attention, architecture, number, norms)
        relevant, labelled = head.at(architecture.gates[0]), head.at(architecture.exclusion)
        head.key.weight[relevant, architecture.relevance] = 1.0
        head.query.weight[relevant, architecture.direction] = pull * head.scale / (DIRECTION * head.seen["word"])
        head.key.weight[labelled, architecture.label_flag] = 1 / (FLAG * head.seen["label"])
        head.query.bias[labelled] = LABELLED * head.scale
        head.carry(architecture.identity, architecture.identity, weight=copied)
