from __future__ import annotations

import random
from collections import Counter

import pytest
from unified_ranker.tasks.sampling import Catalogue, generator, limited, split_groups

from unified_ranker.errors import DataError
from unified_ranker.schema.types import Candidate, RankingExample

GROUPS = [f"g{n}" for n in range(50)]


@pytest.mark.parametrize(("test", "validation"), [(0.2, 0.1), (0.0, 0.1), (0.5, 0.5), (0.0, 0.0)])
def test_splits_hold_exactly_their_shares(test: float, validation: float) -> None:
    counts = Counter(split_groups(GROUPS, seed=1, salt="s", test=test, validation=validation).values())
    assert counts["test"] == 50 * test
    assert counts["validation"] == 50 * validation
    assert counts.total() == 50


def test_a_groups_split_does_not_depend_on_the_order_or_the_repeats_of_groups() -> None:
    first = split_groups(GROUPS, seed=1, salt="s", test=0.2, validation=0.1)
    assert split_groups([*reversed(GROUPS), *GROUPS], seed=1, salt="s", test=0.2, validation=0.1) == first


@pytest.mark.parametrize("other", [{"seed": 2, "salt": "s"}, {"seed": 1, "salt": "t"}])
def test_another_seed_or_salt_splits_otherwise(other: dict[str, object]) -> None:
    first = split_groups(GROUPS, seed=1, salt="s", test=0.2, validation=0.1)
    assert split_groups(GROUPS, **other, test=0.2, validation=0.1) != first  # type: ignore[arg-type]


def test_a_generator_depends_on_its_whole_key() -> None:
    drawn = {key: generator(*key).random() for key in [(1, "a"), (1, "b"), (2, "a"), (1, "a", 0)]}
    assert len(set(drawn.values())) == len(drawn)
    assert generator(1, "a").random() == drawn[1, "a"]


@pytest.mark.parametrize("popularity", [None, {"i3": 50, "i4": 9}])
def test_negatives_differ_and_are_never_among_the_excluded(popularity: dict[str, int] | None) -> None:
    catalogue = Catalogue.of([f"i{n}" for n in range(30)], popularity=popularity)
    without = {"i1", "i3", "i7"}
    for seed in range(50):
        drawn = catalogue.sample(27, without=without, rng=random.Random(seed))
        assert set(drawn) == set(catalogue.items) - without
        assert len(drawn) == 27


def test_negatives_do_not_depend_on_the_order_of_items() -> None:
    forward, backward = Catalogue.of(GROUPS), Catalogue.of(reversed(GROUPS))
    assert forward.sample(9, without=(), rng=random.Random(1)) == backward.sample(9, without=(), rng=random.Random(1))


def test_popular_items_are_drawn_in_proportion_to_how_often_they_were_chosen() -> None:
    catalogue = Catalogue.of(["rare", "common", "never"], popularity={"rare": 10, "common": 30})
    assert dict(zip(catalogue.items, catalogue.weights or (), strict=True)) == {"common": 30, "never": 1, "rare": 10}
    rng = random.Random(5)
    drawn = Counter(catalogue.sample(1, without=(), rng=rng)[0] for _ in range(4100))
    assert drawn["common"] / 3000 == pytest.approx(1, abs=0.05)
    assert drawn["rare"] / 1000 == pytest.approx(1, abs=0.1)
    assert 60 < drawn["never"] < 150


def test_too_few_items_for_the_negatives_say_how_many_there_are() -> None:
    with pytest.raises(DataError, match=r"19 negatives are wanted, but only 18 of 20 items"):
        Catalogue.of([str(n) for n in range(20)]).sample(19, without={"0", "1"}, rng=random.Random(1))


def test_a_limit_keeps_that_many_in_their_order_and_a_lower_one_keeps_some_of_these() -> None:
    examples = [RankingExample(id=f"e{n}", query="q", candidates=(Candidate(id="a", text="x"),)) for n in range(30)]
    ten, four = limited(examples, 10, seed=3), limited(examples, 4, seed=3)
    assert (len(ten), len(four)) == (10, 4)
    assert [example for example in examples if example in ten] == ten
    assert [example for example in ten if example in four] == four
    assert limited(examples, 10, seed=4) != ten
    assert limited(examples, 30, seed=3) == limited(examples, None, seed=3) == examples
