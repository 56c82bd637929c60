from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from unified_ranker.training.alike import ALIKE, ENOUGH, first_look, had
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.bags import Bags, readout_target
from unified_ranker.training.start import MANY, SHARED, UNKNOWN, Words
from unified_ranker.training.words import _had, _scores, divergence, mean_of, missed, warm_up

SIZES = Architecture(hidden_size=192, heads=3, layers=5, intermediate_size=32, labels=10)
WORDS = 300


def start(seed: int = 0) -> Words:
    torch.manual_seed(seed)
    return Words(nn.functional.pad(nn.functional.normalize(torch.randn(WORDS, SIZES.content - 1), dim=1), (0, 1)))


def learned(words: Words, lists: list[Bags], *, passes: int, seed: int = 0, **options: Any) -> Words:
    rng = random.Random(seed)
    return warm_up(
        words,
        lambda: rng.choice(lists),
        SIZES,
        lists=passes * len(lists),
        learning_rate=0.01,
        batch=64,
        **options,
    )


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


def share_first(words: Words, lists: list[Bags]) -> float:
    """Return the share of lists whose best candidate has the mean nearest to the query's."""

    def mean(bag: tuple[int, ...]) -> torch.Tensor:
        return words.vectors[list(bag)].mean(0)

    first = 0
    for entry in lists:
        scores = [float(nn.functional.cosine_similarity(mean(entry.query), mean(t), dim=0)) for t in entry.candidates]
        first += scores.index(max(scores)) == entry.target.index(max(entry.target))
    return first / len(lists)


def test_warming_up_learns_which_words_go_together() -> None:
    lists, unseen = synonyms(512), synonyms(200, seed=1)
    before = start()
    kept = before.vectors.clone()
    after = learned(before, lists, passes=10)
    assert share_first(before, unseen) < 0.45
    assert share_first(after, unseen) > 0.8
    assert after.vectors.shape == before.vectors.shape
    assert torch.allclose(after.vectors.norm(dim=1), torch.ones(WORDS), atol=1e-5)
    assert torch.equal(before.vectors, kept)
    assert not after.vectors.requires_grad


def test_words_of_no_list_keep_their_direction() -> None:
    before = start()
    after = learned(before, synonyms(128), passes=1)
    assert torch.allclose(after.vectors[250:], before.vectors[250:], atol=1e-6)


def test_the_same_draws_warm_up_alike_and_others_do_not() -> None:
    lists = synonyms(192)
    made = [learned(start(), lists, passes=2, seed=seed).vectors for seed in (0, 0, 1)]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_mean_of_two_runs_lies_between_them() -> None:
    first, second = (learned(start(), synonyms(256), passes=4, seed=seed) for seed in (0, 1))
    mean = mean_of([first, second])
    assert torch.allclose(mean.vectors.norm(dim=1), torch.ones(WORDS), atol=1e-5)
    between = nn.functional.cosine_similarity(first.vectors, second.vectors)
    for run in (first, second):
        assert bool((nn.functional.cosine_similarity(mean.vectors, run.vectors) >= between - 1e-6).all())
        assert run.turn is not None and mean.turn is not None
    assert torch.allclose(mean.turn, (first.turn + second.turn) / 2)  # type: ignore[operator]
    assert mean.shared == pytest.approx((first.shared + second.shared) / 2)
    alone = mean_of([first])
    assert torch.allclose(alone.vectors, first.vectors, atol=1e-6)
    assert mean_of([start(), start()]).turn is None


def test_progress_is_told_at_the_end_and_the_share_rises() -> None:
    told: list[dict[str, float]] = []
    learned(start(), synonyms(640), passes=12, on_log=told.append)
    assert [record["words_step"] for record in told] == [100, 120]
    assert told[-1]["top"] > max(0.7, told[0]["top"])
    assert told[-1]["loss"] < told[0]["loss"]


def test_the_map_of_the_query_starts_as_none_and_is_learned() -> None:
    after = learned(start(), synonyms(512), passes=10)
    assert after.turn is not None
    moved = (after.turn - torch.eye(SIZES.content)).norm()
    assert 0.1 < float(moved) < float(torch.eye(SIZES.content).norm())
    assert not after.turn.requires_grad


def sharing(count: int, *, good: bool) -> list[Bags]:
    """Return lists whose best candidate shares two words with the query; or, not good, whose others do."""
    rng, lists = random.Random(0), []
    for _ in range(count):
        words = rng.sample(range(WORDS), 12)
        alike, *others = (words[2:6], words[6:10], [words[0], words[10], words[1], words[11]])
        texts = [others[1], alike, others[0]] if good else [alike, others[1], [words[0], words[10], words[1]]]
        query = (*words[:2], *words[2:3])
        lists.append(Bags(query, tuple(map(tuple, texts)), (1.0, 0.0, 0.0), again=query))
    return lists


