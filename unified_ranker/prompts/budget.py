"""How texts share a token budget: the longest give way first, and nobody is cut in silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unified_ranker.exchange import TextTools


def fair_cap(lengths: Sequence[int], budget: int) -> int:
    """Return the largest cap such that ``sum(min(length, cap)) <= budget``.

    Args:
        lengths: Tokens of each text.
        budget: Tokens for all of them together.

    Returns:
        The cap, 0 where not even one token each fits. Where everything fits it is the longest length.

    Example:
        >>> fair_cap([3, 10, 20], 21)
        9
    """
    remaining = budget
    left = sorted(lengths)
    for position, length in enumerate(left):
        share = remaining // (len(left) - position)
        if length > share:
            return max(share, 0)
        remaining -= length
    return left[-1] if left else 0


def snippet(text: str, *, query: str, limit: int, tools: TextTools) -> str:
    """Return the stretch of a text, at most ``limit`` tokens long, that holds most of the query's words.

    Counts distinct words of the query that have more than three letters. The earliest stretch wins a tie, so that a
    text without any of them keeps its beginning.

    Args:
        text: The text to cut.
        query: The query.
        limit: Most tokens.
        tools: The model's view of text.
    """
    if tools.count(text) <= limit:
        return text
    wanted = {word for word in _words(query) if len(word) > 3}
    spoken = text.split()
    # How many words the limit is worth in this text; the final cut makes it exact.
    width = max(1, limit * len(spoken) // max(1, tools.count(text)))
    plain = [_plain(word) for word in spoken]
    last = max(0, len(spoken) - width)
    # Where a sentence begins, every half width, and the end of the text, which must not be out of reach.
    sentences = {place + 1 for place, word in enumerate(spoken[:-1]) if word[-1] in ".!?"}
    starts = sorted({min(start, last) for start in sentences} | set(range(0, last + 1, max(1, width // 2))) | {last})
    best = max(starts, key=lambda start: (len(wanted.intersection(plain[start : start + width])), -start))
    # Words are at least a token each, but for a few that a tokenizer drops; the rest of a long text need not be read.
    return tools.cut(" ".join(spoken[best : best + 2 * limit]), limit)


def said_once(text: str) -> str:
    """Return a text without the words that it has said before, whatever their case and punctuation.

    Example:
        >>> said_once("Fleas, and how long fleas live: a flea lives long.")
        'Fleas, and how long live: a flea lives'
    """
    heard, kept = set[str](), list[str]()
    for word in text.split():
        plain = _plain(word)
        if plain not in heard or not plain:
            kept.append(word)
        heard.add(plain)
    return " ".join(kept)


def _plain(word: str) -> str:
    if word.isalnum():
        return word.casefold()
    return "".join(letter for letter in word.casefold() if letter.isalnum())


def _words(text: str) -> list[str]:
    return [_plain(word) for word in text.split()]
