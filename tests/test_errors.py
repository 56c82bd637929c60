from __future__ import annotations

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest

from unified_ranker import errors
from unified_ranker.errors import UnifiedRankerError, missing_extra, unknown_choice

PARENTS = {
    "DataError": (UnifiedRankerError, ValueError),
    "MissingSourceError": (errors.DataError, FileNotFoundError),
    "OptionError": (UnifiedRankerError, ValueError),
    "TemplateError": (UnifiedRankerError, ValueError),
    "PromptTooLongError": (UnifiedRankerError, ValueError),
    "ReplyError": (UnifiedRankerError,),
    "BackendError": (UnifiedRankerError, RuntimeError),
    "RecipeError": (UnifiedRankerError, ValueError),
    "MissingExtraError": (UnifiedRankerError, ImportError),
}


def test_the_tree_is_complete() -> None:
    own = {
        name
        for name, entry in vars(errors).items()
        if isinstance(entry, type) and issubclass(entry, UnifiedRankerError) and entry is not UnifiedRankerError
    }
    assert own == set(PARENTS)


@pytest.mark.parametrize("name", list(PARENTS))
def test_an_error_stands_where_the_tree_says(name: str) -> None:
    error = getattr(errors, name)
    assert error.__bases__ == PARENTS[name]
    assert issubclass(error, UnifiedRankerError)
    assert name in (errors.__doc__ or "")


@pytest.mark.parametrize("name", list(PARENTS))
def test_an_error_prints_its_message_and_nothing_else(name: str) -> None:
    assert str(getattr(errors, name)("what is wrong")) == "what is wrong"


def test_a_missing_source_without_a_message_prints_as_nothing() -> None:
    assert str(errors.MissingSourceError()) == ""


def test_the_nearest_name_is_suggested() -> None:
    error = unknown_choice("method", "irankr", ["iranker", "dranker"])
    assert str(error) == "method='irankr' is not known; did you mean 'iranker'? Choose one of: dranker, iranker"


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    error = unknown_choice("dtype", 7, ["float32", "bfloat16"])
    assert str(error) == "dtype=7 is not known. Choose one of: bfloat16, float32"


def test_a_missing_extra_names_the_extra_and_the_exact_pip_line() -> None:
    error = missing_extra("train", package="matplotlib", purpose="drawing a curve")
    assert isinstance(error, ImportError)
    assert str(error) == (
        "drawing a curve needs the package 'matplotlib', which is not installed; "
        "it comes with the extra 'train': pip install 'unified-ranker[train]'"
    )


def test_every_extra_that_the_code_names_exists() -> None:
    root = Path(__file__).parents[1]
    folders = [root / name for name in ("unified_ranker", "tasks", "rewards", "benchmarks")]
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r'missing_extra\(\s*"(\w+)"', source)}
    assert named
    assert named <= set(metadata("unified-ranker").get_all("Provides-Extra") or ())
