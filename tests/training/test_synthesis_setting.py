"""What a synthesis may be told, and what is refused before the teacher is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_teachers import setting_of

from unified_ranker.errors import OptionError
from unified_ranker.training.synthesis.setting import Synthesis


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ()}, "tasks is empty"),
        ({"tasks": ("pasage-5",)}, "did you mean 'passage-5'"),
        ({"keep": "consistant"}, "did you mean 'consistent'"),
        ({"negatives": "harder"}, "negatives='harder'"),
        ({"methods": ()}, "methods is empty; choose among: dranker, pointwise"),
        ({"methods": ("dranker", "iranker")}, "methods='iranker'"),
        ({"threshold": -0.01}, r"threshold=-0.01 must be in \[0, 1\]"),
        ({"threshold": 1.01}, r"threshold=1.01 must be in \[0, 1\]"),
        ({"threshold": float("nan")}, r"threshold=nan must be in \[0, 1\]"),
        ({"validation": 1.0}, r"validation=1.0 must be in \[0, 1\)"),
        ({"validation": -0.1}, "validation=-0.1"),
        ({"samples": 0}, "samples=0 must be ≥ 1"),
        ({"top_grade": 0}, "top_grade=0 must be ≥ 1"),
        ({"max_tokens": 0}, "max_tokens=0 must be ≥ 1"),
        ({"limit": 0}, "limit=0 must be ≥ 1"),
        ({"samples": 3}, "samples=3 at temperature=0 would be 3 times the same"),
        ({"negatives": "hard", "tasks": ("movie",)}, "task 'movie' has no such query, use negatives='listed'"),
        ({"negatives": "hard", "tasks": ("passage-5", "router-cost")}, "task 'router-cost' has no such query"),
    ],
)
def test_a_mistake_is_named(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        setting_of(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0.0},
        {"threshold": 1.0},
        {"validation": 0.99},
        {"samples": 3, "temperature": 0.1},
        {"negatives": "hard", "tasks": ("passage-5", "passage-9")},
        {"limit": 1},
        {"tasks": ("movie", "router-cost")},
    ],
)
def test_the_ends_of_each_range_are_taken(changes: dict[str, Any]) -> None:
    found = setting_of(**changes)
    assert {name: getattr(found, name) for name in changes} == changes


def test_the_defaults_are_those_of_the_documentation() -> None:
    found = Synthesis(tasks=("passage-9",))
    assert (found.keep, found.threshold, found.samples) == ("consistent", 0.4, 1)
    assert (found.methods, found.negatives, found.reasoning) == (("dranker",), "listed", True)


def test_a_setting_becomes_plain_types_and_comes_back() -> None:
    found = setting_of(methods=("dranker", "pointwise"), limit=3)
    record = json.loads(json.dumps(found.to_dict()))
    assert (record["tasks"], record["methods"], record["limit"]) == (["passage-5"], ["dranker", "pointwise"], 3)
    back = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
    assert Synthesis(**back) == found
