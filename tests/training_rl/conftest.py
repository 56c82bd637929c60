from __future__ import annotations

from collections.abc import Iterator

import datasets
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _cache_of_read_lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
        shown = datasets.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        yield
        if shown:
            datasets.enable_progress_bars()


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
