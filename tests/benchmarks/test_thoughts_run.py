from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy
import pytest
from toy_arms import ToyTask
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import Cell
from unified_ranker.benchmarks.thoughts import run_thoughts, thoughts_of
from unified_ranker.tasks import task_named

from unified_ranker.backends import ScriptedBackend
from unified_ranker.embedding import Embedder
from unified_ranker.errors import DataError, OptionError
from unified_ranker.exchange import Request
from unified_ranker.model_settings import ModelSettings, read_settings, write_settings
from unified_ranker.prompts.thoughts import HEADING, Thought, read_thoughts
from unified_ranker.schema.types import Candidate, RankingExample

Script = Callable[[Request], str]
SHOWN = re.compile(r"\[(\w+)\] grade (\d+) of (\w+)")
QUERY = re.compile(r"at (\d+)")


def ask(
    angle: int,
    grades: Sequence[int],
    *,
    task: str = "passage-5",
    split: str = "train",
    group: str | None = None,
    context: tuple[str, ...] = (),
) -> RankingExample:
    """Return a list whose query lies in some direction, of which the texts tell the grades."""
    names = [f"c{place}" for place in range(len(grades))]
    return RankingExample(
        id=f"{split} {angle} {group or ''}".strip(),
        query=f"at {angle}",
        candidates=tuple(Candidate(name, f"grade {g} of {name}") for name, g in zip(names, grades, strict=True)),
        task=task,
        domain=task_named(task).domain,
        context=context,
        relevance={name: float(grade) for name, grade in zip(names, grades, strict=True)},
        split=split,
        group=f"group {angle}" if group is None else group,
    )


def task_of(*examples: RankingExample, name: str = "passage-5") -> BuiltTask:
    task = ToyTask(name)
    for split in ("train", "test"):
        task._lists[split] = tuple(example for example in examples if example.split == split)
    return task


def graded(request: Request) -> dict[str, tuple[int, str]]:
    """Return grade and name under each label in play."""
    return {label: (int(grade), name) for label, grade, name in SHOWN.findall(request.messages[-1].content)}


def angle_of(request: Request) -> int:
    found = QUERY.findall(request.messages[-1].content.partition(f"{HEADING}\n")[2] or request.messages[-1].content)
    return int(found[-1])


def thinks(request: Request) -> str:
    """Eliminate the worst, and say so."""
    shown = graded(request)
    label = min(shown, key=lambda each: shown[each])
    return f"<think>At {angle_of(request)}, {shown[label][1]} says least.</think><answer>{label}</answer>"


def errs(request: Request) -> str:
    """Eliminate the best, and say so."""
    shown = graded(request)
    label = max(shown, key=lambda each: shown[each])
    return f"<think>At {angle_of(request)}, {shown[label][1]} must go.</think><answer>{label}</answer>"


def last(request: Request) -> str:
    return request.choices[-1]


@dataclass
class Models:
    """Folders of models without weights, and what was asked of the scripts that stand in for them."""

    root: Path
    scripts: dict[str, Script] = field(default_factory=lambda: {"thinker": thinks, "reader": last})
    loaded: list[tuple[str, ScriptedBackend]] = field(default_factory=list)

    def add(self, name: str, **settings: Any) -> Path:
        (self.root / name).mkdir(exist_ok=True)
        write_settings(self.root / name, ModelSettings(**settings))
        return self.root / name

    def asked(self, name: str) -> list[Request]:
        return [request for found, backend in self.loaded if found == name for request in backend.requests]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Models:
    found = Models(tmp_path)
    found.add("thinker", options={"layout": "append"})
    found.add("reader")

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        backend = ScriptedBackend(found.scripts[Path(model).name])
        backend.settings = read_settings(model)  # type: ignore[attr-defined]
        found.loaded.append((Path(model).name, backend))
        return backend

    def by_angle(texts: Sequence[str]) -> Any:
        angles = [math.radians(sum(map(int, re.findall(r"\d+", text)))) for text in texts]
        return numpy.array([[math.cos(angle), math.sin(angle)] for angle in angles])

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    monkeypatch.setattr(Embedder, "load", staticmethod(lambda: by_angle))
    return found


