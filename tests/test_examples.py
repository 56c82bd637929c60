from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module
from types import ModuleType

import pytest

import unified_ranker

# tasks, rewards and benchmarks stand elsewhere in the checkout, where walking the package does not come by.
PACKAGES = [unified_ranker, *(import_module(f"unified_ranker.{name}") for name in ("tasks", "rewards", "benchmarks"))]
MODULES = sorted(
    {module.name for package in PACKAGES for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")}
)


# verl warns of each of its own engines that is not installed, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:.* engine is not available")
# Rooms of engines that are not installed everywhere.
ENGINES = {"verl", "vllm", "transfer_queue", "ray"}


def imported(name: str) -> ModuleType | None:
    """Return a module; None where it needs an engine that is not here."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ENGINES:
            return None
        raise


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of_the_documentation_run(name: str) -> None:
    module = imported(name)
    if module is None:
        pytest.skip("needs an engine that is not installed")
    assert doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_there_are_examples_to_run() -> None:
    there = [module for module in map(imported, MODULES) if module is not None]
    found = [doctest.DocTestFinder().find(module) for module in there]
    assert sum(bool(test.examples) for tests in found for test in tests) >= 10
