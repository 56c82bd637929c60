from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_lists import bags_of, encoded
from transformers import AutoTokenizer, LlamaForCausalLM

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.alike import ENOUGH, first_look, had
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.encode import Encoded
from unified_ranker.training.heads import NEAR, SLOPE, nearness
from unified_ranker.training.recipe import load_recipe
from unified_ranker.training.start import CODE, MANY, MATCHED, NORM, NOTED, UNKNOWN, Words, make_model, with_further
from unified_ranker.training.tokenizer import (
    AGAIN,
    BEST,
    END,
    LIST,
    ROLES,
    WORST,
    frequent_names,
    frequent_words,
    label_names,
    make_tokenizer,
)
from unified_ranker.training.words import _scores

SMALL = Architecture(hidden_size=192, layers=5, heads=3, intermediate_size=128, context=1024, labels=30)


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return make_model(SMALL, tokenizer, seed=0).eval()


@pytest.fixture(scope="module")
def words(tokenizer: Any) -> list[str]:
    """Return whole words of the vocabulary that are one token each."""
    plain = [word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3]
    return sorted(plain)


@torch.no_grad()
def hidden_states(model: Any, tokens: tuple[int, ...]) -> list[torch.Tensor]:
    out = model.model(input_ids=torch.tensor([tokens]), output_hidden_states=True)
    return [states[0] for states in out.hidden_states]


def random_list(rng: random.Random, words: list[str], *, size: int, overlap: bool = False) -> RankingExample:
    query = rng.sample(words, 8)
    texts = [rng.sample(words, 8) for _ in range(size)]
    if overlap:
        texts[0] = [*query[:4], *rng.sample(words, 4)]
    return RankingExample(
        id="random",
        query=" ".join(query),
        candidates=tuple(Candidate(id=str(i), text=" ".join(text)) for i, text in enumerate(texts)),
        relevance={"0": 1.0},
    )


def tools_labels(tools: TokenizerTools) -> list[int]:
    return list(tools.tokenizer.convert_tokens_to_ids(list(tools.labels)))


def relevance_at_labels(model: Any, sequence: Encoded) -> torch.Tensor:
    before_last = hidden_states(model, sequence.tokens[: sequence.prompt_length])[-2]
    return before_last[[place for place, _ in sequence.candidates], SMALL.relevance]


def test_the_vocabulary_is_as_long_as_the_tokenizer(model: Any, tokenizer: Any) -> None:
    assert model.config.vocab_size == len(tokenizer) == model.get_input_embeddings().weight.shape[0]


@pytest.mark.parametrize("label", [*label_names(30), END, LIST, AGAIN, WORST, BEST, *(f"<|{role}|>" for role in ROLES)])
def test_a_label_or_mark_is_a_single_token_wherever_it_stands(tokenizer: Any, label: str) -> None:
    number = tokenizer.convert_tokens_to_ids(label)
    for text in (label, f"red{label}blue", f"red {label} blue"):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert found.count(number) == 1
        assert len(found) == 1 + len(tokenizer(text.replace(label, " "), add_special_tokens=False)["input_ids"])


def test_labels_survive_decoding_that_drops_special_tokens(tokenizer: Any) -> None:
    ids = tokenizer.convert_tokens_to_ids(["<3>", END])
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "<3>"