def test_what_a_shared_word_is_worth_rises_where_it_helps_and_never_below_nothing() -> None:
    def worth(words: Words) -> float:
        assert words.rarity is not None and words.shared >= 0 and float(words.rarity.min()) >= 0
        return float((words.shared * words.rarity).mean())

    helps = learned(start(), sharing(256, good=True), passes=6)
    assert helps.shared > SHARED and worth(helps) > 1.5 * SHARED * UNKNOWN
    # The words come to count nothing first, so that what they share is worth as good as nothing, but not exactly 0.
    harms = learned(start(), sharing(256, good=False), passes=60)
    assert harms.shared < 0.1 * SHARED and worth(harms) < 0.1 * SHARED * UNKNOWN


def telling(count: int) -> list[Bags]:
    """Return lists whose query has a word that the best candidate has, and a filler that the others have."""
    rng, lists = random.Random(0), []
    for _ in range(count):
        subject, *others = rng.sample(range(20, WORDS), 7)
        filler = rng.randrange(10)
        texts = ((subject, *others[:2]), (filler, *others[2:4]), (filler, *others[4:6]))
        lists.append(Bags((subject, filler), texts, (1.0, 0.0, 0.0), again=(subject, filler)))
    return lists


def test_how_much_a_word_counts_is_learned_from_what_it_tells() -> None:
    before = replace(start(), rarity=torch.full((WORDS,), 4.0))
    lists = telling(256)
    after = learned(before, lists, passes=6)
    assert after.rarity is not None and not after.rarity.requires_grad
    # Words of no query stay as they are: they are 10 to 19.
    assert after.rarity[10:20].tolist() == [4.0] * 10
    subjects = sorted({entry.again[0] for entry in lists})
    assert float(after.rarity[:10].max()) < 4 < float(after.rarity[subjects].mean())
    assert float(after.rarity.min()) >= 0
    assert before.rarity is not None and set(before.rarity.tolist()) == {4.0}


def test_how_much_words_count_is_averaged_over_runs() -> None:
    some, other = (replace(start(), rarity=torch.full((WORDS,), value)) for value in (2.0, 5.0))
    mean = mean_of([some, other]).rarity
    assert mean is not None and set(mean.tolist()) == {3.5}


def plain_words(size: int = 28) -> Words:
    """Return words that differ in those dimensions alone in which single words are compared, each 1 to itself."""
    torch.manual_seed(3)
    vectors = nn.functional.normalize(torch.randn(WORDS, size), dim=1)
    look = nn.functional.pad(torch.eye(size), (0, SIZES.content - 1 - size))
    return Words(nn.functional.pad(vectors, (0, SIZES.content - size)), rarity=torch.arange(1.0, WORDS + 1), look=look)


def test_words_of_the_query_add_their_rarity_once_if_the_candidate_has_them() -> None:
    words = plain_words()
    entry = Bags((3, 5, 7), ((5, 9), (3, 3, 7, 8), (1, 2)), (1.0, 0.0, 0.0), again=(3, 5, 7))
    # What is not said again does not count, whatever the texts have in common.
    found = _had(words, [entry, Bags((1,), ((1,),), (1.0,))], SIZES)
    wanted = [6 * MANY / (MANY + 3), (4 + 8) * MANY / (MANY + 3), 0.0, 0.0]
    assert found.tolist() == pytest.approx(wanted, abs=0.05)


@pytest.mark.parametrize("alike", [0.2, 0.5, ENOUGH, 0.6, 0.9])
def test_a_word_is_found_as_far_as_another_is_alike(alike: float) -> None:
    """By hand: a softmax over the candidate's words and a place that draws as much as one that is just alike enough."""
    vectors = torch.zeros(4, SIZES.content)
    vectors[0, 0] = vectors[3, 1] = 1.0
    vectors[1:3, 0], vectors[1:3, 2] = alike, math.sqrt(1 - alike**2)
    look = torch.eye(SIZES.content - 1)
    one, two = had(vectors, look, [((0,), (1, 3)), ((0,), (1, 2, 3))], torch.tensor([4.0, 0.0, 0.0, 0.0])).tolist()
    pull, nothing, other = math.exp(ALIKE * alike), math.exp(ALIKE * ENOUGH), 1.0
    assert one == pytest.approx(4 * (pull + other) / (pull + other + nothing), rel=1e-4)
    # Two words of one meaning are worth no more than one that is certain.
    assert two == pytest.approx(4 * (2 * pull + other) / (2 * pull + other + nothing), rel=1e-4)
    assert two <= 4


