from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from toy_arms import WALL, Interrupted, LogArm, ToyTask, logged
from unified_ranker.benchmarks.baselines.registry import baseline_named
from unified_ranker.benchmarks.runner import BaselineArm, Cell, run_benchmark
from unified_ranker.benchmarks.runner.run import versions

from unified_ranker.errors import DataError, OptionError

TASK = ToyTask("passage-5", test=[[1, 0], [0, 1], [0, 0, 1], [1, 0], [0, 1]], validation=[[1, 0]] * 2)
IDS = [f"test{n}" for n in range(5)]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "computed"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def ranked(cell: Cell) -> list[str]:
    """Return the lists of a file in their order, every line of which has to be whole."""
    text = cell.path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line)["id"] for line in text.splitlines()]


def ask(arm: Any, out: Path, task: ToyTask = TASK, **options: Any) -> Cell:
    (cell,) = run_benchmark([arm], [task], out=out, **options)
    return cell


# --------------------------------------------------------------------------------------------------------------- a run


def test_every_arm_ranks_every_list_of_every_task_in_order(log: Path, out: Path) -> None:
    tasks = [TASK, ToyTask("movie", test=[[1, 0], [0, 1]])]
    arms = [LogArm(log, model=name) for name in ("b", "a")]
    cells = run_benchmark(arms, tasks, out=out)
    assert [cell.path.relative_to(out).as_posix() for cell in cells] == [
        "b--as-listed/passage-5.jsonl",
        "a--as-listed/passage-5.jsonl",
        "b--as-listed/movie.jsonl",
        "a--as-listed/movie.jsonl",
    ]
    assert [ranked(cell) for cell in cells] == [IDS, IDS, IDS[:2], IDS[:2]]
    assert logged(log) == [*IDS, *IDS, *IDS[:2], *IDS[:2]]
    assert [arm.opened for arm in arms] == [["passage-5", "movie"]] * 2


def test_facts_say_how_the_rankings_came_about(log: Path, out: Path) -> None:
    arm = LogArm(log, model="org/toy", given={"k": (1, 2)})
    facts = dict(ask(arm, out, seed=3).facts)
    assert facts.pop("versions") == [versions()]
    assert facts == {
        "model": "org/toy",
        "method": "as-listed",
        "task": "passage-5",
        "domain": "passage",
        "edition": "open",
        "split": "test",
        "seed": 3,
        "settings": {"k": [1, 2]},
        "data_hash": TASK.fingerprint("test"),
        "data": "nowhere",
        "queries": 5,
        "found": {"chosen": "for passage-5"},
        "seconds": 5 * WALL,
    }


def test_versions_name_the_package_and_the_machine() -> None:
    found = versions()
    assert {"python", "machine", "cores", "unified-ranker", "torch", "transformers"} <= set(found)
    assert all(isinstance(value, str) for value in found.values())


def test_each_ranking_is_on_disk_before_the_next_list_is_ranked(log: Path, out: Path) -> None:
    seen: list[list[str]] = []

    class Watching(LogArm):
        def rank(self, task: Any, examples: Any) -> Any:
            path = Cell.of(out, model=self.model, method=self.method, task=task.name).path
            for entry in super().rank(task, examples):
                seen.append(ranked(Cell(path)))
                yield entry

    ask(Watching(log), out)
    assert seen == [IDS[:n] for n in range(5)]


def test_an_arm_that_does_not_apply_is_left_out_and_says_why(log: Path, out: Path) -> None:
    told: list[str] = []
    arms = [LogArm(log, model="a", refusal="its lists are shuffled"), LogArm(log, model="b")]
    cells = run_benchmark(arms, [TASK], out=out, say=told.append)
    assert [cell.path.parent.name for cell in cells] == ["b--as-listed"]
    assert told[0] == "passage-5: a is left out: its lists are shuffled"
    assert told[1].startswith("passage-5: b by as-listed: 5 lists in ")
    assert len(told) == 2
    assert not (out / "a--as-listed").exists()


