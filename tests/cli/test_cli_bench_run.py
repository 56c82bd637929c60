from __future__ import annotations

import json
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from command_line import Command
from toy_tasks import build_toy
from unified_ranker.benchmarks import runner
from unified_ranker.benchmarks.baselines import registry
from unified_ranker.tasks import NINE

from unified_ranker.backends import ScriptedBackend
from unified_ranker.cli import bench
from unified_ranker.model_settings import ModelSettings, read_settings, write_settings

GRADES = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 0, 0]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("data")
    build_toy(made, "passage-5", test=GRADES, validation=GRADES[:2])
    build_toy(made, "router-balance", train=GRADES[:1], test=GRADES[:1])
    return build_toy(made, "movie", test=GRADES[:3])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model's folder; scripts stand in for what it would hold."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedBackend]:
    """Let scripts stand in for models, and return those that were loaded."""
    found: list[ScriptedBackend] = []

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        backend = ScriptedBackend(lambda request: request.choices[-1])
        backend.settings = read_settings(model)  # type: ignore[attr-defined]
        found.append(backend)
        return backend

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


@pytest.fixture
def given(data: Path, model: Path, tmp_path: Path) -> list[str | Path]:
    return ["bench", "run", "--data", data, "--model", model, "--out", tmp_path / "run"]


