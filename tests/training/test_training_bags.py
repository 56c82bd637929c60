from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from invented_lists import bags_of, encoded, make_list, writer_for

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.bags import BagMaker, rarities, readout_target


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_bags_are_cut_at_the_list_mark_and_at_the_labels(tools: TokenizerTools, method: str) -> None:
    example = make_list(random.Random(0), id="1")
    sequence = encoded(example, tools, method=method)
    bags = bags_of(sequence, tools, sharpness=5.0)
    query = tools.decode(bags.query).replace("<|user|>", "").replace(";", " ")
    assert query.split() == ["which", "film", "next", *example.context, *example.context[-4:]]
    texts = [tools.decode(text) for text in bags.candidates]
    assert sorted(texts) == sorted(candidate.text for candidate in example.candidates)
    best = next(candidate.text for candidate in example.candidates if example.grade(candidate.id) == 1)
    assert texts[bags.target.index(max(bags.target))] == best
    assert not set(tools.tokenizer.convert_tokens_to_ids(list(tools.labels))) & {t for b in bags.candidates for t in b}


@pytest.mark.parametrize(
    ("grades", "sharpness"), [((1, 0, 0), 5.0), ((3, 2, 1, 0), 5.0), ((0.5, 0.5), 2.0), ((1, 0.9), 5.0), ((7,), 5.0)]
)
def test_the_target_of_the_readout_follows_its_formula(grades: tuple[float, ...], sharpness: float) -> None:
    target = readout_target(grades, sharpness)
    raw = [math.exp(sharpness * grade / max(grades)) - 1 for grade in grades]
    assert target == pytest.approx([value / sum(raw) for value in raw])
    assert sum(target) == pytest.approx(1)


def test_the_target_does_not_depend_on_the_scale_of_grades() -> None:
    assert readout_target([3, 1, 0], 5.0) == pytest.approx(readout_target([0.3, 0.1, 0], 5.0))


def test_a_list_without_a_relevant_candidate_has_a_finite_target() -> None:
    target = readout_target([0.0, 0.0, 0.0], 5.0)
    assert all(math.isfinite(value) for value in target)


def maker_for(tools: TokenizerTools, *domains: str) -> BagMaker:
    return BagMaker({name: writer_for(tools, domain=name) for name in domains}, tools, sharpness=5.0)


def long_passages(rng: random.Random) -> RankingExample:
    """Return a list of passages longer than prompts show, of which the query's words are in the middle."""
    words = ["granite", "lantern", "meadow", "copper", "violin", "harvest", "canyon", "ribbon", "falcon", "timber"]
    texts = [" ".join(rng.choice(words) for _ in range(120)) + f" walrus {place}. The end." for place in range(4)]
    return RankingExample(
        id="passages",
        query="where does the walrus live " + " ".join(rng.choice(words) for _ in range(60)),
        candidates=tuple(Candidate(str(place), text=text, title="On it") for place, text in enumerate(texts)),
        task="passage-5",
        domain="passage",
        relevance={"2": 1.0},
    )


@pytest.mark.parametrize("number", range(3))
def test_bags_are_those_of_the_prompt(tools: TokenizerTools, number: int) -> None:
    rng = random.Random(number)
    told = make_list(rng, id="1", size=7)
    told = replace(
        told, context=tuple(f"{entry} <|list|> of 19{place}" for place, entry in enumerate(told.context * 9))
    )
    maker = maker_for(tools, "recommendation", "passage")
    for example in (told, long_passages(rng), told):
        wanted = bags_of(encoded(example, tools), tools, sharpness=5.0)
        found = maker.make(example)
        assert found.query == tuple(wanted.query)
        assert found.again == tuple(wanted.again)
        assert bool(found.again) == (example.domain == "passage")
        assert sorted(zip(found.candidates, found.target, strict=True)) == sorted(
            zip(map(tuple, wanted.candidates), wanted.target, strict=True)
        )


def test_a_passage_is_cut_anew_for_another_query(tools: TokenizerTools) -> None:
    text = " ".join(["granite"] * 80 + ["walrus"] * 3 + ["granite"] * 80 + ["falcon"] * 3)
    candidates = (Candidate("a", text=text), Candidate("b", text="meadow"))
    maker = maker_for(tools, "passage")
    for asked, other in (("walrus", "falcon"), ("falcon", "walrus")):
        example = RankingExample(id="1", query=asked, candidates=candidates, domain="passage", relevance={"a": 1.0})
        shown = maker.make(example).candidates[0]
        assert set(tools.tokens(asked)) <= set(shown)
        assert not set(tools.tokens(other)) & set(shown)


def test_rarity_is_that_of_bm25_over_different_texts() -> None:
    found = rarities([(1, 2), (1, 3, 3), (1, 2), (4,)], 6)
    wanted = [math.log(1 + (3 - count + 0.5) / (count + 0.5)) for count in (0, 2, 1, 1, 1, 0)]
    assert found.tolist() == pytest.approx(wanted)