def test_another_split_is_another_choice_of_lists(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out, split="validation")
    assert ranked(cell) == ["validation0", "validation1"]
    assert cell.facts["split"] == "validation"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"limit": 0}, "limit=0 must be"),
        ({"limit": -3}, "limit=-3 must be"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"split": "train"}, "has no train lists"),
    ],
)
def test_what_cannot_be_ranked_is_told_and_nothing_is_begun(
    options: dict[str, Any], words: str, log: Path, out: Path
) -> None:
    task = ToyTask("passage-5", test=[[1, 0]], train=[])
    with pytest.raises((OptionError, DataError)) as caught:
        ask(LogArm(log), out, task, **options)
    assert words in str(caught.value)
    assert not list(out.glob("*/*"))


@pytest.mark.parametrize("twice", [["a", "b", "a"], ["a", "a"]])
def test_two_arms_of_the_same_names_are_refused_before_anything_is_ranked(
    twice: list[str], log: Path, out: Path
) -> None:
    with pytest.raises(OptionError, match=r"model 'a' by 'as-listed' is given twice.*--name"):
        run_benchmark([LogArm(log, model=name) for name in twice], [TASK], out=out)
    assert logged(log) == [] and not out.exists()


def test_names_that_share_a_folder_do_not_share_a_cell(log: Path, out: Path) -> None:
    with pytest.raises(DataError, match=r"model was 'org/a' and is 'org_a' now"):
        run_benchmark([LogArm(log, model="org/a"), LogArm(log, model="org_a")], [TASK], out=out)
    assert logged(log) == IDS


# ------------------------------------------------------------------------------------------------------------ going on


@pytest.mark.parametrize("stop", range(5))
def test_a_run_that_was_interrupted_goes_on_where_it_stopped(stop: int, log: Path, out: Path) -> None:
    with pytest.raises(Interrupted):
        ask(LogArm(log, stop_at=IDS[stop]), out)
    assert logged(log) == IDS[:stop]
    cell = ask(LogArm(log), out)
    assert ranked(cell) == logged(log) == IDS
    assert (cell.facts["queries"], cell.facts["seconds"]) == (5, 5 * WALL)


def test_a_line_that_was_cut_off_is_ranked_again_and_no_other(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out, limit=3)
    whole = cell.path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for size in (ends[1] + 1, (ends[1] + ends[2]) // 2, ends[2] - 1):
        cell.path.write_bytes(whole[:size])
        log.unlink()
        ask(LogArm(log), out, limit=3)
        assert logged(log) == ["test2"]
        assert ranked(cell) == IDS[:3]
        assert cell.path.read_bytes()[: ends[1]] == whole[: ends[1]]


def test_a_line_that_is_whole_but_malformed_is_told_and_left(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out, limit=2)
    with cell.adding() as file:
        file.write("{\n")
    before = cell.path.read_bytes()
    with pytest.raises(DataError, match="row 3: not a JSON object"):
        ask(LogArm(log), out)
    assert cell.path.read_bytes() == before


def test_lists_that_are_missing_in_the_middle_are_added(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out)
    lines = cell.path.read_text(encoding="utf-8").splitlines(keepends=True)
    cell.path.write_text("".join([lines[4], lines[0], lines[3]]), encoding="utf-8")
    log.unlink()
    ask(LogArm(log), out)
    assert logged(log) == ["test1", "test2"]
    assert ranked(cell) == ["test4", "test0", "test3", "test1", "test2"]


def test_a_cell_that_is_complete_is_left_and_its_arm_is_not_opened(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out)
    before = [path.read_bytes() for path in (cell.path, cell.facts_path)]
    told: list[str] = []
    again = LogArm(log)
    ask(again, out, say=told.append)
    assert again.opened == [] and logged(log) == IDS
    assert [path.read_bytes() for path in (cell.path, cell.facts_path)] == before
    assert told == ["passage-5: toy by as-listed: complete, 5 lists"]


def test_a_limit_may_grow_and_what_was_ranked_stays(log: Path, out: Path) -> None:
    queries = []
    for limit in (2, 4, None, 1):
        cell = ask(LogArm(log), out, limit=limit)
        queries.append(cell.facts["queries"])
    assert logged(log) == ranked(cell) == IDS
    assert queries == [2, 4, 5, 5]
    assert cell.facts["seconds"] == 5 * WALL


def test_a_limit_above_the_number_of_lists_takes_all(log: Path, out: Path) -> None:
    assert ask(LogArm(log), out, limit=99).facts["queries"] == 5


def test_versions_are_noted_once_each(log: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unified_ranker.benchmarks.runner.run.versions", lambda: {"torch": "1"})
    ask(LogArm(log), out, limit=1)
    ask(LogArm(log), out, limit=2)
    monkeypatch.setattr("unified_ranker.benchmarks.runner.run.versions", lambda: {"torch": "2"})
    cell = ask(LogArm(log), out, limit=3)
    assert cell.facts["versions"] == [{"torch": "1"}, {"torch": "2"}]


# ------------------------------------------------------------------------------------------------------ what may change


def changed(name: str, log: Path) -> tuple[LogArm, ToyTask, dict[str, Any]]:
    """Return what a run is made of, other than it was in one respect."""
    lists = [[1, 0], [0, 1]]
    if name == "settings":
        return LogArm(log, given={"layout": "rounds"}), ToyTask("passage-5", test=lists), {}
    if name == "edition":
        return LogArm(log), ToyTask("passage-5", edition="paper", test=lists), {}
    if name == "split":
        return LogArm(log), ToyTask("passage-5", test=lists, validation=lists), {"split": "validation"}
    return LogArm(log), ToyTask("passage-5", test=[[1, 0], [1, 0]]), {}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("settings", "settings was {} and is {'layout': 'rounds'} now"),
        ("edition", "edition was 'open' and is 'paper' now"),
        ("split", "split was 'test' and is 'validation' now"),
        ("data_hash", "data_hash was '"),
    ],
)
@pytest.mark.parametrize("limit", [None, 1])
def test_a_cell_takes_no_rankings_made_otherwise(
    name: str, values: str, limit: int | None, log: Path, out: Path
) -> None:
    cell = ask(LogArm(log), out, ToyTask("passage-5", test=[[1, 0], [0, 1]]), limit=limit)
    before = [path.read_bytes() for path in (cell.path, cell.facts_path)]
    arm, task, options = changed(name, log)
    with pytest.raises(DataError) as caught:
        ask(arm, out, task, **options)
    assert f"{cell.path}: {values}" in str(caught.value)
    assert arm.opened == []
    assert [path.read_bytes() for path in (cell.path, cell.facts_path)] == before


