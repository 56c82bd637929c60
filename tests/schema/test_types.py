from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, Ranking, RankingExample, Step, Usage, places_below

A, B, C = (Candidate(key, f"text of {key}", title) for key, title in (("a", "Ant"), ("b", ""), ("c", "Cat")))
NAN = float("nan")


def ranking(**changes: Any) -> Ranking:
    return Ranking(**{"example_id": "q", "order": (B, A, C), "scores": (2.0, 1.0, 0.5), **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": (B, A, B)}, "order holds an id twice: ['b', 'a', 'b']"),
        ({"order": (B, Candidate("b", "other")), "scores": (1.0, 0.0)}, "order holds an id twice"),
        ({"order": (B, A)}, "2 candidates but 3 scores"),
        ({"scores": (2.0, 1.0)}, "3 candidates but 2 scores"),
        ({"scores": ()}, "3 candidates but 0 scores"),
        ({"scores": (2.0, 2.0, 1.0)}, "scores must strictly decrease: (2.0, 2.0, 1.0)"),
        ({"scores": (2.0, 1.0, 1.0)}, "scores must strictly decrease"),
        ({"scores": (1.0, 2.0, 3.0)}, "scores must strictly decrease"),
        ({"scores": (0.0, -0.0, -1.0)}, "scores must strictly decrease"),
        ({"scores": (float("inf"), float("inf"), 0.0)}, "scores must strictly decrease"),
        ({"scores": (NAN, 1.0, 0.0)}, "scores must strictly decrease"),
        ({"scores": (2.0, NAN, 0.0)}, "scores must strictly decrease"),
        ({"scores": (2.0, 1.0, NAN)}, "scores must strictly decrease"),
    ],
)
def test_a_ranking_refuses_what_is_no_strict_order(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        ranking(**changes)
    assert str(caught.value).startswith("ranking of 'q': ")
    assert message in str(caught.value)


def test_candidates_of_one_text_may_stand_in_one_ranking() -> None:
    assert ranking(order=(A, Candidate("z", A.text)), scores=(1.0, 0.0)).ids == ("a", "z")


def test_iterating_gives_the_places_best_first() -> None:
    assert [(p.rank, p.id, p.text, p.score) for p in ranking()] == [
        (1, "b", "text of b", 2.0),
        (2, "a", "text of a", 1.0),
        (3, "c", "text of c", 0.5),
    ]


def test_a_ranking_can_be_iterated_twice_and_indexed() -> None:
    found = ranking()
    assert list(found) == list(found)
    assert found[0].id == "b"
    assert found[-1].id == "c"
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize(("top_k", "shown"), [(None, "bac"), (1, "b"), (2, "ba"), (3, "bac"), (4, "bac"), (0, "")])
def test_top_k_limits_all_that_is_shown_and_nothing_else(top_k: int | None, shown: str) -> None:
    found = ranking(top_k=top_k)
    assert found.ids == tuple(shown)
    assert [place.id for place in found] == list(shown)
    assert len(found) == len(shown)
    assert [place["id"] for place in found.to_dict()["ranking"]] == list(shown)
    assert len(found.to_trec().splitlines()) == len(shown)
    assert found.order == (B, A, C)
    assert len(found.scores) == 3


def test_a_ranking_of_one_candidate_stands() -> None:
    alone = ranking(order=(A,), scores=(0.0,))
    assert (len(alone), alone.ids) == (1, ("a",))


def test_to_dict_is_plain_and_serialisable_with_steps_and_usage() -> None:
    step = Step(0, "B.", "repaired", "why", chosen=("b",), in_play=3, reasoning="hm", logprobs={"b": -0.5}, attempts=2)
    found = ranking(steps=(step,), usage=Usage(calls=1, prompt_tokens=9, reused_tokens=4), method="iranker").to_dict()
    assert json.loads(json.dumps(found)) == found
    assert (found["id"], found["method"]) == ("q", "iranker")
    assert found["ranking"][1] == {"rank": 2, "id": "a", "title": "Ant", "text": "text of a", "score": 1.0}
    assert found["steps"] == [
        {
            "index": 0,
            "outcome": "repaired",
            "reason": "why",
            "chosen": ["b"],
            "in_play": 3,
            "reply": "B.",
            "reasoning": "hm",
            "logprobs": {"b": -0.5},
            "attempts": 2,
        }
    ]
    assert found["usage"]["computed_tokens"] == 5


def test_to_dict_holds_every_field_of_usage_and_step() -> None:
    found = ranking(steps=(Step(0, "", "ok"),)).to_dict()
    assert set(found["usage"]) == {field.name for field in fields(Usage)} | {"computed_tokens"}
    # Labels of every step would make a file grow with the square of a list's length.
    assert set(found["steps"][0]) == {field.name for field in fields(Step)} - {"labels"}


counts = st.integers(0, 10**9)
usages = st.builds(Usage, **{field.name: counts for field in fields(Usage)})


@settings(deadline=None, derandomize=True, max_examples=60)
@given(usages, usages)
def test_usage_adds_field_by_field(one: Usage, two: Usage) -> None:
    total = one + two
    for field in fields(Usage):
        assert getattr(total, field.name) == getattr(one, field.name) + getattr(two, field.name)
    assert total == two + one
    assert one + Usage() == one
    assert total.computed_tokens == one.computed_tokens + two.computed_tokens


@pytest.mark.parametrize(("n", "scores"), [(0, ()), (1, (0.0,)), (3, (2.0, 1.0, 0.0))])
def test_places_below_counts_what_stands_below(n: int, scores: tuple[float, ...]) -> None:
    assert places_below(n) == scores


def test_an_unjudged_candidate_has_grade_zero() -> None:
    example = RankingExample("e", "q", (A, B), relevance={"a": 2})
    assert (example.grade("a"), example.grade("b"), example.grade("nobody")) == (2.0, 0.0, 0.0)


def test_another_list_keeps_the_grades_of_what_is_in_it() -> None:
    example = RankingExample("e", "q", (A, B, C), relevance={"a": 2.0, "c": 1.0}, context=("x",), split="train")
    shorter = example.with_candidates((C, B))
    assert (shorter.candidates, shorter.relevance) == ((C, B), {"c": 1.0})
    assert (shorter.id, shorter.context, shorter.split) == ("e", ("x",), "train")
    assert example.relevance == {"a": 2.0, "c": 1.0}


@pytest.mark.parametrize(
    ("thing", "field"), [(A, "text"), (RankingExample("e", "q", (A,)), "query"), (ranking(), "order")]
)
def test_what_is_passed_around_cannot_be_changed(thing: object, field: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(thing, field, "")