TRAIN = (ask(0, [0, 1, 0]), ask(50, [1, 0, 0]), ask(90, [0, 0, 1]))
TEST = (ask(10, [0, 1], split="test"), ask(80, [1, 0, 0], split="test"))


def run(models: Models, *tasks: BuiltTask, **options: Any) -> Path:
    thinker = {"name_or_path": models.root / "thinker", **options.pop("thinker", {})}
    reader = {"name_or_path": models.root / "reader", **options.pop("reader", {})}
    options = {"out": models.root / "out", "count": 1, **options}
    return run_thoughts(thinker, reader, tasks or [task_of(*TRAIN, *TEST)], **options)


def collected(models: Models) -> list[Thought]:
    return read_thoughts(models.root / "out" / "thoughts.jsonl")


def thoughts_in(request: Request) -> list[str]:
    """Return the thoughts that a prompt shows."""
    before, heading, rest = request.messages[-1].content.partition(f"{HEADING}\n")
    assert not heading or before == ""
    return [line.removeprefix("- ") for line in rest.partition("\n\n")[0].splitlines()] if heading else []


# ---------------------------------------------------------------------------------------------------------- collecting


def test_the_first_thought_of_each_training_list_is_kept(models: Models) -> None:
    run(models)
    assert collected(models) == [
        Thought("passage", "group 0", "at 0", "At 0, c0 says least."),
        Thought("passage", "group 50", "at 50", "At 50, c1 says least."),
        Thought("passage", "group 90", "at 90", "At 90, c0 says least."),
    ]


def test_the_thinker_ranks_training_lists_step_by_step_and_aloud(models: Models) -> None:
    run(models)
    asked = models.asked("thinker")
    assert [angle_of(request) for request in asked].count(0) == 2
    assert {angle_of(request) for request in asked} == {0, 50, 90}
    assert all(request.reply_prefix == "" and request.choices == () for request in asked)
    assert all("<think>" in request.messages[-1].content for request in asked)
    (cell,) = Cell.all(models.root / "out" / "thinking")
    assert (cell.facts["model"], cell.facts["method"], cell.facts["split"]) == ("thinker", "iranker", "train")


@pytest.mark.parametrize(("collect", "angles"), [(1, [0]), (2, [0, 50]), (200, [0, 50, 90])])
def test_so_many_training_lists_of_each_task_are_thought_about(collect: int, angles: list[int], models: Models) -> None:
    run(models, collect=collect)
    assert [entry.query for entry in collected(models)] == [f"at {angle}" for angle in angles]


def test_thoughts_of_wrong_eliminations_are_left_out(models: Models) -> None:
    models.scripts["thinker"] = lambda request: errs(request) if angle_of(request) == 50 else thinks(request)
    run(models, task_of(ask(0, [0, 1]), ask(50, [1, 0]), *TEST))
    assert [entry.text for entry in collected(models)] == ["At 0, c0 says least."]


def test_where_the_first_step_was_wrong_a_later_one_that_was_right_counts(models: Models) -> None:
    models.scripts["thinker"] = lambda request: errs(request) if len(graded(request)) == 3 else thinks(request)
    run(models, task_of(ask(0, [0, 1, 1]), *TEST))
    # c2 went, relevant though it was; then c0 of c0 and c1.
    assert [entry.text for entry in collected(models)] == ["At 0, c0 says least."]


