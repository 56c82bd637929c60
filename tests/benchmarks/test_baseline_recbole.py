from __future__ import annotations

import importlib.util
import json
import os
import random
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from built_tasks import by_id, choice, hidden, history, turned, write_task
from unified_ranker.benchmarks.baselines import recbole_models
from unified_ranker.benchmarks.baselines.recbole_models import (
    PYTHON_VARIABLE,
    Plan,
    RecBole,
    RecBoleBPR,
    RecBoleItemKNN,
    RecBoleLightGCN,
    RecBoleSASRec,
    RecBoleScorer,
    write_asked,
    write_atomic,
)
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks.beside import Beside, History, write_beside

from unified_ranker.errors import BackendError, DataError, MissingExtraError, OptionError
from unified_ranker.schema.types import Candidate, RankingExample

MODELS: tuple[type[RecBole], ...] = (RecBoleItemKNN, RecBoleBPR, RecBoleSASRec, RecBoleLightGCN)
HISTORIES = (history("ann", "abc"), history("val", "cd", "validation"), history("tim", "da", "test"))
LISTS = [
    choice("ann", "bx", "b", split="train"),
    choice("val", "xvy", "v", split="validation"),
    choice("tim", "zty", "t"),
]
#: Writes a score a candidate, and what it was called with; prints what a worker might.
STAND_IN = """
import json, os, pathlib, sys
script, job = sys.argv[1:]
folder = pathlib.Path(json.loads(pathlib.Path(job).read_text())["asked"])
with pathlib.Path(__file__).with_name("calls.jsonl").open("a") as file:
    call = {"script": script, "job": job, "cwd": os.getcwd(), "path": os.environ.get("PYTHONPATH")}
    file.write(json.dumps(call) + "\\n")
print("training")
print("done", file=sys.stderr)
lists = [json.loads(line) for line in (folder / "lists.jsonl").read_text().splitlines()]
scores = {entry["id"]: [place / 4 for place in range(len(entry["items"]))] for entry in lists}
result = {"options": {"k": 5}, "seed": 8, "validation_rr": 0.5, "seconds_per_list": 0.25, "scores": scores}
(folder / "result.json").write_text(json.dumps(result))
"""


def write(
    data: Path, *, histories: tuple[History, ...] = HISTORIES, lists: list[RankingExample] | None = None
) -> BuiltTask:
    return write_task(data, "movie", lists or LISTS, beside=Beside(histories=histories))


