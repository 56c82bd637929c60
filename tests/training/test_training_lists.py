"""Which part of a list, which of its candidates, and which grade a model is trained on."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from unified_ranker.rewards.grade import whole_grade

from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.lists import balanced, case_of, random_case


def graded(*grades: float) -> RankingExample:
    candidates = tuple(Candidate(f"c{place}", f"text {place}") for place in range(len(grades)))
    return RankingExample(
        "list",
        "query",
        candidates,
        task="movie",
        domain="recommendation",
        context=("before",),
        relevance={f"c{place}": grade for place, grade in enumerate(grades) if grade},
        split="train",
        group="user",
    )


def ids_of(example: RankingExample) -> list[str]:
    return [candidate.id for candidate in example.candidates]


def grade(example: RankingExample, id: str, top: int) -> int:
    (candidate,) = [candidate for candidate in example.candidates if candidate.id == id]
    return whole_grade(example, candidate.id, top=top)


@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("seed", range(5))
def test_a_case_is_one_of_the_best_and_k_worse_ones_in_the_order_of_the_list(k: int, seed: int) -> None:
    example = graded(0, 2, 1, 0, 2, 1)
    case = case_of(example, k, random.Random(seed))
    found = ids_of(case)
    assert len(found) == k + 1
    assert found == sorted(found)
    assert sum(example.grade(id) == 2 for id in found) == 1
    assert case.relevance == {id: example.grade(id) for id in found}
    assert (case.id, case.query, case.task, case.domain) == ("list", "query", "movie", "recommendation")
    assert (case.context, case.split, case.group) == (("before",), "train", "user")


def test_every_best_one_and_every_worse_one_gets_into_cases() -> None:
    example, rng = graded(0, 2, 1, 0, 2, 1), random.Random(0)
    seen = Counter(id for _ in range(400) for id in ids_of(case_of(example, 1, rng)))
    assert set(seen) == {"c0", "c1", "c2", "c3", "c4", "c5"}
    assert all(abs(seen[id] - 200) < 60 for id in ("c1", "c4"))
    assert all(abs(seen[id] - 100) < 45 for id in ("c0", "c2", "c3", "c5"))


@pytest.mark.parametrize("k", [5, 9])
def test_a_case_cannot_have_more_worse_ones_than_the_list(k: int) -> None:
    with pytest.raises(ValueError, match="larger than population"):
        case_of(graded(0, 2, 1, 0, 2, 1), k, random.Random(0))


def test_a_list_is_left_as_it_is_by_a_case_of_all_of_it() -> None:
    example = graded(0, 3, 1)
    assert ids_of(case_of(example, 2, random.Random(0))) == ids_of(example)
    assert ids_of(example) == ["c0", "c1", "c2"]


def test_random_cases_have_every_size_from_two_on_alike() -> None:
    example, rng = graded(1, 0, 0, 0, 0), random.Random(1)
    sizes = Counter(len(random_case(example, rng).candidates) for _ in range(800))
    assert set(sizes) == {2, 3, 4, 5}
    assert all(abs(count - 200) < 60 for count in sizes.values())


def test_a_random_case_holds_a_best_one_and_something_worse() -> None:
    rng = random.Random(2)
    for grades in ((1, 1, 0), (3, 0, 1, 3, 2), (0.5, 0.25, 0.5)):
        example = graded(*grades)
        for _ in range(20):
            found = [example.grade(id) for id in ids_of(random_case(example, rng))]
            assert found.count(max(grades)) == 1
            assert min(found) < max(grades)


@pytest.mark.parametrize("grades", [(0, 0, 0), (2, 2), (1,)])
def test_a_list_of_equals_comes_back_as_it_is_and_draws_nothing(grades: tuple[float, ...]) -> None:
    example, rng = graded(*grades), random.Random(3)
    state = rng.getstate()
    assert random_case(example, rng) is example
    assert rng.getstate() == state


def test_the_best_are_drawn_as_often_as_the_others_however_many_there_are() -> None:
    example, rng = graded(0, 0, 2, 0, 1, 0, 0, 0, 0, 2), random.Random(4)
    drawn = Counter(balanced(example, rng).id for _ in range(2000))
    assert set(drawn) == set(ids_of(example))
    best = drawn["c2"] + drawn["c9"]
    assert abs(best - 1000) < 120
    assert abs(drawn["c2"] - drawn["c9"]) < 120
    assert all(abs(drawn[id] - 125) < 55 for id in ("c0", "c1", "c3", "c4", "c5", "c6", "c7", "c8"))


def test_of_equals_anyone_is_drawn() -> None:
    example, rng = graded(0, 0, 0), random.Random(5)
    assert {balanced(example, rng).id for _ in range(60)} == {"c0", "c1", "c2"}


def test_draws_are_repeatable() -> None:
    example = graded(0, 2, 1, 0, 2, 1)
    for draw in (balanced, random_case):
        assert [draw(example, random.Random(seed)) for seed in range(9)] == [
            draw(example, random.Random(seed)) for seed in range(9)
        ]


@pytest.mark.parametrize(
    ("grades", "top", "wanted"),
    [
        ((3, 2, 1, 0), 4, [4, 3, 1, 0]),
        ((3, 2, 1, 0), 3, [3, 2, 1, 0]),
        ((1, 0, 0), 4, [4, 0, 0]),
        ((1, 0.6, 0.2), 10, [10, 6, 2]),
        ((0.3, 0.2, 0.05), 1, [1, 1, 0]),
        ((100, 1, 99), 4, [4, 0, 4]),
        ((0, 0), 4, [0, 0]),
        ((2, 2), 4, [4, 4]),
    ],
)
def test_a_grade_on_the_scale_is_the_share_of_the_best(grades: tuple[float, ...], top: int, wanted: list[int]) -> None:
    example = graded(*grades)
    found = [grade(example, id, top) for id in ids_of(example)]
    assert found == wanted
    assert all(type(value) is int for value in found)


def test_a_candidate_that_nobody_judged_has_the_lowest_grade() -> None:
    example = RankingExample("l", "q", (Candidate("a", "a"), Candidate("b", "b")), relevance={"a": 2.0})
    assert [grade(example, id, 4) for id in ("a", "b")] == [4, 0]
    nobody = RankingExample("l", "q", (Candidate("a", "a"), Candidate("b", "b")))
    assert [grade(nobody, id, 4) for id in ("a", "b")] == [0, 0]


def test_better_ones_never_have_a_lower_grade() -> None:
    rng = random.Random(6)
    for _ in range(30):
        example = graded(*[rng.choice((0, 0.1, 0.5, 1, 2, 3)) for _ in range(6)])
        ordered = sorted(ids_of(example), key=example.grade)
        for top in (1, 4, 10):
            found = [grade(example, id, top) for id in ordered]
            assert found == sorted(found)
            assert all(0 <= value <= top for value in found)
