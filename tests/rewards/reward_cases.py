"""Replies, what a careful reader makes of each, and the lists that the tests of rewards share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from unified_ranker.rewards import Grading, Order

from unified_ranker.parsing import ParsedLabel, ParsedOrder, parse_label, parse_order
from unified_ranker.schema import Candidate, Outcome, RankingExample

CHECKED = settings(deadline=None, derandomize=True, max_examples=60)
# Sums of the same numbers in another order can differ in their last bits.
ROUNDING = 1e-9


class OrderRow(NamedTuple):
    """A reply that is asked for an order of the labels.

    Attributes:
        reply: The reply.
        named: The letters that it names, in order.
        tags: Whether it has the tags that were asked for, and no others.
        form: Whether it is labels and nothing else; it may leave some out or say some twice.
        ok: Whether there is nothing at all to repair.
    """

    reply: str
    named: str
    tags: bool = True
    form: bool = True
    ok: bool = False


class LabelRow(NamedTuple):
    """A reply that is asked for one label: the label that it names, None for none, and the parser's outcome."""

    reply: str
    label: str | None
    outcome: Outcome


LETTERS = ("A", "B", "C")
BRACKETED = ("<1>", "<2>", "<3>")
GRADES = ("0", "1", "2", "3", "4")

WELL_FORMED_ORDERS = [
    OrderRow("A > B > C", "ABC", ok=True),
    OrderRow("A > C > B", "ACB", ok=True),
    OrderRow("B > A > C", "BAC", ok=True),
    OrderRow("B>C>A", "BCA", ok=True),
    OrderRow("C, A, B\n", "CAB", ok=True),
    OrderRow("[C] > [B] > [A]", "CBA", ok=True),
]
MALFORMED_ORDERS = [
    # Left out.
    OrderRow("A", "A"),
    OrderRow("B", "B"),
    OrderRow("[C]", "C"),
    OrderRow("A > B", "AB"),
    OrderRow("A > C", "AC"),
    OrderRow("B > A", "BA"),
    OrderRow("[B] > [C]", "BC"),
    OrderRow("C > A", "CA"),
    OrderRow("C\nB", "CB"),
    # Said twice.
    OrderRow("A > A", "A"),
    OrderRow("C > C > A", "CA"),
    OrderRow("C > A > B > C", "CAB"),
    OrderRow("[B, C, B, A, A]", "BCA"),
    # Never listed.
    OrderRow("C > A > B > D", "CAB", form=False),
    OrderRow("C > ? > A", "CA"),
    OrderRow("Ranking: C > A > B", "CAB", form=False),
    OrderRow("1. C\n2. A\n3. B", "CAB", form=False),
    OrderRow("A, B and C", "ABC", form=False),
    OrderRow("[C] > [Z] > [A]", "CA", form=False),
    OrderRow("AB > C", "C", form=False),
    # Another form.
    OrderRow("c > a > b", "CAB", form=False),
    OrderRow("B > a > C", "BAC", form=False),
    OrderRow("[A] is worse than [C]", "AC", form=False),
    OrderRow("I put [C] before [B].", "CB", form=False),
    OrderRow("[B] [A] [C] D", "BAC", form=False),
    # Tags that nobody asked for.
    OrderRow("<answer>C > A > B</answer>", "CAB", tags=False, form=False),
    OrderRow("<answer>C > A", "CA", tags=False, form=False),
    OrderRow("<think>hm</think><answer>B > A > C</answer>", "BAC", tags=False, form=False),
    OrderRow("C > A > B <answer></answer>", "", tags=False, form=False),
    # Nothing.
    OrderRow("", ""),
    OrderRow(" \n ", ""),
    OrderRow(" > > ", ""),
    OrderRow("[]", ""),
    OrderRow("ABC", "", form=False),
    OrderRow("none fits", "", form=False),
    OrderRow("1 > 2 > 3", "", form=False),
    OrderRow("\ud800\x00", "", form=False),
]
REASONED_ORDERS = [
    OrderRow("<think>hm</think><answer>C > A > B</answer>", "CAB", ok=True),
    OrderRow(" <think>A > B > C</think>\n<answer>\n[B] [A] [C]\n</answer>\n", "BAC", ok=True),
    OrderRow("<think>hm</think><answer>C</answer>", "C"),
    OrderRow("<think>hm</think><answer>C > C > B</answer>", "CB"),
    OrderRow("<think>hm</think><answer>C > A > X</answer>", "CA", form=False),
    OrderRow("<think>hm</think><answer>c > a > b</answer>", "CAB", form=False),
    OrderRow("<think>hm</think><answer>best [C], then [A] [B]</answer>", "CAB", form=False),
    OrderRow("<think>hm</think><answer></answer>", ""),
    OrderRow("<think>C > A > B</think><answer>none</answer>", "", form=False),
    OrderRow("<think>hm</think><answer>C > A > B", "CAB", tags=False, form=False),
    OrderRow("<think>hm</think>C > A > B", "CAB", tags=False, form=False),
    OrderRow("<think>hm<answer>C > A > B</answer>", "CAB", tags=False, form=False),
    OrderRow("<answer>C > A > B</answer>", "CAB", tags=False, form=False),
    OrderRow("<think>hm</think><answer>C > A > B</answer><answer>B</answer>", "B", tags=False, form=False),
    OrderRow("<think>a<think>b</think><answer>C > A > B</answer>", "CAB", tags=False, form=False),
    OrderRow("<answer>B > A", "BA", tags=False, form=False),
    OrderRow("C > A > B", "", tags=False, form=False),
    OrderRow("<think>C > A > B", "", tags=False, form=False),
    OrderRow("<think>C > A > B</think>", "", tags=False, form=False),
    OrderRow("", "", tags=False, form=False),
]
# Labels that are asked for without a separator, named by the letters in their place.
JOINED_ORDERS = [
    OrderRow("<3><1><2>", "CAB", ok=True),
    OrderRow("<1><2><3>\n", "ABC", ok=True),
    OrderRow("<3><1>", "CA"),
    OrderRow("<3><3><1><2>", "CAB"),
    OrderRow("<4><3><1><2>", "CAB", form=False),
    OrderRow("best<3><1><2>", "CAB", form=False),
    OrderRow("<answer><3><1><2></answer>", "CAB", tags=False, form=False),
    OrderRow("<4><5>", "", form=False),
    OrderRow("312", "", form=False),
    OrderRow("", ""),
]
ORDER_TABLES: list[tuple[OrderRow, tuple[str, ...], dict[str, bool]]] = [
    *((row, LETTERS, {}) for row in (*WELL_FORMED_ORDERS, *MALFORMED_ORDERS)),
    *((row, LETTERS, {"reasoning": True}) for row in REASONED_ORDERS),
    *((row, BRACKETED, {"joined": True}) for row in JOINED_ORDERS),
]