def stand_in(folder: Path, program: str = STAND_IN) -> str:
    """Write something that is called as a Python is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.py").write_text(program, encoding="utf-8")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{folder / "program.py"}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return str(python)


def calls(folder: Path) -> list[dict[str, Any]]:
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def atomic(task: BuiltTask, folder: Path, *, sequential: bool) -> dict[str, list[str]]:
    folder.mkdir()
    write_atomic(task, folder, sequential=sequential)
    write_asked(task, folder)
    return {path.name: path.read_text(encoding="utf-8").splitlines() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    ("sequential", "train", "valid"),
    [
        (
            False,
            [
                "user_id:token\titem_id:token",
                *("ann\ta", "ann\tb", "val\tc", "val\td", "tim\td", "tim\ta"),
            ],
            ["user_id:token\titem_id:token", "val\tv", "ann\tc"],
        ),
        (
            True,
            [
                "user_id:token\titem_id_list:token_seq\titem_id:token",
                *("ann\ta\tb", "val\tc\td", "tim\td\ta"),
            ],
            ["user_id:token\titem_id_list:token_seq\titem_id:token", "val\tc d\tv", "ann\ta b\tc"],
        ),
    ],
)
def test_train_holds_what_is_known_of_everyone_and_valid_what_was_chosen_after_it(
    tmp_path: Path, sequential: bool, train: list[str], valid: list[str]
) -> None:
    found = atomic(write(tmp_path), tmp_path / "atomic", sequential=sequential)
    assert list(found) == ["lists.jsonl", "lists.train.inter", "lists.valid.inter", "validation.jsonl"]
    assert found["lists.train.inter"] == train
    assert found["lists.valid.inter"] == valid


@pytest.mark.parametrize(("users", "held"), [(3, 3), (2000, 2000), (2001, 1001), (4100, 1367)])
def test_at_most_two_thousand_training_users_tell_when_to_stop(tmp_path: Path, users: int, held: int) -> None:
    many = tuple(History(f"user{number}", "train", ("a", "b", f"last{number}")) for number in range(users))
    short = History("short", "train", ("a", "b"))
    found = atomic(write(tmp_path, histories=(*many, short, *HISTORIES[1:])), tmp_path / "atomic", sequential=False)
    assert len(found["lists.valid.inter"]) == 1 + 1 + held
    assert len(found["lists.train.inter"]) == 1 + 3 * users - held + 2 + 4
    assert "short\tb" in found["lists.train.inter"]
    told = [line.split("\t")[0] for line in found["lists.valid.inter"][2:]]
    assert len(set(told)) == held
    assert not set(found["lists.valid.inter"][1:]) & set(found["lists.train.inter"][1:])


@pytest.mark.parametrize("sequential", [False, True])
def test_the_lists_to_score_tell_what_was_chosen_for_validation_alone(tmp_path: Path, sequential: bool) -> None:
    found = atomic(write(tmp_path), tmp_path / "atomic", sequential=sequential)
    held = {"id": "list of val", "user": "val", "history": ["c", "d"], "items": ["x", "v", "y"], "positive": 1}
    asked = {"id": "list of tim", "user": "tim", "history": ["d", "a"], "items": ["z", "t", "y"]}
    assert [json.loads(line) for line in found["validation.jsonl"]] == [held]
    assert [json.loads(line) for line in found["lists.jsonl"]] == [held, asked]


@pytest.mark.parametrize("sequential", [False, True])
def test_what_test_users_chose_is_in_no_file_nor_looked_at(tmp_path: Path, sequential: bool) -> None:
    task = write(tmp_path)
    first = atomic(task, tmp_path / "first", sequential=sequential)
    task._lists["test"] = tuple(hidden(example) for example in task.lists("test"))
    assert atomic(task, tmp_path / "second", sequential=sequential) == first
    assert not [line for line in (*first["lists.train.inter"], *first["lists.valid.inter"]) if "t" in line.split("\t")]


@pytest.mark.parametrize(("options", "longest"), [({}, 50), ({"history": 3}, 3), ({"history": 70}, 60)])
def test_a_sequential_model_sees_the_latest_of_a_history_and_learns_each_choice_once(
    tmp_path: Path, options: dict[str, int], longest: int
) -> None:
    items = tuple(f"i{number}" for number in range(60))
    histories = (History("ann", "train", items), History("val", "validation", items), HISTORIES[2])
    made = RecBoleSASRec(python=stand_in(tmp_path / "bin"), **options)  # type: ignore[arg-type]
    made.prepare(write(tmp_path, histories=histories), seed=0, scratch=tmp_path)
    (train,) = tmp_path.glob("recbole/*/lists/lists.train.inter")
    rows = [line.split("\t") for line in train.read_text().splitlines()[1:]]
    # The latest choice of "ann" tells when to stop.
    for user, known in (("ann", items[:-1]), ("val", items)):
        own = [[*before.split(), last] for who, before, last in rows if who == user]
        assert own[-1] == list(known[-longest - 1 :])
        assert [item for row in own for item in row[1:]] == list(known[1:])
        # A row begins with the choice that ends the one before it: there it was learned, here it is only seen.
        assert [row[0] for row in own[1:]] == [row[-1] for row in own[:-1]]
    valid = train.with_name("lists.valid.inter").read_text().splitlines()
    assert valid[1:] == [
        f"val\t{' '.join(items[-longest:])}\tv",
        f"ann\t{' '.join(items[max(0, 59 - longest) : 59])}\ti59",
    ]


def test_only_training_lists_are_left_out_of_what_is_scored(tmp_path: Path) -> None:
    assert not any("ann" in line for line in atomic(write(tmp_path), tmp_path / "a", sequential=False)["lists.jsonl"])


def test_a_given_python_comes_before_the_variable_and_that_before_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, variable, given = (tmp_path / name for name in (".venv-recbole/bin/python", "variable", "given"))
    home.parent.mkdir(parents=True)
    for path in (home, variable, given):
        path.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PYTHON_VARIABLE, str(variable))
    assert RecBoleBPR(python=str(given)).python() == given
    assert RecBoleBPR().python() == variable
    monkeypatch.setenv(PYTHON_VARIABLE, "")
    assert RecBoleBPR().python() == home
    monkeypatch.delenv(PYTHON_VARIABLE)
    assert RecBoleBPR().python() == home


def test_the_link_of_a_virtual_environment_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").touch()
    (tmp_path / "python").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert RecBoleBPR(python="python").python() == tmp_path / "python"


@pytest.mark.parametrize("way", ["option", "variable", "folder"])
def test_without_its_python_the_message_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    missing = tmp_path / "none" / "python"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    if way == "variable":
        monkeypatch.setenv(PYTHON_VARIABLE, str(missing))
    baseline = RecBoleSASRec(python=str(missing) if way == "option" else "")
    with pytest.raises(MissingExtraError, match=f"make install-recbole, or point {PYTHON_VARIABLE} at") as raised:
        baseline.prepare(write(tmp_path), seed=0, scratch=tmp_path)
    assert "'recbole-sasrec'" in str(raised.value)
    assert str(tmp_path / ".venv-recbole/bin/python" if way == "folder" else missing) in str(raised.value)
    assert not (tmp_path / "recbole").exists()


@pytest.mark.parametrize("option", ["epochs", "patience", "seeds", "batch", "history"])
@pytest.mark.parametrize("value", [0, -1, 2.0, "3", True])
def test_a_count_that_is_no_whole_number_is_refused(option: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"{option}={value!r} must be a whole number"):
        RecBoleBPR(**{option: value})


@pytest.mark.parametrize("option", ["epochs", "history"])
def test_what_no_plan_holds_has_to_be_a_count(option: str) -> None:
    with pytest.raises(OptionError, match=f"{option}=None must be a whole number"):
        RecBoleBPR(**{option: None})  # type: ignore[arg-type]


def test_a_grid_without_a_setting_is_refused() -> None:
    with pytest.raises(OptionError, match=r"grid=\[\]"):
        RecBoleBPR(grid=[])


@pytest.mark.parametrize("grid", [["k=50"], "k", {"k": 50}, [50], 50])
def test_a_grid_that_is_no_list_of_settings_is_refused(grid: Any) -> None:
    with pytest.raises(OptionError, match="grid="):
        RecBoleBPR(grid=grid)


@pytest.mark.parametrize("baseline", MODELS)
def test_every_setting_of_a_grid_is_another(baseline: type[RecBole]) -> None:
    found = [json.dumps(entry, sort_keys=True) for entry in baseline.PLAN.grid]
    assert len(set(found)) == len(found) > 1
    assert (baseline.trained, baseline.domains) == (True, ("recommendation",))


class Planned(RecBole):
    name, model = "planned", "BPR"
    PLAN = Plan(({"k": 1}, {"k": 2}), seeds=3, batch=8, patience=9)
    LARGE = Plan(({"k": 7},), seeds=1, batch=64, patience=2)


@pytest.mark.parametrize(
    ("users", "given", "plan"),
    [
        (4, {}, Planned.PLAN),
        (3, {}, Planned.LARGE),
        (2, {}, Planned.LARGE),
        (3, {"seeds": 5}, Plan(({"k": 7},), seeds=5, batch=64, patience=2)),
        (3, {"batch": 5, "patience": 6}, Plan(({"k": 7},), seeds=1, batch=5, patience=6)),
        (4, {"grid": [{"k": 3}]}, Plan([{"k": 3}], seeds=3, batch=8, patience=9)),
        (3, {"grid": [{"k": 3}]}, Plan([{"k": 3}], seeds=1, batch=64, patience=2)),
    ],
)
def test_a_large_task_has_a_plan_of_its_own_and_what_is_asked_for_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, users: int, given: dict[str, Any], plan: Plan
) -> None:
    monkeypatch.setattr(recbole_models, "LARGE_USERS", users)
    task = write(tmp_path / "data")
    assert len(task.histories) == 3
    baseline = Planned(python=stand_in(tmp_path / "bin"), **given)
    assert baseline.plan(task) == plan
    baseline.prepare(task, seed=7, scratch=tmp_path / "scratch")
    (call,) = calls(tmp_path / "bin")
    job = json.loads(Path(call["job"]).read_text())
    assert (job["grid"], len(job["seeds"]), job["batch"], job["patience"]) == (
        list(plan.grid),
        plan.seeds,
        plan.batch,
        plan.patience,
    )


@pytest.mark.parametrize("baseline", [RecBoleItemKNN, RecBoleBPR])
def test_what_is_quick_has_one_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, baseline: type[RecBole]) -> None:
    monkeypatch.setattr(recbole_models, "LARGE_USERS", 1)
    assert baseline().plan(write(tmp_path)) == baseline.PLAN


def test_the_job_says_what_to_train_and_the_worker_runs_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = stand_in(tmp_path / "bin")
    baseline = RecBoleBPR(python=python, epochs=4, patience=2, seeds=3, batch=64, history=9, grid=[{"k": 5}, {"k": 6}])
    baseline.prepare(write(tmp_path / "data"), seed=7, scratch=tmp_path / "scratch")
    (call,) = calls(tmp_path / "bin")
    job = json.loads(Path(call["job"]).read_text())
    folder, trained = Path(job.pop("asked")), Path(job.pop("folder"))
    assert (trained.parent, trained.name) == (folder.parent, "lists")
    assert job == {
        "model": "BPR",
        "grid": [{"k": 5}, {"k": 6}],
        "seeds": [7, 8, 9],
        "epochs": 4,
        "patience": 2,
        "batch": 64,
    }
    assert folder.is_relative_to(tmp_path / "scratch" / "recbole")
    assert folder.parent.name.startswith("movie-BPR-")
    assert (Path(call["cwd"]), Path(call["job"]).parent, call["path"]) == (folder, folder, None)
    assert Path(call["script"]).name == "recbole_worker.py"
    assert sorted((folder / "worker.log").read_text().split()) == ["done", "training"]


@pytest.mark.parametrize("baseline", MODELS)
def test_only_a_sequential_model_is_given_histories_of_each_choice(tmp_path: Path, baseline: type[RecBole]) -> None:
    baseline(python=stand_in(tmp_path / "bin")).prepare(write(tmp_path), seed=0, scratch=tmp_path)
    (path,) = tmp_path.glob("recbole/*/lists/lists.train.inter")
    assert ("item_id_list" in path.read_text()) == (baseline is RecBoleSASRec)
    assert path.parts[-3].startswith(f"movie-{baseline.model}-")


def prepared(folder: Path, baseline: RecBole | None = None, task: BuiltTask | None = None) -> RecBoleScorer:
    made = baseline or RecBoleBPR(python=stand_in(folder / "bin"))
    return made.prepare(task or write(folder / "data"), seed=0, scratch=folder / "scratch")


def test_the_scores_are_those_that_the_worker_wrote(tmp_path: Path) -> None:
    scorer = prepared(tmp_path)
    assert by_id(scorer, LISTS[1]) == {"x": 0.0, "v": 0.25, "y": 0.5}
    assert by_id(scorer, LISTS[2]) == {"z": 0.0, "t": 0.25, "y": 0.5}
    assert scorer.seconds_elsewhere == 0.25
    settings = RecBoleBPR().settings(scorer)
    assert settings == {"options": {"k": 5}, "seed": 8, "validation_rr": 0.5, "seconds_per_list": 0.25}


def test_a_list_that_was_not_scored_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="list 'list of ann' was not scored by RecBole"):
        prepared(tmp_path).score(LISTS[0])


def test_scores_go_with_their_candidates(tmp_path: Path) -> None:
    scorer = prepared(tmp_path)
    assert by_id(scorer, turned(LISTS[2])) == by_id(scorer, LISTS[2])


def test_what_was_trained_is_not_trained_again(tmp_path: Path) -> None:
    first = prepared(tmp_path).score(LISTS[2])
    second = RecBoleBPR(python=stand_in(tmp_path / "other", "raise SystemExit(1)"))
    assert prepared(tmp_path, second).score(LISTS[2]) == first
    assert len(calls(tmp_path / "bin")) == 1


@pytest.mark.parametrize("option", [{"epochs": 2}, {"patience": 2}, {"seeds": 1}, {"batch": 8}, {"grid": [{"k": 1}]}])
def test_another_option_is_trained_anew(tmp_path: Path, option: dict[str, Any]) -> None:
    prepared(tmp_path)
    prepared(tmp_path, RecBoleBPR(python=str(tmp_path / "bin" / "python"), **option))
    assert len(calls(tmp_path / "bin")) == 2


@pytest.mark.parametrize(("baseline", "runs"), [(RecBoleSASRec, 2), (RecBoleBPR, 1), (RecBoleLightGCN, 1)])
def test_how_long_a_history_is_concerns_sequential_models_alone(
    tmp_path: Path, baseline: type[RecBole], runs: int
) -> None:
    python = stand_in(tmp_path / "bin")
    for longest in (50, 5):
        prepared(tmp_path, baseline(python=python, history=longest))
    assert len(calls(tmp_path / "bin")) == runs


def test_another_model_and_another_seed_are_trained_anew(tmp_path: Path) -> None:
    prepared(tmp_path)
    python, task = str(tmp_path / "bin" / "python"), write(tmp_path / "data")
    prepared(tmp_path, RecBoleItemKNN(python=python), task)
    RecBoleBPR(python=python).prepare(task, seed=1, scratch=tmp_path / "scratch")
    assert len(calls(tmp_path / "bin")) == 3


@pytest.mark.parametrize(("place", "runs"), [(0, 1), (1, 2), (2, 2)])
def test_other_lists_are_asked_anew_but_for_those_that_histories_stand_for(
    tmp_path: Path, place: int, runs: int
) -> None:
    prepared(tmp_path)
    changed = list(LISTS)
    changed[place] = replace(changed[place], query="Which one?")
    prepared(tmp_path, RecBoleBPR(python=str(tmp_path / "bin" / "python")), write(tmp_path / "data", lists=changed))
    assert len(calls(tmp_path / "bin")) == runs


def test_lists_with_other_negatives_share_what_was_trained(tmp_path: Path) -> None:
    prepared(tmp_path)
    changed = [LISTS[0], choice("val", "zvy", "v", split="validation"), choice("tim", "xty", "t")]
    task = write(tmp_path / "other", lists=changed)
    scorer = prepared(tmp_path, RecBoleBPR(python=str(tmp_path / "bin" / "python")), task)
    assert by_id(scorer, changed[2]) == {"x": 0.0, "t": 0.25, "y": 0.5}
    first, second = (json.loads(Path(call["job"]).read_text()) for call in calls(tmp_path / "bin"))
    assert first["folder"] == second["folder"]
    assert first["asked"] != second["asked"]


def test_another_choice_of_a_validation_user_is_trained_anew(tmp_path: Path) -> None:
    prepared(tmp_path)
    changed = [LISTS[0], choice("val", "xvy", "x", split="validation"), LISTS[2]]
    prepared(tmp_path, RecBoleBPR(python=str(tmp_path / "bin" / "python")), write(tmp_path / "data", lists=changed))
    first, second = (json.loads(Path(call["job"]).read_text()) for call in calls(tmp_path / "bin"))
    assert first["folder"] != second["folder"]


def test_other_histories_are_trained_anew(tmp_path: Path) -> None:
    prepared(tmp_path)
    write_beside(tmp_path / "data" / "movie", Beside(histories=(history("ann", "cbad"), *HISTORIES[1:])))
    prepared(tmp_path, RecBoleBPR(python=str(tmp_path / "bin" / "python")), BuiltTask.open(tmp_path / "data", "movie"))
    assert len(calls(tmp_path / "bin")) == 2


def test_an_error_of_the_worker_names_the_exit_code_its_last_line_and_the_log(tmp_path: Path) -> None:
    python = stand_in(tmp_path / "bin", "print('one')\nprint('no memory left\\n')\nraise SystemExit(3)")
    with pytest.raises(BackendError, match="RecBole's BPR stopped with exit code 3: no memory left; ") as raised:
        prepared(tmp_path, RecBoleBPR(python=python))
    log = Path(str(raised.value).rsplit(" is in ", 1)[1])
    assert log.read_text().split("\n") == ["one", "no memory left", "", ""]


@pytest.mark.parametrize("program", ["raise SystemExit(4)", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"])
def test_a_worker_that_dies_without_a_word_is_an_error_too(tmp_path: Path, program: str) -> None:
    with pytest.raises(BackendError, match=r"stopped with exit code (4|-9): "):
        prepared(tmp_path, RecBoleBPR(python=stand_in(tmp_path / "bin", program)))


def test_a_log_that_is_no_utf_8_does_not_hide_the_error(tmp_path: Path) -> None:
    program = "import sys\nsys.stdout.buffer.write(b'caf\\xe9')\nraise SystemExit(1)"
    with pytest.raises(BackendError, match="exit code 1: caf"):
        prepared(tmp_path, RecBoleBPR(python=stand_in(tmp_path / "bin", program)))


def test_after_an_error_the_next_run_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    failing = "import pathlib, sys\npathlib.Path('kept').touch()\nprint('first')\nraise SystemExit(1)"
    with pytest.raises(BackendError):
        prepared(tmp_path, RecBoleBPR(python=stand_in(tmp_path / "bin", failing)))
    prepared(tmp_path)
    (kept,) = tmp_path.glob("scratch/recbole/*/asked-*/kept")
    assert "first" in kept.with_name("worker.log").read_text()
    assert len(calls(tmp_path / "bin")) == 1


def test_a_worker_that_ends_well_without_a_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"result|worker\.log"):
        prepared(tmp_path, RecBoleBPR(python=stand_in(tmp_path / "bin", "print('hello')")))


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_a_python_that_cannot_be_started_is_named(tmp_path: Path, mode: int) -> None:
    python = tmp_path / "python"
    python.write_bytes(b"\0 no program")
    python.chmod(mode)
    with pytest.raises((BackendError, MissingExtraError), match=str(python)):
        prepared(tmp_path, RecBoleBPR(python=str(python)))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the worker as a module; importing it sets a variable."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = files("unified_ranker.benchmarks.baselines").joinpath("recbole_worker.py")
    spec = importlib.util.spec_from_file_location("recbole_worker_alone", str(path))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


#: Validation RR by setting and seed.
REACHED = {(1, 7): 0.2, (2, 7): 0.6, (3, 7): 0.6, (2, 8): 0.7, (2, 9): 0.65}


class Bench:
    """A job whose training is a look into a table."""

    def __init__(self, worker: Any, folder: Path, reached: Mapping[tuple[int, int], float] = REACHED) -> None:
        self.trained: list[tuple[int, int]] = []
        self.restored: list[tuple[int, int]] = []
        self.scored: list[dict[str, Any]] = []
        self.dies_after = 99
        self.folder, self.asked, self.worker = folder / "lists", folder / "asked", worker
        self.folder.mkdir(exist_ok=True)
        self.asked.mkdir(exist_ok=True)
        self.job = {
            "folder": str(self.folder),
            "asked": str(self.asked),
            "grid": [{"k": 1}, {"k": 2}, {"k": 3}],
            "seeds": [7, 8, 9],
        }
        self.write()

        def train(job: Any, at: Path, options: Mapping[str, int], seed: int) -> Any:
            if len(self.trained) == self.dies_after:
                raise KeyboardInterrupt
            assert (job, at) == (self.job, self.folder)
            self.trained.append((options["k"], seed))
            return {"epochs": 10 * seed, "checkpoint": f"c{seed}"}, ((options["k"], seed), "data set")

        def restored(job: Any, at: Path, record: Mapping[str, Any]) -> Any:
            assert (at, record["checkpoint"]) == (self.folder, f"c{record['seed']}")
            self.restored.append((record["options"]["k"], record["seed"]))
            return self.restored[-1], "data set"

        def validation_rr(job: Any, model: tuple[int, int], dataset: str, asked: Path) -> float:
            assert (dataset, asked) == ("data set", self.asked)
            return reached[model]

        def score(job: Any, at: Path, asked: Path, winner: dict[str, Any]) -> tuple[dict[str, list[float]], float]:
            assert (at, asked) == (self.folder, self.asked)
            self.scored.append(winner)
            return {"q": [1.0, 0.5]}, 0.125

        worker.train, worker.restored, worker.validation_rr, worker.score = train, restored, validation_rr, score

    def write(self) -> None:
        (self.asked / "job.json").write_text(json.dumps(self.job))

    def run(self) -> dict[str, Any]:
        self.trained.clear()
        self.restored.clear()
        self.worker.main(str(self.asked / "job.json"))
        found: dict[str, Any] = json.loads((self.asked / "result.json").read_text())
        return found


ALL = [(1, 7), (2, 7), (3, 7), (2, 8), (2, 9)]


def test_the_grid_is_trained_with_one_seed_and_its_best_with_all(worker: Any, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    result = bench.run()
    assert bench.trained == ALL
    assert [(winner["options"], winner["seed"]) for winner in bench.scored] == [({"k": 2}, 8)]
    assert result == {
        "options": {"k": 2},
        "seed": 8,
        "epochs": 80,
        "validation_rr": 0.7,
        "validation_rr_by_seed": {"7": 0.6, "8": 0.7, "9": 0.65},
        "trials": [
            {"options": {"k": k}, "seed": 7, "validation_rr": rr, "epochs": 70}
            for k, rr in ((1, 0.2), (2, 0.6), (3, 0.6))
        ],
        "seconds_per_list": 0.125,
        "scores": {"q": [1.0, 0.5]},
    }


def test_of_seeds_that_do_equally_well_the_first_is_taken(worker: Any, tmp_path: Path) -> None:
    assert Bench(worker, tmp_path, dict.fromkeys(REACHED, 0.5) | {(1, 8): 0.5, (1, 9): 0.5}).run()["seed"] == 7


def test_one_setting_and_one_seed_are_trained_once(worker: Any, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    bench.job.update(grid=[{"k": 1}], seeds=[7])
    bench.write()
    assert bench.run()["validation_rr_by_seed"] == {"7": 0.2}
    assert bench.trained == [(1, 7)]


def test_no_half_result_is_left(worker: Any, tmp_path: Path) -> None:
    Bench(worker, tmp_path).run()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}
    assert found == {"lists/trials.jsonl", "asked/job.json", "asked/measured.jsonl", "asked/result.json"}


@pytest.mark.parametrize("done", range(6))
def test_a_trial_that_is_done_is_not_repeated(worker: Any, tmp_path: Path, done: int) -> None:
    (tmp_path / "whole").mkdir()
    whole = Bench(worker, tmp_path / "whole").run()
    bench = Bench(worker, tmp_path)
    bench.dies_after = done
    if done < 5:
        with pytest.raises(KeyboardInterrupt):
            bench.run()
        assert not (tmp_path / "asked" / "result.json").exists()
    else:
        bench.run()
    assert bench.trained == ALL[:done]
    bench.dies_after = 99
    assert bench.run() == whole
    assert bench.trained == ALL[done:]
    assert bench.restored == []


def test_other_lists_measure_what_was_trained_and_choose_by_their_own_figures(worker: Any, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    bench.run()
    bench = Bench(worker, tmp_path, dict.fromkeys([*ALL, (3, 8), (3, 9)], 0.1) | {(3, 7): 0.9})
    bench.asked = tmp_path / "others"
    bench.asked.mkdir()
    bench.job["asked"] = str(bench.asked)
    bench.write()
    result = bench.run()
    assert bench.restored == [(1, 7), (2, 7), (3, 7)]
    assert bench.trained == [(3, 8), (3, 9)]
    assert (result["options"], result["seed"], result["validation_rr"]) == ({"k": 3}, 7, 0.9)


def test_what_was_trained_but_not_measured_is_measured(worker: Any, tmp_path: Path) -> None:
    # A job may be killed between the two.
    bench = Bench(worker, tmp_path)
    whole = bench.run()
    path = tmp_path / "asked" / "measured.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    assert bench.run() == whole
    assert (bench.trained, bench.restored) == ([], ALL[-1:])


def test_a_line_that_was_cut_off_is_trained_again(worker: Any, tmp_path: Path) -> None:
    bench = Bench(worker, tmp_path)
    result = bench.run()
    path = tmp_path / "lists" / "trials.jsonl"
    assert len(path.read_text().splitlines()) == 5
    path.write_text(path.read_text()[:-20])
    assert bench.run() == result
    assert bench.trained == ALL[-1:]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_what_is_trained_after_a_cut_off_line_is_kept(worker: Any, tmp_path: Path, cut: int) -> None:
    bench = Bench(worker, tmp_path)
    bench.dies_after = 3
    with pytest.raises(KeyboardInterrupt):
        bench.run()
    path = tmp_path / "lists" / "trials.jsonl"
    path.write_text(path.read_text()[:-cut])
    bench.dies_after = 99
    bench.run()
    bench.run()
    assert bench.trained == []


def test_a_setting_is_the_same_in_whatever_order_it_is_written(worker: Any) -> None:
    def key(seed: int, **options: float) -> str:
        found: str = worker._key({"options": options, "seed": seed, "epochs": 5})
        return found

    assert key(3, k=1, shrink=0.0) == key(3, shrink=0.0, k=1)
    assert key(3, k=1) != key(4, k=1) != key(4, k=2)


@pytest.mark.parametrize("sequential", [False, True])
def test_the_worker_reads_the_lists_that_were_written(worker: Any, tmp_path: Path, sequential: bool) -> None:
    lists = [*LISTS[:2], replace(LISTS[2], id="liste é\u2028")]
    atomic(write(tmp_path, lists=lists), tmp_path / "atomic", sequential=sequential)
    assert [entry["id"] for entry in worker._lists(tmp_path / "atomic" / "lists.jsonl")] == [
        "list of val",
        "liste é\u2028",
    ]


class Table(dict[str, Any]):
    """Stands for RecBole's Interaction: columns that are cut together."""

    def __len__(self) -> int:
        return len(next(iter(self.values())))

    def __getitem__(self, key: Any) -> Any:
        return (
            Table({name: column[key] for name, column in self.items()})
            if isinstance(key, slice)
            else super().__getitem__(key)
        )


