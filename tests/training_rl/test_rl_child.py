"""The process that verl runs in: it must not outlive the one that started it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from unified_ranker.training.rl import child

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked")
# Loads the file alone: the package would take a second.
LOAD = f"import runpy; die_with = runpy.run_path({str(Path(child.__file__))!r})['die_with']"
CHILD = f"""
import os, sys, time
{LOAD}
if sys.argv[1] == "asks":
    die_with(os.getppid())
print("ready", flush=True)
time.sleep(20)
"""
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], start_new_session=True)
print(child.pid, flush=True)
time.sleep(20)
"""


def ends_within(stream: Any, seconds: float) -> bool:
    """Tell whether all that hold the other end of a pipe are gone in time."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ready, _, _ = select.select([stream], [], [], left)
        if ready and not os.read(stream.fileno(), 4096):
            return True
    return False


def killed_parent(way: str) -> tuple[int, Any]:
    """Start a process that starts another, wait until both are up, and kill the first; the second holds the pipe."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, way], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    said = b""
    while said.count(b"\n") < 2:
        piece = os.read(parent.stdout.fileno(), 4096)
        assert piece, said
        said += piece
    number = next(int(line) for line in said.splitlines() if line != b"ready")
    parent.kill()
    parent.wait(timeout=5)
    return number, parent.stdout


@ON_LINUX
def test_a_child_ends_when_its_parent_is_killed() -> None:
    _, stream = killed_parent("asks")
    with stream:
        assert ends_within(stream, 4)


@ON_LINUX
def test_a_child_that_does_not_ask_goes_on() -> None:
    # What the other test relies on: killing the parent alone does not end the child.
    number, stream = killed_parent("does not ask")
    with stream:
        try:
            assert not ends_within(stream, 0.3)
        finally:
            os.kill(number, signal.SIGKILL)
        assert ends_within(stream, 4)


@ON_LINUX
def test_a_child_whose_parent_is_gone_already_ends_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{LOAD}; die_with(-1); print('still here')"], capture_output=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (1, b"")


@ON_LINUX
def test_a_child_of_its_parent_goes_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import os; {LOAD}; die_with(os.getppid()); print('still here')"],
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, b"still here\n")


def test_where_the_kernel_cannot_be_asked_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    child.die_with(-1)


@pytest.mark.parametrize("arguments", [[], ["--config-name=verl", "x=1"]])
def test_a_module_runs_with_the_arguments_behind_its_name(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(child, "die_with", seen.append)
    monkeypatch.setattr(child.runpy, "run_module", lambda name, **how: seen.append((name, how, list(sys.argv))))
    monkeypatch.setattr(sys, "argv", ["child", "123", "some.module", *arguments])
    child.main()
    assert seen == [
        123,
        ("some.module", {"run_name": "__main__", "alter_sys": True}, ["some.module", *arguments]),
    ]


def test_a_module_runs_as_the_main_one(tmp_path: Path) -> None:
    (tmp_path / "shown.py").write_text("import sys; print(__name__, sys.argv[1:])", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(Path(child.__file__)), str(os.getpid()), "shown", "a", "b"],
        capture_output=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (0, b"__main__ ['a', 'b']\n"), done.stderr