WELL_FORMED_LABELS = [LabelRow("A", "A", "ok"), LabelRow("B\n", "B", "ok"), LabelRow(" C ", "C", "ok")]
MALFORMED_LABELS = [
    LabelRow("c", "C", "repaired"),
    LabelRow("C.", "C", "repaired"),
    LabelRow("[C]", "C", "repaired"),
    LabelRow("**C**", "C", "repaired"),
    LabelRow("(b)", "B", "repaired"),
    LabelRow("The best is C", "C", "repaired"),
    LabelRow("It is [A].", "A", "repaired"),
    LabelRow("C C C", "C", "repaired"),
    LabelRow("C > D", "C", "repaired"),
    LabelRow("Passage B, for it is near", "B", "repaired"),
    LabelRow("the answer is A", "A", "repaired"),
    LabelRow("C: because it says so", "C", "repaired"),
    LabelRow("<answer>C</answer>", "C", "repaired"),
    LabelRow("A <answer>B", "B", "repaired"),
    LabelRow("A dog is no cat", None, "failed"),
    LabelRow("C > A > B", None, "failed"),
    LabelRow("A or C", None, "failed"),
    LabelRow("[A] or [C]", None, "failed"),
    LabelRow("AC", None, "failed"),
    LabelRow("D", None, "failed"),
    LabelRow("[D]", None, "failed"),
    LabelRow("1", None, "failed"),
    LabelRow("none of them", None, "failed"),
    LabelRow("I do not know", None, "failed"),
    LabelRow(".", None, "failed"),
    LabelRow("", None, "failed"),
    LabelRow(" \n\t", None, "failed"),
    LabelRow("C <answer></answer>", None, "failed"),
    LabelRow("С", None, "failed"),  # a Cyrillic letter
    LabelRow("\ud800\x00", None, "failed"),
    LabelRow("<think>C</think>", None, "failed"),
]
REASONED_LABELS = [
    LabelRow("<think>A?</think><answer>C</answer>", "C", "ok"),
    LabelRow(" <think></think>\n<answer>\nB\n</answer>\n", "B", "ok"),
    LabelRow("<answer>C</answer>", "C", "repaired"),
    LabelRow("<think>A</think>C", "C", "repaired"),
    LabelRow("<think>A</think><answer>C", "C", "repaired"),
    LabelRow("<think>A</think> so <answer>C</answer>", "C", "repaired"),
    LabelRow("<think>A</think><answer>[C]</answer>", "C", "repaired"),
    LabelRow("<think>A</think><answer>c</answer>", "C", "repaired"),
    LabelRow("<think>A</think><answer>A</answer><answer>C</answer>", "C", "repaired"),
    LabelRow("<think>A<think>B</think><answer>C</answer>", "C", "repaired"),
    LabelRow("C", None, "failed"),
    LabelRow("<think>C</think>", None, "failed"),
    LabelRow("<think>C", None, "failed"),
    LabelRow("<think>C</think><answer></answer>", None, "failed"),
    LabelRow("<think>C</think><answer>A B</answer>", None, "failed"),
    LabelRow("<think>C</think><answer>D</answer>", None, "failed"),
    LabelRow("", None, "failed"),
]
LABEL_TABLES: list[tuple[LabelRow, bool]] = [
    *((row, False) for row in (*WELL_FORMED_LABELS, *MALFORMED_LABELS)),
    *((row, True) for row in REASONED_LABELS),
]

