from __future__ import annotations

import torch
from torch.nn.functional import normalize, pad

from unified_ranker.names import token_of
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.recipe import WordsPart
from unified_ranker.training.start import minilm_embeddings
from unified_ranker.training.together import chosen_together
from unified_ranker.training.vocabulary import Vocabulary, vocabulary_of


def listed(domain: str, query: str, *candidates: Candidate) -> RankingExample:
    return RankingExample(
        id=query, query=query, candidates=candidates, domain=domain, task="", relevance={candidates[0].id: 1.0}
    )


FILMS = [listed("recommendation", "which next?", Candidate("1", text="", title="Zorblax River"))]
ROUTES = [
    listed("routing", f"quibblorp {n}", Candidate("a", title="vaxil-7b", text="grumptious"), Candidate("b", text="gem"))
    for n in range(3)
]
PASSAGES = [
    listed("passage", "where lives the wombleton", Candidate("p", title="Wombleton Hill", text="frindlewick of old"))
    for _ in range(3)
]
LISTS = {"movie": FILMS, "router-cost": ROUTES, "passage-5": PASSAGES}
CHOSEN = {"movie": {"Zorblax River": 5, "Zorblax Hill": 2, "The Snorkuble": 2}}


def test_names_are_of_candidates_and_words_of_what_is_no_name() -> None:
    found = vocabulary_of(LISTS, CHOSEN, WordsPart(further=20, names=20, least=2))
    # Passages have no names; a query counts once, however often it is asked.
    assert set(found.names) == {"zorblax river", "zorblax hill", "the snorkuble", "vaxil-7b", "gem"}
    assert found.names.index("zorblax river") < found.names.index("zorblax hill")
    assert set(found.words) == {"quibblorp", "wombleton"}


def test_without_names_their_words_are_words() -> None:
    found = vocabulary_of(LISTS, CHOSEN, WordsPart(further=20, least=2))
    assert found.names == ()
    assert set(found.words) == {"zorblax", "snorkuble", "quibblorp", "wombleton"}
    assert vocabulary_of(LISTS, CHOSEN, WordsPart()) == Vocabulary()


def test_each_place_is_for_the_most_frequent() -> None:
    found = vocabulary_of(LISTS, CHOSEN, WordsPart(further=1, names=2, least=2))
    assert len(found.names) == 2 and "zorblax river" in found.names
    assert len(found.words) == 1


def test_names_start_as_the_mean_of_their_words() -> None:
    made = Vocabulary(words=("zorblax",), names=("zorblax river",))
    vectors = made.vectors(12)
    tokenizer = made.tokenizer(5)
    assert torch.equal(vectors[:-2], minilm_embeddings(12))
    word, name, river = tokenizer.convert_tokens_to_ids(["zorblax", token_of("zorblax river"), "river"])
    assert (word, name) == (len(vectors) - 2, len(vectors) - 1)
    assert torch.allclose(vectors[name], normalize((vectors[word] + vectors[river]) / 2, dim=0), atol=1e-6)


def test_names_that_users_chose_start_where_their_choices_put_them_and_the_others_as_their_words() -> None:
    made = Vocabulary(names=("zorblax river", "zorblax hill", "wombleton moon", "never chosen"))
    plain = made.vectors(12)
    one = [["Zorblax River", "Wombleton Moon"], ["zorblax river", "wombleton moon"], ["Zorblax Hill", "other"]]
    placed = made.vectors(12, {"movie": one})
    expected = chosen_together(one, made.names, 11)
    assert torch.equal(placed[:-4], plain[:-4])
    for place, name in enumerate(made.names[:3], start=-4):
        assert torch.allclose(placed[place], pad(expected[name], (0, 1)), atol=1e-6)
        assert not torch.allclose(placed[place], plain[place], atol=0.1)
    assert torch.equal(placed[-1], plain[-1])
    near = made.vectors(12, {"movie": one}, window=2, power=0.5)
    expected_near = chosen_together(one, made.names, 11, window=2, power=0.5)
    assert torch.allclose(near[-4], pad(expected_near["zorblax river"], (0, 1)), atol=1e-6)
    assert not torch.allclose(near[-4], placed[-4], atol=0.01)
    # In two tasks a name stands between its two places.
    two = [["zorblax river", "zorblax hill"], ["wombleton moon", "another"]]
    both, other = made.vectors(12, {"movie": one, "game": two}), chosen_together(two, made.names, 11)
    between = normalize(expected["zorblax river"] + other["zorblax river"], dim=0)
    assert torch.allclose(both[-4], pad(between, (0, 1)), atol=1e-6)
