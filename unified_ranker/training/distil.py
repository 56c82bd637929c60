"""Zooter (Lu et al., arXiv 2311.08692): the scores of candidate LLMs become soft labels of the router.

A router that is told only which LLM was best learns nothing of how close the others came. Zooter's target for a query
is ``softmax(scores / temperature)`` over the LLMs, and its loss the KL divergence from it. The paper smooths the scores
of a reward model with those of queries of the same tag first; our scores are measured ones (quality, or quality less
cost), and are not smoothed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def soft_target(grades: Sequence[float], *, temperature: float, worst_first: bool = False) -> tuple[float, ...]:
    """Return the probability with which each candidate is to be named.

    Args:
        grades: Scores of the candidates.
        temperature: Above 0; the smaller, the nearer to naming the best alone.
        worst_first: For an elimination, whose target is the softmax of the negative scores.

    Example:
        >>> best, other = soft_target([1.0, 0.0], temperature=0.5)
        >>> round(best / other, 3)  # e²
        7.389
    """
    sign = -1.0 if worst_first else 1.0
    highest = max(sign * grade for grade in grades)
    weights = [math.exp((sign * grade - highest) / temperature) for grade in grades]
    return tuple(weight / sum(weights) for weight in weights)