def cells(tmp_path: Path) -> dict[str, list[str]]:
    """Return the lists of each cell of the run."""
    run = tmp_path / "run"
    return {
        path.relative_to(run).with_suffix("").as_posix(): [
            json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in run.glob("*/*.jsonl")
    }


# ------------------------------------------------------------------------------------------------------------ the seam


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what arms and the run are made with; nothing is ranked."""
    found: dict[str, Any] = {"models": [], "baselines": [], "runs": []}

    class Model:
        def __init__(self, arguments: dict[str, Any], **rest: Any) -> None:
            found["models"].append((self, arguments, rest))

    class OfBaseline:
        def __init__(self, baseline: Any, **rest: Any) -> None:
            found["baselines"].append((self, baseline, rest))

        def refuses(self, task: Any) -> str:
            return ""

    def run(arms: Any, tasks: Any, *, say: Any, **rest: Any) -> None:
        say("half way")
        found["runs"].append((arms, [task.name for task in tasks], rest))

    monkeypatch.setattr(runner, "ModelArm", Model)
    monkeypatch.setattr(runner, "BaselineArm", OfBaseline)
    monkeypatch.setattr(runner, "run_benchmark", run)
    monkeypatch.setattr(registry, "baseline_named", lambda name, **options: (name, options))
    return found


def test_every_option_reaches_its_place(command: Command, seam: dict[str, Any], data: Path, tmp_path: Path) -> None:
    ranker = {
        "--backend": ("vllm", "vllm"),
        "--layout": ("rounds", "rounds"),
        "--temperature": ("0.5", 0.5),
        "--top-p": ("0.9", 0.9),
        "--max-tokens": ("11", 11),
        "--seed": ("12", 12),
        "--shuffle-seed": ("13", 13),
        "--on-error": ("retry", "retry"),
        "--retries": ("5", 5),
        "--style": ("compact", "compact"),
        "--template": ("own.yaml", Path("own.yaml")),
        "--token-budget": ("14", 14),
        "--thoughts": ("thoughts.jsonl", Path("thoughts.jsonl")),
        "--thought-count": ("2", 2),
        "--revision": ("main", "main"),
        "--dtype": ("float16", "float16"),
        "--device": ("cuda:1", "cuda:1"),
        "--batch-tokens": ("15", 15),
    }
    rest = {
        "--out": "run",
        "--tasks": " movie, passage-5 ,",
        "--edition": "open",
        "--data": str(data),
        "--split": "validation",
        "--limit": "7",
        "--method": "iranker, dranker",
        "--baselines": "bm25",
        "--name": "mine",
        "--concurrency": "9",
        "--model": "org/name",
        "--option": "shuffles=3",
        "--baseline-option": "k=4",
        "--backend-option": "base_url=x",
        "--scratch": "shared",
    }
    flags = ["--only-missing", "--reasoning", "--unguided"]
    pairs = [part for name, (text, _) in ranker.items() for part in (name, text)]
    result = command("bench", "run", *pairs, *(part for pair in rest.items() for part in pair), *flags)
    assert result.code == 0, result.err
    assert (result.out, result.err) == ("", "half way\n")

    first, second = seam["models"]
    arguments = {
        "name_or_path": "org/name",
        "backend_options": {"base_url": "x"},
        "reasoning": True,
        "unguided": True,
        "shuffles": 3,
        **{name[2:].replace("-", "_"): value for name, (_, value) in ranker.items()},
    }
    assert first[1:] == (arguments, {"method": "iranker", "name": "mine", "concurrency": 9, "share": None})
    assert second[1:] == (arguments, {"method": "dranker", "name": "mine", "concurrency": 9, "share": first[0]})
    (baseline,) = seam["baselines"]
    assert baseline[1:] == (("bm25", {"k": 4}), {"seed": 12, "scratch": Path("shared"), "options": {"k": 4}})
    (run,) = seam["runs"]
    assert run == (
        [first[0], second[0], baseline[0]],
        ["movie", "passage-5"],
        {"out": Path("run"), "split": "validation", "limit": 7, "seed": 12, "only_missing": True},
    )
    options = {f"--{name.replace('_', '-')}" for name in signature(bench.run).parameters}
    assert options - set(ranker) - set(rest) - set(flags) == {"--dry-run"}


def test_what_is_not_given_is_left_to_the_model(command: Command, seam: dict[str, Any], data: Path) -> None:
    result = command("bench", "run", "--out", "run", "--data", data, "--tasks", "movie")
    assert result.code == 0, result.err
    ((_, arguments, rest),) = seam["models"]
    assert arguments == {
        "name_or_path": None,
        "backend": "transformers",
        "backend_options": {},
        "reasoning": False,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
        "on_error": "repair",
        "retries": 2,
        "unguided": False,
    }
    assert rest == {"method": None, "name": None, "concurrency": 64, "share": None}
    assert seam["baselines"] == []
    expected = {"out": Path("run"), "split": "test", "limit": None, "seed": 0, "only_missing": False}
    assert [run[2] for run in seam["runs"]] == [expected]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("bm25", ["bm25"]),
        ("bm25, tf-idf,", ["bm25", "tf-idf"]),
        ("tf-idf,untrained,bm25", ["tf-idf", *(name for name in registry.UNTRAINED if name != "tf-idf")]),
        ("quick", list(registry.QUICK)),
        ("all", [name for name in registry.BASELINES if name != "cross-encoder"]),
    ],
)
def test_sets_of_baselines_are_taken_apart_and_none_comes_twice(
    names: str, found: list[str], command: Command, seam: dict[str, Any], data: Path
) -> None:
    command("bench", "run", "--out", "run", "--data", data, "--tasks", "movie", "--baselines", names)
    assert [name for _, (name, _), _ in seam["baselines"]] == found
    assert {rest["scratch"] for _, _, rest in seam["baselines"]} == {Path("run/.scratch")}


def test_method_none_loads_no_model(command: Command, seam: dict[str, Any], data: Path) -> None:
    result = command(
        "bench", "run", "--out", "run", "--data", data, "--tasks", "movie", "--method", "none", "--baselines", "bm25"
    )
    assert result.code == 0, result.err
    assert seam["models"] == []
    assert [len(arms) for arms, _, _ in seam["runs"]] == [1]


def test_all_means_the_nine(command: Command, seam: dict[str, Any], tmp_path: Path) -> None:
    for name in NINE:
        build_toy(tmp_path / "data", name, test=GRADES[:1])
    command("bench", "run", "--out", "run", "--data", tmp_path / "data")
    assert [tasks for _, tasks, _ in seam["runs"]] == [list(NINE)]


@pytest.mark.parametrize("edition", [None, "open"])
def test_data_stands_in_a_folder_of_the_editions_name(
    edition: str | None, command: Command, seam: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_toy(tmp_path / "data" / "open", "movie", test=GRADES)
    monkeypatch.chdir(tmp_path)
    chosen = ["--edition", edition] if edition else []
    assert command("bench", "run", "--out", "run", "--tasks", "movie", *chosen).code == 0
    assert (
        "data/paper/movie"
        in command("bench", "run", "--out", "run", "--tasks", "movie", "--edition", "paper").complaint()
    )


# ---------------------------------------------------------------------------------------------------------- whole runs


def test_a_run_keeps_a_cell_a_task_and_method_and_prints_nothing(
    command: Command, given: list[str | Path], loaded: list[ScriptedBackend], tmp_path: Path
) -> None:
    result = command(*given, "--tasks", "passage-5, movie", "--method", "iranker,tournament")
    assert result.code == 0, result.err
    assert result.out == ""
    ids = ["test0", "test1", "test2", "test3"]
    assert cells(tmp_path) == {
        "my-model--iranker/passage-5": ids,
        "my-model--iranker/movie": ids[:3],
        "my-model--tournament/passage-5": ids,
        "my-model--tournament/movie": ids[:3],
    }
    assert len(loaded) == 1
    told = [line.partition(" lists in ")[0] for line in result.err.splitlines()]
    assert told == [
        "passage-5: my-model by iranker: 4",
        "passage-5: my-model by tournament: 4",
        "movie: my-model by iranker: 3",
        "movie: my-model by tournament: 3",
    ]


def test_progress_stays_off_stdout(command: Command, given: list[str | Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    result = command(*given, "--tasks", "movie")
    assert result.out == "" and "3/3" in result.err


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        (["--limit", "2"], ["test0", "test1"]),
        (["--split", "validation"], ["validation0", "validation1"]),
        (["--split", "validation", "--limit", "1"], ["validation0"]),
    ],
)
def test_limit_and_split_choose_the_lists(
    options: list[str], ids: list[str], command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    assert command(*given, "--tasks", "passage-5", *options).code == 0
    assert cells(tmp_path) == {"my-model--iranker/passage-5": ids}


def test_a_run_goes_on_and_what_was_made_otherwise_is_refused_or_left(
    command: Command, given: list[str | Path], loaded: list[ScriptedBackend], tmp_path: Path
) -> None:
    given = [*given, "--tasks", "passage-5"]
    assert command(*given, "--limit", "3").code == 0
    assert command(*given).code == 0
    # Lists of 3, 3, 3 and 4.
    assert [len(backend.requests) for backend in loaded] == [2 + 2 + 2, 3]
    complaint = command(*given, "--layout", "rounds").complaint()
    assert "settings was" in complaint and "'layout': 'rounds'" in complaint and "--only-missing" in complaint
    result = command(*given, "--layout", "rounds", "--only-missing")
    assert result.code == 0, result.err
    assert result.err == "passage-5: my-model by iranker: complete, 4 lists\n"
    assert len(loaded) == 2
    assert command(*given, "--layout", "rounds", "--name", "other").code == 0
    assert {name: len(ids) for name, ids in cells(tmp_path).items()} == {
        "my-model--iranker/passage-5": 4,
        "other--iranker/passage-5": 4,
    }


def test_a_model_that_changed_is_refused(command: Command, given: list[str | Path], model: Path) -> None:
    assert command(*given, "--tasks", "movie", "--limit", "1").code == 0
    (model / "model.safetensors").write_text("trained further", encoding="utf-8")
    assert "model_hash" in command(*given, "--tasks", "movie").complaint()


def test_the_embedded_model_is_called_tiny(
    command: Command, data: Path, tmp_path: Path, loaded: list[ScriptedBackend]
) -> None:
    result = command("bench", "run", "--data", data, "--tasks", "movie", "--out", tmp_path / "run")
    assert result.code == 0, result.err
    (name,) = cells(tmp_path)
    assert name.startswith("tiny--")


def test_baselines_stand_beside_the_model_where_they_apply(
    command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    result = command(*given, "--tasks", "passage-5,router-balance", "--baselines", "bm25,best-llm")
    assert result.code == 0, result.err
    assert {name: len(ids) for name, ids in cells(tmp_path).items()} == {
        "my-model--iranker/passage-5": 4,
        "my-model--iranker/router-balance": 1,
        "bm25--bm25/passage-5": 4,
        "bm25--bm25/router-balance": 1,
        "best-llm--best-llm/router-balance": 1,
    }
    assert "passage-5: best-llm is left out: best-llm is for routing\n" in result.err


def test_of_a_set_baselines_that_apply_to_no_task_are_not_even_told(
    command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    given = [*given, "--tasks", "passage-5", "--method", "none", "--dry-run"]
    assert [line.split(":")[1].split()[0] for line in command(*given, "--baselines", "quick").out.splitlines()] == [
        "bm25",
        "tf-idf",
        "minilm",
    ]
    assert command(*given, "--baselines", "popularity").out == ""


def test_method_none_runs_baselines_alone(
    command: Command, given: list[str | Path], loaded: list[ScriptedBackend], tmp_path: Path
) -> None:
    result = command(*given, "--tasks", "passage-5", "--method", "none", "--baselines", "bm25")
    assert result.code == 0, result.err
    assert list(cells(tmp_path)) == ["bm25--bm25/passage-5"]
    assert loaded == []


def test_a_dry_run_tells_what_a_run_would_ask_for_and_asks_nothing(
    command: Command, given: list[str | Path], loaded: list[ScriptedBackend], tmp_path: Path
) -> None:
    given = [*given, "--tasks", "passage-5", "--method", "iranker,dranker", "--baselines", "bm25"]
    assert command(*given, "--limit", "1", "--method", "iranker").code == 0
    before = cells(tmp_path)
    result = command(*given, "--dry-run")
    assert result.code == 0, result.err
    dry = loaded[-1]
    assert dry.requests == [] and cells(tmp_path) == before
    lines = result.out.splitlines()
    command(*given, "--method", "iranker")
    asked = loaded[-1].requests
    words = sum(loaded[-1].text.count_prompt(request.messages, request.reply_prefix) for request in asked)
    assert len(asked) == 2 + 2 + 3
    assert lines[0] == f"passage-5: my-model by iranker: 3 lists missing, 7 calls, {words:,} prompt tokens"
    assert lines[1].startswith("passage-5: my-model by dranker: 4 lists missing, 4 calls, ")
    assert lines[1].endswith(" prompt tokens (about: replies decide what is asked next)")
    # One list was ranked by the baseline as well.
    assert lines[2:] == ["passage-5: bm25 by bm25: 3 lists missing, no calls"]
    assert command(*given, "--method", "iranker", "--dry-run").out.splitlines() == [
        "passage-5: my-model by iranker: 0 lists missing, no calls",
        "passage-5: bm25 by bm25: 0 lists missing, no calls",
    ]


# --------------------------------------------------------------------------------------------------- what is not taken


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tasks", "movei"], "did you mean 'movie'"),
        (["--tasks", "game"], "unified-ranker data build game"),
        (["--tasks", ","], "--tasks ',' names no task"),
        (["--tasks", "movie", "--split", "tset"], "did you mean 'test'"),
        (["--tasks", "movie", "--split", "validation"], "has no validation lists"),
        (["--tasks", "movie", "--limit", "0"], "limit=0 must be ≥ 1"),
        (["--tasks", "movie", "--limit", "-1"], "limit=-1 must be ≥ 1"),
        (["--tasks", "movie", "--concurrency", "0"], "--concurrency 0 must be ≥ 1"),
        (["--tasks", "movie", "--edition", "paper"], "holds the edition open"),
        (["--tasks", "movie", "--method", "irankr"], "did you mean 'iranker'"),
        (["--tasks", "movie", "--method", "none,iranker"], "method='none' is not known"),
        (["--tasks", "movie", "--method", "iranker,iranker"], "model 'my-model' by 'iranker' is given twice"),
        (["--tasks", "movie", "--method", "none"], "--method none and no --baselines: there is nothing to rank by"),
        (["--tasks", "movie", "--baselines", "bm52"], "did you mean 'bm25'"),
        (["--tasks", "movie", "--baselines", "bm25", "--baseline-option", "k=3"], "baseline 'bm25'"),
        (["--tasks", "movie", "--baselines", "bm25,tf-idf", "--baseline-option", "k=3"], "goes with one baseline"),
        (["--tasks", "movie", "--baselines", "quick", "--baseline-option", "k=3"], "goes with one baseline"),
        (["--tasks", "movie", "--baseline-option", "k=3"], "goes with one baseline"),
        (
            ["--tasks", "movie", "--baselines", "bm25", "--baseline-option", "k"],
            "--baseline-option 'k' is no key=value",
        ),
        (["--tasks", "movie", "--baselines", "cross-encoder"], "--baseline-option model=FOLDER"),
        (["--tasks", "movie", "--option", "permut=true"], "did you mean 'permute'"),
        (["--tasks", "movie", "--option", "layout=rounds"], "give --layout instead"),
        (["--tasks", "movie", "--layout", "round"], "did you mean 'rounds'"),
        (["--tasks", "movie", "--style", "compct"], "did you mean 'compact/elimination/passage'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_told_and_nothing_is_ranked(
    options: list[str], words: str, command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    assert words in command(*given, *options).complaint()
    assert cells(tmp_path) == {}


def test_out_has_to_be_given(command: Command, data: Path) -> None:
    result = command("bench", "run", "--data", data, "--tasks", "movie")
    assert result.code == 2 and "--out" in result.err


def test_an_unknown_backend_is_told(command: Command, given: list[str | Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from unified_ranker.backends.registry import load_backend

    monkeypatch.setattr("unified_ranker.backends.load_backend", load_backend)
    assert "did you mean 'transformers'" in command(*given, "--tasks", "movie", "--backend", "transformer").complaint()


def test_a_set_that_is_misspelt_is_told(command: Command, given: list[str | Path]) -> None:
    complaint = command(*given, "--tasks", "movie", "--baselines", "untrainde").complaint()
    assert "did you mean 'untrained'" in complaint


def test_an_edition_that_is_misspelt_is_told(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["bench", "run", "--tasks", "movie", "--out", tmp_path / "run", "--model", model]
    assert "did you mean 'paper'" in command(*given, "--edition", "papre").complaint()


@pytest.mark.parametrize("options", [["iranker,irankr"], ["iranker,dranker", "--layout", "rounds"]])
def test_what_a_later_method_does_not_take_is_told_before_anything_is_ranked(
    options: list[str], command: Command, given: list[str | Path], tmp_path: Path
) -> None:
    command(*given, "--tasks", "movie", "--method", *options).complaint()
    assert cells(tmp_path) == {}


@pytest.mark.parametrize("trained", ["iranker", "tournament"])
def test_options_of_a_method_that_the_model_was_not_trained_for_are_taken(
    trained: str, command: Command, given: list[str | Path], model: Path, tmp_path: Path
) -> None:
    write_settings(model, ModelSettings(method=trained))
    result = command(
        *given, "--tasks", "movie", "--method", "tournament", "--option", "block=2", "--option", "survivors=0.5"
    )
    assert result.code == 0, result.err
    assert list(cells(tmp_path)) == ["my-model--tournament/movie"]
