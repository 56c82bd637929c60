"""Where a small model starts: a Llama that is laid out so that ranking can be learned at once.

A small transformer from random numbers soon knows which candidate is relevant, but stays at chance for thousands of
lists when it has to name that candidate's *label*: the pointer from the answer to the list does not form. This
layout puts it there beforehand, in the weights of a plain Llama model, so exactly that the model ranks as the
bag-of-words comparison of :mod:`~unified_ranker.training.words` does before its first step. The residual stream has
dimensions of its own for what words mean, for label identity, for "which candidate's text is this", and for flags.

- *First layer*: a word of a candidate notes the nearest label before it, whose identity names its segment of the
  list; the list mark takes the mean of all words before it, which are the query and its context, through a linear map.
- *Second layer*: a label notes the segment of the nearest word, which is its own candidate; a word of a candidate
  notes whether the query has it, too, and how rare it is; every token notes whether the nearest of the words "worst"
  and "best" asks for the one or for the other.
- *Third layer*: a label takes the mean of the words of its segment, and the sum of the rarities of those that the
  query has, too, as relevance: the term frequencies of BM25, which a mean of meanings blurs.
- *Last but one*: a label compares the mean with the list mark's, and adds the result to its relevance.
- *Last layer*: the answer attends to the labels by their relevance, and copies their identity into the prediction:
  one head puts all labels of the list forward, one puts the irrelevant forward and one holds the relevant back, or the
  other way round, as the prompt asks.

"The nearest" is found by rotary positions: a sum of their cosines and sines that falls with distance, see
:func:`~unified_ranker.training.heads.nearness`. Identities are orthogonal, so that labels do not disturb each other.
All of it remains trainable, and what is saved is a standard checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from unified_ranker.errors import RecipeError
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.heads import Head
from unified_ranker.training.tokenizer import LIST, label_names, minilm_folder

# Norm of every word: of the order of what a layer adds to the residual stream.
NORM = 16.0
# The parts of a label: its identity, and the flag that it is one. The flag is large, so that what a label gathers
# hardly changes its norm, by which a layer divides.
CODE, FLAG = 12.0, 40.0
# The list mark (beside an identity of its own) and the start of the prompt, to which attention goes that is to do
# nothing.
MARK, START = 24.0, 24.0
# As large a part of the mark as a label's identity is of a label: a layer sees both alike.
MARK_CODE = MARK * CODE / FLAG
# Identity of its segment at a word, beside its meaning.
SEGMENT = 12.0
# "worst" and "best": that it is one of them, and which. Large for the same reason: whoever looks for the nearest of
# them must not find one that seems larger instead.
DIRECTED = 40.0
# What is noted of it by every token.
DIRECTION = 8.0
# A word that stands in the list; for each nat, a word's rarity, and what is noted of it if the query has it, too.
LISTED, RARITY, MATCHED = 4.0, 0.25, 0.25
# Pull of a word towards the same word of the query, how alike another has to be to be taken for the same, and how far
# what all words have in common is left out of that.
ALIKE, ENOUGH, APART = 80.0, 0.75, 0.25
# Pull of a label towards the words that it adds up, and how many it would have to find for their sum to count half.
ADDED, MANY = 8.0, 200
# Relevance of a shared word, for each nat, and rarity of a word of which nothing is known.
SHARED, UNKNOWN = 0.45, 4.0
# Pulls of attention: towards the start of the prompt, and where it has to be stronger than the nearest of anything; of
# words towards the label of the same segment; of a label towards the two that it compares with.
IDLE, AWAY, SAME, LOOK = 60.0, 200.0, 20.0, 15.0
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


def with_further(vectors: torch.Tensor, words: Sequence[str], tokenizer: Any) -> torch.Tensor:
    """Return vectors with one for each further word: the mean of its pieces', made a unit vector.

    Args:
        vectors: Of the tokens of MiniLM's vocabulary, in its order.
        words: From :func:`~unified_ranker.training.tokenizer.frequent_words`.
        tokenizer: The tokenizer that breaks them into pieces.
    """
    means = [vectors[tokenizer(word, add_special_tokens=False)["input_ids"]].mean(0) for word in words]
    return torch.cat([vectors, nn.functional.normalize(torch.stack(means), dim=1)]) if means else vectors


@dataclass(frozen=True, slots=True)
class Words:
    """What is known of words before a model starts.

    Attributes:
        vectors: Unit vectors, (words, ``architecture.content``), for the first tokens of the vocabulary; the last
            dimension is ballast.
        rarity: Inverse document frequency of each of them in nats, (words,); None for an even one.
        turn: Linear map of the query's mean, (``architecture.content``, ``architecture.content``), by which it is
            multiplied from the right; None for none.
        shared: Relevance of a word that query and candidate share, for each nat of its rarity.
    """

    vectors: torch.Tensor
    rarity: torch.Tensor | None = None
    turn: torch.Tensor | None = None
    shared: float = SHARED


def make_model(architecture: Architecture, tokenizer: Any, *, seed: int, words: Words | None = None) -> Any:
    """Make the small Llama in its starting layout.

    Args:
        architecture: Its sizes.
        tokenizer: Its tokenizer, from :func:`~unified_ranker.training.tokenizer.make_tokenizer`.
        seed: Seed of what is random.
        words: What is known of words; by default their vectors are random.

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
    # Rows of a random rotation: identities, and what becomes of them in half as many dimensions. All are equally long:
    # by its length a segment would draw more attention than another.
    codes = torch.linalg.qr(torch.randn(size, size))[0][: architecture.labels + 1]
    halves = nn.functional.normalize(torch.randn(len(codes), size // 2), dim=1) * math.sqrt(0.5)
    short = halves.T @ codes
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
        _lay_out_query(first, architecture, words.turn if words is not None else None)
        _lay_out_own_segments(second, architecture)
        _lay_out_direction(second, architecture)
        _lay_out_matching(second, architecture, model.model.embed_tokens.weight)
        _lay_out_gathering(third, architecture)
        _lay_out_sharing(third, architecture, SHARED if words is None else words.shared)
        _lay_out_comparing(comparing, architecture)
        _lay_out_pointing(pointing, architecture)
        # Flags are for layers; the output, whose rows are the embeddings, would take them for likeness.
        model.model.norm.weight[: architecture.identity.stop] = FINAL_SCALE
        model.model.norm.weight[architecture.identity.stop :] = 0
    return model


def _lay_out_embeddings(
    model: Any, tokenizer: Any, architecture: Architecture, words: Words | None, codes: torch.Tensor
) -> None:
    weight, content = model.model.embed_tokens.weight, architecture.content
    weight.zero_()
    weight[:, : content - 1] = NORM * nn.functional.normalize(torch.randn(weight.shape[0], content - 1), dim=1)
    weight[:, architecture.rarity] = RARITY * UNKNOWN
    if words is not None:
        known = words.vectors
        if known.shape[1] != content or known.shape[0] > weight.shape[0]:
            raise RecipeError(
                f"words of shape {tuple(known.shape)} do not fit {weight.shape[0]} tokens of {content} dimensions"
            )
        weight[: len(known), :content] = NORM * known
        if words.rarity is not None:
            weight[: len(known), architecture.rarity] = RARITY * words.rarity
    labels = tokenizer.convert_tokens_to_ids(list(label_names(architecture.labels)))
    weight[labels] = 0
    weight[labels, architecture.identity] = CODE * codes[:-1]
    weight[labels, architecture.label_flag] = FLAG
    (mark, *starts) = tokenizer.convert_tokens_to_ids([LIST, "<|user|>", "<|system|>"])
    weight[[mark, *starts]] = 0
    weight[mark, architecture.identity] = MARK_CODE * codes[-1]
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


# Norms of tokens as they come to a layer, from what they are made of; words bring their segment, and what labels and
# the list mark gather is taken at its usual size.
_LABEL, _MARK = math.hypot(CODE, FLAG), math.hypot(MARK_CODE, MARK)
_SHORT = SEGMENT * math.sqrt(0.5)
_GATHERED = 7.0
_WORD = math.hypot(NORM, _SHORT, LISTED)
_GATHERED_LABEL, _GATHERED_MARK = math.hypot(_LABEL, _SHORT, _GATHERED), math.hypot(_MARK, _GATHERED)


def _lay_out_segments(attention: Any, architecture: Architecture, short: torch.Tensor) -> None:
    """Words note the nearest label before them, or the list mark."""
    head = Head(attention, architecture, 0, {"label": _LABEL, "mark": _MARK})
    label, mark = FLAG * head.seen["label"], MARK * head.seen["mark"]
    head.found_by({architecture.label_flag: 1 / label, architecture.list_flag: 1 / mark})
    head.nearest()
    # Labels and the mark themselves look away, at the start of the prompt.
    gate = head.at(architecture.gates[1])
    head.key.weight[gate, architecture.start_flag] = head.one_at_start
    for flag, size in ((architecture.label_flag, label), (architecture.list_flag, mark)):
        head.query.weight[gate, flag] = AWAY * head.scale / size
    head.carry(architecture.identity, architecture.segment, weight=SEGMENT / (CODE * head.seen["label"]), matrix=short)
    found = head.at(len(short))
    head.value.weight[found, architecture.label_flag] = 1 / label
    head.value.weight[found, architecture.list_flag] = 1 / mark
    head.out.weight[architecture.listed, found] = LISTED


def _lay_out_query(attention: Any, architecture: Architecture, turn: torch.Tensor | None) -> None:
    """The list mark takes the mean of all words before it."""
    for number, part in architecture.carried(range(1, architecture.heads)):
        head = Head(attention, architecture, number, {"mark": _MARK, "word": NORM})
        head.idle(architecture.gates[0], pull=IDLE, unless={architecture.list_flag: MARK * head.seen["mark"]})
        head.carry(part, part, weight=1 / head.seen["word"])
        if turn is not None:
            columns = slice(head.at(0), head.at(len(part)))
            head.out.weight[: architecture.content, columns] = turn[list(part)].T


def _lay_out_own_segments(attention: Any, architecture: Architecture) -> None:
    """A label notes the segment of the nearest word."""
    head = Head(attention, architecture, 0, {"label": _LABEL, "mark": _MARK, "word": _WORD})
    label, mark = FLAG * head.seen["label"], MARK * head.seen["mark"]
    head.found_by(
        {
            architecture.label_flag: -1 / label,
            architecture.list_flag: -1 / mark,
            architecture.start_flag: -head.one_at_start,
        },
        bias=1.0,
    )
    head.nearest(flag=architecture.label_flag, size=label)
    head.idle(architecture.gates[1], pull=AWAY, unless={architecture.label_flag: label})
    head.carry(architecture.segment, architecture.segment, weight=1 / head.seen["word"])


def _lay_out_direction(attention: Any, architecture: Architecture) -> None:
    """Every token notes which end of the ranking the nearest "worst" or "best" asks for."""
    head = Head(attention, architecture, 1, {"word": math.sqrt(_WORD**2 + 2 * DIRECTED**2)})
    size = DIRECTED * head.seen["word"]
    head.found_by({architecture.directed: 1 / size})
    head.nearest()
    place = slice(architecture.direction, architecture.direction + 1)
    head.carry(place, place, weight=DIRECTION / size)


def _lay_out_matching(attention: Any, architecture: Architecture, table: torch.Tensor) -> None:
    """A word of the list looks for the same word in the query, and notes its rarity.

    Words that mean much the same are learned to be alike, but no two are alike in everything: the directions in which
    words vary most count for less here.
    """
    norms = {"word": _WORD, "asked": math.hypot(NORM, RARITY * UNKNOWN)}
    head = Head(attention, architecture, 2, norms)
    rows = [head.at(place) for place in architecture.slow]
    # Not the ballast: words that say nothing are not alike for it.
    meaning = architecture.content - 1
    words = table[:, :meaning]
    variances, directions = torch.linalg.eigh(words.T @ words / len(words))
    apart = directions * variances.clamp(min=1e-3 * variances.max()) ** -APART
    seen = torch.linalg.qr(torch.randn(meaning, len(rows)))[0].T @ apart.T
    # Of a word's square, so much remains on average.
    size = (words @ seen.T).square().sum(1).mean() * head.seen["word"] * head.seen["asked"]
    for projection in (head.query, head.key):
        projection.weight[rows, :meaning] = seen * (ALIKE * head.scale / size).sqrt()
    head.idle(architecture.gates[0], pull=ENOUGH * ALIKE, unless={})
    head.query.bias[head.at(architecture.exclusion)] = head.scale
    head.key.weight[head.at(architecture.exclusion), architecture.listed] = -2 * ALIKE / (LISTED * head.seen["word"])
    noted = head.at(0)
    head.value.weight[noted, architecture.rarity] = 1 / (RARITY * head.seen["asked"])
    head.out.weight[architecture.matched, noted] = MATCHED


def _lay_out_sharing(attention: Any, architecture: Architecture, shared: float) -> None:
    """A label adds up what its own words note of the query: the start outweighs them, so that no mean is taken."""
    head = Head(attention, architecture, architecture.heads - 1, _gathering_norms())
    _look_at_own_words(head, architecture, pull=ADDED)
    label = FLAG * head.seen["label"]
    away = ADDED + math.log(MANY)
    head.idle(architecture.gates[0], pull=IDLE, unless={architecture.label_flag: label * IDLE / (IDLE - away)})
    summed = head.at(0)
    head.value.weight[summed, architecture.matched] = 1 / (MATCHED * head.seen["word"])
    head.out.weight[architecture.relevance, summed] = shared * MANY


def _lay_out_gathering(attention: Any, architecture: Architecture) -> None:
    """A label takes the mean of the words of its segment."""
    for number, part in architecture.carried(range(architecture.heads)):
        head = Head(attention, architecture, number, _gathering_norms())
        _look_at_own_words(head, architecture, pull=SAME)
        head.idle(architecture.gates[0], pull=IDLE, unless={architecture.label_flag: FLAG * head.seen["label"]})
        head.carry(part, part, weight=1 / head.seen["word"])


def _gathering_norms() -> dict[str, float]:
    return {"label": math.hypot(_LABEL, _SHORT), "word": _WORD}


def _look_at_own_words(head: Head, architecture: Architecture, *, pull: float) -> None:
    """A label looks at the words of its segment, each as much as the others."""
    rows = [head.at(place) for place in architecture.slow[: architecture.head_size // 2]]
    same = torch.eye(architecture.head_size // 2)[: len(rows)] * math.sqrt(pull * head.scale) / _SHORT
    head.query.weight[rows, architecture.segment] = same / head.seen["label"]
    head.key.weight[rows, architecture.segment] = same / head.seen["word"]
    # A label is of its own segment, too, but none of its words.
    head.query.bias[head.at(architecture.exclusion)] = head.scale
    head.key.weight[head.at(architecture.exclusion), architecture.label_flag] = -IDLE / (FLAG * head.seen["label"])


def _lay_out_comparing(attention: Any, architecture: Architecture) -> None:
    """A label's attention divides between list mark and start by how alike candidate and query are; that is noted."""
    norms = {"label": _GATHERED_LABEL, "mark": _GATHERED_MARK}
    for number in range(architecture.heads):
        head = Head(attention, architecture, number, norms)
        for place, meaning in zip(architecture.slow, architecture.compared(number), strict=False):
            for projection in (head.query, head.key):
                projection.weight[head.at(place), meaning] = SHARPNESS
        mark = 1 / (MARK * head.seen["mark"])
        gate, noted = head.at(architecture.gates[0]), head.at(architecture.gates[1])
        head.query.weight[gate, architecture.label_flag] = LOOK * head.scale / (FLAG * head.seen["label"])
        for projection, row, sign in ((head.key, gate, 1), (head.value, noted, -1)):
            projection.weight[row, architecture.list_flag] = mark
            projection.weight[row, architecture.start_flag] = sign * head.one_at_start
        head.out.weight[architecture.relevance, noted] = RELEVANCE


def noted_relevance(
    query: torch.Tensor, candidate: torch.Tensor, shared: torch.Tensor, architecture: Architecture
) -> torch.Tensor:
    """Return the relevance that the starting layout notes at labels, as the last layer sees it.

    Args:
        query: What the list mark gathered, (rows, ``architecture.content``).
        candidate: What the label gathered, of the same shape.
        shared: What words that they share add to the relevance, (rows,).
        architecture: The sizes.
    """
    mark = (query.square().sum(-1) + _MARK**2).sqrt()
    plain = candidate.square().sum(-1) + _LABEL**2 + _SHORT**2
    label = (plain + shared.square()).sqrt()
    # Gathering more than usual makes a flag look smaller.
    look = LOOK * _GATHERED_LABEL / label * (_GATHERED_MARK / mark - 1)
    scale = SHARPNESS**2 * architecture.hidden_size / (mark * label * math.sqrt(architecture.head_size))
    noted = torch.zeros_like(label)
    for head in range(architecture.heads):
        dimensions = architecture.compared(head)
        alike = scale * (query[:, dimensions] * candidate[:, dimensions]).sum(-1)
        # The difference of the two weights of a softmax over two.
        noted = noted + ((alike + look) / 2).tanh()
    whole = RELEVANCE * noted + shared
    return whole * math.sqrt(architecture.hidden_size) / (plain + whole.square()).sqrt()


def _lay_out_pointing(attention: Any, architecture: Architecture) -> None:
    """The answer attends to labels by their relevance, and copies their identity."""
    norms = {"label": _GATHERED_LABEL, "word": _WORD}
    for number, (pull, copied) in enumerate(POINTER_HEADS):
        head = Head(attention, architecture, number, norms)
        relevant, labelled = head.at(architecture.gates[0]), head.at(architecture.exclusion)
        head.key.weight[relevant, architecture.relevance] = 1.0
        head.query.weight[relevant, architecture.direction] = pull * head.scale / (DIRECTION * head.seen["word"])
        head.key.weight[labelled, architecture.label_flag] = 1 / (FLAG * head.seen["label"])
        head.query.bias[labelled] = LABELLED * head.scale
        head.carry(architecture.identity, architecture.identity, weight=copied)