class Recorder:
    """Scores an item by its number, and keeps what it was asked."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def predict(self, asked: Table) -> Any:
        self.rows += [{name: column[place].tolist() for name, column in asked.items()} for place in range(len(asked))]
        return asked["item_id"].float().unsqueeze(1)


@pytest.fixture
def recbole(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    def provide(name: str, **attributes: Any) -> None:
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)

    for package in ("recbole", "recbole.data"):
        provide(package)
    provide("recbole.data.interaction", Interaction=Table)
    yield provide


TOKENS = {"user_id": {"ann": 1, "tim": 2}, "item_id": {"a": 1, "b": 2, "c": 3, "d": 4}}
DATA = types.SimpleNamespace(field2token_id=TOKENS)
BPR = {"model": "BPR", "history": 3}


def entry(items: str, *, user: str = "tim", past: str = "ab") -> dict[str, Any]:
    return {"id": items, "user": user, "history": list(past), "items": list(items)}


def test_an_item_that_was_never_seen_scores_below_all_others_of_its_list(
    worker: Any, recbole: Callable[..., None]
) -> None:
    lists = [entry("cxa"), entry("bd"), entry("xd"), entry("xy")]
    found = worker._predict(BPR, Recorder(), DATA, lists)
    assert found == [[3.0, 0.0, 1.0], [2.0, 4.0], [3.0, 4.0], [-1.0, -1.0]]


def test_a_model_without_sequences_is_asked_by_user_and_item(worker: Any, recbole: Callable[..., None]) -> None:
    model = Recorder()
    worker._predict(BPR, model, DATA, [entry("cxa"), entry("d", user="stranger")])
    assert model.rows == [{"user_id": 2, "item_id": 3}, {"user_id": 2, "item_id": 1}, {"user_id": 0, "item_id": 4}]


@pytest.mark.parametrize(
    ("past", "row", "length"), [("ab", [1, 2, 0], 2), ("axb", [1, 2, 0], 2), ("dcba", [3, 2, 1], 3), ("", [0, 0, 0], 1)]
)
def test_a_sequential_model_is_asked_with_the_latest_known_items_padded_at_the_end(
    worker: Any, recbole: Callable[..., None], past: str, row: list[int], length: int
) -> None:
    model = Recorder()
    worker._predict({"model": "SASRec", "history": 3}, model, DATA, [entry("c", past=past)])
    assert model.rows == [{"user_id": 2, "item_id": 3, "item_id_list": row, "item_length": length}]


def test_rows_beyond_one_call_keep_their_order(worker: Any, recbole: Callable[..., None]) -> None:
    lists = [entry("abcd" if number % 2 else "dcba") for number in range(1500)]
    found = worker._predict(BPR, Recorder(), DATA, lists)
    assert found == [[1.0, 2.0, 3.0, 4.0] if number % 2 else [4.0, 3.0, 2.0, 1.0] for number in range(1500)]


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_what_recbole_is_told_follows_from_the_job(
    worker: Any, recbole: Callable[..., None], tmp_path: Path, model: str
) -> None:
    recbole("recbole.config", Config=lambda **given: given)
    job = {"model": model, "epochs": 9, "patience": 4, "batch": 64, "history": 3}
    found = worker._configured(job, tmp_path / "lists", {"learning_rate": 0.5, "epochs": 2}, 7)
    told = found["config_dict"]
    assert (found["model"], found["dataset"], told["data_path"]) == (model, "lists", str(tmp_path))
    # RecBole goes on for one epoch more than its setting says.
    assert told["stopping_step"] == 3
    assert (told["train_batch_size"], told["seed"], told["learning_rate"], told["epochs"]) == (64, 7, 0.5, 2)
    assert told.get("MAX_ITEM_LIST_LENGTH") == (3 if model == "SASRec" else None)
    assert ("item_id_list" in told["load_col"]["inter"]) == (model == "SASRec")


class Sequential:
    """Stands for RecBole's SASRec: what comes out of a place is what was chosen there, as a unit vector."""

    ITEM_SEQ, ITEM_SEQ_LEN, POS_ITEM_ID = "item_id_list", "item_length", "item_id"
    training = True

    def __init__(self) -> None:
        self.item_embedding = types.SimpleNamespace(weight=torch.eye(6))

    def gather_indexes(self, output: Any, index: Any) -> Any:
        return output[torch.arange(len(output)), index]

    def forward(self, seen: Any, lengths: Any) -> Any:
        return self.gather_indexes(torch.eye(6)[seen], lengths - 1)


