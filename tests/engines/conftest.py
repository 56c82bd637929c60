from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


@pytest.fixture(scope="session")
def vllm_options() -> dict[str, Any]:
    """Options with which a small engine starts quickly on a CPU."""
    return {"max_model_len": 2048, "max_num_seqs": 16, "enforce_eager": True, "kv_cache_memory_bytes": 2**28}


@pytest.fixture(scope="session")
def vllm_backend(vllm_options: dict[str, Any]) -> Iterator[Any]:
    """Return the embedded model behind vLLM's offline engine; loading takes most of a minute."""
    from unified_ranker.backends import load_backend
    from unified_ranker.model_settings import embedded_path

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        made: Any = load_backend("vllm", str(embedded_path()), **vllm_options)
        yield made
        made.close()