WELL_FORMED_GRADES = [
    *(LabelRow(grade, grade, "ok") for grade in GRADES),
    LabelRow(" 3\n", "3", "ok"),
]
MALFORMED_GRADES = [
    LabelRow("4.", "4", "repaired"),
    LabelRow("[3]", "3", "repaired"),
    LabelRow("**2**", "2", "repaired"),
    LabelRow("(0)", "0", "repaired"),
    LabelRow("'1'", "1", "repaired"),
    LabelRow("Grade: 3", "3", "repaired"),
    LabelRow("The grade is 4!", "4", "repaired"),
    LabelRow("3 of course", "3", "repaired"),
    LabelRow("2 2 2", "2", "repaired"),
    LabelRow("3 out of 10", "3", "repaired"),
    LabelRow("4 > 5", "4", "repaired"),
    LabelRow("<answer>1</answer>", "1", "repaired"),
    LabelRow("4 <answer>0", "0", "repaired"),
    LabelRow("3 or 4", None, "failed"),
    LabelRow("0, 1, 2, 3, 4", None, "failed"),
    LabelRow("3 out of 4", None, "failed"),
    LabelRow("3/4", None, "failed"),
    LabelRow("3.5", None, "failed"),
    LabelRow("2-3", None, "failed"),
    LabelRow("5", None, "failed"),
    LabelRow("-1", None, "failed"),
    LabelRow("10", None, "failed"),
    LabelRow("03", None, "failed"),
    LabelRow("44", None, "failed"),
    LabelRow("1e0", None, "failed"),
    LabelRow("three", None, "failed"),
    LabelRow("yes", None, "failed"),
    LabelRow("highly relevant", None, "failed"),
    LabelRow("", None, "failed"),
    LabelRow("\n\n", None, "failed"),
    LabelRow("?", None, "failed"),
    LabelRow("nan", None, "failed"),
    LabelRow("³", None, "failed"),
    LabelRow("4 <answer> </answer>", None, "failed"),
    LabelRow("\x00", None, "failed"),
]
REASONED_GRADES = [
    LabelRow("<think>2?</think><answer>4</answer>", "4", "ok"),
    LabelRow(" <think></think>\n<answer>\n0\n</answer>\n", "0", "ok"),
    LabelRow("<answer>3</answer>", "3", "repaired"),
    LabelRow("<think>1</think>3", "3", "repaired"),
    LabelRow("<think>1</think><answer>2", "2", "repaired"),
    LabelRow("<think>1</think> so <answer>4</answer>", "4", "repaired"),
    LabelRow("<think>1</think><answer>grade 1</answer>", "1", "repaired"),
    LabelRow("<think>1</think><answer>1</answer><answer>3</answer>", "3", "repaired"),
    LabelRow("3", None, "failed"),
    LabelRow("<think>3</think>", None, "failed"),
    LabelRow("<think>3", None, "failed"),
    LabelRow("<think>3</think><answer></answer>", None, "failed"),
    LabelRow("<think>3</think><answer>2 or 3</answer>", None, "failed"),
    LabelRow("<think>3</think><answer>7</answer>", None, "failed"),
    LabelRow("", None, "failed"),
]
GRADE_TABLES: list[tuple[LabelRow, bool]] = [
    *((row, False) for row in (*WELL_FORMED_GRADES, *MALFORMED_GRADES)),
    *((row, True) for row in REASONED_GRADES),
]