def test_a_sequential_model_learns_from_every_choice_of_a_row_and_from_no_padding(worker: Any) -> None:
    model = worker.at_every_choice(Sequential)()
    seen, lengths = torch.tensor([[2, 3, 4], [5, 0, 0]]), torch.tensor([3, 1])
    rows = {"item_id_list": seen, "item_length": lengths, "item_id": torch.tensor([1, 5])}
    # After 2 comes 3, after 3 comes 4, after 4 comes 1; and in the other row after 5 comes 5 again.
    own, others = torch.eye(6)[[2, 3, 4, 5]], torch.tensor([3, 4, 1, 5])
    expected = torch.stack([row.logsumexp(0) - row[next] for row, next in zip(own, others, strict=True)]).mean()
    assert float(model.calculate_loss(rows)) == pytest.approx(float(expected))
    assert seen.tolist() == [[2, 3, 4], [5, 0, 0]]
    model.training = False
    assert model.forward(seen, lengths).argmax(-1).tolist() == [4, 5]


@pytest.mark.parametrize(
    ("scores", "rr"),
    [
        ([[0.1, 0.9, 0.5]], 1.0),
        ([[0.1, 0.2, 0.5]], 1 / 2),
        ([[0.3, 0.2, 0.5]], 1 / 3),
        ([[0.5, 0.5, 0.1]], 1 / 1.5),
        ([[0.5, 0.5, 0.5]], 1 / 2),
        ([[0.9, 0.5, 0.5]], 1 / 2.5),
        ([[0.1, 0.9, 0.5], [0.3, 0.2, 0.5]], (1 + 1 / 3) / 2),
    ],
)
def test_the_mean_rr_of_the_validation_lists_puts_ties_at_their_mean_place(
    worker: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scores: list[list[float]], rr: float
) -> None:
    monkeypatch.setattr(worker, "_predict", lambda job, model, data, lists: scores)
    held = [{"id": str(place), "positive": 1} for place in range(len(scores))]
    (tmp_path / "validation.jsonl").write_text("".join(json.dumps(record) + "\n" for record in held))
    assert worker.validation_rr({}, "model", "data set", tmp_path) == pytest.approx(rr)


