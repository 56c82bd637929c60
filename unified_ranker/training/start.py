"""Where a small model starts: a Llama that is laid out so that ranking can be learned at once.

A small transformer from random numbers soon knows which candidate is relevant, but stays at chance for thousands of
lists when it has to name that candidate's *label*: the pointer from the answer to the list does not form. This
layout puts it there beforehand, in the weights of a plain Llama model, so exactly that the model ranks as the
bag-of-words comparison of :mod:`~unified_ranker.training.words` does before its first step. The residual stream has
dimensions of its own for what words mean, for label identity, for "which candidate's text is this", and for flags.

- *First layer*: a word of a candidate notes the nearest label before it, whose identity names its segment of the
  list, and whether it stands behind the mark after which the query is said again; the list mark takes the mean of all
  words before it, which are the query and its context, through a linear map.
- *Second layer*: a label notes the segment of the nearest word, which is its own candidate; a word that is said again
  notes how far its own segment has one that means the same, and in the feed-forward layer that times its rarity; every
  token after the mark that asks for the worst or for the best notes which of the two it was.
- *Third layer*: a label takes the mean of the words of its segment, and as relevance the sum of the rarities of the
  query's words, each as far as its segment has it: matching of single words, which a mean of meanings blurs.
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
from unified_ranker.training.alike import ALIKE, ENOUGH, first_look
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.heads import Head
from unified_ranker.training.tokenizer import AGAIN, BEST, FIRST_MARK, LIST, WORST, label_names, minilm_folder

# Norm of every word: of the order of what a layer adds to the residual stream.
NORM = 16.0
# The parts of a label: its identity, and the flag that it is one. The flag is large, so that what a label gathers
# hardly changes its norm, by which a layer divides.
CODE, FLAG = 12.0, 40.0
# The list mark (beside an identity of its own), the start of the prompt, to which attention goes that is to do nothing,
# and the mark behind which the query is said again.
MARK, START, SAID = 24.0, 24.0, 24.0
# As large a part of the mark as a label's identity is of a label: a layer sees both alike.
MARK_CODE = MARK * CODE / FLAG
# Identity of its segment at a word, beside its meaning.
SEGMENT = 12.0
# The marks that ask for the worst and for the best: that it is one of them, and which; and what is noted of it later.
DIRECTED, DIRECTION = 40.0, 1.0
# A word that stands in the list, and one that says the query again; how far its segment has it; for each nat, a word's
# rarity, and what is noted of it as far as the segment has it. The last three differ between words, and so are small: a
# word by a hundredth longer is drawn by a hundredth less, of a pull of hundreds.
LISTED, AGAINED, FOUND, RARITY, MATCHED = 4.0, 4.0, 0.25, 0.05, 0.05
# Pull of a word that is said again towards those of its own segment, beside ALIKE.
OWN = 200.0
# A feed-forward unit multiplies by the rarity, as long as that is far from 0 for its gate.
STEEP = 20.0
# Pull of a label towards the words that it adds up, so strong that those of a hundred other segments, whose identities
# are not quite orthogonal, add nothing; and how many it would have to find for their sum to count half.
ADDED, MANY = 11.0, 200
# Relevance of a word of the query that the candidate has, for each nat, and rarity of a word of which nothing is known.
SHARED, UNKNOWN = 0.45, 4.0
# Pulls of attention: towards the start of the prompt, where it has to be stronger than the nearest of anything, and
# where weaker than what is near; of a label towards the words of its segment, and towards what it compares with.
IDLE, AWAY, REST, SAME, LOOK = 60.0, 200.0, 14.0, 20.0, 15.0
# How sharply two meanings are compared, and the size of what is noted.
SHARPNESS, RELEVANCE = 1.4, 20.0
# Relevance stands at a label at this share of its size: what is large there makes all else at the label look smaller.
NOTED = 0.25
# (pull of relevance in the attention, size of what is copied) for each pointer head, where the best is asked for.
# After the first label the answer is a label itself, at which the direction, and so the pull, is not half as large.
POINTER_HEADS = ((0.0, 6.0), (-2.0, -6.0), (2.0, 6.0))
# Pull of labels in the last layer.
LABELLED = 10.0
# The output layer is the word embeddings, so that what comes to it has to be small.
FINAL_SCALE = 1 / 8
# What else there is at the start is small: training is to find it, ranking is not to suffer.
QUIET = 0.1
#: Name of the model setting that says where words have what they mean: how many tokens are words, and in how many
#: dimensions; both count from the first.
MEANINGS = "ranking_meanings"


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
        rarity: How much it says that a candidate has each of them, in nats, (words,): their inverse document frequency,
            or what was learned from there; None for an even one.
        turn: Linear map of the query's mean, (``architecture.content``, ``architecture.content``), by which it is
            multiplied from the right; None for none.
        look: Linear map under which a word of the query looks for one of the candidate that means the same, see
            :mod:`~unified_ranker.training.alike`; None for the first one.
        shared: Relevance of a word of the query that the candidate has, for each nat of its rarity.
    """

    vectors: torch.Tensor
    rarity: torch.Tensor | None = None
    turn: torch.Tensor | None = None
    look: torch.Tensor | None = None
    shared: float = SHARED

    @property
    def counts(self) -> torch.Tensor:
        """How much each word counts, in nats, (words,): its rarity, or the same for all."""
        return torch.full((len(self.vectors),), UNKNOWN) if self.rarity is None else self.rarity

    def seen_by(self, architecture: Architecture) -> torch.Tensor:
        """Return the map under which single words are compared, (dimensions of a head for it, content - 1)."""
        return first_look(self.vectors, len(architecture.alike)) if self.look is None else self.look


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
        **{MEANINGS: [tokenizer.convert_tokens_to_ids(FIRST_MARK), architecture.content]},
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    size = architecture.head_size
    # Identities, and what becomes of them in half as many dimensions. Each identity is a dimension of its own, which no
    # rounding of weights makes less orthogonal. All are equally long: by its length a segment would draw more attention
    # than another.
    codes = torch.eye(size)[: architecture.labels + 1]
    halves = torch.cat([_even(len(codes), part) for part in _parts_of_segment(architecture)], dim=1)
    short = (halves / math.sqrt(size)).T @ codes
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
        compared = words or Words(model.model.embed_tokens.weight[:, : architecture.content] / NORM)
        _lay_out_finding(second, architecture, compared.seen_by(architecture))
        _lay_out_rarity(model.model.layers[1].mlp, architecture)
        _lay_out_gathering(third, architecture)
        _lay_out_sharing(third, architecture, SHARED if words is None else words.shared)
        _lay_out_comparing(comparing, architecture)
        _lay_out_pointing(pointing, architecture)
        # Flags are for layers; the output, whose rows are the embeddings, would take them for likeness.
        model.model.norm.weight[: architecture.identity.stop] = FINAL_SCALE
        model.model.norm.weight[architecture.identity.stop :] = 0
    return model