def example(grades: Mapping[str, float], *, id: str = "list") -> RankingExample:
    """Return a list in the order of the grades that are given."""
    return RankingExample(id, "query", tuple(Candidate(name, f"text of {name}") for name in grades), relevance=grades)


def numbered(grades: Sequence[float]) -> RankingExample:
    """Return a list of candidates 0, 1, 2, …"""
    return example({str(place): float(grade) for place, grade in enumerate(grades)})


def read_order(reply: str, labels: tuple[str, ...], names: Sequence[str], **options: Any) -> tuple[Order, ParsedOrder]:
    """Read a reply as the strategy does: whom it named, and what the parser made of it."""
    parsed = parse_order(reply, labels, **options)
    ids = dict(zip(labels, names, strict=True))
    return Order(tuple(ids[label] for label in parsed.order[: parsed.named])), parsed


def whole(order: Sequence[int]) -> tuple[Order, ParsedOrder]:
    """Return an order of all candidates in perfect form."""
    named = tuple(map(str, order))
    return Order(named), ParsedOrder("ok", named, len(named))


def read_grade(
    reply: str, candidate: str, others: Mapping[str, int | None], *, reasoning: bool = False
) -> tuple[Grading, ParsedLabel]:
    """Read a grade from 0 to 4, given those of the others."""
    parsed = parse_label(reply, GRADES, reasoning=reasoning)
    grade = None if parsed.label is None else GRADES.index(parsed.label)
    return Grading(candidate, grade, 4, {**others, candidate: grade}), parsed


def graded(candidate: str, grades: Mapping[str, int | None], *, top: int = 4) -> tuple[Grading, ParsedLabel]:
    """Return a candidate's grade among all, in perfect form."""
    grade = grades[candidate]
    parsed = ParsedLabel("failed", None) if grade is None else ParsedLabel("ok", str(grade))
    return Grading(candidate, grade, top, grades), parsed


@st.composite
def orders(draw: st.DrawFn, *, least: int = 2, most: int = 12) -> tuple[list[float], list[int]]:
    """Draw the relevance of a list, and an order of it."""
    n = draw(st.integers(least, most))
    some = st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 3.0])
    return draw(st.lists(some, min_size=n, max_size=n)), draw(st.permutations(range(n)))


@st.composite
def gradings(draw: st.DrawFn, *, least: int = 1, most: int = 6) -> tuple[list[float], dict[str, int | None], int]:
    """Draw the relevance of a list, a grade for each candidate or None, and the highest grade."""
    n, top = draw(st.integers(least, most)), draw(st.sampled_from([1, 2, 4, 10]))
    relevance = draw(st.lists(st.sampled_from([0.0, 0.0, 0.5, 1.0, 2.0, 3.0]), min_size=n, max_size=n))
    found = draw(st.lists(st.none() | st.integers(0, top), min_size=n, max_size=n))
    return relevance, {str(place): grade for place, grade in enumerate(found)}, top
