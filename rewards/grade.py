"""What the rewards of single grades share."""

from __future__ import annotations

from unified_ranker.rewards.reward import Grading

from unified_ranker.errors import DataError
from unified_ranker.parsing import ParsedLabel
from unified_ranker.schema.types import RankingExample

NO_GRADE = -1.0
MALFORMED = -0.25


def check_grading(example: RankingExample, step: Grading, *, whole: bool = False) -> None:
    """Check that grades are of the list's candidates and on the scale.

    Args:
        example: The list.
        step: The grade, and those of the others.
        whole: Every candidate of the list has to be among those that were graded.

    Raises:
        DataError: they are not.
    """
    ids = {candidate.id for candidate in example.candidates}
    if step.candidate not in ids:
        raise DataError(f"example {example.id!r}: {step.candidate!r} was graded, and is no candidate of the list")
    if step.top < 1:
        raise DataError(f"example {example.id!r}: top={step.top} must be ≥ 1")
    if step.grades.get(step.candidate, step.grade) != step.grade:
        raise DataError(
            f"example {example.id!r}: {step.candidate!r} has the grade {step.grade}, and {step.grades[step.candidate]} "
            "among those of the list"
        )
    for name, grade in {**step.grades, step.candidate: step.grade}.items():
        if name not in ids:
            raise DataError(f"example {example.id!r}: {name!r} was graded, and is no candidate of the list")
        if grade is not None and not 0 <= grade <= step.top:
            raise DataError(f"example {example.id!r}: the grade {grade} of {name!r} is not between 0 and {step.top}")
    if whole and set(step.grades) != ids:
        raise DataError(
            f"example {example.id!r}: {len(step.grades)} grades for {len(ids)} candidates; give all of them"
        )


def format_of(parsed: ParsedLabel) -> float:
    """Return the part for the format: 0 where it holds."""
    return {"ok": 0.0, "repaired": MALFORMED, "failed": NO_GRADE}[parsed.outcome]


def whole_grade(example: RankingExample, candidate: str, *, top: int) -> int:
    """Return a candidate's relevance on the scale 0 … ``top``, on which the best of its list has ``top``.

    Example:
        >>> from unified_ranker.schema.types import Candidate
        >>> a, b = Candidate("a", "a"), Candidate("b", "b")
        >>> whole_grade(RankingExample("q", "q", (a, b), relevance={"a": 3.0, "b": 2.0}), "b", top=4)
        3
    """
    best = max(example.grade(other.id) for other in example.candidates)
    return round(top * example.grade(candidate) / best) if best > 0 else 0