@pytest.mark.parametrize(
    "reply",
    [
        "<think>no end<answer>A</answer>",
        "before <think>so</think><answer>A</answer>",
        "<think>so</think>A",
        "<think>so</think><answer>none of them</answer>",
        "<think>so</think><answer>Z</answer>",
        "A",
        "<think>  \n </think><answer>A</answer>",
        "",
    ],
)
def test_thoughts_of_replies_that_were_not_whole_are_left_out(reply: str, models: Models) -> None:
    models.scripts["thinker"] = lambda request: reply if angle_of(request) == 50 else thinks(request)
    run(models, task_of(ask(50, [0, 1]), ask(0, [0, 1]), *TEST))
    assert [entry.text for entry in collected(models)] == ["At 0, c0 says least."]


@pytest.mark.parametrize(
    ("name", "domain", "grades", "right"),
    [
        ("router-balance", "routing", [40, 90, 70], True),
        ("router-balance", "routing", [90, 90], False),
        ("movie", "recommendation", [0, 1], True),
        ("passage-5", "passage", [1, 2], False),
        ("trec-dl-2019", "passage", [1, 2], True),
    ],
)
def test_what_may_be_eliminated_is_what_the_task_calls_irrelevant(
    name: str, domain: str, grades: list[int], right: bool, models: Models
) -> None:
    task = task_of(ask(0, grades, task=name), ask(10, [0, 1], task=name, split="test"), name=name)
    if not right:
        with pytest.raises(DataError, match="gave no thought with a right elimination"):
            run(models, task)
        return
    run(models, task)
    assert [(entry.domain, entry.text) for entry in collected(models)] == [(domain, "At 0, c0 says least.")]


def test_the_query_of_a_thought_holds_the_history(models: Models) -> None:
    train = ask(5, [0, 1], task="movie", context=("seen 30", "seen 40"))
    run(models, task_of(train, ask(75, [0, 1], task="movie", split="test"), name="movie"))
    assert [entry.query for entry in collected(models)] == ["at 5\nseen 30\nseen 40"]


def test_thoughts_of_all_tasks_stand_in_one_file(models: Models) -> None:
    movies = task_of(ask(7, [0, 1], task="movie"), ask(8, [0, 1], task="movie", split="test"), name="movie")
    run(models, task_of(*TRAIN, *TEST), movies)
    assert [entry.domain for entry in collected(models)] == ["passage"] * 3 + ["recommendation"]


@pytest.mark.parametrize(("most", "texts"), [(1, ["c0"]), (2, ["c0", "c2"]), (9, ["c0", "c2", "c3"])])
def test_of_one_list_the_earliest_thoughts_are_kept(most: int, texts: list[str], models: Models) -> None:
    task = task_of(ask(0, [0, 1, 0, 0]), *TEST)
    run(models, task)
    (cell,) = Cell.all(models.root / "out" / "thinking")
    found = list(thoughts_of(task, cell, per_list=most))
    assert [entry.text for entry in found] == [f"At 0, {name} says least." for name in texts]


def test_a_thinker_without_a_right_thought_is_told_by_name(models: Models) -> None:
    models.scripts["thinker"] = errs
    task = task_of(ask(0, [0, 1]), *TEST)
    with pytest.raises(DataError, match=r"^thinker gave no thought .* on 7 training lists of passage-5; take a model"):
        run(models, task, collect=7)
    assert models.asked("reader") == []
    assert not (models.root / "out" / "thoughts.jsonl").exists()


@pytest.mark.parametrize("collect", [0, -3])
def test_a_number_of_lists_below_one_is_refused_before_a_model_is_loaded(collect: int, models: Models) -> None:
    with pytest.raises(OptionError, match=f"collect={collect} must be ≥ 1"):
        run(models, collect=collect)
    assert models.loaded == []


@pytest.mark.parametrize("option", ["count", "limit", "concurrency"])
def test_what_cannot_be_used_later_is_told_before_anything_is_thought(option: str, models: Models) -> None:
    with pytest.raises(OptionError, match=f"{option}=0 must be ≥ 1"):
        run(models, **{option: 0})
    assert models.asked("thinker") == []


