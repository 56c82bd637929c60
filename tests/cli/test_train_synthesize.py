"""The command that makes training data with a teacher."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from scripted_teachers import is_order, said_in, silent, talks_in, thinks
from toy_tasks import build_toy
from unified_ranker.tasks.build import read_split

from unified_ranker import backends
from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Request
from unified_ranker.model_settings import ModelSettings, embedded_path
from unified_ranker.training.synthesis.setting import Synthesis

LISTS = [(0, 3, 1), (2, 0), (1, 0, 4)]
CALLS = 4 + 3 + 4


class Loaded(ScriptedBackend):
    settings = ModelSettings()


class Teachers:
    """Stands for models that are loaded.

    Attributes:
        loads: Backend, model and options of each load.
        backend: The one that was loaded last.
    """

    def __init__(self, script: Callable[[Request], str]) -> None:
        self.script = script
        self.loads: list[tuple[str, str, dict[str, Any]]] = []
        self.backend = Loaded(script)

    def load(self, name: str, model: str, /, **options: Any) -> Loaded:
        self.loads.append((name, model, options))
        self.backend = Loaded(self.script)
        return self.backend


@pytest.fixture
def teachers(monkeypatch: pytest.MonkeyPatch) -> Teachers:
    found = Teachers(thinks())
    monkeypatch.setattr(backends, "load_backend", found.load)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_toy(folder, "movie", train=[(0, 1, 0)], test=[(1, 0)])
    return build_toy(folder, "passage-5", train=LISTS, test=[(0, 1)])


@pytest.fixture
def synthesize(command: Command, data: Path, tmp_path: Path) -> Command:
    def call(*arguments: str) -> Any:
        return command(
            "train", "synthesize", "--tasks", "passage-5", "--data", data, "--out", tmp_path / "out", *arguments
        )

    return call


def test_the_lists_are_written_and_their_folder_printed(
    synthesize: Command, teachers: Teachers, tmp_path: Path
) -> None:
    result = synthesize("--validation", "0")
    assert result.code == 0, result.err
    out = tmp_path / "out"
    assert result.out == f"{out / 'lists'}\n"
    lines = [line for line in result.err.splitlines() if line.startswith(("to ask", "asked", "kept"))]
    assert [line.split(",")[0] for line in lines] == ["to ask: 3 lists", "asked: 3 lists", "kept 3 of 3 lists"]
    assert len(teachers.backend.requests) == CALLS
    assert len(said_in(out)) == len(talks_in(out)) == 3
    assert len(list(read_split(out / "lists", "passage-5", "train"))) == 3


def test_without_a_model_the_embedded_one_teaches(synthesize: Command, teachers: Teachers) -> None:
    synthesize()
    options = ("base_url=http://here:1", "timeout=5")
    synthesize("--backend", "openai", "--model", "big", *(f"--backend-option={option}" for option in options))
    assert teachers.loads == [
        ("transformers", str(embedded_path()), {}),
        ("openai", "big", {"base_url": "http://here:1", "timeout": 5}),
    ]


def test_every_option_reaches_the_setting(command: Command, data: Path, teachers: Teachers, tmp_path: Path) -> None:
    arguments = (
        "--limit 1 --keep promoting --threshold 0.25 --samples 2 --methods dranker,pointwise --top-grade 9 "
        "--no-reasoning --temperature 0.5 --max-tokens 70 --validation 0.5 --seed 8 --style compact --concurrency 3"
    )
    result = command(
        "train", "synthesize", "--tasks", " passage-5, movie", "--data", data, "--out", tmp_path, *arguments.split()
    )
    assert result.code == 0, result.err
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert (
        summary["setting"]
        == Synthesis(
            tasks=("passage-5", "movie"),
            limit=1,
            keep="promoting",
            threshold=0.25,
            samples=2,
            methods=("dranker", "pointwise"),
            top_grade=9,
            reasoning=False,
            temperature=0.5,
            max_tokens=70,
            validation=0.5,
            seed=8,
        ).to_dict()
    )
    requests = teachers.backend.requests
    assert {(request.max_tokens, request.temperature) for request in requests} == {(70, 0.5)}
    assert all("<|list|>" in request.messages[-1].content for request in requests)


def test_the_defaults_are_those_of_the_setting(synthesize: Command, teachers: Teachers, tmp_path: Path) -> None:
    synthesize()
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert summary["setting"] == Synthesis(tasks=("passage-5",)).to_dict()


@pytest.mark.parametrize(
    ("prices", "money"),
    [((), False), (("--prompt-price", "1000000", "--reply-price", "0"), True)],
)
def test_a_dry_run_says_what_it_would_cost_and_asks_nothing(
    synthesize: Command, teachers: Teachers, tmp_path: Path, prices: tuple[str, ...], money: bool
) -> None:
    teachers.script = silent
    result = synthesize("--max-tokens", "80", "--dry-run", *prices)
    assert result.code == 0, result.err
    assert teachers.backend.requests == []
    assert not (tmp_path / "out").exists()
    teachers.script = thinks()
    done = synthesize("--max-tokens", "80", *prices)
    assert f"to ask: {result.out.strip()}" in done.err.splitlines()
    requests = teachers.backend.requests
    tokens = sum(len(entry.content.split()) for request in requests for entry in request.messages)
    line = f"3 lists, {CALLS} calls, {tokens:,} prompt tokens, at most {CALLS * 80:,} reply tokens"
    assert result.out.strip() == line + (f": at most {tokens:,}.00" if money else "")


def dies_at_the_last_list(request: Request) -> str:
    prompt = request.messages[-1].content
    if "query of train2" in prompt and is_order(prompt):
        raise BackendError("the server is gone")
    return thinks()(request)


def test_a_run_that_failed_is_told_and_goes_on(synthesize: Command, teachers: Teachers, tmp_path: Path) -> None:
    teachers.script = dies_at_the_last_list
    assert synthesize("--concurrency", "1").complaint() == "error: the server is gone"
    assert len(said_in(tmp_path / "out")) == 2
    teachers.script = thinks()
    result = synthesize("--concurrency", "1")
    assert result.code == 0, result.err
    assert len(teachers.backend.requests) == 4


def test_a_dry_run_of_a_run_that_goes_on_says_what_is_left(synthesize: Command, teachers: Teachers) -> None:
    # costs) less.
    assert synthesize().code == 0
    result = synthesize("--dry-run")
    assert result.out.strip() == "0 lists, 0 calls, 0 prompt tokens, at most 0 reply tokens"


def test_another_threshold_asks_for_nothing(synthesize: Command, teachers: Teachers) -> None:
    synthesize("--threshold", "0.9")
    teachers.script = silent
    result = synthesize("--threshold", "0.1")
    assert result.code == 0, result.err
    assert "to ask: 0 lists, 0 calls" in result.err


def test_other_questions_need_another_folder(synthesize: Command, teachers: Teachers, tmp_path: Path) -> None:
    synthesize()
    teachers.script = silent
    complaint = synthesize("--top-grade", "9").complaint()
    assert (
        complaint == f"error: {str(tmp_path / 'out')!r} holds a synthesis with top_grade=4, not 9; choose another --out"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--keep all", "keep='all'"),
        ("--negatives soft", "negatives='soft'"),
        ("--methods iranker", "methods='iranker'"),
        ("--methods ,", "methods is empty"),
        ("--tasks ,", "tasks is empty"),
        ("--tasks pasage-5", "did you mean 'passage-5'"),
        ("--tasks movie --negatives hard", "task 'movie' has no such query"),
        ("--samples 2", "give a temperature"),
        ("--threshold 2", "threshold=2.0 must be in [0, 1]"),
        ("--validation 1", "validation=1.0 must be in [0, 1)"),
        ("--limit 0", "limit=0 must be ≥ 1"),
        ("--max-tokens 0", "max_tokens=0 must be ≥ 1"),
    ],
)
def test_a_mistake_is_told_before_a_model_is_loaded(
    synthesize: Command, teachers: Teachers, tmp_path: Path, arguments: str, words: str
) -> None:
    assert words in synthesize(*arguments.split()).complaint()
    assert teachers.loads == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--style fancy", "fancy"),
        ("--temperature -1", "temperature=-1.0 must be ≥ 0"),
        ("--tasks music", "data build music"),
        ("--concurrency 0", "concurrency=0"),
        ("--backend-option base_url", "'base_url' is no key=value"),
    ],
)
def test_any_other_mistake_is_told_before_anything_is_asked(
    synthesize: Command, teachers: Teachers, arguments: str, words: str
) -> None:
    teachers.script = silent
    assert words in synthesize(*arguments.split()).complaint()


def test_the_tasks_have_to_be_named(command: Command) -> None:
    result = command("train", "synthesize")
    assert result.code == 2
    assert "--tasks" in result.err
