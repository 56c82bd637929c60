"""A local model through Hugging Face transformers, on a CPU or an accelerator.

Requests are batched across queries with left padding. Requests of one session extend each other: their key/value
cache is kept between calls, so that each step of an ``append`` elimination computes only what is new.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as transformers_logging

from unified_ranker.backends.tokenizer import TokenizerTools, check_draws, check_folder, load_tokenizer
from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings, read_settings

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Prompts that go through the model at once, in tokens after padding. Small enough for a laptop's memory, large enough
# that the matrices fill it; on an accelerator more is better and ``batch_tokens`` says how much.
BATCH_TOKENS = 16_384

# Models whose logits are the last state times the output layer, and nothing else.
_PLAIN_HEADS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")


@dataclass
class _Group:
    """Sessions whose caches lie in one batch, row by row."""

    sessions: list[str]
    tokens: list[list[int]]
    cache: DynamicCache
    mask: torch.Tensor


@dataclass(frozen=True)
class _Prompt:
    request: Request
    tokens: list[int]


class TransformersBackend:
    """Answers requests with a causal language model in this process.

    Args:
        model: A causal language model.
        tokenizer: Its tokenizer.
        labels: Labels that the model was trained with, if any.
        batch_tokens: Most prompt tokens (after padding) that go through the model at once.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, labels: Sequence[str] = (), batch_tokens: int = BATCH_TOKENS
    ) -> None:
        if batch_tokens < 1:
            raise OptionError(f"batch_tokens={batch_tokens} must be ≥ 1")
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self._tools = TokenizerTools(tokenizer, context_tokens=_context(model, tokenizer), labels=tuple(labels))
        self.patterns = False
        self._groups: list[_Group] = []
        self._ends = _end_tokens(model, tokenizer)
        self.settings = ModelSettings()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> TransformersBackend:
        """Load a model and its tokenizer.

        Args:
            name_or_path: A folder, or a name on the hub.
            revision: Branch, tag or commit on the hub.
            dtype: One of :data:`DTYPES`; by default float32 on a CPU, where half precision is slow, else the
                checkpoint's.
            device: By default an accelerator where there is one.
            batch_tokens: See the class.

        Raises:
            BackendError: the model cannot be found or loaded.
            OptionError: an option has a value that cannot be used.
        """
        if dtype is not None and dtype not in DTYPES:
            raise unknown_choice("dtype", dtype, DTYPES)
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        kind: Any = DTYPES[dtype] if dtype else (torch.float32 if place.startswith("cpu") else "auto")
        check_folder(name_or_path)
        try:
            with quiet():
                tokenizer = load_tokenizer(name_or_path, revision=revision)
                model = AutoModelForCausalLM.from_pretrained(name_or_path, revision=revision, dtype=kind)
        except (OSError, ValueError, SafetensorError) as error:
            raise BackendError(
                f"cannot load the model {name_or_path!r}: {error}\n"
                "Give a folder that holds config.json, weights and tokenizer; or, where the hub can be "
                "reached, a name on it. "
                "Without a network, Ranker() loads the embedded model"
            ) from error
        try:
            model = model.to(place)
        except (RuntimeError, AssertionError) as error:
            raise BackendError(f"device={place!r} cannot be used: {error}") from error
        settings = read_settings(name_or_path, revision=revision)
        made = cls(model, tokenizer, labels=settings.labels, batch_tokens=batch_tokens)
        made.settings = settings
        return made

    @property
    def text(self) -> TokenizerTools:
        """The model's view of text."""
        return self._tools

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, in their order.

        Raises:
            BackendError: a prompt is longer than the model's context.
        """
        prompts = [
            _Prompt(request, self._tools.prompt_ids(request.messages, request.reply_prefix)) for request in requests
        ]
        for prompt in prompts:
            if prompt.request.pattern:
                raise BackendError(
                    "backend='transformers' cannot hold a reply to a pattern; use 'vllm', or permute=True"
                )
            if prompt.request.draws > 1:
                check_draws(prompt.request, self._tools)
            self._tools.check_room(prompt.request, prompt.tokens)
        answers: dict[int, Completion] = {}
        with torch.inference_mode():
            for indices, group in self._batches(prompts):
                completions, kept = self._answer([prompts[i] for i in indices], group)
                answers.update(zip(indices, completions, strict=True))
                if kept is not None:
                    self._groups.append(kept)
        return [answers[i] for i in range(len(requests))]

    def forget(self, sessions: Collection[str]) -> None:
        """Drop the caches of sessions that will not go on."""
        kept = []
        for group in self._groups:
            rows = [row for row, session in enumerate(group.sessions) if session not in sessions]
            if rows:
                kept.append(_select(group, rows))
        self._groups = kept

    def _batches(self, prompts: list[_Prompt]) -> Iterator[tuple[list[int], _Group | None]]:
        """Yield batches: those that continue a kept group, then the rest by length."""
        waiting = {prompt.request.session: i for i, prompt in enumerate(prompts) if prompt.request.session}
        # A session asked twice at once cannot share its row; both then start afresh.
        if len(waiting) < sum(bool(prompt.request.session) for prompt in prompts):
            waiting = {}
        left = set(range(len(prompts)))
        groups, self._groups = self._groups, []
        for group in groups:
            rows = [row for row, session in enumerate(group.sessions) if session in waiting]
            fitting = [row for row in rows if _extends(prompts[waiting[group.sessions[row]]].tokens, group.tokens[row])]
            if not rows:
                # Nobody asked for it this time: its queries wait for others of their own.
                self._groups.append(group)
                continue
            # Rows of one batch take the same number of new tokens, the most common; others start afresh.
            new = {row: len(prompts[waiting[group.sessions[row]]].tokens) - len(group.tokens[row]) for row in fitting}
            size = Counter(new.values()).most_common(1)[0][0] if new else 0
            chosen = [row for row in fitting if new[row] == size]
            if chosen:
                indices = [waiting[group.sessions[row]] for row in chosen]
                left -= set(indices)
                idle = [row for row in range(len(group.sessions)) if row not in rows]
                if idle:
                    self._groups.append(_select(group, idle, keep=True))
                yield indices, _select(group, chosen)
        fresh = sorted(left, key=lambda i: len(prompts[i].tokens), reverse=True)
        batch: list[int] = []
        for i in fresh:
            if batch and (len(batch) + 1) * len(prompts[batch[0]].tokens) > self.batch_tokens:
                yield batch, None
                batch = []
            batch.append(i)
        if batch:
            yield batch, None

    def _answer(self, prompts: list[_Prompt], group: _Group | None) -> tuple[list[Completion], _Group | None]:
        device = self.model.device
        if group is None:
            width = max(len(p.tokens) for p in prompts)
            pad = self._tools.pad_id
            ids = torch.tensor([[pad] * (width - len(p.tokens)) + p.tokens for p in prompts], device=device)
            mask = torch.tensor([[0] * (width - len(p.tokens)) + [1] * len(p.tokens) for p in prompts], device=device)
            cache = DynamicCache(config=self.model.config)
            reused = [0] * len(prompts)
        else:
            new = len(prompts[0].tokens) - len(group.tokens[0])
            ids = torch.tensor([p.tokens[-new:] for p in prompts], device=device)
            mask = torch.cat([group.mask, torch.ones_like(ids)], dim=1)
            cache = group.cache
            reused = [len(tokens) for tokens in group.tokens]
        choosing = all(p.request.choices and not self._tools.spells_longer(p.request) for p in prompts)
        wanted = self._first_tokens(prompts) if choosing else None
        logits = self._forward(ids, mask, cache, wanted)
        keep = [row for row, p in enumerate(prompts) if p.request.session and not p.request.last]
        # The cache of the prompt is kept as it is before the reply: generating may go on in it, so it is taken aside
        # first.
        free = not choosing or any(p.request.draws > 1 for p in prompts)
        kept: _Group | None = None
        if keep:
            whole = _Group([p.request.session for p in prompts], [p.tokens for p in prompts], cache, mask)
            kept = _select(whole, keep, keep=free)
        completions = self._decode(prompts, logits, mask, cache, wanted)
        return [
            Completion(
                text=text,
                choice_logprobs=logprobs[0] if logprobs else {},
                draw_logprobs=tuple(logprobs),
                prompt_tokens=len(p.tokens),
                reused_tokens=old,
                generated_tokens=count,
                finish_reason="length" if cut else "stop",
            )
            for p, old, (text, logprobs, count, cut) in zip(prompts, reused, completions, strict=True)
        ], kept

    def _first_tokens(self, prompts: Sequence[_Prompt]) -> torch.Tensor | None:
        """Return the first tokens of all choices; None where the model cannot compute the logits of some alone."""
        if type(self.model).__name__ not in _PLAIN_HEADS or type(self.model.lm_head) is not torch.nn.Linear:
            return None
        spelled = {self._tools.spell(c, after=p.request.reply_prefix)[0] for p in prompts for c in p.request.choices}
        return torch.tensor(sorted(spelled), device=self.model.device)

    def _forward(
        self, ids: torch.Tensor, mask: torch.Tensor, cache: DynamicCache, wanted: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the logits of the next token; those of tokens that are not wanted are minus infinity."""
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        given = {
            "input_ids": ids,
            # Without padding the model needs no mask, which costs a small one a few percent of each step.
            "attention_mask": None if mask.all() else mask,
            "position_ids": positions,
            "past_key_values": cache,
            "use_cache": True,
        }
        if wanted is None:
            logits: torch.Tensor = self.model(**given, logits_to_keep=1).logits[:, -1].float()
            return logits
        # For a small model the whole vocabulary costs more than all layers.
        head = self.model.lm_head
        state = self.model.model(**given).last_hidden_state[:, -1]
        bias = None if head.bias is None else head.bias[wanted]
        some = torch.nn.functional.linear(state, head.weight[wanted], bias).float()
        return torch.full((len(ids), head.out_features), -torch.inf, device=some.device).index_copy(1, wanted, some)

    def _decode(
        self,
        prompts: list[_Prompt],
        logits: torch.Tensor,
        mask: torch.Tensor,
        cache: DynamicCache,
        wanted: torch.Tensor | None,
    ) -> list[tuple[str, list[dict[str, float]], int, bool]]:
        """Write the replies, given the logits of their first token."""
        rows = [_Row(prompt.request, self._tools, self._ends) for prompt in prompts]
        while True:
            tokens = [row.choose(logits[i]) for i, row in enumerate(rows)]
            if all(row.done for row in rows):
                break
            ids = torch.tensor([[token] for token in tokens], device=logits.device)
            mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
            logits = self._forward(ids, mask, cache, wanted)
        return [(row.text, row.logprobs, len(row.tokens), row.cut) for row in rows]


