from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from toy_tasks import build_toy


@pytest.fixture(scope="session", autouse=True)
def _cache_of_written_lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
        yield


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two built tasks whose texts tell their grades."""
    data = tmp_path_factory.mktemp("toy")
    lists = [[int(place == best) for place in range(5)] for best in range(5)]
    build_toy(data, "passage-5", train=lists * 4, validation=lists, test=lists)
    graded = [[grade % 4 for grade in range(start, start + 6)] for start in range(6)]
    build_toy(data, "router-cost", train=graded * 3, validation=graded[:3], test=graded[:4])
    return data
