from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import unified_ranker

# tasks, rewards and benchmarks stand elsewhere in the checkout, where walking the package does not come by.
PACKAGES = [unified_ranker, *(import_module(f"unified_ranker.{name}") for name in ("tasks", "rewards", "benchmarks"))]
MODULES = sorted(
    {module.name for package in PACKAGES for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")}
)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_the_examples_of_the_documentation_run(name: str) -> None:
    assert doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE).failed == 0


def test_there_are_examples_to_run() -> None:
    found = [doctest.DocTestFinder().find(import_module(name)) for name in MODULES]
    assert sum(bool(test.examples) for tests in found for test in tests) >= 10
