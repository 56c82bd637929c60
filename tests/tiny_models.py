"""Random models of a few kilobytes, and their tokenizers, made on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from unified_ranker.backends.transformers import TransformersBackend

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|pad|>")


def make_tokenizer(*, merges: tuple[tuple[str, str], ...] = (), labels: tuple[str, ...] = ()) -> Any:
    """Return a tokenizer whose tokens are bytes, besides the merges and labels that are asked for."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: number for number, piece in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    # Without merges no token is longer than a byte; with them, even a new line and a letter may become one token.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not merges)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.add_tokens(list(labels))
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>")
    made.chat_template = CHAT_TEMPLATE
    return made


def make_model(tokenizer: Any, *, seed: int = 0, **config: Any) -> Any:
    """Return a random model of two layers."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        # Large weights, so that what is said first decides, and replies differ from prompt to prompt.
        "initializer_range": 0.3,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return Qwen2ForCausalLM(Qwen2Config(**{**settings, **config})).eval()


def make_backend(*, batch_tokens: int = 16_384, **config: Any) -> TransformersBackend:
    """Return a backend around a random model."""
    tokenizer = make_tokenizer()
    return TransformersBackend(make_model(tokenizer, **config), tokenizer, batch_tokens=batch_tokens)


def save_model(folder: Path) -> Path:
    """Write a random model and its tokenizer into a folder."""
    tokenizer = make_tokenizer(labels=("<1>", "<2>", "<3>", "<4>"))
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