def _parts_of_segment(architecture: Architecture) -> tuple[int, int]:
    """Return how many dimensions of a segment words that are said again look at, and the rest."""
    told = len(architecture.told_apart)
    return told, architecture.head_size // 2 - told


def _even(rows: int, size: int) -> torch.Tensor:
    """Return random directions, (rows, ``size``), whose squares come to ``size``."""
    return nn.functional.normalize(torch.randn(rows, size), dim=1) * math.sqrt(size)


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
        weight[: len(known), architecture.rarity] = RARITY * words.counts
    labels = tokenizer.convert_tokens_to_ids(list(label_names(architecture.labels)))
    weight[labels] = 0
    weight[labels, architecture.identity] = CODE * codes[:-1]
    weight[labels, architecture.label_flag] = FLAG
    (mark, again, *starts) = tokenizer.convert_tokens_to_ids([LIST, AGAIN, "<|user|>", "<|system|>"])
    weight[[mark, again, *starts]] = 0
    weight[again, architecture.again_flag] = SAID
    weight[mark, architecture.identity] = MARK_CODE * codes[-1]
    weight[mark, architecture.list_flag] = MARK
    weight[starts, architecture.start_flag] = START
    for row, sign in zip(tokenizer.convert_tokens_to_ids([WORST, BEST]), (-1, 1), strict=True):
        weight[row] = 0
        weight[row, architecture.directed] = DIRECTED
        weight[row, architecture.direction] = sign * DIRECTED


# Norms of tokens as they come to a layer, from what they are made of; words bring their segment, and what labels and
# the list mark gather is taken at its usual size.
_LABEL, _MARK = math.hypot(CODE, FLAG), math.hypot(MARK_CODE, MARK)
_SHORT = SEGMENT * math.sqrt(0.5)
_GATHERED = 7.0
_WORD = math.hypot(NORM, _SHORT, LISTED)
_AGAIN_WORD = math.hypot(_WORD, AGAINED)
_GATHERED_LABEL, _GATHERED_MARK = math.hypot(_LABEL, _SHORT, _GATHERED), math.hypot(_MARK, _GATHERED)


