"""What a reward function is given and what it returns."""

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


@dataclass(frozen=True, slots=True)
class Removal:
    """One step of an elimination, as its reward sees it.

    Attributes:
        in_play: Ids of the candidates that stood at the start of the step.
        removed: Id of the candidate that the reply itself removed; None where the reply failed, whatever the strategy
            removed in its place.
    """

    in_play: tuple[str, ...]
    removed: str | None


@dataclass(frozen=True, slots=True)
class Choice:
    """One comparison of a set, as its reward sees it.

    Attributes:
        in_play: Ids of the candidates of the set.
        chosen: Id of the candidate that the reply itself named; None where the reply failed, whoever won in its place.
    """

    in_play: tuple[str, ...]
    chosen: str | None


@dataclass(frozen=True, slots=True)
class Grading:
    """The grade of one candidate, as its reward sees it.

    Attributes:
        candidate: Id of the candidate.
        grade: Its grade, from 0 to ``top``; None where the reply failed.
        top: The highest grade.
        grades: The grades of all candidates of the list that were graded, this one among them.
    """

    candidate: str
    grade: int | None
    top: int
    grades: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Order:
    """A whole ranking, as its reward sees it.

    Attributes:
        named: Ids in the order in which the reply itself named them, best first; candidates that were added to make
            it a permutation are not among them.
    """

    named: tuple[str, ...]