@pytest.mark.parametrize("name", ["settings", "edition", "data_hash"])
def test_only_missing_leaves_finished_cells_whatever_made_them(name: str, log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out, ToyTask("passage-5", test=[[1, 0], [0, 1]]))
    before = [path.read_bytes() for path in (cell.path, cell.facts_path)]
    arm, task, options = changed(name, log)
    told: list[str] = []
    assert ask(arm, out, task, only_missing=True, say=told.append, **options) == cell
    assert [path.read_bytes() for path in (cell.path, cell.facts_path)] == before
    assert told == ["passage-5: toy by as-listed: complete, 2 lists"]
    assert arm.opened == []


def test_only_missing_ranks_cells_that_were_not_begun_and_those_that_may_go_on(log: Path, out: Path) -> None:
    ask(LogArm(log), out, limit=2)
    cells = run_benchmark([LogArm(log), LogArm(log, model="b")], [TASK], out=out, only_missing=True)
    assert [ranked(cell) for cell in cells] == [IDS, IDS]
    assert logged(log) == [*IDS, *IDS]


def test_only_missing_adds_nothing_to_a_cell_that_was_begun_otherwise(log: Path, out: Path) -> None:
    ask(LogArm(log), out, limit=2)
    with pytest.raises(DataError, match="settings was"):
        ask(LogArm(log, given={"layout": "rounds"}), out, only_missing=True)
    assert logged(log) == IDS[:2]


def test_only_missing_does_not_take_rankings_without_facts(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out)
    cell.facts_path.unlink()
    with pytest.raises(DataError, match=r"passage-5\.json is gone"):
        ask(LogArm(log), out, only_missing=True)


def test_a_list_that_the_task_does_not_hold_is_told(log: Path, out: Path) -> None:
    cell = ask(LogArm(log), out, limit=1)
    with cell.adding() as file:
        file.write('{"id": "of another task", "wall": 1.0}\n')
    before = cell.path.read_bytes()
    with pytest.raises(DataError, match="ranks 'of another task', which is no test list of passage-5"):
        ask(LogArm(log), out)
    assert cell.path.read_bytes() == before
    assert logged(log) == IDS[:1]


class Unable(LogArm):
    def open(self, task: Any) -> Any:
        raise OptionError("option='permut' is not known")


