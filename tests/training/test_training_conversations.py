"""The conversations that verl's own trainer is given, for each method."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_models import make_tokenizer
from toy_tasks import build_toy, toy_list

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.schema.types import RankingExample
from unified_ranker.training import verl_sft
from unified_ranker.training.rl import config
from unified_ranker.training.rl.trainable import shown, strategies_by_domain

LETTERS = TokenizerTools(make_tokenizer(), context_tokens=8192)
GRADES = (0, 3, 1, 0, 3)


def strategy_of(method: str, **options: Any) -> Any:
    found = strategies_by_domain(method, style="natural", tools=LETTERS, token_budget=4096, options=options)
    return found["passage"]


def talk(method: str, example: RankingExample, seed: int = 0, **options: Any) -> list[dict[str, str]]:
    return verl_sft.conversation(example, strategy_of(method, **options), random.Random(seed))


def grades_named(example: RankingExample, reply: str, separator: str) -> list[float]:
    labels = {entry: f"c{place}" for place, entry in enumerate("ABCDEFG")}
    return [example.grade(labels[name]) for name in reply.split(separator)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("method", "wanted"),
    [("iranker", [0.0, 0.0, 1.0, 3.0]), ("dranker", [3.0, 3.0, 1.0, 0.0, 0.0]), ("setwise", [3.0])],
)
def test_a_reply_names_the_worst_first_the_best_first_or_the_best_alone(
    method: str, wanted: list[float], seed: int
) -> None:
    example = toy_list("list", GRADES)
    messages = talk(method, example, seed)
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    separator = strategy_of(method).writer.template.label_separator
    assert grades_named(example, messages[-1]["content"], separator) == wanted


@pytest.mark.parametrize("method", ["iranker", "dranker", "setwise"])
def test_equals_come_in_random_order(method: str) -> None:
    example = toy_list("list", GRADES)
    assert len({talk(method, example, seed)[-1]["content"] for seed in range(20)}) > 1


@pytest.mark.parametrize("method", ["iranker", "dranker", "setwise", "pointwise"])
def test_the_prompt_is_that_of_the_first_request(method: str) -> None:
    example = toy_list("list", GRADES)
    messages = talk(method, example)
    strategy = strategy_of(method)
    sent = [
        [{"role": message.role, "content": message.content} for message in request.messages]
        for request in next(strategy.rank(example))
    ]
    assert messages[:-1] in sent
    if method != "pointwise":
        assert len(sent) == 1


def test_a_set_is_the_first_of_the_list() -> None:
    example = toy_list("list", (0, 1, 0, 3, 3))
    messages = talk("setwise", example, set_size=3)
    assert messages[-1]["content"] == "B"
    assert "place 02" in messages[1]["content"]
    assert "place 03" not in messages[1]["content"]
    listed, _ = shown(example, strategy_of("setwise", set_size=3))
    assert [entry.candidate.id for entry in listed] == ["c0", "c1", "c2"]


@pytest.mark.parametrize(("top", "wanted"), [(None, {0: "0", 1: "1", 3: "4"}), (9, {0: "0", 1: "3", 3: "9"})])
def test_a_grade_is_that_of_a_random_candidate_as_often_a_best_one_as_not(
    top: int | None, wanted: dict[int, str]
) -> None:
    example = toy_list("list", GRADES)
    options = {} if top is None else {"top_grade": top}
    strategy, rng, replies = strategy_of("pointwise", **options), random.Random(0), Counter[str]()
    for _ in range(300):
        messages = verl_sft.conversation(example, strategy, rng)
        (place,) = [place for place in range(5) if f"of place 0{place}" in messages[1]["content"]]
        assert messages[-1]["content"] == wanted[GRADES[place]]
        replies[messages[-1]["content"]] += 1
    assert set(replies) == set(wanted.values())
    assert abs(replies[wanted[3]] - 150) < 45


def test_yes_or_no_is_a_grade_too() -> None:
    example = toy_list("list", (2, 0))
    found = {
        (
            "grade 2" in messages[1]["content"],
            messages[-1]["content"],
        )
        for messages in (talk("pointwise", example, seed, scale="yes_no") for seed in range(20))
    }
    assert found == {(True, "yes"), (False, "no")}


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what ``plan`` makes of methods, without verl: its settings come back as they are."""
    monkeypatch.setattr(config, "compose", lambda found, schema: dict(found))
    data = build_toy(tmp_path / "data", "movie", train=[(0, 1, 0), (2, 1, 0, 0), (0, 0, 1)], validation=[(1, 0)])

    def plan(**changes: Any) -> Any:
        record = {"name": "mine", "tasks": {"movie": 1}, "trainer": "verl", "platform": "cpu", "rows": 12, "batch": 4}
        return verl_sft.plan(verl_sft.parse({**record, **changes}), data=data, out=tmp_path / "run")

    return plan


@pytest.mark.parametrize("method", ["iranker", "dranker", "setwise", "pointwise"])
def test_a_plan_has_as_many_conversations_as_the_recipe_says(planned: Any, method: str) -> None:
    found, setting, rows = planned(methods={method: 1})
    assert len(rows) == 12
    assert setting.ranker.method == method
    assert found["data.train_batch_size"] == 4
    chats = setting.tokenizer.apply_chat_template(rows, tokenize=True, return_dict=True)["input_ids"]
    assert max(map(len, chats)) <= found["data.max_length"]


@pytest.mark.parametrize("method", ["setwise", "pointwise"])
def test_a_plan_is_made_for_the_best_of_sets_and_for_grades(planned: Any, method: str) -> None:
    _, setting, rows = planned(methods={method: 1})
    assert len(rows) == 12
    assert setting.ranker.method == method
    assert {row[-1]["content"] for row in rows} <= (
        {"0", "1", "2", "3", "4"} if method == "pointwise" else {*setting.tools.labels}
    )


def test_the_other_methods_of_a_mixture_are_taught_beside_the_main_one(planned: Any) -> None:
    _, setting, rows = planned(methods={"iranker": 2, "setwise": 1, "pointwise": 1}, rows=60, batch=6)
    assert setting.ranker.method == "iranker"
    replies = [row[-1]["content"] for row in rows]
    grades = sum(reply in {"0", "1", "2", "3", "4"} for reply in replies)
    assert 5 <= grades <= 28
    ends = Counter(
        next(mark for mark in ("<|worst|>", "<|best|>", "grade") if mark in row[-2]["content"]) for row in rows
    )
    assert set(ends) == {"<|worst|>", "<|best|>", "grade"}
    assert ends["grade"] == grades
    assert 18 <= ends["<|worst|>"] <= 44
