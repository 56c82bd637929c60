"""What an OpenAI-compatible server answered, read strictly: all that the API promises is there, or it is malformed.

The client library builds objects from whatever comes; a wrong type would surface later, far from its cause. So answers
are read here from their text.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# More than any vocabulary needs.
_DIGITS = 12


class Malformed(Exception):
    """An answer that is not what the API promises; quotes it whole, and whoever shows it hides and cuts."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion, of either API.

    Attributes:
        text: The reply.
        finish_reason: What the server calls its end.
        prompt_tokens: The server's own count; None where it tells none, as for the next two.
        generated_tokens: Likewise.
        cached_tokens: Likewise.
        tokens: Tokens of the reply; None where the server tells none.
        logprobs: At each token, log-probabilities by the name that the server gives a token.
    """

    text: str
    finish_reason: str | None
    prompt_tokens: int | None
    generated_tokens: int | None
    cached_tokens: int | None
    tokens: tuple[int, ...] | None
    logprobs: tuple[Mapping[str, float], ...]


def parse(text: str) -> Any:
    """Return the JSON of an answer.

    Raises:
        Malformed: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"no JSON ({type(error).__name__}): {text}") from None


def read_answer(text: str, *, chat: bool) -> Answer:
    """Read a completion.

    Args:
        text: The body.
        chat: Whether it is one of the chat API.

    Raises:
        Malformed: naming what is wrong.
    """
    record = parse(text)
    choices = record.get("choices") if isinstance(record, dict) else None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise Malformed(f"not one choice: {text}")
    choice = choices[0]
    reply = _chat_text(choice, text) if chat else choice.get("text")
    if not isinstance(reply, str):
        raise Malformed(f"a completion without text: {text}")
    usage = record.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details")
    finish = choice.get("finish_reason")
    logprobs = choice.get("logprobs")
    return Answer(
        text=reply,
        finish_reason=finish if isinstance(finish, str) else None,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        generated_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        tokens=_tokens(choice.get("token_ids")),
        logprobs=_chat_logprobs(logprobs) if chat else _places(logprobs),
    )


def _chat_text(choice: Mapping[str, Any], text: str) -> Any:
    message = choice.get("message")
    if not isinstance(message, dict) or "content" not in message:
        raise Malformed(f"a chat completion without a message: {text}")
    # A model that thought until its tokens ran out has no content; that is a reply, and an empty one.
    return "" if message["content"] is None else message["content"]


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _tokens(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise Malformed(f"token_ids are no whole numbers: {value}")
    return tuple(value)


def _places(logprobs: Any) -> tuple[Mapping[str, float], ...]:
    """Return the log-probabilities of the completions API; a place of which nothing is told is empty."""
    if logprobs is None:
        return ()
    places = logprobs.get("top_logprobs") if isinstance(logprobs, dict) else logprobs
    if places is None:
        return ()
    if not isinstance(places, list):
        raise Malformed(f"log-probabilities of another form: {logprobs}")
    found: list[dict[str, float]] = []
    for place in places:
        if place is None:
            found.append({})
        elif isinstance(place, dict) and all(_is_number(value) for value in place.values()):
            found.append({name: float(value) for name, value in place.items()})
        else:
            raise Malformed(f"log-probabilities of another form: {place}")
    return tuple(found)


def _chat_logprobs(logprobs: Any) -> tuple[Mapping[str, float], ...]:
    """Return the log-probabilities of the chat API; nothing where they cannot be read: they are an extra there."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content or not isinstance(content[0], dict):
        return ()
    top = content[0].get("top_logprobs")
    if not isinstance(top, list):
        return ()
    found: dict[str, float] = {}
    for entry in top:
        if isinstance(entry, dict) and isinstance(entry.get("token"), str) and _is_number(entry.get("logprob")):
            # The most likely comes first: " A" must not replace "A".
            found.setdefault(entry["token"].strip(), float(entry["logprob"]))
    return (found,)


def _is_number(value: Any) -> bool:
    # Neither NaN nor infinite, nor beyond what a float holds: no file of rankings could say so.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def by_token(places: Sequence[Mapping[str, float]]) -> list[dict[int, float]]:
    """Return log-probabilities by token, which vLLM names ``token_id:NUMBER`` when it is asked to.

    Raises:
        Malformed: a name is another.
    """
    found = []
    for place in places:
        numbers = {name: name.removeprefix("token_id:") for name in place}
        strange = [name for name, number in numbers.items() if not (number.isdecimal() and len(number) < _DIGITS)]
        if strange:
            raise Malformed(f"log-probabilities of {strange[0]!r} instead of token_id:NUMBER")
        found.append({int(numbers[name]): value for name, value in place.items()})
    return found


def read_models(text: str) -> dict[str, int | None]:
    """Return the models that a server has, and how many tokens each can read where it says so.

    Raises:
        Malformed: it is no list of models.
    """
    record = parse(text)
    data = record.get("data") if isinstance(record, dict) else None
    if not isinstance(data, list) or not all(isinstance(e, dict) and isinstance(e.get("id"), str) for e in data):
        raise Malformed(f"no list of models: {text}")
    return {entry["id"]: _count(entry.get("max_model_len")) for entry in data}
