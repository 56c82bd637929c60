from __future__ import annotations

import math
import random

import pytest
import torch
from invented_lists import encoded, make_list
from torch import nn

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.training.start import Architecture
from unified_ranker.training.tokenizer import LIST
from unified_ranker.training.words import Bags, bags_of, readout_target, warm_up

SIZES = Architecture(hidden_size=192, heads=3, layers=5, intermediate_size=32, labels=10)
WORDS = 300


def start(seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return nn.functional.pad(nn.functional.normalize(torch.randn(WORDS, SIZES.content - 1), dim=1), (0, 1))


def synonyms(count: int, *, seed: int = 0) -> list[Bags]:
    """Return lists whose best candidate has, for each word ``n`` of the query, the word ``n + 100``."""
    rng, lists = random.Random(seed), []
    for _ in range(count):
        query = rng.sample(range(100), 4)
        others = rng.sample([word for word in range(100) if word not in query], 12)
        texts = [tuple(word + 100 for word in bag) for bag in (query[:3], others[:3], others[3:6], others[6:9])]
        best = rng.randrange(4)
        texts[0], texts[best] = texts[best], texts[0]
        target = readout_target([1.0 if place == best else 0.0 for place in range(4)], 5.0)
        lists.append(Bags(tuple(query), tuple(texts), target))
    return lists


def share_first(words: torch.Tensor, lists: list[Bags]) -> float:
    """Return the share of lists whose best candidate has the mean nearest to the query's."""

    def mean(bag: tuple[int, ...]) -> torch.Tensor:
        return words[list(bag)].mean(0)

    first = 0
    for entry in lists:
        scores = [float(nn.functional.cosine_similarity(mean(entry.query), mean(t), dim=0)) for t in entry.candidates]
        first += scores.index(max(scores)) == entry.target.index(max(entry.target))
    return first / len(lists)


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_bags_are_cut_at_the_list_mark_and_at_the_labels(tools: TokenizerTools, method: str) -> None:
    example = make_list(random.Random(0), id="1")
    sequence = encoded(example, tools, method=method)
    bags = bags_of(sequence, mark=tools.tokenizer.convert_tokens_to_ids(LIST), sharpness=5.0)
    query = tools.decode(bags.query).replace("<|user|>", "").replace(";", " ")
    assert query.split() == ["which", "film", "next", *example.context]
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


def test_warming_up_learns_which_words_go_together() -> None:
    lists, unseen = synonyms(512), synonyms(200, seed=1)
    before = start()
    kept = before.clone()
    after = warm_up(before, lists, SIZES, passes=10, learning_rate=0.01, seed=0)
    assert share_first(before, unseen) < 0.45
    assert share_first(after, unseen) > 0.8
    assert after.shape == before.shape
    assert torch.allclose(after.norm(dim=1), torch.ones(WORDS), atol=1e-5)
    assert torch.equal(before, kept)
    assert not after.requires_grad


def test_words_of_no_list_keep_their_direction() -> None:
    before = start()
    after = warm_up(before, synonyms(128), SIZES, passes=1, learning_rate=0.01, seed=0)
    assert torch.allclose(after[250:], before[250:], atol=1e-6)


def test_the_same_seed_warms_up_alike_and_another_does_not() -> None:
    lists = synonyms(192)
    made = [warm_up(start(), lists, SIZES, passes=2, learning_rate=0.01, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_progress_is_told_at_the_end_and_the_share_rises() -> None:
    told: list[dict[str, float]] = []
    warm_up(start(), synonyms(640), SIZES, passes=12, learning_rate=0.01, seed=0, on_log=told.append)
    assert [record["words_step"] for record in told] == [100, 120]
    assert told[-1]["top"] > max(0.7, told[0]["top"])
    assert told[-1]["loss"] < told[0]["loss"]