def test_an_arm_that_could_not_be_opened_stands_in_nobodys_way(log: Path, out: Path) -> None:
    with pytest.raises(OptionError):
        ask(Unable(log, given={"permut": True}), out)
    cell = ask(LogArm(log, given={"permute": True}), out)
    assert ranked(cell) == IDS
    assert cell.facts["settings"] == {"permute": True}


# ------------------------------------------------------------------------------------------------- killed, and together


SCRIPT = """
import sys
from pathlib import Path
from toy_arms import LogArm, ToyTask
from unified_ranker.benchmarks.runner import run_benchmark

out, log, lists, pause = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
run_benchmark([LogArm(log, pause=pause)], [ToyTask("passage-5", test=[[1, 0]] * lists)], out=out)
"""
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(out: Path, log: Path) -> Any:
    """Return how a run is started as a process of its own; what is left of them is ended."""
    started: list[subprocess.Popen[bytes]] = []
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(here), str(here.parent)))}

    def call(lists: int, pause: float) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SCRIPT, str(out), str(log), str(lists), str(pause)]
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()


def await_lists(process: subprocess.Popen[bytes], log: Path, count: int) -> None:
    """Wait until so many lists were begun."""
    deadline = time.monotonic() + 60
    while len(logged(log)) < count:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)


def whole_lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line)["id"] for line in whole.splitlines()]


def test_a_run_that_is_killed_again_and_again_loses_only_the_list_it_was_at(start: Start, log: Path, out: Path) -> None:
    lists, pause, kills = 600, 0.02, 4
    ids = [f"test{n}" for n in range(lists)]
    cell = Cell.of(out, model="toy", method="as-listed", task="passage-5")
    rng = random.Random(11)
    for _ in range(kills):
        kept, begun = whole_lines(cell.path), logged(log)
        process = start(lists, pause)
        await_lists(process, log, len(begun) + rng.randint(1, 6))
        time.sleep(rng.uniform(0, 2 * pause))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        finished = whole_lines(cell.path)
        assert finished == ids[: len(finished)]
        assert finished[: len(kept)] == kept
        # What was begun since goes on right behind what was kept, and at most its last list was lost.
        since = logged(log)[len(begun) :]
        assert since == ids[len(kept) : len(kept) + len(since)]
        assert len(kept) + len(since) - len(finished) in (0, 1)
    assert start(lists, 0.0).wait() == 0
    assert ranked(cell) == ids
    assert sorted(set(logged(log)), key=ids.index) == ids
    assert len(logged(log)) <= lists + kills
    assert cell.facts["queries"] == lists
    assert cell.facts["seconds"] == pytest.approx(lists * WALL)


def test_two_processes_do_not_write_to_one_folder_and_a_killed_one_blocks_nobody(
    start: Start, log: Path, out: Path, tmp_path: Path
) -> None:
    process = start(600, 0.05)
    await_lists(process, log, 1)
    own = tmp_path / "own"
    with pytest.raises(DataError) as caught:
        ask(LogArm(own, model="other"), out)
    assert f"another process is writing to {str(out)!r}" in str(caught.value) and "--out" in str(caught.value)
    assert logged(own) == [] and not (out / "other--as-listed").exists()
    assert ranked(ask(LogArm(own, model="other"), tmp_path / "elsewhere")) == IDS
    process.kill()
    process.wait()
    assert ranked(ask(LogArm(own, model="other"), out)) == IDS


def test_a_run_that_failed_leaves_its_folder_free(log: Path, out: Path) -> None:
    with pytest.raises(Interrupted):
        ask(LogArm(log, stop_at="test1"), out)
    assert ranked(ask(LogArm(log), out)) == IDS


# ----------------------------------------------------------------------------------------------------------- baselines


def test_a_baseline_goes_on_as_a_model_does(out: Path, tmp_path: Path) -> None:
    task = ToyTask("passage-5", train=[[1, 0]], test=[[1, 0], [0, 2, 1]])

    def run(**options: Any) -> Cell:
        return ask(BaselineArm(baseline_named("bm25"), seed=0, scratch=tmp_path), out, task, **options)

    run(limit=1)
    cell = run()
    assert ranked(cell) == ["test0", "test1"]
    assert cell.path.parent.name == "bm25--bm25"
    assert cell.facts["settings"] == {"options": {}, "seed": 0, "training_hash": "", "history_hash": ""}
    assert cell.facts["found"]["chosen"] == {}
