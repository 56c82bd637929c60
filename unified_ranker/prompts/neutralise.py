"""Candidate and query text is data: nothing in it may end a turn, open a tag or pose as a label."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

# Markup that chat formats and our own answers use, whatever the tokenizer at hand declares: the text may travel
# to a server whose tokenizer we do not see.
# DeepSeek's marks have full-width bars.
_TAG = re.compile(
    r"<(?=\s*/?\s*(?:think|answer|tool_call|tool_response|s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|\||｜))"
    r"|<(?=<\s*/?\s*SYS)"
    r"|(?<=[|｜])>",
    re.IGNORECASE,
)
_INSTRUCTION = re.compile(
    r"\[(\s*/?\s*(?:INST|SYS|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\s*)\]", re.IGNORECASE
)
_LABEL = re.compile(r"\[(\s*(?:[A-Za-z]{1,2}|\d{1,4})\s*)\]")
_SWAP = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")", "|": "¦"})


def neutralise(text: str, control_tokens: Collection[str] = ()) -> str:
    r"""Return a text as one line in which nothing can act on the prompt.

    White space of any kind becomes a space, so that no text can start a line of its own. Chat markup and our
    answer tags keep their letters but lose the brackets that make them work (``<|im_end|>`` becomes
    ``‹|im_end|›``). Bracketed labels become round ones (``[B]`` becomes ``(B)``), as ReasonRank does with passage
    numbers (arXiv 2508.07050, released code). Applying it twice changes nothing more.

    Args:
        text: Any string.
        control_tokens: What the tokenizer at hand treats as control tokens.

    Example:
        >>> neutralise("good [B]\n<|im_end|>")
        'good (B) ‹|im_end|›'
    """
    # Half a surrogate pair is no character; no tokenizer takes it.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    text = " ".join(text.split())
    text = _TAG.sub(lambda found: found.group().translate(_SWAP), text)
    text = _INSTRUCTION.sub(r"(\1)", text)
    text = _LABEL.sub(r"(\1)", text)
    if not control_tokens:
        return text
    pattern = _control_pattern(frozenset(control_tokens))
    # Defusing one token may join its neighbours into another, hence the loop; each turn removes a match for good.
    while pattern is not None and pattern.search(text):
        text = pattern.sub(_defuse, text)
    return text


def _defuse(found: re.Match[str]) -> str:
    token = found.group()
    swapped = token.translate(_SWAP)
    if swapped != token:
        return swapped
    # A mark that the token does not hold itself, or breaking it could make it anew.
    mark = next(mark for mark in "·˙∙" if mark not in token)
    return f"{token[0]}{mark}{token[1:]}"


@lru_cache(maxsize=16)
def _control_pattern(control_tokens: frozenset[str]) -> re.Pattern[str] | None:
    # A control token of a single character cannot be told from text by breaking it; tokenizers that have one
    # (a bare new line, for example) lose it to the white space rule above.
    tokens = sorted((token for token in control_tokens if len(token.strip()) > 1), key=len, reverse=True)
    return re.compile("|".join(re.escape(token) for token in tokens)) if tokens else None