def test_a_thinker_that_was_trained_for_another_method_thinks(models: Models) -> None:
    models.add("thinker", method="dranker")
    run(models)
    assert len(collected(models)) == 3


def test_fewer_lists_than_were_thought_about_before_give_fewer_thoughts(models: Models) -> None:
    run(models, collect=3)
    run(models, collect=1, name="second")
    assert [entry.query for entry in collected(models)] == ["at 0"]


# -------------------------------------------------------------------------------------------------------------- helping


def test_the_thought_on_the_nearest_query_stands_in_the_readers_prompt(models: Models) -> None:
    results = run(models)
    assert results == models.root / "out" / "results"
    asked = models.asked("reader")
    found = [(angle_of(request), thoughts_in(request)) for request in asked]
    near, far = "At 0, c0 says least.", "At 90, c0 says least."
    # A list of two takes one step and a list of three two: once without, once with a thought.
    assert sorted(found) == [(10, []), (10, [near]), (80, []), (80, []), (80, [far]), (80, [far])]


def test_with_and_without_thoughts_prompts_are_alike_otherwise(models: Models) -> None:
    run(models, task_of(*TRAIN, TEST[0]))
    plain, helped = (request.messages[-1].content for request in models.asked("reader"))
    assert helped == f"{HEADING}\n- At 0, c0 says least.\n\n{plain}"


@pytest.mark.parametrize(
    ("count", "found"),
    [
        (1, ["At 50, c1 says least."]),
        (2, ["At 50, c1 says least.", "At 90, c0 says least."]),
        (3, ["At 50, c1 says least.", "At 90, c0 says least.", "At 0, c0 says least."]),
        (9, ["At 50, c1 says least.", "At 90, c0 says least.", "At 0, c0 says least."]),
    ],
)
def test_so_many_thoughts_stand_in_a_prompt(count: int, found: list[str], models: Models) -> None:
    run(models, task_of(*TRAIN, ask(60, [0, 1], split="test")), count=count)
    assert [thoughts_in(request) for request in models.asked("reader")] == [[], found]


def test_a_thought_of_a_lists_own_group_never_helps_it(models: Models) -> None:
    own = [ask(20, [0, 1], split="test", group="group 0"), ask(21, [0, 1], split="test", group="group 50")]
    run(models, task_of(*TRAIN, *own), count=2)
    helped = [(angle_of(request), thoughts_in(request)) for request in models.asked("reader") if thoughts_in(request)]
    assert helped == [
        (20, ["At 50, c1 says least.", "At 90, c0 says least."]),
        (21, ["At 0, c0 says least.", "At 90, c0 says least."]),
    ]


def test_thoughts_help_in_their_own_domain_alone(models: Models) -> None:
    models.scripts["thinker"] = lambda request: thinks(request) if angle_of(request) < 100 else errs(request)
    movies = task_of(ask(100, [0, 1], task="movie"), ask(10, [0, 1], task="movie", split="test"), name="movie")
    run(models, task_of(*TRAIN, TEST[0]), movies)
    assert [thoughts_in(request) for request in models.asked("reader")] == [[], ["At 0, c0 says least."], [], []]


def test_both_are_measured_under_names_of_their_own_with_one_loaded_model(models: Models) -> None:
    results = run(models, name="mine", reader={"layout": "rounds"})
    cells = Cell.all(results)
    assert [(cell.facts["model"], cell.facts["method"]) for cell in cells] == [
        ("mine", "iranker"),
        ("mine+thoughts", "iranker"),
    ]
    assert [len(cell.records()) for cell in cells] == [2, 2]
    assert [name for name, _ in models.loaded] == ["thinker", "reader"]
    plain, helped = (cell.facts["settings"] for cell in cells)
    assert plain["layout"] == helped["layout"] == "rounds"
    assert helped["thought_count"] == 1 and len(helped["thoughts_hash"]) == 16
    assert "thoughts_hash" not in plain


