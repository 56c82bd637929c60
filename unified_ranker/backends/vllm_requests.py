"""Requests in vLLM's terms, and its answers in ours: shared by its two engines and, in part, by its server.

Labels of one token are picked with ``allowed_token_ids``, in which nothing has to be compiled; several draws with
:mod:`~unified_ranker.backends.permute_logits`; choices of several tokens and patterns with vLLM's structured outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.backends.tokenizer import TokenizerTools, check_draws
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Completion, Request

#: Most tokens whose log-probability vLLM tells by name; of longer lists none are told.
MOST_LOGPROBS = 128


@dataclass(frozen=True)
class Asked:
    """One request, made ready.

    Attributes:
        request: The request.
        prompt: Tokens of its prompt.
        tokens: Token of each choice, where each is a single one; else empty.
        options: Names and values of vLLM's ``SamplingParams``; ``structured_outputs`` as a plain mapping.
    """

    request: Request
    prompt: list[int]
    tokens: Mapping[str, int]
    options: dict[str, Any]


def make_ready(request: Request, tools: TokenizerTools, *, structured: bool = False) -> Asked:
    """Turn a request into a prompt and options of vLLM.

    Args:
        request: The request.
        tools: The model's view of text.
        structured: Hold single labels by structured outputs as well, which compiles a grammar for each set of labels,
            lets a label be spelt in other tokens, and tells no log-probabilities.

    Raises:
        BackendError: prompt and reply do not fit the context, or a choice cannot be drawn several times.
    """
    prompt = tools.prompt_ids(request.messages, request.reply_prefix)
    if request.draws > 1:
        check_draws(request, tools)
    tools.check_room(request, prompt)
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "top_p": request.top_p,
        "max_tokens": request.max_tokens,
        "skip_special_tokens": False,
    }
    if request.seed is not None:
        options["seed"] = request.seed
    if request.stop:
        options |= {"stop": list(request.stop), "include_stop_str_in_output": True}
    if request.pattern:
        options["structured_outputs"] = {"regex": request.pattern}
    if not request.choices:
        return Asked(request, prompt, {}, options)
    if tools.spells_longer(request) or (structured and request.draws == 1):
        longest = max(len(tools.spell(choice, after=request.reply_prefix)) for choice in request.choices)
        # Room for any spelling of a choice: the structure ends the reply, not the count.
        options |= {"structured_outputs": {"choice": list(request.choices)}, "max_tokens": 2 * longest + 1}
        return Asked(request, prompt, {}, options)
    tokens = {choice: tools.spell(choice, after=request.reply_prefix)[0] for choice in request.choices}
    ids = sorted(set(tokens.values()))
    options |= {"max_tokens": request.draws, "ignore_eos": True}
    if len(ids) <= MOST_LOGPROBS:
        options["logprob_token_ids"] = ids
    if request.draws > 1:
        options["extra_args"] = {LABELS_KEY: ids}
    else:
        options["allowed_token_ids"] = ids
    return Asked(request, prompt, tokens, options)


def read(
    asked: Asked,
    *,
    text: str,
    written: Sequence[int],
    logprobs: Sequence[Mapping[int, float]],
    cached: int,
    finish_reason: str | None,
) -> Completion:
    """Return what vLLM wrote as a completion.

    Args:
        asked: What was asked.
        text: The reply as text.
        written: Its tokens.
        logprobs: At each token, the log-probability of the tokens that were asked for (of the whole vocabulary,
            before any restriction); may be empty.
        cached: Prompt tokens that came from the cache.
        finish_reason: What vLLM calls it.

    Raises:
        BackendError: the reply is not what was asked for.
    """
    request = asked.request
    draws: list[dict[str, float]] = []
    if asked.tokens:
        by_token = {token: choice for choice, token in asked.tokens.items()}
        strangers = [token for token in written if token not in by_token]
        if strangers or len(written) != request.draws or len(set(written)) < len(written):
            raise BackendError(
                f"the engine was held to {request.draws} different labels of {len(by_token)}, but wrote {text!r} "
                f"(tokens {list(written)})"
            )
        text = "".join(by_token[token] for token in written)
        draws = _draws(asked, written, logprobs)
    elif request.choices:
        # Some detokenizers put blanks between the pieces of a word.
        named = [choice for choice in request.choices if "".join(choice.split()) == "".join(text.split())]
        if len(named) != 1:
            raise BackendError(f"the engine was held to one of {list(request.choices)}, but wrote {text!r}")
        text = named[0]
        finish_reason = "stop"
    return Completion(
        text=text,
        choice_logprobs=draws[0] if draws else {},
        draw_logprobs=tuple(draws),
        prompt_tokens=len(asked.prompt),
        reused_tokens=cached,
        generated_tokens=len(written),
        # A label is whole after its token, whatever the engine calls that.
        finish_reason="length" if finish_reason == "length" and not asked.tokens else "stop",
    )


def _draws(asked: Asked, written: Sequence[int], logprobs: Sequence[Mapping[int, float]]) -> list[dict[str, float]]:
    """Return the log-probabilities of each draw over the choices left to it; none unless all were told."""
    if len(logprobs) < len(written) or not all(logprobs):
        return []
    draws, left = [], dict(asked.tokens)
    for place, token in enumerate(written):
        missing = [choice for choice, id in left.items() if id not in logprobs[place]]
        if missing:
            raise BackendError(f"the engine told no log-probability of {missing[0]!r}, for which it was asked")
        draws.append(normalised({choice: logprobs[place][id] for choice, id in left.items()}))
        left = {choice: id for choice, id in left.items() if id != token}
    return draws


def normalised(logprobs: Mapping[str, float]) -> dict[str, float]:
    """Return log-probabilities over these choices alone."""
    highest = max(logprobs.values())
    total = highest + math.log(sum(math.exp(value - highest) for value in logprobs.values()))
    return {choice: value - total for choice, value in logprobs.items()}