def _lay_out_segments(attention: Any, architecture: Architecture, short: torch.Tensor) -> None:
    """Words note the nearest label before them, or the list mark."""
    head = Head(attention, architecture, 0, {"label": _LABEL, "mark": _MARK})
    label, mark = FLAG * head.seen["label"], MARK * head.seen["mark"]
    head.found_by({architecture.label_flag: 1 / label, architecture.list_flag: 1 / mark})
    head.nearest()
    # Labels and the mark themselves look away, at the start of the prompt.
    gate = head.at(architecture.gates[1])
    head.key.weight[gate, architecture.start_flag] = head.one_if_alone
    for flag, size in ((architecture.label_flag, label), (architecture.list_flag, mark)):
        head.query.weight[gate, flag] = AWAY * head.scale / size
    head.carry(architecture.identity, architecture.segment, weight=SEGMENT / (CODE * head.seen["label"]), matrix=short)
    found = head.at(len(short))
    head.value.weight[found, architecture.label_flag] = 1 / label
    head.value.weight[found, architecture.list_flag] = 1 / mark
    head.out.weight[architecture.listed, found] = LISTED


def _lay_out_query(attention: Any, architecture: Architecture, turn: torch.Tensor | None) -> None:
    """The list mark takes the mean of all words before it; words note whether they say the query again."""
    norms = {"mark": _MARK, "word": NORM, "label": _LABEL}
    parts = architecture.carried(range(1, architecture.heads))
    for number, part in parts:
        head = Head(attention, architecture, number, norms)
        if part is parts[-1][1]:
            # The list mark has neither before it, words have: the nearer of the two says which words they are.
            head.nearest()
            head.found_by(
                {
                    architecture.label_flag: 1 / (FLAG * head.seen["label"]),
                    architecture.again_flag: head.one_if_alone,
                }
            )
            head.value.weight[head.at(len(part)), architecture.again_flag] = head.one_if_alone
            head.out.weight[architecture.again, head.at(len(part))] = AGAINED
            rest, gate = REST, architecture.gates[1]
        else:
            rest, gate = IDLE, architecture.gates[0]
        head.idle(gate, pull=rest, unless={architecture.list_flag: MARK * head.seen["mark"]})
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
            architecture.start_flag: -head.one_if_alone,
        },
        bias=1.0,
    )
    head.nearest(flag=architecture.label_flag, size=label)
    head.idle(architecture.gates[1], pull=AWAY, unless={architecture.label_flag: label})
    head.carry(architecture.segment, architecture.segment, weight=1 / head.seen["word"])


def _lay_out_direction(attention: Any, architecture: Architecture) -> None:
    """Whatever comes after the mark for the worst or the best notes which of the two it was, however far it is."""
    head = Head(attention, architecture, 1, {"end": math.hypot(DIRECTED, DIRECTED, _SHORT, LISTED)})
    size = DIRECTED * head.seen["end"]
    gate = head.at(architecture.gates[0])
    head.query.bias[gate] = IDLE * head.scale
    head.key.weight[gate, architecture.directed] = 1 / size
    place = slice(architecture.direction, architecture.direction + 1)
    head.carry(place, place, weight=DIRECTION / size)


def _lay_out_finding(attention: Any, architecture: Architecture, look: torch.Tensor) -> None:
    """A word that is said again notes how far its own segment has one that means the same."""
    head = Head(attention, architecture, 2, {"word": _WORD, "again": _AGAIN_WORD})
    rows, meaning = [head.at(place) for place in architecture.alike], look.shape[1]
    told, own = [head.at(place) for place in architecture.told_apart], architecture.segment.start
    code = SEGMENT * math.sqrt(len(told) / architecture.head_size)
    for projection, kind in ((head.query, "again"), (head.key, "word")):
        projection.weight[rows, :meaning] = look * math.sqrt(ALIKE * head.scale) / (NORM * head.seen[kind])
        for row, dimension in zip(told, range(own, own + len(told)), strict=True):
            projection.weight[row, dimension] = math.sqrt(OWN * head.scale) / (code * head.seen[kind])
    head.idle(architecture.gates[0], pull=OWN + ENOUGH * ALIKE, unless={})
    left_out = head.at(architecture.exclusion)
    head.query.bias[left_out] = head.scale
    head.key.weight[left_out, architecture.again] = -2 * (OWN + ALIKE) / (AGAINED * head.seen["again"])
    noted = head.at(0)
    head.value.weight[noted, architecture.listed] = FOUND / (LISTED * head.seen["word"])
    head.out.weight[architecture.found, noted] = 1.0


