"""Scores of a ranking strictly decrease, also where a method finds two candidates equal."""

from __future__ import annotations

import math
from collections.abc import Sequence


def decreasing(scores: Sequence[float]) -> tuple[float, ...]:
    """Return scores that strictly decrease, given some that do not rise.

    A score that equals the one before it is lowered to the next number below; what is farther down follows only where
    it has to.

    Example:
        >>> decreasing([2.0, 1.0, 0.0])
        (2.0, 1.0, 0.0)
        >>> first, second = decreasing([1.0, 1.0])
        >>> 0 < first - second < 1e-15
        True
    """
    found: list[float] = []
    for score in scores:
        found.append(score if not found or score < found[-1] else math.nextafter(found[-1], -math.inf))
    return tuple(found)
