"""Scores of a ranking strictly decrease, also where a method finds two candidates equal."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

LOWEST = -sys.float_info.max / 2


def decreasing(scores: Sequence[float]) -> tuple[float, ...]:
    """Return scores that strictly decrease, given some that do not rise.

    A score that equals the one before it is lowered to the next number below; what is farther down follows only where
    it has to. Minus infinity becomes a number below which there is still room.

    Example:
        >>> decreasing([2.0, 1.0, 0.0])
        (2.0, 1.0, 0.0)
        >>> first, second = decreasing([1.0, 1.0])
        >>> 0 < first - second < 1e-15
        True
    """
    found: list[float] = []
    for given in scores:
        score = max(given, LOWEST)
        found.append(score if not found or score < found[-1] else math.nextafter(found[-1], -math.inf))
    return tuple(found)
