"""Hard negatives: who takes the places of irrelevant candidates."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest
from invented_lists import WORDS

from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.schema.validate import check_example
from unified_ranker.training.synthesis.negatives import HardNegatives

TEXTS = {
    "river": "the river runs through a castle",
    "river-castle": "a castle stands beside the river, an old castle by a river",
    "castle": "nobody lives in this castle any more",
    "garden": "flowers of the garden",
    "engine": "an engine of silver",
    "market": "the market of the village",
    "harbor": "ships in the harbor",
}


def listing(
    id: str, query: str, names: Sequence[str], relevance: Mapping[str, float] | None = None, **texts: str
) -> RankingExample:
    found = {**TEXTS, **texts}
    return RankingExample(
        id=id,
        query=query,
        candidates=tuple(Candidate(name, found[name]) for name in names),
        task="passage-5",
        relevance=relevance or {},
        group=id,
    )


LISTS = [
    listing("garden", "flowers", ["engine", "garden", "market"], {"garden": 1.0}),
    listing("first", "river castle", ["river", "harbor", "castle"], {"castle": 1.0}),
    listing("second", "silver", ["engine", "river-castle", "market"], {"engine": 1.0}),
]


def ids(example: RankingExample) -> list[str]:
    return [candidate.id for candidate in example.candidates]


def test_the_most_similar_come_first_and_relevant_ones_keep_their_places() -> None:
    found = HardNegatives(LISTS).apply(listing("q", "river castle", ["harbor", "castle", "engine"], {"castle": 1.0}))
    # "river-castle" has both words twice, "river" has them once; "castle" is relevant, and stays where it was.
    assert ids(found) == ["river-castle", "castle", "river"]
    assert found.candidates[0].text == TEXTS["river-castle"]


def test_all_but_the_candidates_stays_as_it_was() -> None:
    before = listing("q", "river castle", ["harbor", "castle"], {"castle": 2.0})
    found = HardNegatives(LISTS).apply(before)
    assert (found.id, found.query, found.group, found.task) == ("q", "river castle", "q", "passage-5")
    assert found.grade("castle") == 2.0
    assert [found.grade(name) for name in ids(found)] == [0.0, 2.0]


@pytest.mark.parametrize("query", ["nothing alike", "the of and a", "", "?!", "zebra", "日本"])
def test_a_list_whose_query_shares_no_word_keeps_its_own(query: str) -> None:
    before = listing("q", query, ["harbor", "castle", "engine"], {"castle": 1.0})
    assert HardNegatives(LISTS).apply(before) == before


def test_where_too_few_are_alike_some_of_its_own_stay() -> None:
    before = listing("q", "silver", ["harbor", "castle", "market", "garden"], {"castle": 1.0})
    found = HardNegatives(LISTS).apply(before)
    # Only one text speaks of silver.
    assert ids(found) == ["engine", "castle", "harbor", "market"]


def test_one_of_its_own_that_is_alike_stands_once() -> None:
    before = listing("q", "river castle", ["river", "castle", "harbor"], {"castle": 1.0})
    assert ids(HardNegatives(LISTS).apply(before)) == ["river-castle", "castle", "river"]


def test_a_passage_that_stands_in_many_lists_is_taken_once() -> None:
    lists = [listing(f"l{n}", "x", ["river", "river-castle", "harbor"], {"harbor": 1.0}) for n in range(4)]
    before = listing("q", "river", ["garden", "engine", "market", "harbor"], {"harbor": 1.0})
    found = ids(HardNegatives(lists).apply(before))
    assert sorted(found[:2]) == ["river", "river-castle"]
    assert len(set(found)) == 4


def test_the_title_is_searched_as_well() -> None:
    titled = RankingExample("t", "x", (Candidate("far", "nothing", title="Zeppelin"), Candidate("b", "b")))
    before = listing("q", "zeppelin", ["harbor", "castle"], {"castle": 1.0})
    assert ids(HardNegatives([titled]).apply(before)) == ["far", "castle"]


def test_equally_similar_ones_come_by_id_whatever_the_order_of_the_lists() -> None:
    texts = dict.fromkeys(("zed", "alpha", "mid"), "a silver coin")
    one = [listing("l", "x", ["zed", "alpha", "mid", "harbor"], **texts)]
    other = [listing("l", "x", ["harbor", "mid", "alpha", "zed"], **texts)]
    before = listing("q", "silver", ["garden", "castle", "market"], {"castle": 1.0})
    assert (
        ids(HardNegatives(one).apply(before)) == ids(HardNegatives(other).apply(before)) == ["alpha", "castle", "mid"]
    )


def test_a_list_of_relevant_ones_alone_stays() -> None:
    before = listing("q", "river castle", ["harbor", "castle"], {"castle": 1.0, "harbor": 1.0})
    assert HardNegatives(LISTS).apply(before) == before


@pytest.mark.parametrize("text", ["", "the of", "?"])
def test_texts_without_a_word_are_no_reason_to_stop(text: str) -> None:
    lists = [RankingExample("l", "the", (Candidate("a", text), Candidate("b", text)), relevance={"a": 1.0})]
    assert HardNegatives(lists).apply(lists[0]) == lists[0]


def invented(count: int) -> list[RankingExample]:
    rng, found = random.Random(5), []
    for number in range(count):
        names = rng.sample(range(60), 6)
        candidates = tuple(Candidate(f"p{n}", " ".join(random.Random(n).choices(WORDS, k=5))) for n in names)
        relevance = {c.id: 1.0 for c in rng.sample(candidates, rng.randint(1, 5))}
        query = " ".join(rng.sample(WORDS, 3))
        found.append(RankingExample(f"q{number}", query, candidates, task="passage-5", relevance=relevance))
    return found


def test_lists_keep_their_length_and_their_relevant_ones_and_hold_nobody_twice() -> None:
    lists = invented(40)
    one, other = HardNegatives(lists), HardNegatives(lists)
    changed = 0
    for before in lists:
        after = one.apply(before)
        assert after == other.apply(before)
        assert len(after.candidates) == len(before.candidates)
        assert len(set(ids(after))) == len(ids(after))
        for old, new in zip(before.candidates, after.candidates, strict=True):
            assert new == old if before.grade(old.id) > 0 else after.grade(new.id) == 0
        changed += after != before
    assert changed > 20


def test_what_comes_out_holds_to_the_format() -> None:
    # list, and the whole synthesis ends with DataError.
    before = listing("q", "river castle", ["harbor", "castle", "engine"], {"castle": 1.0, "harbor": 0.0, "engine": 0.0})
    found = HardNegatives(LISTS).apply(before)
    assert ids(found) == ["river-castle", "castle", "river"]
    check_example(found)
