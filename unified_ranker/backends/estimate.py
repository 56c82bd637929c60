"""What is known of a model's text where its tokenizer is not: an estimate on the safe side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.exchange import Message

# Bytes of UTF-8 that a token holds at least, on average: English has about four, Chinese about three.
BYTES_PER_TOKEN = 3
# Tokens that a chat template adds to each message, roughly.
MESSAGE_TOKENS = 8

#: Control tokens of widely used chat templates, which a server may read as such wherever they stand.
KNOWN_CONTROL_TOKENS = frozenset(
    {
        "<|im_start|>",
        "<|im_end|>",
        "<|endoftext|>",
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eot_id|>",
        "<start_of_turn>",
        "<end_of_turn>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<s>",
        "</s>",
        "<bos>",
        "<eos>",
        "[INST]",
        "[/INST]",
    }
)


@dataclass(frozen=True, slots=True)
class EstimatedTools:
    """Counts tokens by bytes, so that a prompt is rather cut too early than refused.

    Attributes:
        context_tokens: Most tokens of prompt and reply.
        labels: Labels that the model was trained with.
        control_tokens: Strings that the server may read as control tokens.
    """

    context_tokens: int
    labels: tuple[str, ...] = ()
    control_tokens: frozenset[str] = KNOWN_CONTROL_TOKENS

    def count(self, text: str) -> int:
        """Return an upper estimate of the tokens of a text."""
        return -(-len(text.encode("utf-8")) // BYTES_PER_TOKEN)

    def cut(self, text: str, limit: int) -> str:
        """Return the longest beginning that is estimated at no more than ``limit`` tokens."""
        if self.count(text) <= limit:
            return text
        return text.encode("utf-8")[: max(0, limit) * BYTES_PER_TOKEN].decode("utf-8", errors="ignore").rstrip()

    def render(self, messages: Sequence[Message], reply_prefix: str = "") -> str:
        """Return a chat for people to read; the server renders its own."""
        return "".join(f"{message.role}: {message.content}\n\n" for message in messages) + reply_prefix

    def count_prompt(self, messages: Sequence[Message], reply_prefix: str = "") -> int:
        """Return an upper estimate of the tokens of a chat."""
        return sum(self.count(message.content) + MESSAGE_TOKENS for message in messages) + self.count(reply_prefix)

    def called(self, name: str) -> str:
        """Return the name: no model is asked here that would know one whole."""
        return name

    def is_single_token(self, label: str, *, after: str) -> bool:
        """Take one letter for one token, as it is in all tokenizers that we know."""
        return len(label) == 1 and label.isascii()
