from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import unified_ranker

HEAVY = {"torch", "transformers", "datasets", "numpy", "sklearn", "pyarrow", "ir_measures", "bm25s"}


def imported_by(code: str) -> set[str]:
    """Return the heavy packages that a fresh interpreter has loaded after running some code."""
    script = (
        f"import sys, json\n{code}\nprint('\\n' + json.dumps(sorted(name for name in sys.modules if '.' not in name)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return HEAVY & set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_is_light() -> None:
    assert imported_by("import unified_ranker") == set()


def test_the_types_are_light() -> None:
    assert imported_by("from unified_ranker import Candidate, Ranking, RankingExample, UnifiedRankerError") == set()


def test_ranking_with_a_backend_of_ones_own_needs_no_torch() -> None:
    code = (
        "from unified_ranker import Ranker\n"
        "from unified_ranker.backends import ScriptedBackend\n"
        "Ranker(ScriptedBackend(['A'])).rank('q', ['a', 'b'])"
    )
    assert "torch" not in imported_by(code)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["rank", "--help"], ["data", "list"], ["prompt", "list"]], ids=" ".join
)
def test_the_command_line_is_light(arguments: list[str]) -> None:
    code = (
        f"sys.argv = ['unified-ranker', *{arguments!r}]\n"
        "from unified_ranker.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code"
    )
    assert "torch" not in imported_by(code)


def test_help_names_every_command() -> None:
    command = [str(Path(sys.executable).parent / "unified-ranker"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    for name in ("rank", "data", "train", "bench", "prompt", "doctor", "demo"):
        assert name in done.stdout


@pytest.mark.parametrize("name", unified_ranker.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(unified_ranker, name)
    assert name == "__version__" or value.__name__ == name


def test_public_names_stand_once() -> None:
    assert len(set(unified_ranker.__all__)) == len(unified_ranker.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Rankr'"):
        unified_ranker.Rankr  # noqa: B018


def test_the_version_is_that_of_the_package() -> None:
    from importlib.metadata import version

    assert unified_ranker.__version__ == version("unified-ranker")
