from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import datasets
import pytest
from invented_files import write_all
from unified_ranker.tasks import TASKS, BuildOptions, Built

BuildTask = Callable[..., Built]
Rewrite = Callable[[str, str, Callable[[str], str]], Path]


@pytest.fixture(scope="session", autouse=True)
def _cache_of_datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
        shown = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        yield
        if shown:
            datasets.enable_progress_bars()


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder per source with small files of our own invention."""
    return write_all(tmp_path_factory.mktemp("raw"))


@pytest.fixture(scope="session")
def build(data_dir: Path) -> BuildTask:
    """Build a task from the invented files; the same call is built once."""

    @cache
    def built(name: str, edition: str = "open", **options: object) -> Built:
        return TASKS[name].build[edition](BuildOptions(edition=edition, data_dir=data_dir, **options))  # type: ignore[arg-type]

    return built


@pytest.fixture
def rewrite(data_dir: Path, tmp_path: Path) -> Rewrite:
    """Copy a source's folder, change the text of one file, and return the new data directory."""

    def changed(folder: str, name: str, change: Callable[[str], str]) -> Path:
        copy = tmp_path / "raw"
        shutil.copytree(data_dir / folder, copy / folder, dirs_exist_ok=True)
        path, zipped = copy / folder / name, copy / folder / f"{name}.gz"
        if zipped.is_file():
            text = gzip.decompress(zipped.read_bytes()).decode()
            zipped.unlink()
        else:
            text = path.read_bytes().decode()
        path.write_bytes(change(text).encode())
        return copy

    return changed
