"""What a reward function returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reward:
    """A reward and what it is made of.

    Attributes:
        total: What the policy is trained on: the sum of the parts.
        parts: Each part under its own name; the names are the same for every domain, so that logs line up.
    """

    total: float
    parts: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, **parts: float) -> Reward:
        """Sum named parts.

        Example:
            >>> Reward.of(choice=1.0, format=-0.5).total
            0.5
        """
        return cls(sum(parts.values()), parts)