def test_the_reader_is_called_by_its_folder_and_ranks_by_its_own_method(models: Models) -> None:
    models.add("reader", method="dranker")
    models.scripts["reader"] = lambda request: "A"
    found = [(cell.facts["model"], cell.facts["method"]) for cell in Cell.all(run(models))]
    assert found == [("reader", "dranker"), ("reader+thoughts", "dranker")]


@pytest.mark.parametrize(("limit", "angles"), [(1, {10}), (2, {10, 80}), (None, {10, 80})])
def test_the_limit_counts_test_lists(limit: int | None, angles: set[int], models: Models) -> None:
    run(models, limit=limit)
    assert {angle_of(request) for request in models.asked("reader")} == angles
    assert {angle_of(request) for request in models.asked("thinker")} == {0, 50, 90}


def test_a_model_may_be_helped_by_itself(models: Models) -> None:
    models.scripts["reader"] = lambda request: last(request) if request.choices else thinks(request)
    run_thoughts(
        {"name_or_path": models.root / "reader"},
        {"name_or_path": models.root / "reader"},
        [task_of(*TRAIN, TEST[0])],
        out=models.root / "out",
    )
    assert len(thoughts_in(models.asked("reader")[-1])) == 3


def test_what_happens_is_told(models: Models) -> None:
    said: list[str] = []
    run(models, say=said.append)
    assert [line.partition(" lists in ")[0] for line in said] == [
        "passage-5: thinker by iranker: 3",
        f"3 thoughts in {models.root / 'out' / 'thoughts.jsonl'}",
        "passage-5: reader by iranker: 2",
        "passage-5: reader+thoughts by iranker: 2",
    ]


# ------------------------------------------------------------------------------------------------------------- going on


def test_what_is_done_is_not_done_again(models: Models) -> None:
    run(models)
    book = (models.root / "out" / "thoughts.jsonl").read_bytes()
    models.loaded.clear()
    said: list[str] = []
    run(models, say=said.append)
    assert models.loaded == []
    assert (models.root / "out" / "thoughts.jsonl").read_bytes() == book
    assert [line for line in said if "complete" not in line] == [
        f"3 thoughts in {models.root / 'out' / 'thoughts.jsonl'}"
    ]


def interrupted(script: Script, at: int) -> Script:
    """Return a script that ends the process at its so manieth reply."""
    seen: list[Request] = []

    def reply(request: Request) -> str:
        seen.append(request)
        if len(seen) == at:
            raise KeyboardInterrupt
        return script(request)

    return reply


@pytest.mark.parametrize(
    ("who", "script", "at", "again"),
    [("thinker", thinks, 4, {50, 90}), ("reader", last, 2, {80, 10})],
)
def test_an_experiment_that_was_stopped_goes_on_where_it_was(
    who: str, script: Script, at: int, again: set[int], models: Models
) -> None:
    models.scripts[who] = interrupted(script, at)
    with pytest.raises(KeyboardInterrupt):
        run(models, concurrency=1)
    models.loaded.clear()
    models.scripts[who] = script
    results = run(models, concurrency=1)
    assert {angle_of(request) for request in models.asked(who)} == again
    assert (models.asked("thinker") == []) is (who == "reader")
    assert [len(cell.records()) for cell in Cell.all(results)] == [2, 2]
    assert len(collected(models)) == 3


def test_results_with_other_thoughts_are_not_mixed(models: Models) -> None:
    run(models, collect=1, limit=1)
    with pytest.raises(DataError, match="thoughts_hash"):
        run(models, collect=3)


def test_the_thoughts_are_plain_lines(models: Models) -> None:
    run(models, collect=1)
    (line,) = (models.root / "out" / "thoughts.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "domain": "passage",
        "group": "group 0",
        "query": "at 0",
        "text": "At 0, c0 says least.",
    }
