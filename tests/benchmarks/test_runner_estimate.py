from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy_arms import LogArm, ToyTask
from unified_ranker.benchmarks.runner import Cell, Estimate, ModelArm, run_benchmark
from unified_ranker.benchmarks.runner.estimate import CountingBackend
from unified_ranker.benchmarks.runner.run import estimate_benchmark

from unified_ranker.backends import ScriptedBackend
from unified_ranker.exchange import Completion, Message, Request
from unified_ranker.model_settings import read_settings
from unified_ranker.schema.types import Candidate

# Lists of 3, 4, 2 and 1 candidates.
TASK = ToyTask("passage-5", test=[[0, 2, 1], [3, 0, 1, 1], [0, 1], [1]])


def last_first(request: Request) -> str | Completion:
    """Reply by the labels that may be said, or that the prompt shows and were not said, the last of them first."""
    said = request.reply_prefix.split()
    shown = [label for label in re.findall(r"\[(\w)\]", request.messages[-1].content) if label not in said]
    text = "".join(request.choices[::-1][: request.draws]) or " > ".join(reversed(shown))
    words = sum(len(message.content.split()) for message in request.messages) + len(said)
    told = {label: -float(place) for place, label in enumerate(request.choices)}
    return Completion(text=text, choice_logprobs=told, prompt_tokens=words)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """Return the script that stands in for every model."""
    found = ScriptedBackend(last_first)

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        found.settings = read_settings(model)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my-model"
    made.mkdir()
    return made


def asked_of(backend: ScriptedBackend) -> tuple[int, int]:
    """Return how many requests came, and their words."""
    words = [
        sum(len(message.content.split()) for message in request.messages) + len(request.reply_prefix.split())
        for request in backend.requests
    ]
    return len(words), sum(words)


# n candidates are n - 1 eliminations, or one decode; a list of one needs none.
@pytest.mark.parametrize(
    ("arguments", "calls"),
    [
        ({"method": "iranker", "layout": "append"}, 2 + 3 + 1),
        ({"method": "iranker", "layout": "rounds"}, 2 + 3 + 1),
        ({"method": "iranker", "layout": "rounds", "style": "compact"}, 2 + 3 + 1),
        ({"method": "iranker", "permute": True, "style": "compact"}, 3),
        ({"method": "iranker", "max_steps": 1}, 3),
        ({"method": "iranker", "stop_at": 2, "finish": "dranker"}, (1 + 1) + (2 + 1) + 1),
        ({"method": "iranker", "shuffles": 3}, 3 * (2 + 3 + 1)),
        ({"method": "iranker", "unguided": True}, 2 + 3 + 1),
        ({"method": "dranker"}, 3),
        ({"method": "dranker", "permute": True, "style": "compact"}, 3),
        ({"method": "dranker", "on_error": "retry", "permute": True, "style": "compact"}, 3),
        # No list is longer than a block.
        ({"method": "tournament"}, 2 + 3 + 1),
    ],
    ids=str,
)
def test_the_estimate_is_what_a_run_asks_for(
    arguments: dict[str, Any], calls: int, backend: ScriptedBackend, folder: Path, tmp_path: Path
) -> None:
    arm = ModelArm({"name_or_path": folder, **arguments})
    (cost,) = estimate_benchmark([arm], [TASK], out=tmp_path / "run")
    assert backend.requests == []
    run_benchmark([arm], [TASK], out=tmp_path / "run")
    assert (cost.estimate.calls, cost.estimate.prompt_tokens) == asked_of(backend)
    assert (cost.estimate.queries, cost.estimate.calls) == (4, calls)


@pytest.mark.parametrize(
    ("arguments", "exact"),
    [
        ({}, True),
        ({"permute": True, "style": "compact"}, True),
        ({"method": "dranker", "permute": True, "style": "compact"}, True),
        ({"method": "dranker"}, False),
        ({"unguided": True}, False),
        ({"reasoning": True}, False),
    ],
    ids=str,
)
def test_an_estimate_is_exact_where_replies_are_held_to_labels(
    arguments: dict[str, Any], exact: bool, backend: ScriptedBackend, folder: Path
) -> None:
    assert ModelArm({"name_or_path": folder, **arguments}).estimate(TASK, TASK.lists("test")).exact is exact


@pytest.mark.parametrize("arguments", [{"layout": "rounds"}, {"layout": "rounds", "style": "compact"}])
def test_an_estimate_is_not_exact_where_replies_decide_which_texts_are_shown(
    arguments: dict[str, Any], backend: ScriptedBackend, folder: Path
) -> None:
    (example,) = TASK.lists("test", limit=1)
    texts = ("one", "two words", "four words at last")
    uneven = replace(example, candidates=tuple(Candidate(f"c{n}", text) for n, text in enumerate(texts)))
    arm = ModelArm({"name_or_path": folder, **arguments})
    found = arm.estimate(TASK, [uneven])
    list(arm.rank(TASK, [uneven]))
    calls, words = asked_of(backend)
    assert found.calls == calls
    assert not found.exact or found.prompt_tokens == words