def test_a_query_and_a_candidate_of_other_lengths_do_not_disturb_each_other() -> None:
    words = plain_words()
    assert words.look is not None and words.rarity is not None
    pairs = [((3, 5), (5, 9, 11)), ((7,), (7,)), ((1, 2, 4, 8), (8,))]
    together = had(words.vectors, words.look, pairs, words.rarity)
    alone = torch.cat([had(words.vectors, words.look, [pair], words.rarity) for pair in pairs])
    assert torch.allclose(together, alone, atol=1e-4)


def test_at_first_a_word_is_1_to_itself_on_average_and_common_directions_count_less() -> None:
    torch.manual_seed(0)
    scales = torch.linspace(3.0, 0.1, SIZES.content - 1)
    vectors = nn.functional.pad(nn.functional.normalize(torch.randn(2000, SIZES.content - 1) * scales, dim=1), (0, 1))
    look = first_look(vectors, 28)
    assert look.shape == (28, SIZES.content - 1)
    seen = vectors[:, :-1] @ look.T
    assert float(seen.square().sum(1).mean()) == pytest.approx(1)
    # Variances along the directions that are kept differ by their square root alone.
    kept, plain = seen.var(0), (vectors[:, :28]).var(0)
    assert float(kept[0] / kept[-1]) == pytest.approx(float((plain[0] / plain[-1]).sqrt()), rel=0.25)


def test_what_is_compared_one_by_one_is_learned() -> None:
    lists = sharing(256, good=True)
    after = learned(start(), lists, passes=6)
    assert after.look is not None and not after.look.requires_grad
    first = first_look(start().vectors, len(SIZES.alike))
    assert after.look.shape == first.shape
    assert 0.01 < float((after.look - first).norm() / first.norm()) < 1
    assert torch.allclose(mean_of([after, after]).look, after.look)  # type: ignore[arg-type]


def test_the_loss_is_the_surprise_that_one_of_the_best_comes_first() -> None:
    score = torch.tensor([[1.0, 0.0, 2.0], [0.5, 0.5, 9.0]])
    target = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    found = missed(score, target, mask)
    first = score[0].softmax(0)[:2].sum().log()
    # Half of the time the better one is drawn, and half of the time one that is worth a quarter of it.
    second = torch.tensor(0.5 * 1 + 0.5 * 0.25).log()
    assert torch.allclose(found, -torch.stack([first, second]), atol=1e-5)


def test_among_equals_the_loss_prefers_who_is_right_most_often() -> None:
    # Six times the first two are right, twice the second alone, four times the first beside the last two.
    always, seldom = (0.5, 0.5, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0)
    third = (1 / 3, 0.0, 1 / 3, 1 / 3)
    targets = torch.tensor([always] * 6 + [seldom] * 2 + [third] * 4)
    score = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.05)
    for _ in range(300):
        loss = missed(score.expand(12, 4), targets, torch.ones(12, 4, dtype=torch.bool)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert score.argmax() == 0
    # A cross-entropy gives first place to the second, which is right less often and has it to itself twice.
    assert targets.mean(0).argmax() == 1


def test_the_divergence_from_a_teacher_is_0_where_the_scores_are_its_own() -> None:
    target = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.1, 0.0]])
    mask = torch.tensor([[True, True, True], [True, True, False]])
    assert torch.allclose(divergence(target.clamp(min=1e-9).log(), target, mask), torch.zeros(2), atol=1e-6)
    # By hand: .9 ln(.9 / .5) + .1 ln(.1 / .5); what stands in the third place is no candidate.
    even = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 7.0]])
    assert float(divergence(even, target, mask)[1]) == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2))


def test_a_teacher_is_followed_in_all_it_says() -> None:
    """Grades would teach that the first comes first; the teacher says how far before the others, and in which order."""
    target = (0.5, 0.3, 0.2)
    entry = Bags((1, 2), ((11,), (12,), (13,)), target, taught=True)
    words = learned(start(), [entry], passes=64 * 60)
    score, _ = _scores(words, [entry], SIZES)
    assert torch.allclose(score.softmax(-1)[0], torch.tensor(target), atol=0.03)
    graded = learned(start(), [replace(entry, taught=False)], passes=64 * 60)
    assert float(_scores(graded, [entry], SIZES)[0].softmax(-1)[0, 0]) > 0.6