def _lay_out_rarity(mlp: Any, architecture: Architecture) -> None:
    """One unit multiplies what a word has found by how rare it is."""
    seen = math.sqrt(architecture.hidden_size) / _AGAIN_WORD
    for projection in (mlp.gate_proj, mlp.up_proj):
        projection.weight[0] = 0
    mlp.down_proj.weight[:, 0] = 0
    mlp.gate_proj.weight[0, architecture.rarity] = STEEP / (RARITY * seen)
    mlp.up_proj.weight[0, architecture.found] = 1 / (FOUND * seen)
    mlp.down_proj.weight[architecture.matched, 0] = MATCHED / STEEP


def _lay_out_sharing(attention: Any, architecture: Architecture, shared: float) -> None:
    """A label adds up what its words that are said again note: the start outweighs them, so that no mean is taken."""
    head = Head(attention, architecture, architecture.heads - 1, {**_gathering_norms(), "word": _AGAIN_WORD})
    # The label has its segment from such a word, which is longer than another and so gave it less.
    _look_at_own_words(head, architecture, pull=ADDED * _AGAIN_WORD / _WORD)
    left_out = head.at(architecture.exclusion)
    head.key.weight[left_out, architecture.listed] = -IDLE / (LISTED * head.seen["word"])
    head.key.weight[left_out, architecture.again] = IDLE / (AGAINED * head.seen["word"])
    label = FLAG * head.seen["label"]
    away = ADDED + math.log(MANY)
    head.idle(architecture.gates[0], pull=IDLE, unless={architecture.label_flag: label * IDLE / (IDLE - away)})
    summed = head.at(0)
    head.value.weight[summed, architecture.matched] = 1 / (MATCHED * head.seen["word"])
    head.out.weight[architecture.relevance, summed] = NOTED * shared * MANY


def _lay_out_gathering(attention: Any, architecture: Architecture) -> None:
    """A label takes the mean of the words of its segment, but for those that say the query again."""
    for number, part in architecture.carried(range(architecture.heads)):
        head = Head(attention, architecture, number, _gathering_norms())
        _look_at_own_words(head, architecture, pull=SAME)
        head.key.weight[head.at(architecture.exclusion), architecture.again] = -IDLE / (AGAINED * head.seen["word"])
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
            projection.weight[row, architecture.start_flag] = sign * head.one_if_alone
        head.out.weight[architecture.relevance, noted] = NOTED * RELEVANCE


def noted_relevance(
    query: torch.Tensor, candidate: torch.Tensor, shared: torch.Tensor, architecture: Architecture
) -> torch.Tensor:
    """Return the relevance that the starting layout notes at labels, as the last layer sees it, in its full size.

    Args:
        query: What the list mark gathered, (rows, ``architecture.content``).
        candidate: What the label gathered, of the same shape.
        shared: What words that they share add to the relevance, (rows,).
        architecture: The sizes.
    """
    mark = (query.square().sum(-1) + _MARK**2).sqrt()
    plain = candidate.square().sum(-1) + _LABEL**2 + _SHORT**2
    label = (plain + (NOTED * shared).square()).sqrt()
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
    return whole * math.sqrt(architecture.hidden_size) / (plain + (NOTED * whole).square()).sqrt()


def _lay_out_pointing(attention: Any, architecture: Architecture) -> None:
    """The answer attends to labels by their relevance, and copies their identity."""
    norms = {"label": _GATHERED_LABEL, "word": _WORD}
    for number, (pull, copied) in enumerate(POINTER_HEADS):
        head = Head(attention, architecture, number, norms)
        relevant, labelled = head.at(architecture.gates[0]), head.at(architecture.exclusion)
        head.key.weight[relevant, architecture.relevance] = 1 / NOTED
        head.query.weight[relevant, architecture.direction] = pull * head.scale / (DIRECTION * head.seen["word"])
        head.key.weight[labelled, architecture.label_flag] = 1 / (FLAG * head.seen["label"])
        head.query.bias[labelled] = LABELLED * head.scale
        # The start of the prompt has compared itself with itself, and would pass for the most irrelevant of all.
        head.key.weight[labelled, architecture.start_flag] = -AWAY / LABELLED * head.one_if_alone
        head.carry(architecture.identity, architecture.identity, weight=copied)
