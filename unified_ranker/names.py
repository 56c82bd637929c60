"""Names that a model knows whole, each by a token of its own.

A title means what those who choose it choose besides, of which its words say little; a small model that knows a title
as one token ranks by that. The token is a digest: no list of titles, which belong to somebody, is part of a model.
"""

from __future__ import annotations

import hashlib
import unicodedata


def plain(name: str) -> str:
    """Return a name without what does not tell it from others: case, form of its letters, spaces around and between.

    Example:
        >>> plain("  The Third   Man ")
        'the third man'
    """
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def token_of(name: str) -> str:
    """Return the word that stands for a name: ``n`` and the first 16 hexadecimal digits of its SHA-256.

    A tokenizer that splits words at spaces and punctuation alone takes it for one word.
    """
    return "n" + hashlib.sha256(plain(name).encode("utf-8")).hexdigest()[:16]