@pytest.mark.parametrize("on_error", ["retry", "raise"])
@pytest.mark.parametrize(("arguments", "calls"), [({"method": "dranker"}, 3), ({"unguided": True}, 2 + 3 + 1)])
def test_made_up_replies_are_no_faults(
    arguments: dict[str, Any], calls: int, on_error: str, backend: ScriptedBackend, folder: Path
) -> None:
    arm = ModelArm({"name_or_path": folder, "on_error": on_error, **arguments})
    assert arm.estimate(TASK, TASK.lists("test")).calls == calls


def test_steps_that_drop_several_are_counted(backend: ScriptedBackend, folder: Path) -> None:
    arm = ModelArm({"name_or_path": folder, "drop_per_step": 2})
    found = arm.estimate(TASK, TASK.lists("test"))
    list(arm.rank(TASK, TASK.lists("test")))
    assert (found.calls, found.prompt_tokens) == asked_of(backend)
    assert found.calls == 1 + 2 + 1


def test_only_lists_that_are_missing_are_counted(backend: ScriptedBackend, folder: Path, tmp_path: Path) -> None:
    arm = ModelArm({"name_or_path": folder})

    def missing(limit: int | None = None) -> tuple[int, int]:
        (cost,) = estimate_benchmark([arm], [TASK], out=tmp_path / "run", limit=limit)
        return cost.missing, cost.estimate.calls

    assert (missing(), missing(limit=2)) == ((4, 6), (2, 5))
    run_benchmark([arm], [TASK], out=tmp_path / "run", limit=1)
    assert (missing(), missing(limit=2), missing(limit=1)) == ((3, 4), (1, 3), (0, 0))
    run_benchmark([arm], [TASK], out=tmp_path / "run")
    assert missing() == (0, 0)


def test_costs_come_task_by_task_and_arm_by_arm_without_those_that_do_not_apply(tmp_path: Path) -> None:
    tasks = [ToyTask("passage-5", test=[[1, 0]]), ToyTask("movie", test=[[1, 0], [0, 1]], validation=[[1, 0]] * 3)]
    arms = [LogArm(tmp_path / "log", model=name, refusal="no" * (name == "b")) for name in "abc"]
    costs = estimate_benchmark(arms, tasks, out=tmp_path / "run")
    assert [(cost.task, cost.model, cost.method, cost.missing) for cost in costs] == [
        ("passage-5", "a", "as-listed", 1),
        ("passage-5", "c", "as-listed", 1),
        ("movie", "a", "as-listed", 2),
        ("movie", "c", "as-listed", 2),
    ]
    (cost, _) = estimate_benchmark(arms, tasks[1:], out=tmp_path / "run", split="validation")
    assert (cost.missing, cost.estimate) == (3, Estimate(3, 0, 0))
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_leaves_the_line_that_another_process_is_writing(tmp_path: Path) -> None:
    arm = LogArm(tmp_path / "log")
    (cell,) = run_benchmark([arm], [TASK], out=tmp_path / "run", limit=1)
    with cell.adding() as file:
        file.write('{"id": "test1", "wa')
    before = cell.path.read_bytes()
    (cost,) = estimate_benchmark([arm], [TASK], out=tmp_path / "run")
    assert cost.missing == 3
    assert Cell(cell.path).path.read_bytes() == before


# ------------------------------------------------------------------------------------------------- the made-up replies


def test_a_made_up_reply_is_the_first_that_are_allowed() -> None:
    counting = CountingBackend(ScriptedBackend([]).text)
    said = (Message("user", "one two three"),)
    choices = ("A", "B", "C")
    (one, two, free) = counting.generate(
        [
            Request(said, choices=choices),
            Request(said, reply_prefix="four", choices=choices, draws=2),
            Request(said, pattern="A|B"),
        ]
    )
    assert [reply.text for reply in (one, two, free)] == ["A", "AB", ""]
    assert [reply.prompt_tokens for reply in (one, two, free)] == [3, 4, 3]
    assert (counting.calls, counting.prompt_tokens, counting.free) == (3, 10, True)
    assert counting.patterns


def test_nothing_is_free_until_a_free_reply_is_asked_for() -> None:
    counting = CountingBackend(ScriptedBackend([]).text)
    assert counting.generate([]) == []
    counting.generate([Request((Message("user", "q"),), choices=("A",))])
    counting.forget(["a session"])
    assert (counting.calls, counting.free) == (1, False)
