"""A Hugging Face tokenizer as prompts see it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from unified_ranker.errors import BackendError
from unified_ranker.exchange import Message, Request
from unified_ranker.names import token_of


def load_tokenizer(source: str, *, revision: str | None = None) -> Any:
    """Load a model's tokenizer, of the class that its own ``tokenizer_config.json`` names.

    ``AutoTokenizer`` of transformers 5 takes the class of some architectures, Qwen2 among them, for wrong whatever it
    is, and builds that architecture's usual tokenizer from the same files: a WordPiece vocabulary then comes back as
    letters.

    Args:
        source: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.models.auto.tokenization_auto import get_tokenizer_config

    named = get_tokenizer_config(source, revision=revision).get("tokenizer_class")
    kind = PreTrainedTokenizerFast if named in ("TokenizersBackend", "PreTrainedTokenizerFast") else AutoTokenizer
    return kind.from_pretrained(source, revision=revision)


def check_folder(source: str) -> None:
    """Check that what is named like a folder, and not like a model on the hub, is one.

    Raises:
        BackendError: it is not there.
    """
    named = source.startswith((".", "/", "~")) or source.count("/") > 1
    if named and not Path(source).is_dir():
        raise BackendError(f"model folder {source!r} does not exist")


class TokenizerTools:
    """Counts, cuts and renders with a tokenizer.

    Args:
        tokenizer: A fast tokenizer.
        context_tokens: Most tokens of prompt and reply.
        labels: Labels that the model was trained with.

    Raises:
        BackendError: a label is not a single token of this tokenizer.
    """

    def __init__(self, tokenizer: Any, *, context_tokens: int, labels: tuple[str, ...] = ()) -> None:
        self.tokenizer = tokenizer
        self._context = context_tokens
        self._labels = labels
        self._control = frozenset({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})
        self._vocabulary = frozenset(tokenizer.get_vocab())
        self._fast = _fast_of(tokenizer)
        self._ids = lru_cache(maxsize=65_536)(self._encode)
        for label in labels:
            if len(self._ids(label)) != 1:
                raise BackendError(f"label {label!r} of ranker.json is not a single token of this model's tokenizer")

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._fast is not None:
            return tuple(self._fast.encode(text, add_special_tokens=False).ids)
        return tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Return where each token stands in a text."""
        if self._fast is not None:
            found: list[tuple[int, int]] = self._fast.encode(text, add_special_tokens=False).offsets
            return found
        return list(self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"])

    def forget(self) -> None:
        """Forget the tokens of texts that were seen."""
        self._ids.cache_clear()

    @property
    def control_tokens(self) -> frozenset[str]:
        """All special and added tokens."""
        return self._control

    @property
    def context_tokens(self) -> int:
        """Most tokens of prompt and reply."""
        return self._context

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that the model was trained with."""
        return self._labels

    @property
    def pad_id(self) -> int:
        """A token for padding; any will do, since padding is masked."""
        for value in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id):
            if value is not None:
                return int(value)
        return 0

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens of a text on its own."""
        return self._ids(text)

    def count(self, text: str) -> int:
        """Return how many tokens a text has on its own."""
        return len(self._ids(text))

    def cut(self, text: str, limit: int) -> str:
        """Return the longest beginning that has at most ``limit`` tokens; never half a character."""
        if self.count(text) <= limit:
            return text
        if limit <= 0:
            return ""
        spans = self._spans(text)
        # Bytes of one character may be several tokens that share its span; the cut goes before such a character.
        shortened = text[: spans[limit - 1][1]]
        while shortened and self.count(shortened) > limit:
            shortened = shortened[:-1]
        return shortened.rstrip()

    def render(self, messages: Sequence[Message], reply_prefix: str = "") -> str:
        """Return the chat as the model reads it, up to and with ``reply_prefix``.

        A tokenizer without a chat template (a base model) gets the plain texts, a blank line between them.
        """
        if self.tokenizer.chat_template is None:
            return "".join(f"{message.content}\n\n" for message in messages) + reply_prefix
        chat = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        return text + reply_prefix

    def prompt_ids(self, messages: Sequence[Message], reply_prefix: str = "") -> list[int]:
        """Return the tokens of :meth:`render`."""
        # The prompt part is the same in every step of a session, so it is looked up, not tokenized again. Chat
        # templates end in a control token or a new line, at which tokenizers split; where one did not, prefix and
        # reply would only be two tokens for one.
        return [*self._ids(self.render(messages)), *self._ids(reply_prefix)]

    def count_prompt(self, messages: Sequence[Message], reply_prefix: str = "") -> int:
        """Return how many tokens a rendered chat has."""
        return len(self.prompt_ids(messages, reply_prefix))

    def called(self, name: str) -> str:
        """Return the token of a name, if the vocabulary has it, and the name itself if not."""
        token = token_of(name)
        return token if token in self._vocabulary else name

    def spell(self, choice: str, *, after: str) -> tuple[int, ...]:
        """Return the tokens that ``choice`` adds when it is written after ``after``.

        Raises:
            BackendError: the tokenizer joins the two into something else.
        """
        before, whole = self._ids(after), self._ids(after + choice)
        if whole[: len(before)] == before and len(whole) > len(before):
            return whole[len(before) :]
        raise BackendError(
            f"the tokenizer joins {choice!r} with what stands before it, {after[-20:]!r}; use another label separator"
        )

    def spells_longer(self, request: Request) -> bool:
        """Tell whether any choice of a request takes more than one token where it will stand."""
        return any(len(self.spell(choice, after=request.reply_prefix)) > 1 for choice in request.choices)

    def check_room(self, request: Request, prompt: Sequence[int]) -> None:
        """Check that a prompt and its reply fit the context.

        Raises:
            BackendError: they do not.
        """
        needed = len(prompt) + (request.draws if request.choices else request.max_tokens)
        if needed > self._context:
            raise BackendError(
                f"a prompt of {len(prompt)} tokens and its reply take {needed} of {self._context}; lower token_budget"
            )

    def is_single_token(self, label: str, *, after: str) -> bool:
        """Tell whether a label is one token of its own when it follows ``after``."""
        before, whole = self._ids(after), self._ids(after + label)
        return len(whole) == len(before) + 1 and whole[:-1] == before

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens; labels are kept even where the tokenizer calls them special."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))


def _fast_of(tokenizer: Any) -> Any:
    """Return a tokenizer's own engine, without what transformers puts around it; None if it has none.

    For a line of text that is most of the time. It is a copy, since a file may ask for truncation or padding, which
    transformers switches on and off in the original with each call.
    """
    engine = getattr(tokenizer, "backend_tokenizer", None)
    if engine is None:
        return None
    engine = copy.deepcopy(engine)
    engine.no_truncation()
    engine.no_padding()
    return engine


def check_draws(request: Request, tools: TokenizerTools) -> None:
    """Check a request for several draws.

    Raises:
        BackendError: a choice is not a single token, or there are fewer choices than draws.
    """
    different = len(set(request.choices))
    if request.draws > different:
        raise BackendError(f"{request.draws} draws from {different} different choices; none can be drawn twice")
    if tools.spells_longer(request):
        long = next(c for c in request.choices if len(tools.spell(c, after=request.reply_prefix)) > 1)
        raise BackendError(
            f"choice {long!r} is not a single token of this model, so that an order cannot be one decode; "
            "use permute=False"
        )
