from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CHECKOUT = Path(__file__).parents[1]
PARENT = sysconfig.get_path("purelib")

# What every installation has to answer, wherever it is asked.
ASKED = """
import importlib, json, pkgutil
from importlib.metadata import distribution
from importlib.resources import files
import unified_ranker, unified_ranker.tasks, unified_ranker.rewards, unified_ranker.benchmarks

# An editable installation maps three of the packages to folders that a walk from the root cannot find.
roots = (unified_ranker, unified_ranker.tasks, unified_ranker.rewards, unified_ranker.benchmarks)
found = {root.__name__ for root in roots}
for root in roots:
    found |= {module.name for module in pkgutil.walk_packages(root.__path__, root.__name__ + ".")}
places = {}
for name in sorted(found):
    try:
        places[name] = importlib.import_module(name).__file__
    except ModuleNotFoundError as error:
        # Rooms of engines that come with an extra.
        if error.name not in ("verl", "vllm", "transfer_queue", "ray"):
            raise
from unified_ranker.prompts.template import template_names
from unified_ranker.training.recipe_file import names_in
from unified_ranker.training.rl.recipe import recipe_names as rl_recipe_names
print(json.dumps({
    "places": places,
    "home": str(distribution("unified-ranker").locate_file("")),
    "templates": len(template_names()),
    "recipes": names_in("unified_ranker.training"),
    "rl": rl_recipe_names(),
    "demo": (files("unified_ranker.cli") / "demo.jsonl").is_file(),
}))
"""
NEEDED = (
    "unified_ranker",
    "unified_ranker.tasks.registry",
    "unified_ranker.tasks.sources.scifact",
    "unified_ranker.rewards",
    "unified_ranker.benchmarks",
    "unified_ranker.benchmarks.speed",
    "unified_ranker.benchmarks.speed.run",
    "unified_ranker.ray_rank",
    "unified_ranker.training.sft",
    "unified_ranker.embedded",
)


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") and not key.startswith(("PIP_", "COV_"))
    }
    environment |= {"OMP_NUM_THREADS": "1", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what the repository holds, without anything that was built."""
    pytest.importorskip("build")
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        pytest.skip("this is no checkout")
    folder = tmp_path_factory.mktemp("packaging") / "copy"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (CHECKOUT / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(CHECKOUT / name, target)
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, copy, cwd=out)
    (made,) = out.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def make_environment(folder: Path) -> Path:
    """Make an empty virtual environment and return its Python."""
    # Without pip, which would bring a setuptools of its own that is too old to build with.
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    show = "import importlib.util as u; print(u.find_spec('unified_ranker'), u.find_spec('torch'))"
    assert run(python, "-c", show, cwd=folder).split() == ["None", "None"]
    return python


def borrow_dependencies(python: Path, folder: Path) -> list[str]:
    """Let an environment see the packages of this one, after its own, and return the editable finders it has.

    A folder that a .pth file names is added to the path, but its own .pth files are not read, so that the editable
    installation that the tests run in stays invisible.
    """
    purelib = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(purelib) / "zz_borrowed.pth").write_text(PARENT + "\n", encoding="utf-8")
    seen = run(
        python,
        "-c",
        "import sys, json; print(json.dumps([sys.path, [str(finder) for finder in sys.meta_path]]))",
        cwd=folder,
    )
    path, finders = json.loads(seen)
    assert path[-1] == PARENT
    assert str(CHECKOUT) not in path
    return [name for name in finders if "editable" in name]


def ask(python: Path, *, cwd: Path) -> dict[str, object]:
    answer: dict[str, object] = json.loads(run(python, "-W", "ignore", "-c", ASKED, cwd=cwd).splitlines()[-1])
    return answer


def check_answer(answer: dict[str, object], root: Path, *, environment: Path) -> None:
    places = answer["places"]
    assert isinstance(places, dict)
    assert set(NEEDED) <= set(places)
    elsewhere = {name: place for name, place in places.items() if root.resolve() not in Path(place).resolve().parents}
    assert not elsewhere
    assert Path(str(answer["home"])).resolve().is_relative_to(environment.resolve())
    assert answer["templates"] == len(list(CHECKOUT.glob("unified_ranker/prompts/templates/*/*/*.yaml")))
    for name, folder in (("recipes", "training"), ("rl", "training/rl")):
        there = CHECKOUT.glob(f"unified_ranker/{folder}/recipes/*.yaml")
        assert answer[name] == sorted(path.stem for path in there)
    assert answer["demo"] is True


def test_the_wheel_has_nothing_at_its_top_but_the_package(contents: set[str]) -> None:
    tops = {name.split("/")[0] for name in contents}
    assert "unified_ranker" in tops
    assert [top for top in tops - {"unified_ranker"} if not top.endswith(".dist-info")] == []
    assert len(tops) == 2


def test_the_wheel_has_every_module_of_the_checkout(contents: set[str], copy: Path) -> None:
    expected = {path.relative_to(copy).as_posix() for path in copy.glob("unified_ranker/**/*.py")}
    for folder in ("tasks", "rewards", "benchmarks"):
        expected |= {f"unified_ranker/{path.relative_to(copy).as_posix()}" for path in copy.glob(f"{folder}/**/*.py")}
    assert expected - contents == set()


def test_the_wheel_has_every_file_that_is_no_module(contents: set[str], copy: Path) -> None:
    expected = {"unified_ranker/py.typed", "unified_ranker/cli/demo.jsonl"}
    for pattern in ("prompts/templates/*/*/*", "training/recipes/*", "embedded/*"):
        expected |= {path.relative_to(copy).as_posix() for path in (copy / "unified_ranker").glob(pattern)}
    assert len(expected) > 13
    assert expected - contents == set()


def test_the_wheel_carries_the_licence_and_no_tests(contents: set[str]) -> None:
    assert any(".dist-info/" in name and name.endswith("LICENSE") for name in contents)
    assert not [name for name in contents if "test" in name.split("/")[-1] or name.startswith(("docs", "tests"))]


def test_the_wheel_works_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    python = make_environment(folder)
    pip = (sys.executable, "-m", "pip", "--python", python)
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path)
    assert borrow_dependencies(python, folder) == []
    check_answer(ask(python, cwd=tmp_path), folder, environment=folder)
    script = python.parent / "unified-ranker"
    assert "rank" in run(script, "--help", cwd=tmp_path)


def test_an_editable_installation_works_in_an_environment_of_its_own(copy: Path, tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    python = make_environment(folder)
    # pip and the build backend are borrowed, too. What is installed outside must be ignored: pip would replace it.
    assert borrow_dependencies(python, folder) == []
    run(
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--ignore-installed",
        "--editable",
        copy,
        cwd=tmp_path,
    )
    check_answer(ask(python, cwd=tmp_path), copy, environment=folder)
