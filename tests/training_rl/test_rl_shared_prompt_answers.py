"""Replies that are grades: every answer is free wherever one stands."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer

from unified_ranker.errors import RecipeError
from unified_ranker.training.rl.config import settings
from unified_ranker.training.rl.recipe import parse_recipe
from unified_ranker.training.rl.shared_prompt import ANSWERS, FROZEN, LABELS, Packed, pack

PAD = 3
GRADES = (50, 51, 52, 53, 54)


def packed(prompts: list[tuple[int, ...]], responses: list[tuple[int, ...]], **more: Any) -> Packed:
    lengths = more.pop("lengths", [len(response) for response in responses])
    return pack(
        [torch.tensor(prompt) for prompt in prompts],
        [torch.tensor(response, dtype=torch.long) for response in responses],
        lengths,
        pad=PAD,
        **more,
    )


def test_every_answer_is_free_whatever_stands_in_the_prompt_or_was_said_before() -> None:
    found = packed([(5, 50), (5, 6), (5, 50)], [(51,), (54, 54), (50,)], answers=GRADES)
    assert found.free is not None
    assert found.free.dtype == torch.bool
    assert found.free.tolist() == [[True] * 5] * 4
    assert found.targets.tolist() == [51, 50, 54, 54]


def test_answers_change_nothing_else() -> None:
    prompts, responses = [(5, 50, 7), (6, 7), (5, 50, 7)], [(51,), (54, 50), (53,)]
    plain, graded = packed(prompts, responses), packed(prompts, responses, answers=GRADES)
    assert plain.free is None
    for name in ("ids", "positions", "mask", "rows", "places", "targets", "flat"):
        assert torch.equal(getattr(plain, name), getattr(graded, name)), name
    assert plain.kept == graded.kept


def test_labels_are_taken_away_and_answers_are_not() -> None:
    prompts, responses = [(5, 50, 51, 52)], [(51, 50)]
    labels = packed(prompts, responses, labels=GRADES).free
    answers = packed(prompts, responses, answers=GRADES).free
    assert labels is not None and answers is not None
    assert labels.int().tolist() == [[1, 1, 1, 0, 0], [1, 0, 1, 0, 0]]
    assert answers.int().tolist() == [[1, 1, 1, 1, 1]] * 2


def test_labels_come_before_answers_where_both_are_given() -> None:
    found = packed([(5, 50, 51)], [(51,)], labels=(50, 51, 52), answers=GRADES).free
    assert found is not None
    assert found.int().tolist() == [[1, 1, 0]]


def test_a_batch_of_which_nothing_is_asked_can_be_read_like_any_other() -> None:
    found = packed([(5, 50)], [(50,)], lengths=[0], answers=GRADES).free
    assert found is not None
    assert (found.shape, found.dtype) == ((0, 5), torch.bool)


def test_probabilities_among_answers_are_those_of_separate_passes() -> None:
    model = make_model(make_tokenizer(), seed=1)
    rng = random.Random(4)
    known = [tuple(rng.sample(range(40), size)) for size in (3, 6)]
    prompts = [rng.choice(known) for _ in range(6)]
    responses = [(rng.choice(GRADES),) for _ in prompts]
    found = packed(prompts, responses, answers=GRADES)
    with torch.no_grad():
        logits = model(
            input_ids=found.ids,
            attention_mask=found.mask,
            position_ids=found.positions,
            logits_to_keep=found.kept,
            use_cache=False,
        ).logits[found.rows, found.places][:, list(GRADES)]
        assert found.free is not None
        logprobs = logits.masked_fill(~found.free, -1e9).log_softmax(-1)
        values = {
            int(index): row[GRADES.index(int(target))].item()
            for index, row, target in zip(found.flat, logprobs, found.targets, strict=True)
        }
        offset = 0
        for prompt, (token,) in zip(prompts, responses, strict=True):
            at = model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, -1]
            wanted = (at[token] - at[list(GRADES)].logsumexp(-1)).item()
            assert values.pop(offset + len(prompt) - 1) == pytest.approx(wanted, abs=1e-4)
            offset += len(prompt) + 1
    assert values == {}


def said(**changes: Any) -> dict[str, Any]:
    """Return the settings of a run of grades, by the last part of their names where they are the model's."""
    record = {
        "name": "mine",
        "tasks": {"movie": 1},
        "platform": "cpu",
        "method": "pointwise",
        "reward": "erank",
        "options": {"score": "grade"},
    }
    tokens = {
        "label_tokens": changes.pop("label_tokens", (7, 8)),
        "answer_tokens": changes.pop("answer_tokens", GRADES),
    }
    recipe = parse_recipe({**record, **changes})
    return settings(recipe, run=Path("/run"), model="m", prompt_tokens=9, response_tokens=4, **tokens)


def config_of(found: dict[str, Any], name: str) -> Any:
    return found.get(f"+actor_rollout_ref.model.override_config.{name}")


def test_the_actor_of_grades_is_told_their_tokens_and_no_labels() -> None:
    found = said()
    assert config_of(found, ANSWERS) == list(GRADES)
    assert config_of(found, LABELS) is None
    assert config_of(found, FROZEN) is None
    assert "actor_rollout_ref.rollout.logprobs_mode" not in found


def test_thoughts_are_not_restricted_to_grades() -> None:
    found = said(options={"score": "grade", "reasoning": True})
    assert config_of(found, ANSWERS) is config_of(found, LABELS) is None
    assert "actor_rollout_ref.rollout.logprobs_mode" not in found


def test_on_an_accelerator_probabilities_of_grades_are_those_among_all_words() -> None:
    found = said(platform="gpu")
    assert config_of(found, ANSWERS) is config_of(found, LABELS) is None
    assert found["actor_rollout_ref.rollout.logprobs_mode"] == "raw_logprobs"


@pytest.mark.parametrize(("method", "reward"), [("iranker", "binary"), ("setwise", "rank_r1")])
def test_the_actor_of_labels_is_told_no_answers(method: str, reward: str) -> None:
    found = said(method=method, reward=reward, options={}, answer_tokens=())
    assert config_of(found, LABELS) == [7, 8]
    assert config_of(found, ANSWERS) is None


def test_grades_of_several_tokens_are_not_taken_for_labels() -> None:
    found = said(answer_tokens=())
    assert config_of(found, LABELS) is None


def test_frozen_labels_reach_a_run_of_grades_or_are_refused() -> None:
    try:
        found = said(frozen_labels=True)
    except RecipeError as error:
        assert "frozen_labels" in str(error)
        return
    assert config_of(found, FROZEN) is True
