"""Backends by name, imported only when asked for: torch and its kin are slow to load."""

from __future__ import annotations

from importlib import import_module
from typing import Any, cast

from unified_ranker.errors import unknown_choice
from unified_ranker.exchange import Backend

BACKENDS: dict[str, str] = {
    "transformers": "unified_ranker.backends.transformers:TransformersBackend",
}


def load_backend(name: str, model: str, **options: Any) -> Backend:
    """Load a model behind a backend.

    Args:
        name: One of :data:`BACKENDS`.
        model: A folder, or the name of a model on the hub.
        **options: Passed to the backend's ``from_pretrained``.

    Raises:
        OptionError: the backend is not known.
        BackendError: the model cannot be loaded.
    """
    if name not in BACKENDS:
        raise unknown_choice("backend", name, BACKENDS)
    module, _, attribute = BACKENDS[name].partition(":")
    return cast("Backend", getattr(import_module(module), attribute).from_pretrained(model, **options))