def test_a_saved_tokenizer_reads_alike(tokenizer: Any, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    chat = [{"role": "user", "content": f"red wine {LIST} a<1> b<2> {WORST}"}]
    for made in (tokenizer, again):
        assert made.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
            f"<|user|>red wine {LIST} a<1> b<2> {WORST}<|end|><|assistant|>"
        )
    text = f"<|user|>Red wine {LIST} naïve <1> b<2><|end|>"
    assert again(text, add_special_tokens=False)["input_ids"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert again.eos_token == END


@pytest.mark.parametrize("sizes", [SMALL, Architecture()], ids=["small", "default"])
def test_attention_to_the_nearest_falls_with_distance(sizes: Architecture) -> None:
    held = nearness(sizes.head_size, sizes.rope_theta, sizes.context)
    size = sizes.head_size
    assert len(held) == size // 2

    def met(distance: int) -> float:
        angles = [distance * sizes.rope_theta ** (-2 * pair / size) for pair in range(size // 2)]
        return sum(a * math.cos(angle) - b * math.sin(angle) for (a, b), angle in zip(held, angles, strict=True))

    values = [met(distance) for distance in range(sizes.context)]
    assert all(near - far > 0.99 * SLOPE for near, far in itertools.pairwise(values[: NEAR + 1]))
    assert values[NEAR] > 9.9
    # Checked at one distance in seven: between them it may rise a little.
    assert max(values[NEAR + 1 :]) < values[NEAR] + 1


def test_identities_of_labels_and_of_the_list_mark_do_not_overlap(model: Any, tokenizer: Any) -> None:
    rows = tokenizer.convert_tokens_to_ids([*label_names(30), LIST])
    found = model.get_input_embeddings().weight[rows][:, SMALL.identity]
    assert torch.allclose(found[:-1].norm(dim=1), torch.tensor(CODE), atol=1e-3)
    found = torch.nn.functional.normalize(found, dim=1)
    assert torch.allclose(found @ found.T, torch.eye(31), atol=1e-4)


def test_no_layer_before_the_last_writes_label_identity(model: Any, tools: TokenizerTools, words: list[str]) -> None:
    sequence = encoded(random_list(random.Random(0), words, size=8), tools)
    places = [place for place, _ in sequence.candidates]
    states = hidden_states(model, sequence.tokens)
    assert len(states) == SMALL.layers + 1
    identity = states[0][places][:, SMALL.identity]
    assert float(identity.norm(dim=1).min()) > 1
    for state in states[1:-1]:
        assert torch.equal(state[places][:, SMALL.identity], identity)
        assert not torch.equal(state[places][:, : SMALL.content], states[0][places][:, : SMALL.content])
    named = {*tools_labels(tools), tools.tokenizer.convert_tokens_to_ids(LIST)}
    others = [place for place, token in enumerate(sequence.tokens) if token not in named]
    for state in states[:-1]:
        assert float(state[others][:, SMALL.identity].abs().max()) == 0


def lengthy(rng: random.Random, words: list[str], lengths: Sequence[int]) -> RankingExample:
    """Return a list of candidates of so many words."""
    return RankingExample(
        id="lengthy",
        query=" ".join(rng.sample(words, 8)),
        candidates=tuple(
            Candidate(id=str(i), text=" ".join(rng.sample(words, length))) for i, length in enumerate(lengths)
        ),
        relevance={"0": 1.0},
    )


@pytest.mark.parametrize("lengths", [(3, 3, 3, 3, 3), (1, 20, 2, 5, 1, 9), (40, 38, 40, 39), (2,) * 20], ids=str)
def test_a_label_takes_the_mean_of_its_own_words_and_the_list_mark_that_of_the_query(
    lengths: tuple[int, ...], model: Any, tools: TokenizerTools, words: list[str]
) -> None:
    sequence = encoded(lengthy(random.Random(1), words, lengths), tools)
    mark = tools.tokenizer.convert_tokens_to_ids(LIST)
    bags = bags_of(sequence, tools, sharpness=5.0)
    table = model.get_input_embeddings().weight[:, : SMALL.content].detach()
    states = hidden_states(model, sequence.tokens)[3]
    places = sorted(place for place, _ in sequence.candidates)
    wanted = torch.stack([table[list(bag)].mean(0) for bag in bags.candidates])
    found = states[places][:, : SMALL.content]
    # A single word leaves a little to the label before it.
    least = 0.9 if min(lengths) < 3 else 0.98
    assert float(torch.cosine_similarity(found, wanted).min()) > least
    query = table[list(bags.query)].mean(0)
    at_mark = states[sequence.tokens.index(mark), : SMALL.content]
    assert float(torch.cosine_similarity(at_mark, query, dim=0)) > 0.98


def some_words(model: Any, *, shared: float) -> Words:
    """Return the vectors of a model, with rarities and a map of the query that it does not have."""
    torch.manual_seed(1)
    vectors = model.get_input_embeddings().weight[:, : SMALL.content].detach() / NORM
    turn = torch.eye(SMALL.content) + 0.05 * torch.randn(SMALL.content, SMALL.content)
    return Words(vectors, rarity=9 * torch.rand(len(vectors)), turn=turn, shared=shared)


@pytest.mark.parametrize("shared", [None, 0.0, 0.2, 0.6])
def test_what_is_noted_is_what_the_warm_up_compares(
    model: Any, tools: TokenizerTools, words: list[str], shared: float | None
) -> None:
    table = Words(model.get_input_embeddings().weight[:, : SMALL.content].detach() / NORM)
    if shared is not None:
        table = some_words(model, shared=shared)
        model = make_model(SMALL, tools.tokenizer, seed=0, words=table).eval()
    for number in range(6):
        sequence = encoded(random_list(random.Random(number), words, size=8, overlap=True), tools, seed=number)
        ((score,), _) = _scores(table, [bags_of(sequence, tools, sharpness=5.0)], SMALL)
        before_last = hidden_states(model, sequence.tokens[: sequence.prompt_length])[-2]
        seen = before_last[sorted(place for place, _ in sequence.candidates)]
        noted = seen[:, SMALL.relevance] / NOTED / seen.square().mean(-1).sqrt()
        # By the 28 dimensions that compare here, some words are hardly alike enough to themselves.
        assert float(torch.corrcoef(torch.stack([score, noted]))[0, 1]) > (0.95 if table.shared else 0.98)
        assert float((score - noted).abs().max()) < 0.25 * float(noted.abs().max())


def said_again(tools: TokenizerTools, tokens: Sequence[int]) -> list[list[int]]:
    """Return the places where each candidate, in the order of the prompt, has the query again."""
    again = tools.tokenizer.convert_tokens_to_ids(AGAIN)
    labels, places = set(tools_labels(tools)), list[list[int]]()
    for begin in (place for place, token in enumerate(tokens) if token == again):
        end = next(place for place in range(begin, len(tokens)) if tokens[place] in labels)
        places.append(list(range(begin + 1, end)))
    return places


def told_apart(model: Any) -> torch.Tensor:
    """Return vectors of words that differ in those dimensions alone in which single words are compared."""
    torch.manual_seed(2)
    size = len(SMALL.alike)
    vectors = torch.nn.functional.normalize(torch.randn(model.config.vocab_size, size), dim=1)
    return torch.nn.functional.pad(vectors, (0, SMALL.content - size))


@pytest.mark.parametrize("shares", ["one", "all but one"])
@pytest.mark.parametrize("size", [8, 30])
def test_a_word_that_is_said_again_notes_its_rarity_if_its_own_segment_has_it(
    model: Any, tools: TokenizerTools, words: list[str], shares: str, size: int
) -> None:
    known = replace(some_words(model, shared=0.5), vectors=told_apart(model))
    assert known.rarity is not None
    made = make_model(SMALL, tools.tokenizer, seed=0, words=known).eval()
    example = random_list(random.Random(3), words, size=size, overlap=shares == "one")
    if shares != "one":
        asked = example.query.split()
        texts = [" ".join([*asked[:4], *candidate.text.split()[4:]]) for candidate in example.candidates[1:]]
        full = [replace(c, text=text) for c, text in zip(example.candidates[1:], texts, strict=True)]
        example = replace(example, candidates=(example.candidates[0], *full))
    sequence = encoded(example, tools)
    tokens = sequence.tokens[: sequence.prompt_length]
    noted = hidden_states(made, tokens)[2][:, SMALL.matched] / MATCHED
    have, lack = list[int](), list[int]()
    texts_shown = bags_of(sequence, tools, sharpness=5.0).candidates
    for places, segment in zip(said_again(tools, tokens), texts_shown, strict=True):
        for place in places:
            (have if tokens[place] in segment else lack).append(place)
    assert len(have) == (4 if shares == "one" else 4 * (size - 1))
    assert len(have) + len(lack) == 8 * size
    rarity = known.rarity[[tokens[place] for place in have]]
    assert float(((noted[have] - rarity) / rarity).abs().median()) < 0.1
    assert float((noted[have] - rarity).abs().mean()) < 0.5
    # Only 28 dimensions compare here, and 12 tell the segments apart.
    assert float(noted[lack].abs().mean()) < 0.25


@pytest.mark.parametrize("kind", ["alike", "of one meaning"])
def test_several_words_of_one_meaning_count_once(
    kind: str, model: Any, tools: TokenizerTools, words: list[str]
) -> None:
    """Four words of a passage that mean what one word of the query means are worth that one."""
    unit, ids = torch.nn.functional.normalize, tools.tokenizer.convert_tokens_to_ids
    example = random_list(random.Random(0), words, size=4)
    asked, meaning = example.query.split(), example.candidates[1].text.split()[:4]
    vectors = told_apart(model)
    share = 0.97 if kind == "of one meaning" else 0.1
    vectors[ids(meaning)] = share * vectors[ids(asked[0])] + math.sqrt(1 - share**2) * vectors[ids(meaning)]
    made = make_model(SMALL, tools.tokenizer, seed=0, words=Words(unit(vectors, dim=1), shared=0.5)).eval()
    sequence = encoded(example, tools)
    tokens = sequence.tokens[: sequence.prompt_length]
    noted = hidden_states(made, tokens)[2][:, SMALL.matched] / (MATCHED * UNKNOWN)
    texts = bags_of(sequence, tools, sharpness=5.0).candidates
    (there,) = [number for number, text in enumerate(texts) if ids(meaning[0]) in text]
    found = [float(noted[places[0]]) for places in said_again(tools, tokens)]
    assert found[there] == pytest.approx(1.0 if kind == "of one meaning" else 0.0, abs=0.15)
    assert max(value for number, value in enumerate(found) if number != there) < 0.2


@pytest.mark.parametrize("lengths", [(8, 8, 8), (5, 40, 6, 12)], ids=str)
def test_a_label_adds_up_what_the_query_s_words_note_of_its_own(
    model: Any, tools: TokenizerTools, words: list[str], lengths: tuple[int, ...]
) -> None:
    example = lengthy(random.Random(5), words, lengths)
    asked = example.query.split()
    # One shared word, then two, then three, whatever the length.
    texts = [" ".join([*asked[: 1 + n], *c.text.split()[1 + n :]]) for n, c in enumerate(example.candidates)]
    example = replace(
        example, candidates=tuple(replace(c, text=t) for c, t in zip(example.candidates, texts, strict=True))
    )
    known = replace(some_words(model, shared=0.5), vectors=told_apart(model), rarity=None)
    made = make_model(SMALL, tools.tokenizer, seed=0, words=known).eval()
    sequence = encoded(example, tools)
    bags = bags_of(sequence, tools, sharpness=5.0)
    third = hidden_states(made, sequence.tokens[: sequence.prompt_length])[3]
    found = third[sorted(place for place, _ in sequence.candidates), SMALL.relevance] / NOTED
    counts = [sum(token in bags.again for token in text) for text in bags.candidates]
    assert sorted(counts) == list(range(1, len(lengths) + 1))
    # With 28 dimensions some words of the text are a little like others of the query.
    pairs = [(bags.again, text) for text in bags.candidates]
    sums = had(known.vectors, known.seen_by(SMALL), pairs, known.counts)
    assert sums.tolist() == pytest.approx([UNKNOWN * count for count in counts], rel=0.25)
    wanted = 0.5 * sums * MANY / (MANY + len(bags.again))
    assert found.tolist() == pytest.approx(wanted.tolist(), rel=0.15, abs=0.1)


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_the_whole_ranking_follows_relevance_before_any_training(
    method: str, model: Any, tools: TokenizerTools, words: list[str]
) -> None:
    rng, correlations = random.Random(0), []
    for number in range(8):
        example = random_list(rng, words, size=12, overlap=True)
        sequence = encoded(example, tools, method=method, seed=number)
        relevance = dict(
            zip([place for place, _ in sequence.candidates], relevance_at_labels(model, sequence), strict=True)
        )
        tokens, left, order = list(sequence.tokens[: sequence.prompt_length]), list(relevance), []
        while left:
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
            order.append(max(left, key=lambda place: float(logits[tokens[place]])))
            left.remove(order[-1])
            tokens.append(tokens[order[-1]])
        order = order[::-1] if method == "iranker" else order
        by_relevance = sorted(relevance, key=lambda place: -float(relevance[place]))
        places = torch.tensor([[order.index(place), by_relevance.index(place)] for place in relevance])
        correlations.append(float(torch.corrcoef(places.T.float())[0, 1]))
    assert sum(correlations) / len(correlations) > 0.9


def test_rare_words_of_a_long_list_are_found_and_added_up_as_others_are(words: list[str]) -> None:
    """Ninety candidates; how far a word is found does not depend on how rare it is, nor its sum on where it stands."""
    sizes = Architecture(hidden_size=312, layers=5, heads=3, intermediate_size=32, context=4096, labels=100)
    tokenizer = make_tokenizer(100)
    tools = TokenizerTools(tokenizer, context_tokens=sizes.context, labels=label_names(100))
    rng, generator = random.Random(3), torch.Generator().manual_seed(0)
    vectors = torch.randn(len(tokenizer), sizes.content, generator=generator)
    vectors[:, -1] = 0
    vectors = torch.nn.functional.normalize(vectors, dim=1)
    rarity = 0.2 + 11 * torch.rand(len(tokenizer), generator=generator)
    # A word is a little less like itself than "as much as nothing" and a bit: where the least of a bias shows.
    look = first_look(vectors, len(sizes.alike)) * math.sqrt(ENOUGH + 0.05)
    known = Words(vectors, rarity=rarity, look=look, shared=0.5)
    made = make_model(sizes, tokenizer, seed=0, words=known).eval()
    query = rng.sample(words, 6)
    texts = [[*rng.sample(query, rng.randrange(2, 7)), *rng.sample(words, 6)] for _ in range(90)]
    candidates = tuple(Candidate(str(place), text=" ".join(text)) for place, text in enumerate(texts))
    example = RankingExample(id="long", query=" ".join(query), candidates=candidates, relevance={"0": 1.0})
    sequence = encoded(example, tools)
    bags = bags_of(sequence, tools, sharpness=5.0)
    sums = had(vectors, look, [(bags.again, text) for text in bags.candidates], rarity)
    third = hidden_states(made, sequence.tokens[: sequence.prompt_length])[3]
    found = third[sorted(place for place, _ in sequence.candidates), sizes.relevance] / NOTED
    assert float(torch.corrcoef(torch.stack([found, sums]))[0, 1]) > 0.999
    # The last labels see the words of eighty other segments, the first of none.
    share = found / sums
    assert float(share[-30:].mean() / share[:30].mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("method", ["iranker", "dranker"])
def test_a_long_list_is_ranked_by_what_is_noted_to_its_end(method: str, words: list[str]) -> None:
    """Ninety candidates, much relevance, and words in the texts that once were taken for what is asked."""
    sizes = Architecture(hidden_size=312, layers=5, heads=3, intermediate_size=32, context=2048, labels=100)
    tokenizer = make_tokenizer(100)
    tools = TokenizerTools(tokenizer, context_tokens=sizes.context, labels=label_names(100))
    long = make_model(sizes, tokenizer, seed=0, words=None).eval()
    rng = random.Random(7)
    query = rng.sample(words, 6)
    texts = [[*rng.sample(query, rng.randrange(6)), rng.choice(["best", "worst", "river"])] for _ in range(90)]
    candidates = [Candidate(str(place), text=" ".join(text + rng.sample(words, 3))) for place, text in enumerate(texts)]
    example = RankingExample(id="long", query=" ".join(query), candidates=tuple(candidates), relevance={"0": 1.0})
    sequence = encoded(example, tools, method=method)
    prompt = list(sequence.tokens[: sequence.prompt_length])
    noted = hidden_states(long, tuple(prompt))[-2][:, sizes.relevance]
    places = sorted((place for place, _ in sequence.candidates), key=lambda place: float(noted[place]))
    order = [prompt[place] for place in (places if method == "iranker" else reversed(places))]
    with torch.no_grad():
        logits = long(input_ids=torch.tensor([[*prompt, *order]])).logits[0, len(prompt) - 1 :]
    worth = {prompt[place]: float(noted[place]) for place in places}
    chosen = [max(order[step:], key=lambda label: float(logits[step][label])) for step in range(len(order) - 1)]
    # How far what is chosen is from what is noted, as a share of what the list spans.
    span = max(worth.values()) - min(worth.values())
    missed = [abs(worth[found] - worth[label]) / span for found, label in zip(chosen, order, strict=False)]
    assert max(missed) < 0.05


def test_labels_of_the_list_come_before_the_other_labels(model: Any, tools: TokenizerTools, words: list[str]) -> None:
    sequence = encoded(random_list(random.Random(1), words, size=5), tools)
    prompt = sequence.tokens[: sequence.prompt_length]
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    shown = {prompt[place] for place, _ in sequence.candidates}
    hidden_labels = [token for token in tools_labels(tools) if token not in shown]
    assert float(logits[sorted(shown)].mean()) > float(logits[hidden_labels].mean())


def test_a_candidate_with_words_of_the_query_is_more_relevant_than_others(
    model: Any, tools: TokenizerTools, words: list[str]
) -> None:
    rng, first = random.Random(0), 0
    for number in range(30):
        sequence = encoded(random_list(rng, words, size=6, overlap=True), tools, seed=number)
        best = [grade for _, grade in sequence.candidates].index(1.0)
        first += int(relevance_at_labels(model, sequence).argmax()) == best
    # Chance is 5 of 30.
    assert first >= 25


@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": 4},
        {"hidden_size": 250},
        {"hidden_size": 128, "heads": 4},
        {"hidden_size": 260, "heads": 4},
        {"heads": 0},
        {"hidden_size": 64, "heads": 1},
        {"hidden_size": 256, "heads": 2},
        {"hidden_size": 192, "labels": 64},
    ],
    ids=str,
)
def test_sizes_that_have_no_room_for_the_layout_are_refused(tokenizer: Any, sizes: dict[str, int]) -> None:
    with pytest.raises(RecipeError):
        make_model(Architecture(**{"labels": 30, "intermediate_size": 32, **sizes}), tokenizer, seed=0)


@pytest.mark.parametrize("shape", [(100, 10), (100_000, SMALL.content)])
def test_words_of_another_shape_are_refused(tokenizer: Any, shape: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match="do not fit"):
        make_model(SMALL, tokenizer, seed=0, words=Words(torch.zeros(shape)))


@pytest.mark.parametrize(
    ("hidden", "heads", "layers"), [(192, 3, 5), (384, 6, 6), (256, 4, 5), (240, 3, 5), (256, 2, 5), (128, 1, 5)]
)
def test_other_sizes_are_laid_out_or_refused(tokenizer: Any, hidden: int, heads: int, layers: int) -> None:
    try:
        sizes = Architecture(hidden_size=hidden, heads=heads, layers=layers, intermediate_size=32, labels=30)
        model = make_model(sizes, tokenizer, seed=0)
    except RecipeError:
        assert heads < 3
        return
    with torch.no_grad():
        assert bool(model(input_ids=torch.tensor([[5, 6, 7]])).logits.isfinite().all())


def test_given_words_start_the_vocabulary_and_leave_labels_alone(tokenizer: Any, model: Any) -> None:
    given = torch.nn.functional.normalize(torch.ones(1000, SMALL.content), dim=1)
    made = make_model(SMALL, tokenizer, seed=0, words=Words(given)).get_input_embeddings().weight
    assert torch.allclose(made[:1000, : SMALL.content].norm(dim=1), torch.tensor(NORM))
    rows = tokenizer.convert_tokens_to_ids(list(label_names(30)))
    assert torch.equal(made[rows], model.get_input_embeddings().weight[rows])


def test_the_same_seed_makes_the_same_model(tokenizer: Any, model: Any) -> None:
    again = make_model(SMALL, tokenizer, seed=0).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())


def test_a_saved_model_is_a_plain_llama_with_equal_logits(
    model: Any, tools: TokenizerTools, words: list[str], tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.tensor([encoded(random_list(random.Random(2), words, size=4), tools).tokens])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, model(input_ids=ids).logits)
    assert again.generation_config.eos_token_id == tools.tokenizer.eos_token_id


def test_the_embedded_model_has_at_most_25_million_parameters() -> None:
    recipe = load_recipe("embedded")
    sizes = Architecture(**recipe.model.architecture)
    further = [f"qqword{number}" for number in range(recipe.words.further)]
    names = [f"qqname{number}" for number in range(recipe.words.names)]
    model = make_model(sizes, make_tokenizer(sizes.labels, words=[*further, *names]), seed=0)
    assert model.config.vocab_size > 30_000 + len(further) + len(names)
    assert model.num_parameters() <= 25_000_000


def test_words_that_are_broken_into_pieces_and_come_often_become_tokens(tokenizer: Any, tmp_path: Path) -> None:
    texts = {
        "Zorblax the Grumptious (1999)": 3,
        "zorblax-vaxil again": 2,
        "River vaxil": 1,
        "quibblorp": 2,
        "Naïvetox!": 9,
    }
    found = frequent_words(texts, tokenizer, most=10, least=2)
    # "vaxil" comes twice and once; accents are dropped, as the vocabulary drops them; known words are no news.
    assert found == ["naivetox", "zorblax", "grumptious", "vaxil", "quibblorp"]
    assert frequent_words(texts, tokenizer, most=2, least=2) == found[:2]
    assert frequent_words(texts, tokenizer, most=10, least=4) == ["naivetox", "zorblax"]
    made = make_tokenizer(30, words=found)
    assert len(made) == len(tokenizer) + 5
    made.save_pretrained(tmp_path)
    for grown in (made, AutoTokenizer.from_pretrained(tmp_path)):
        assert grown.tokenize("Zorblax, the naïvetox <3>") == ["zorblax", ",", "the", "naivetox", "<3>"]
        assert len(grown.tokenize("zorblaxes")) > 1
    labels = [made.convert_tokens_to_ids(name) for name in label_names(30)]
    assert len(set(labels)) == 30
    assert min(labels) > max(made.convert_tokens_to_ids(found))


def test_names_are_whole_texts_that_come_often_in_their_own_task() -> None:
    small = {"Grand  Vaxil ": 3, "grand vaxil": 1, "river": 50, "quibblorp": 2, "Rare Thing": 1}
    large = {f"Thing Number {number}": 30 for number in range(10)} | {"grand vaxil": 2}
    # 4 of 57 are less than 30 of 302.
    found = frequent_names([small, large], most=20, least=2)
    assert found == ["river", *sorted(f"thing number {number}" for number in range(10)), "grand vaxil", "quibblorp"]
    assert frequent_names([small, large], most=11, least=2) == found[:11]
    assert frequent_names([small], most=20, least=1) == ["river", "grand vaxil", "quibblorp", "rare thing"]


def test_further_words_start_as_the_mean_of_their_pieces(tokenizer: Any) -> None:
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(30_522, 6), dim=1)
    grown = with_further(vectors, ["zorblax", "quibblorp"], tokenizer)
    assert torch.equal(grown[:-2], vectors)
    pieces = vectors[tokenizer("quibblorp", add_special_tokens=False)["input_ids"]]
    assert len(pieces) > 1
    assert torch.allclose(grown[-1], torch.nn.functional.normalize(pieces.mean(0), dim=0))
    assert with_further(vectors, [], tokenizer) is vectors