@pytest.mark.parametrize(("losses", "converged"), [(2, True), (5, False)])
def test_training_keeps_the_best_model_and_says_whether_it_stopped_by_itself(
    worker: Any,
    recbole: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    losses: int,
    converged: bool,
) -> None:
    class Trainer:
        def __init__(self, config: Any, model: Any) -> None:
            self.saved_model_file = "elsewhere"
            self.train_loss_dict: dict[int, float] = {}

        def fit(self, train: Any, valid: Any, *, saved: bool, show_progress: bool, callback_fn: Any) -> None:
            assert (train, valid, saved) == ("train data", "valid data", True)
            self.train_loss_dict.update(dict.fromkeys(range(losses), 1.0))

    recbole("recbole.utils", get_trainer=lambda kind, model: Trainer)
    loaded = ({"MODEL_TYPE": 1, "model": "BPR"}, "data set", ("train data", "valid data", "valid data"))
    restored: list[Path] = []
    monkeypatch.setattr(worker, "_prepared", lambda *given: loaded)
    monkeypatch.setattr(worker, "_made", lambda *given: "model")
    monkeypatch.setattr(worker, "_restore", lambda model, path: restored.append(Path(path)))
    job = {"model": "BPR", "epochs": 5}
    record, found = worker.train(job, tmp_path, {"rate": 0.1, "decay": 0}, 7)
    assert found == ("model", "data set")
    assert (record["epochs"], record["converged"]) == (losses, converged)
    name = "BPR-decay=0-rate=0.1-7.pth"
    assert record["checkpoint"] == name
    # The folder may lie elsewhere by then.
    moved = tmp_path / "moved"
    again = worker.restored(job, moved, {"options": {"rate": 0.1}, "seed": 7, "checkpoint": record["checkpoint"]})
    assert again == found
    assert restored == [tmp_path / "checkpoints" / name, moved / "checkpoints" / name]


