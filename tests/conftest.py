from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a random model and its tokenizer."""
    from tiny_models import save_model

    return save_model(tmp_path_factory.mktemp("models") / "tiny")
