from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import Any

import pytest
from unified_ranker.rewards import Removal, Reward, binary, graded

from unified_ranker.errors import DataError, OptionError
from unified_ranker.parsing import ParsedLabel, parse_label
from unified_ranker.schema import Candidate, RankingExample

LABELS = ("A", "B", "C")
IDS = dict(zip(LABELS, ("best", "bad", "worse"), strict=True))
GRADES = {"best": 3.0, "bad": 1.0}

# What the removal of each is worth, by hand. The list's best DCG is 3 + 1 / log2(3). With "best" at place 3, at most
# 1 + 3 / log2(4) of it is left; with "bad" there, 3 + 1 / log2(4).
IDEAL = 3 + 1 / log2(3)
CHOICES = {
    "binary": {"A": 0.0, "B": 1.0, "C": 1.0},
    "ndcg": {"A": 2.5 / IDEAL, "B": 3.5 / IDEAL, "C": 1.0},
    "rr": {"A": 1 / 3, "B": 1.0, "C": 1.0},
}

# Reply, the label that is read from it, and the parts besides the choice: label, answer, format.
Row = tuple[str, str | None, float, float, float]

WELL_FORMED: list[Row] = [
    ("A", "A", 0.0, 0.0, 0.0),
    ("B", "B", 0.0, 0.0, 0.0),
    ("C", "C", 0.0, 0.0, 0.0),
    (" B\n", "B", 0.0, 0.0, 0.0),
]
MALFORMED: list[Row] = [
    ("a", "A", 0.0, 0.0, -0.25),
    (" c \n", "C", 0.0, 0.0, -0.25),
    ("B.", "B", 0.0, 0.0, -0.25),
    ("B:", "B", 0.0, 0.0, -0.25),
    ("B...", "B", 0.0, 0.0, -0.25),
    ("[B].", "B", 0.0, 0.0, -0.25),
    ("[a]", "A", 0.0, 0.0, -0.25),
    ("(A)", "A", 0.0, 0.0, -0.25),
    ("**C**", "C", 0.0, 0.0, -0.25),
    ("`C`", "C", 0.0, 0.0, -0.25),
    ('"A"', "A", 0.0, 0.0, -0.25),
    ("> B", "B", 0.0, 0.0, -0.25),
    ("C, C, C", "C", 0.0, 0.0, -0.25),
    ("[B] [B]", "B", 0.0, 0.0, -0.25),
    ("[Z] or [B]", "B", 0.0, 0.0, -0.25),
    ("Label: B", "B", 0.0, 0.0, -0.25),
    ("The label is [C].", "C", 0.0, 0.0, -0.25),
    ("It must be A", "A", 0.0, 0.0, -0.25),
    ("B because it is off topic", "B", 0.0, 0.0, -0.25),
    ("B\n\nExplanation: it is off topic.", "B", 0.0, 0.0, -0.25),
    ("<think>off topic</think>B", "B", 0.0, 0.0, -0.25),
    ("<answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("<answer>A", "A", 0.0, 0.0, -0.25),
    ("so <answer>[C]</answer> it is", "C", 0.0, 0.0, -0.25),
    ("<answer>A</answer><answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("D", None, -0.5, 0.0, -0.25),
    ("[D]", None, -0.5, 0.0, -0.25),
    ("1", None, -0.5, 0.0, -0.25),
    ("<1>", None, -0.5, 0.0, -0.25),
    ("AB", None, -0.5, 0.0, -0.25),
    ("ABC", None, -0.5, 0.0, -0.25),
    ("A or B", None, -0.5, 0.0, -0.25),
    ("B and C", None, -0.5, 0.0, -0.25),
    ("A > B > C", None, -0.5, 0.0, -0.25),
    ("[A][B]", None, -0.5, 0.0, -0.25),
    ("none of them", None, -0.5, 0.0, -0.25),
    ("A is a good one", None, -0.5, 0.0, -0.25),
    ("?", None, -0.5, 0.0, -0.25),
    ("\x00", None, -0.5, 0.0, -0.25),
    ("\uff22", None, -0.5, 0.0, -0.25),
    ("<think>B</think>", None, -0.5, 0.0, -0.25),
    ("</answer>", None, -0.5, 0.0, -0.25),
    ("<answer>none</answer>", None, -0.5, 0.0, -0.25),
    ("", None, 0.0, -1.0, -0.25),
    ("  \n ", None, 0.0, -1.0, -0.25),
    ("\u2028", None, 0.0, -1.0, -0.25),
    ("<answer>", None, 0.0, -1.0, -0.25),
    ("<answer></answer>", None, 0.0, -1.0, -0.25),
    ("B <answer> \n </answer>", None, 0.0, -1.0, -0.25),
]
WELL_FORMED_REASONED: list[Row] = [
    ("<think>hm</think><answer>A</answer>", "A", 0.0, 0.0, 0.0),
    (" <think>\n A? no! \n</think>\n\n<answer>\nB\n</answer>\n", "B", 0.0, 0.0, 0.0),
    ("<think></think><answer>C</answer>", "C", 0.0, 0.0, 0.0),
]
MALFORMED_REASONED: list[Row] = [
    ("<answer>A</answer>", "A", 0.0, 0.0, -0.25),
    ("<think>hm</think>B", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think>[A].", "A", 0.0, 0.0, -0.25),
    ("</think>C", "C", 0.0, 0.0, -0.25),
    ("hm</think><answer>C</answer>", "C", 0.0, 0.0, -0.25),
    ("<think>hm<answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>B", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think> so: <answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>A</answer> done", "A", 0.0, 0.0, -0.25),
    ("Well. <think>hm</think><answer>C</answer>", "C", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>A</answer><answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer><answer>B</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>A</think><think>B</think><answer>C</answer>", "C", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>b</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>A.</answer>", "A", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>[B]</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>it is B</answer>", "B", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>C, C</answer>", "C", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>D</answer>", None, -0.5, 0.0, -0.25),
    ("<think>A</think><answer>nobody</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think><answer>A B</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think><answer>[A] or [C]</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think><answer>A > B > C</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think><answer>.</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think><answer>B</answer><answer>?</answer>", None, -0.5, 0.0, -0.25),
    ("<think>hm</think>none", None, -0.5, 0.0, -0.25),
    ("<answer>D</answer>", None, -0.5, 0.0, -0.25),
    ("", None, 0.0, -1.0, -0.25),
    (" \n", None, 0.0, -1.0, -0.25),
    ("B", None, 0.0, -1.0, -0.25),
    ("[B]", None, 0.0, -1.0, -0.25),
    ("The answer is B.", None, 0.0, -1.0, -0.25),
    ("</answer>", None, 0.0, -1.0, -0.25),
    ("<think>hm", None, 0.0, -1.0, -0.25),
    ("<think>I would say B", None, 0.0, -1.0, -0.25),
    ("<think>B<think>", None, 0.0, -1.0, -0.25),
    ("<THINK>hm</THINK><ANSWER>B</ANSWER>", None, 0.0, -1.0, -0.25),
    ("<think>hm</think>", None, 0.0, -1.0, -0.25),
    ("<think>hm</think><answer>", None, 0.0, -1.0, -0.25),
    ("<think></think><answer></answer>", None, 0.0, -1.0, -0.25),
    ("<think>B</think><answer> \n</answer>", None, 0.0, -1.0, -0.25),
]
BARE, REASONED = [*WELL_FORMED, *MALFORMED], [*WELL_FORMED_REASONED, *MALFORMED_REASONED]

WAYS: dict[str, tuple[Callable[..., Reward], dict[str, Any]]] = {
    "binary": (binary, {}),
    "ndcg": (graded, {"measure": "ndcg"}),
    "rr": (graded, {"measure": "rr"}),
}
EACH_WAY = pytest.mark.parametrize("way", list(WAYS))


def example(grades: dict[str, float], names: tuple[str, ...] = tuple(IDS.values())) -> RankingExample:
    return RankingExample("list", "query", tuple(Candidate(name, name) for name in names), relevance=grades)


def reward(way: str, reply: str, *, reasoning: bool = False, grades: dict[str, float] | None = None) -> Reward:
    """Reward the first step of an elimination."""
    parsed = parse_label(reply, LABELS, reasoning=reasoning)
    step = Removal(tuple(IDS.values()), IDS[parsed.label] if parsed.label else None)
    function, options = WAYS[way]
    return function(example(GRADES if grades is None else grades), step, parsed, **options)


def removal(way: str, grades: dict[str, float], removed: str, in_play: str = "") -> float:
    """Return what a well-formed removal is worth; candidates are named by one letter."""
    step = Removal(tuple(in_play or grades), removed)
    function, options = WAYS[way]
    found = function(example(grades, tuple(grades)), step, ParsedLabel("ok", "A"), **options)
    assert found.total == found.parts["choice"]
    return found.total


@EACH_WAY
@pytest.mark.parametrize(
    ("reasoning", "row"),
    [*((False, row) for row in BARE), *((True, row) for row in REASONED)],
    ids=lambda value: repr(value[0]) if isinstance(value, tuple) else "reasoned" if value else "bare",
)
def test_each_reply_has_exactly_these_parts(way: str, reasoning: bool, row: Row) -> None:
    reply, named, label, answer, form = row
    choice = CHOICES[way][named] if named else 0.0
    found = reward(way, reply, reasoning=reasoning)
    assert found.parts == pytest.approx(
        {"choice": choice, "label": label, "answer": answer, "format": form}, rel=0, abs=1e-12
    )
    assert found.total == pytest.approx(choice + label + answer + form, rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    for rows in (MALFORMED, MALFORMED_REASONED):
        assert len({row[0] for row in rows}) == len(rows) >= 30
        assert len({row[1:] for row in rows}) == 5


def test_the_default_measure_is_ndcg() -> None:
    step, parsed = Removal(tuple(IDS.values()), "best"), ParsedLabel("ok", "A")
    assert graded(example(GRADES), step, parsed) == graded(example(GRADES), step, parsed, measure="ndcg")
    assert graded(example(GRADES), step, parsed) != graded(example(GRADES), step, parsed, measure="rr")


@pytest.mark.parametrize(
    ("grades", "in_play", "expected"),
    [
        ({"a": 1, "b": 0, "c": 0}, "abc", {"a": 0.0, "b": 1.0, "c": 1.0}),
        ({"a": 3, "b": 2, "c": 0}, "abc", {"a": 0.0, "b": 1.0, "c": 1.0}),
        ({"a": 2, "b": 2, "c": 1}, "abc", {"a": 0.0, "b": 0.0, "c": 1.0}),
        ({"a": 3, "b": 2, "c": 0}, "bc", {"b": 0.0, "c": 1.0}),
        ({"a": 3, "b": 2, "c": 2}, "bc", {"b": 1.0, "c": 1.0}),
        ({"a": 2, "b": 2, "c": 2}, "abc", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ({"a": 0, "b": 0, "c": 0}, "abc", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ({"a": 0.2, "b": 0.1, "c": 0}, "ab", {"a": 0.0, "b": 1.0}),
    ],
)
def test_a_removal_is_right_unless_it_takes_one_of_the_best_in_play(
    grades: dict[str, float], in_play: str, expected: dict[str, float]
) -> None:
    assert {name: removal("binary", grades, name, in_play) for name in expected} == expected


# Discounts of places 1 to 5, written out.
D = [1 / log2(2), 1 / log2(3), 1 / log2(4), 1 / log2(5), 1 / log2(6)]


@pytest.mark.parametrize(
    ("grades", "in_play", "expected"),
    [
        # One positive: to lose it at place k leaves the discount of that place.
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "abcd", {"a": D[3], "b": 1, "c": 1, "d": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "abd", {"a": D[2], "b": 1, "d": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "ac", {"a": D[1], "c": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "bcd", {"b": 1, "c": 1, "d": 1}),
        # Two of one grade: whichever goes first loses place 2 for place 4.
        (
            {"a": 2, "b": 2, "c": 0, "d": 0},
            "abcd",
            {"a": (1 + D[3]) / (1 + D[1]), "b": (1 + D[3]) / (1 + D[1]), "c": 1},
        ),
        # Four grades, each at place 4 in turn, the others in their best order.
        (
            {"a": 3, "b": 2, "c": 1, "d": 0},
            "abcd",
            {
                "a": (2 + 1 * D[1] + 3 * D[3]) / (3 + 2 * D[1] + 1 * D[2]),
                "b": (3 + 1 * D[1] + 2 * D[3]) / (3 + 2 * D[1] + 1 * D[2]),
                "c": (3 + 2 * D[1] + 1 * D[3]) / (3 + 2 * D[1] + 1 * D[2]),
                "d": 1,
            },
        ),
        # Later in the same list, when the best has gone: what it cost is not charged again, the rest is charged by the
        # whole list.
        (
            {"a": 3, "b": 2, "c": 1, "d": 0},
            "bcd",
            {
                "b": 1 - ((2 + 1 * D[1]) - (1 + 2 * D[2])) / (3 + 2 * D[1] + 1 * D[2]),
                "c": 1 - (1 * D[1] - 1 * D[2]) / (3 + 2 * D[1] + 1 * D[2]),
                "d": 1,
            },
        ),
        ({"a": 0.5, "b": 0.25, "c": 0}, "abc", {"a": (0.25 + 0.5 * D[2]) / (0.5 + 0.25 * D[1]), "c": 1}),
        ({"a": 4, "b": 4, "c": 4}, "abc", {"a": 1, "b": 1, "c": 1}),
        ({"a": 0, "b": 0}, "ab", {"a": 1, "b": 1}),
    ],
)
def test_a_removal_is_worth_the_ndcg_that_it_leaves(
    grades: dict[str, float], in_play: str, expected: dict[str, float]
) -> None:
    found = {name: removal("ndcg", grades, name, in_play) for name in expected}
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("grades", "in_play", "expected"),
    [
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "abcd", {"a": 1 / 4, "b": 1, "c": 1, "d": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "abd", {"a": 1 / 3, "b": 1, "d": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "ac", {"a": 1 / 2, "c": 1}),
        ({"a": 1, "b": 0, "c": 0, "d": 0}, "bcd", {"b": 1, "c": 1, "d": 1}),
        # Only the best grade counts.
        ({"a": 3, "b": 2, "c": 1, "d": 0}, "abcd", {"a": 1 / 4, "b": 1, "c": 1, "d": 1}),
        ({"a": 3, "b": 2, "c": 1, "d": 0}, "bcd", {"b": 1, "c": 1, "d": 1}),
        # As long as another of the best is in play, nothing is lost.
        ({"a": 3, "b": 3, "c": 1, "d": 0}, "abcd", {"a": 1, "b": 1, "c": 1, "d": 1}),
        ({"a": 3, "b": 3, "c": 1, "d": 0}, "bcd", {"b": 1 / 3, "c": 1, "d": 1}),
        ({"a": 4, "b": 4, "c": 4}, "abc", {"a": 1, "b": 1, "c": 1}),
    ],
)
def test_a_removal_is_worth_the_reciprocal_rank_that_it_leaves(
    grades: dict[str, float], in_play: str, expected: dict[str, float]
) -> None:
    found = {name: removal("rr", grades, name, in_play) for name in expected}
    assert found == pytest.approx(expected, rel=0, abs=1e-12)


@EACH_WAY
def test_a_form_that_was_not_asked_for_costs_the_same_whatever_the_choice(way: str) -> None:
    for label in LABELS:
        assert reward(way, f"[{label}]").total == pytest.approx(reward(way, label).total - 0.25)


@EACH_WAY
@pytest.mark.parametrize("reasoning", [False, True])
def test_no_failed_reply_earns_as_much_as_the_worst_choice_in_the_worst_form(way: str, reasoning: bool) -> None:
    rows = MALFORMED_REASONED if reasoning else MALFORMED
    worst = min(reward(way, reply, reasoning=reasoning).total for reply, named, *_ in rows if named)
    for reply, named, *_ in rows:
        if named is None:
            assert reward(way, reply, reasoning=reasoning).total <= worst - 0.5


@EACH_WAY
@pytest.mark.parametrize("reply", ["A", "[A].", "", "?"])
def test_the_parts_have_the_same_names_in_every_domain(way: str, reply: str) -> None:
    assert list(reward(way, reply).parts) == ["choice", "label", "answer", "format"]


@EACH_WAY
@pytest.mark.parametrize(
    ("in_play", "removed"),
    [(("bad", "worse"), "best"), (("best", "bad"), "unheard of"), ((), "best"), (("best", "bad"), "")],
)
def test_the_removal_of_a_candidate_that_is_not_in_play_is_refused(
    way: str, in_play: tuple[str, ...], removed: str
) -> None:
    function, options = WAYS[way]
    with pytest.raises(DataError, match=f"example 'list': the removed candidate '{removed}' is not in play"):
        function(example(GRADES), Removal(in_play, removed), ParsedLabel("ok", "A"), **options)


@pytest.mark.parametrize(("removed", "reply"), [("best", "A"), (None, "")], ids=["read", "failed"])
def test_an_unknown_measure_is_refused_with_the_nearest_name(removed: str | None, reply: str) -> None:
    measure: Any = "ndgc"
    parsed = parse_label(reply, LABELS)
    with pytest.raises(OptionError, match="measure='ndgc' is not known; did you mean 'ndcg'"):
        graded(example(GRADES), Removal(tuple(IDS.values()), removed), parsed, measure=measure)


@EACH_WAY
def test_a_failed_reply_earns_no_choice_whatever_the_list(way: str) -> None:
    for grades in ({}, GRADES, dict.fromkeys(IDS.values(), 2.0)):
        assert reward(way, "?", grades=grades).total == -0.75
        assert reward(way, "", grades=grades).total == -1.25