def crowd() -> tuple[list[RankingExample], tuple[History, ...]]:
    """Users of two tastes: each chooses next what others of the same taste have."""
    rng = random.Random(3)
    lists, histories = [], []
    for number in range(60):
        taste = [f"{'left' if number % 2 else 'right'}{n}" for n in range(12)]
        other = [f"{'right' if number % 2 else 'left'}{n}" for n in range(12)]
        items = rng.sample(taste, 8)
        split = "test" if number < 8 else "validation" if number < 16 else "train"
        user = f"user:{number}"
        histories.append(History(user, split, tuple(items if split == "train" else items[:-1])))
        candidates = [items[-1], *rng.sample(other, 4)]
        rng.shuffle(candidates)
        shown = tuple(Candidate(item, text="", title=item) for item in candidates)
        example = choice(user, "ab", "a", split=split)
        lists.append(replace(example, candidates=shown, relevance={items[-1]: 1.0}))
    return lists, tuple(histories)


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(PYTHON_VARIABLE), reason=f"{PYTHON_VARIABLE} names no Python with RecBole")
@pytest.mark.parametrize("baseline", MODELS)
def test_recbole_itself_trains_chooses_and_scores(tmp_path: Path, baseline: type[RecBole]) -> None:
    lists, histories = crowd()
    task = write(tmp_path / "data", histories=histories, lists=lists)
    made = baseline(epochs=8, patience=4, seeds=2, batch=64, grid=baseline.PLAN.grid[:2])
    scorer = made.prepare(task, seed=0, scratch=tmp_path)
    first = [
        max(example.candidates, key=lambda c: by_id(scorer, example)[c.id]).id in example.relevance
        for example in task.lists("test")
    ]
    assert len(made.settings(scorer)["trials"]) == 2
    assert 0 < made.settings(scorer)["validation_rr"] <= 1
    assert baseline is not RecBoleItemKNN or all(first)