class _Row:
    """One reply in the making."""

    def __init__(self, request: Request, tools: TokenizerTools, ends: frozenset[int]) -> None:
        self.request = request
        self.tools = tools
        self.ends = ends
        self.tokens: list[int] = []
        self.text = ""
        self.logprobs: list[dict[str, float]] = []
        self.done = False
        self.cut = False
        self._spelled = {choice: tools.spell(choice, after=request.reply_prefix) for choice in request.choices}
        self._scores = dict.fromkeys(request.choices, 0.0)
        self._open = set(request.choices)
        self._generator: torch.Generator | None = None
        if request.temperature > 0 and request.seed is not None:
            self._generator = torch.Generator(device="cpu").manual_seed(request.seed)

    def choose(self, logits: torch.Tensor) -> int:
        """Take the next token; a row that is done keeps its place with a token nobody reads."""
        if self.done:
            return self.tools.pad_id
        if self.request.draws > 1:
            return self._draw(logits)
        return self._choose_choice(logits) if self.request.choices else self._choose_free(logits)

    def _draw(self, logits: torch.Tensor) -> int:
        """Take one of the choices that are left; each is a single token."""
        left = sorted(self._open, key=lambda choice: self._spelled[choice][0])
        allowed = logits[[self._spelled[choice][0] for choice in left]]
        self.logprobs.append(dict(zip(left, allowed.log_softmax(-1).tolist(), strict=True)))
        chosen = left[self._pick(allowed)]
        self._open.discard(chosen)
        self.tokens.append(self._spelled[chosen][0])
        self.text += chosen
        self.done = len(self.tokens) == self.request.draws
        return self.tokens[-1]

    def _choose_choice(self, logits: torch.Tensor) -> int:
        place = len(self.tokens)
        logprobs = logits.log_softmax(-1)
        for choice in self._open:
            self._scores[choice] += float(logprobs[self._spelled[choice][place]])
        if place == 0 and all(len(tokens) == 1 for tokens in self._spelled.values()):
            total = torch.logsumexp(torch.tensor(list(self._scores.values())), 0)
            self.logprobs = [{choice: score - float(total) for choice, score in self._scores.items()}]
        allowed = sorted({self._spelled[choice][place] for choice in self._open})
        token = allowed[self._pick(logits[allowed])]
        self.tokens.append(token)
        self._open = {choice for choice in self._open if self._spelled[choice][place] == token}
        finished = [choice for choice in self._open if len(self._spelled[choice]) == place + 1]
        if finished:
            self.text, self.done = finished[0], True
        return token

    def _choose_free(self, logits: torch.Tensor) -> int:
        token = self._pick(logits)
        self.tokens.append(token)
        if token in self.ends:
            self.done = True
            return token
        self.text = self.tools.decode(self.tokens)
        for mark in self.request.stop:
            if mark in self.text:
                self.text = self.text[: self.text.index(mark) + len(mark)]
                self.done = True
        if not self.done and len(self.tokens) >= self.request.max_tokens:
            self.done = self.cut = True
        return token

    def _pick(self, logits: torch.Tensor) -> int:
        if self.request.temperature == 0:
            return int(logits.argmax())
        probabilities = (logits / self.request.temperature).softmax(-1)
        if self.request.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # A token stays while the mass before it is below top_p, so that the first always stays.
            ordered[ordered.cumsum(-1) - ordered >= self.request.top_p] = 0
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
        return int(torch.multinomial(probabilities.cpu(), 1, generator=self._generator))


