"""From what a teacher said to conversations and lists."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_teachers import (
    alone_in,
    bare,
    best_first,
    is_order,
    said_in,
    sent,
    setting_of,
    shown_in,
    talks_in,
    teacher_of,
    thinks,
    thought_of,
    worst_first,
)
from toy_tasks import build_toy
from unified_ranker.tasks.build import read_card, read_split

from unified_ranker.errors import DataError
from unified_ranker.exchange import Request
from unified_ranker.parsing import parse_label, parse_order
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.lists import training_lists
from unified_ranker.training.rl.prepare import prepare
from unified_ranker.training.rl.recipe import parse_recipe
from unified_ranker.training.synthesis.run import run

TASKS = ("passage-5", "movie", "router-cost")
LISTS = [(0, 3, 1, 4, 2), (2, 0), (1, 0, 4), (0, 0, 1, 0)]
BOTH = ("dranker", "pointwise")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    for task in TASKS:
        build_toy(folder, task, train=LISTS, validation=[(4, 1)], test=[(0, 2, 1), (0, 0), (5, 0)])
    return folder


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "data")


def make(
    data: Path, script: Callable[[Request], str], *, out: str = "out", style: str = "natural", **changes: Any
) -> tuple[dict[str, Any], Path, list[Request]]:
    setting = setting_of(**changes)
    teacher, backend = teacher_of(script, setting, style=style)
    folder = data.parent / out
    return run(setting, teacher, data=data, out=folder), folder, backend.requests


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("style", ["natural", "compact"])
@pytest.mark.parametrize("reasoning", [True, False])
def test_every_reply_that_is_taught_reads_as_what_the_teacher_meant(
    data: Path, task: str, style: str, reasoning: bool
) -> None:
    script = thinks() if reasoning else bare()
    summary, out, requests = make(data, script, tasks=(task,), style=style, methods=BOTH, reasoning=reasoning)
    talks = talks_in(out)
    assert len(talks) == summary["conversations"] == 4 + sum(map(len, LISTS))
    asked = sent(requests)
    orders = 0
    for *prompt, reply in talks:
        # The prompt is one that was asked, word for word.
        assert prompt in asked
        assert (reply["role"], prompt[-1]["role"]) == ("assistant", "user")
        shown = shown_in(prompt[-1]["content"])
        if is_order(prompt[-1]["content"]):
            orders += 1
            parsed = parse_order(reply["content"], tuple(shown), reasoning=reasoning, joined=style == "compact")
            assert [shown[label][0] for label in parsed.order] == sorted((g for g, _ in shown.values()), reverse=True)
            found, thoughts = parsed.outcome, parsed.reasoning
        else:
            answer = parse_label(reply["content"], tuple("01234"), reasoning=reasoning)
            assert answer.label == str(alone_in(prompt[-1]["content"])[0])
            found, thoughts = answer.outcome, answer.reasoning
        assert found == "ok"
        assert thoughts == (thought_of(prompt[-1]["content"]) if reasoning else "")
    assert orders == 4
    # And every prompt that was asked is taught.
    assert sorted(json.dumps(talk[:-1]) for talk in talks) == sorted(map(json.dumps, asked))


@pytest.mark.parametrize("reasoning", [True, False])
@pytest.mark.parametrize("style", ["natural", "compact"])
def test_the_methods_own_parser_reads_the_same_back(data: Path, style: str, reasoning: bool) -> None:
    setting = setting_of(methods=BOTH, reasoning=reasoning)
    teacher, _ = teacher_of(thinks() if reasoning else bare(), setting, style=style)
    out = data.parent / "out"
    run(setting, teacher, data=data, out=out)
    records, talks = said_in(out), iter(talks_in(out))
    grader, orderer = teacher.grader.strategy("passage"), teacher.orderers[0].strategy("passage")
    for record in records.values():
        order = record["orders"][0]
        reply = next(talks)[-1]["content"]
        parsed: Any = orderer.parse(reply, tuple(order["labels"]))  # type: ignore[attr-defined]
        assert parsed.outcome == "ok"
        assert [order["labels"][name] for name in parsed.order] == order["ids"]
        assert parsed.reasoning == order["reasoning"]
        for said in record["grades"].values():
            answer: Any = grader.parse(next(talks)[-1]["content"], grader.answers)  # type: ignore[attr-defined]
            assert (answer.outcome, answer.label) == ("ok", str(said["grade"]))
            assert answer.reasoning == said["reasoning"]
    assert list(talks) == []


@pytest.mark.parametrize("answer", ["[B] > [A]", "B, A", "\nB>A\n", "B\nA"])
def test_a_reply_is_taught_in_the_form_that_was_asked_for(data: Path, answer: str) -> None:
    build_toy(data / "one", "passage-5", train=[(0, 1)])
    _, out, _ = make(data / "one", thinks(order=lambda shown: answer))
    (talk,) = talks_in(out)
    assert talk[-1]["content"].endswith("</think><answer>B > A</answer>")
    assert talk[-1]["content"].startswith("<think>I see that\n")


@pytest.mark.parametrize(
    ("methods", "wanted"), [(("dranker",), {True}), (("pointwise",), {False}), (BOTH, {True, False})]
)
def test_the_methods_that_were_named_are_taught_and_no_others(
    data: Path, methods: tuple[str, ...], wanted: set[bool]
) -> None:
    _, out, _ = make(data, thinks(), methods=methods)
    assert {is_order(talk[-2]["content"]) for talk in talks_in(out)} == wanted


def test_grades_that_were_repaired_or_missing_are_not_taught(data: Path) -> None:
    said = {0: "0", 1: "[1]", 2: "?", 3: "3", 4: "4"}
    summary, out, _ = make(data, thinks(grade=lambda grade: said[grade]), methods=("pointwise",), threshold=0.0)
    taught = [(alone_in(talk[-2]["content"])[0], talk[-1]["content"][-10:-9]) for talk in talks_in(out)]
    assert set(taught) == {(0, "0"), (3, "3"), (4, "4")}
    # But a grade that could be read is the relevance of the list; one that could not is 0. The second list, of
    # nobody else with a grade, is one of equals.
    assert summary["dropped"] == {"equal grades": 1}
    found = {e.id: [e.grade(c.id) for c in e.candidates] for e in read_split(out / "lists", "passage-5", "train")}
    assert found == {
        "passage-5/train0": [0, 3, 1, 4, 0],
        "passage-5/train2": [1, 0, 4],
        "passage-5/train3": [0, 0, 1, 0],
    }


@pytest.mark.parametrize(
    ("script", "changes", "dropped"),
    [
        (thinks(), {}, {}),
        (thinks(order=worst_first), {"threshold": 0.9}, {"inconsistent": 4}),
        (thinks(grade=lambda grade: "2"), {}, {"equal grades": 4}),
        (thinks(grade=lambda grade: "nothing"), {}, {"equal grades": 4}),
        (thinks(order=lambda shown: "B > A > A"), {}, {"no whole order": 4}),
        (lambda request: "I cannot help with that.", {}, {"equal grades": 4}),
        (lambda request: "", {"keep": "promoting"}, {"no whole order": 4}),
        # Only lists of three and more, and only those that were not the best as they were.
        (thinks(), {"keep": "promoting"}, {"no promotion": 1}),
        (thinks(order=worst_first), {"keep": "promoting"}, {"no promotion": 4}),
    ],
    ids=[str(number) for number in range(9)],
)
def test_what_was_dropped_is_told_with_the_reason(
    data: Path, script: Callable[[Request], str], changes: dict[str, Any], dropped: dict[str, int]
) -> None:
    summary, out, _ = make(data, script, **changes)
    assert summary["dropped"] == dropped
    assert summary["kept"] == summary["conversations"] == 4 - sum(dropped.values())
    assert len(talks_in(out)) == summary["kept"]
    assert len(list(read_split(out / "lists", "passage-5", "train"))) == summary["kept"]
    # All that was said is there, kept or not.
    assert len(said_in(out)) == 4
    assert json.loads((out / "summary.json").read_text(encoding="utf-8")) == summary


def half(order: Callable[..., str], whole: Callable[..., str]) -> Callable[[Request], str]:
    """Return a teacher that breaks on every list with a grade of 4."""
    broken, fine = thinks(order=order), thinks(order=whole)
    return lambda request: (broken if "grade 4" in request.messages[-1].content else fine)(request)


def test_a_teacher_that_breaks_on_some_lists_teaches_the_others(data: Path) -> None:
    summary, out, _ = make(data, half(lambda shown: "and so on", best_first))
    assert (summary["kept"], summary["dropped"]) == (2, {"no whole order": 2})
    assert [e.id for e in read_split(out / "lists", "passage-5", "train")] == ["passage-5/train1", "passage-5/train3"]


def test_a_synthesis_that_keeps_nothing_still_writes_its_files(data: Path) -> None:
    summary, out, _ = make(data, lambda request: "no")
    assert (summary["kept"], summary["conversations"]) == (0, 0)
    assert talks_in(out) == []
    assert list(read_split(out / "lists", "passage-5", "train")) == []
    with pytest.raises(DataError, match="has no training lists"):
        training_lists(out / "lists", "passage-5")


def test_of_several_samples_the_best_is_taught_with_its_own_thoughts(data: Path) -> None:
    def reply(request: Request) -> str:
        prompt = request.messages[-1].content
        if not is_order(prompt):
            return thinks()(request)
        # The second sample is the best, the third a broken one.
        order = {0: worst_first, 1: best_first, 2: lambda shown: "A"}[request.seed or 0]
        return thinks(order=order)(request).replace("I see", f"Sample {request.seed} sees")

    summary, out, _ = make(data, reply, samples=3, temperature=1.0, threshold=1.0)
    assert summary["kept"] == 4
    for talk in talks_in(out):
        assert talk[-1]["content"].startswith("<think>Sample 1 sees that")
        shown = {label: grade for label, (grade, _) in shown_in(talk[-2]["content"]).items()}
        assert talk[-1]["content"].endswith(f"<answer>{best_first(shown)}</answer>")


def test_one_broken_sample_does_not_spoil_the_others(data: Path) -> None:
    def reply(request: Request) -> str:
        return "" if request.seed == 0 and is_order(request.messages[-1].content) else thinks()(request)

    assert make(data, reply, samples=2, temperature=1.0)[0]["kept"] == 4


@pytest.mark.parametrize("task", TASKS)
def test_the_relevance_of_lists_is_the_teachers(data: Path, task: str) -> None:
    # A teacher of its own mind: it likes best what has the relevance 2.
    likes = {0: "0", 1: "2", 2: "4", 3: "3", 4: "1"}
    ranked: dict[int, int] = {grade: int(said) for grade, said in likes.items()}
    script = thinks(order=lambda shown: best_first({k: ranked[v] for k, v in shown.items()}), grade=likes.__getitem__)
    _, out, _ = make(data, script, tasks=(task,))
    before = training_lists(data, task)
    after = training_lists(out / "lists", task)
    assert [e.id for e in after] == [f"{task}/{e.id}" for e in before]
    for old, new in zip(before, after, strict=True):
        assert (new.candidates, new.query, new.group, new.task) == (old.candidates, old.query, old.group, task)
        assert [new.grade(c.id) for c in new.candidates] == [ranked[int(old.grade(c.id))] for c in old.candidates]


def test_the_test_split_is_that_of_the_data(data: Path) -> None:
    _, out, _ = make(data, thinks(order=worst_first, grade=lambda grade: str(4 - grade)), tasks=("passage-5", "movie"))
    for task in ("passage-5", "movie"):
        assert list(read_split(out / "lists", task, "test")) == list(read_split(data, task, "test"))
        assert len(list(read_split(out / "lists", task, "test"))) == 3


def test_the_card_is_the_tasks_own_with_the_setting(data: Path) -> None:
    _, out, _ = make(data, thinks(), threshold=0.7, seed=5)
    card, own = read_card(out / "lists" / "passage-5"), read_card(data / "passage-5")
    assert {**own, "splits": None} == {
        name: None if name == "splits" else value for name, value in card.items() if name != "synthesis"
    }
    assert card["synthesis"] == json.loads(json.dumps(setting_of(threshold=0.7, seed=5).to_dict()))


def test_the_card_counts_the_lists_that_are_there(data: Path) -> None:
    # lists each split has.
    _, out, _ = make(data, half(lambda shown: "and so on", best_first))
    card = read_card(out / "lists" / "passage-5")
    there = {split: len(list(read_split(out / "lists", "passage-5", split))) for split in card["splits"]}
    assert {split: facts["lists"] for split, facts in card["splits"].items()} == there


def many(data: Path, task: str, *, lists: int = 60, groups: int = 20) -> Path:
    """Write a task of many lists, some of one group, over the one that is there."""
    from dataclasses import replace

    from toy_tasks import toy_list

    from unified_ranker.schema.parquet import write_parquet

    found = [
        replace(toy_list(f"t{n}", (n % 3, 3), task=task, split="train"), group=f"user {n % groups}")
        for n in range(lists)
    ]
    write_parquet(data / task / "train.parquet", found)
    return data


def split_groups(out: Path, tasks: tuple[str, ...]) -> tuple[dict[str, set[str]], dict[str, list[RankingExample]]]:
    examples: dict[str, list[RankingExample]] = {
        split: [e for task in tasks for e in read_split(out / "lists", task, split)]
        for split in ("train", "validation")
    }
    return {split: {e.group for e in found} for split, found in examples.items()}, examples


def test_no_group_stands_in_two_splits_of_whatever_task(data: Path) -> None:
    tasks = ("passage-5", "movie")
    for task in tasks:
        many(data, task)
    summary, out, _ = make(data, thinks(), tasks=tasks, validation=0.3)
    groups, examples = split_groups(out, tasks)
    assert groups["train"] and groups["validation"]
    assert not groups["train"] & groups["validation"]
    assert len(groups["train"] | groups["validation"]) == 20
    assert 2 <= len(groups["validation"]) <= 11
    assert summary["kept"] == len(examples["train"]) + len(examples["validation"]) == 120
    assert {e.split for e in examples["train"]} == {"train"}
    assert {e.split for e in examples["validation"]} == {"validation"}
    # What is held out is not taught.
    assert summary["conversations"] == len(examples["train"])


def test_splits_are_drawn_from_the_seed_alone(data: Path) -> None:
    many(data, "passage-5", lists=20)
    found = [
        split_groups(make(data, thinks(), out=f"out-{n}", validation=0.3, seed=seed)[1], ("passage-5",))[0]
        for n, seed in enumerate((0, 0, 1))
    ]
    assert found[0] == found[1] != found[2]


def test_lists_without_a_group_are_split_one_by_one(data: Path) -> None:
    many(data, "passage-5", groups=60)
    from dataclasses import replace

    from unified_ranker.schema.parquet import write_parquet

    path = data / "passage-5" / "train.parquet"
    write_parquet(path, [replace(e, group="") for e in list(read_split(data, "passage-5", "train"))])
    _, out, _ = make(data, thinks(), validation=0.5)
    _, examples = split_groups(out, ("passage-5",))
    assert 15 < len(examples["validation"]) < 45


def test_without_a_share_nothing_is_held_out(data: Path) -> None:
    _, out, _ = make(data, thinks(), validation=0.0)
    assert list(read_split(out / "lists", "passage-5", "validation")) == []
    assert len(list(read_split(out / "lists", "passage-5", "train"))) == 4


def test_reinforcement_learning_takes_the_lists(data: Path, tmp_path: Path) -> None:
    many(data, "passage-5", lists=30)
    _, out, _ = make(data, thinks(), validation=0.3)
    recipe = parse_recipe(
        {
            "name": "mine",
            "tasks": {"passage-5": 1.0},
            "platform": "cpu",
            "method": "dranker",
            "reward": "permutation",
            "options": {"permute": True},
            "steps": 2,
            "batch": 4,
            "validation_lists": 2,
        }
    )
    prepare(recipe, data=out / "lists", run=tmp_path / "run")
    from pyarrow.parquet import read_table

    rows = read_table(tmp_path / "run" / "rows" / "train.parquet").to_pylist()
    known = {e.id: e for e in training_lists(out / "lists", "passage-5")}
    assert len(rows) == 8
    for row in rows:
        shown = json.loads(row["extra_info"]["example"])
        assert shown["relevance"] == dict(known[shown["id"].partition("#")[0]].relevance)


def test_a_list_of_equal_grades_is_no_training_list(data: Path) -> None:
    # equal grades (here: of none that could be read) fill the splits, and training then finds "no training lists".
    _, out, _ = make(data, thinks(grade=lambda grade: "?"), keep="promoting")
    found = list(read_split(out / "lists", "passage-5", "train"))
    assert [e.id for e in found if len({e.grade(c.id) for c in e.candidates}) < 2] == []


def test_the_summary_is_that_of_all_lists(data: Path) -> None:
    summary, out, requests = make(data, thinks(), tasks=("passage-5", "movie"))
    assert summary["lists"] == 8
    assert summary["setting"] == setting_of(tasks=("passage-5", "movie")).to_dict()
    assert summary["usage"]["calls"] == len(requests) == 2 * (14 + 4)
    assert summary["usage"]["prompt_tokens"] == sum(
        sum(len(entry.content.split()) for entry in request.messages) for request in requests
    )
    assert sorted(path.name for path in (out / "lists").iterdir()) == ["movie", "passage-5"]