#: Is called as a Python is, and dies after the third epoch of all.
DIES = """
import os, sys
script, job = sys.argv[1:]
sys.path.insert(0, os.path.dirname(script))
import recbole_worker
keep, left = recbole_worker.Epochs.keep, [3]
def kept(self, epoch, figure):
    keep(self, epoch, figure)
    left[0] -= 1
    if not left[0]:
        os._exit(9)
recbole_worker.Epochs.keep = kept
recbole_worker.main(job)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get(PYTHON_VARIABLE), reason=f"{PYTHON_VARIABLE} names no Python with RecBole")
@pytest.mark.parametrize("baseline", [RecBoleBPR, RecBoleSASRec])
def test_a_killed_training_goes_on_from_its_last_epoch_to_the_same_end(tmp_path: Path, baseline: type[RecBole]) -> None:
    lists, histories = crowd()
    task = write(tmp_path / "data", histories=histories, lists=lists)
    (tmp_path / "dies.py").write_text(DIES, encoding="utf-8")
    dies = tmp_path / "python"
    dies.write_text(
        f'#!/bin/sh\nexec "{os.environ[PYTHON_VARIABLE]}" "{tmp_path / "dies.py"}" "$@"\n', encoding="utf-8"
    )
    dies.chmod(0o755)
    found = []
    for name, pythons in (("whole", [""]), ("killed", [str(dies), str(dies), ""])):
        for python in pythons:
            made = baseline(python=python, epochs=8, seeds=1, batch=16, grid=[{"learning_rate": 0.01}])
            if python:
                with pytest.raises(BackendError, match="exit code 9"):
                    made.prepare(task, seed=0, scratch=tmp_path / name)
            else:
                found.append(made.prepare(task, seed=0, scratch=tmp_path / name))
        (log,) = (tmp_path / name).glob("recbole/*/asked-*/worker.log")
        told = [line.split(":")[0] for line in log.read_text().splitlines() if line.startswith("epoch ")]
        assert told == [f"epoch {number}" for number in range(8)]
        assert not [*(tmp_path / name).glob("recbole/*/lists/checkpoints/*.part")]
    whole, killed = found
    assert [by_id(killed, example) for example in task.lists("test")] == [
        by_id(whole, example) for example in task.lists("test")
    ]
    assert {**killed.chosen, "seconds_per_list": 0} == {**whole.chosen, "seconds_per_list": 0}