def _extends(tokens: list[int], beginning: list[int]) -> bool:
    return len(tokens) > len(beginning) and tokens[: len(beginning)] == beginning


def _select(group: _Group, rows: list[int], *, keep: bool = False) -> _Group:
    """Return some rows of a group; all of them without copying.

    Args:
        group: The group.
        rows: Which rows, in this order.
        keep: Leave the group itself as it is, in any case.
    """
    cache = group.cache
    if keep or len(rows) < len(group.sessions):
        # A deep copy keeps each layer's kind: layers of a sliding window hold less than the whole.
        cache = copy.deepcopy(cache) if keep else cache
        if len(rows) < len(group.sessions):
            cache.batch_select_indices(torch.tensor(rows, device=group.mask.device))
    return _Group([group.sessions[r] for r in rows], [group.tokens[r] for r in rows], cache, group.mask[rows])


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for value in (getattr(model.generation_config, "eos_token_id", None), tokenizer.eos_token_id):
        if value is not None:
            found.update(value if isinstance(value, (list, tuple)) else [value])
    return frozenset(found)


@contextmanager
def quiet() -> Iterator[None]:
    """Load without a progress bar, which for a local model is gone before it can be read."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _context(model: Any, tokenizer: Any) -> int:
    # Some configurations keep the text model's sizes in a part of their own; some name no limit at all.
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(limit or tokenizer.model_max_length)
