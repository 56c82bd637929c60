from __future__ import annotations

import pytest
from unified_ranker.rewards import Reward, binary

from unified_ranker.parsing import parse_label
from unified_ranker.schema import Candidate, RankingExample

LABELS = ("A", "B", "C")
IDS = dict(zip(LABELS, ("best", "bad", "worse"), strict=True))


def example(**grades: float) -> RankingExample:
    return RankingExample("list", "query", tuple(Candidate(id, id) for id in IDS.values()), relevance=grades)


def reward(reply: str, *, reasoning: bool = False, **grades: float) -> Reward:
    parsed = parse_label(reply, LABELS, reasoning=reasoning)
    return binary(example(**(grades or {"best": 1.0})), IDS[parsed.label] if parsed.label else None, parsed)


@pytest.mark.parametrize(
    ("reply", "choice", "form"),
    [
        ("B", 1.0, 0.0),
        ("C", 1.0, 0.0),
        ("A", 0.0, 0.0),
        ("[B].", 1.0, -0.25),
        ("a", 0.0, -0.25),
        ("B and C", -0.5, -0.25),
        ("D", -0.5, -0.25),
        ("none of them", -0.5, -0.25),
        ("", -1.0, -0.25),
        ("  \n ", -1.0, -0.25),
    ],
)
def test_a_bare_reply_is_rewarded(reply: str, choice: float, form: float) -> None:
    assert reward(reply).parts == {"choice": choice, "format": form}
    assert reward(reply).total == choice + form


@pytest.mark.parametrize(
    ("reply", "choice", "form"),
    [
        ("<think>hm</think><answer>B</answer>", 1.0, 0.0),
        ("<think>hm</think><answer>A</answer>", 0.0, 0.0),
        ("<answer>B</answer>", 1.0, -0.25),
        ("<think>hm</think>B", 1.0, -0.25),
        ("<think>hm", -1.0, -0.25),
        ("<think></think><answer></answer>", -1.0, -0.25),
        ("<think>A</think><answer>nobody</answer>", -0.5, -0.25),
    ],
)
def test_a_reasoned_reply_is_rewarded(reply: str, choice: float, form: float) -> None:
    assert reward(reply, reasoning=True).parts == {"choice": choice, "format": form}


def test_with_grades_only_the_best_must_stay() -> None:
    grades = {"best": 3.0, "bad": 2.0, "worse": 0.0}
    assert [reward(label, **grades).total for label in LABELS] == [0.0, 1.0, 1.0]


def test_where_all_are_equal_any_removal_is_right() -> None:
    grades = dict.fromkeys(IDS.values(), 2.0)
    assert [reward(label, **grades).total for label in LABELS] == [1.0, 1.0, 1.0]


def test_the_parts_add_up_and_have_the_same_names_always() -> None:
    rewards = [reward(reply) for reply in ("A", "B", "", "?", "[C]")]
    assert {tuple(found.parts) for found in rewards} == {("choice", "format")}
    assert all(found.total == sum(found.parts.values()) for found in rewards)
