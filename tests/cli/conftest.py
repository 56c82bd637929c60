from __future__ import annotations

import importlib.util
import io
import sys
from pathlib import Path

import pytest
from command_line import Command, Outcome

from unified_ranker.cli import main as door


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Return the command line, run in this process on a terminal wide enough for any table."""
    monkeypatch.setenv("COLUMNS", "500")
    monkeypatch.delenv("UNIFIED_RANKER_DATA", raising=False)

    def call(*arguments: str | Path, stdin: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["unified-ranker", *(str(argument) for argument in arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            door.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Outcome(int(stop.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the invented raw files that the tests of the tasks are made with."""
    spec = importlib.util.spec_from_file_location(
        "invented_files_for_cli", Path(__file__).parents[1] / "tasks" / "invented_files.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written: Path = module.write_all(tmp_path_factory.mktemp("raw"))
    return written
