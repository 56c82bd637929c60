"""Backends by name, imported only when asked for: torch and its kin are slow to load."""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Protocol, cast

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.exchange import Backend
from unified_ranker.model_settings import ModelSettings

BACKENDS: dict[str, str] = {
    "transformers": "unified_ranker.backends.transformers:TransformersBackend",
    "vllm": "unified_ranker.backends.vllm:VLLMBackend",
    "vllm-async": "unified_ranker.backends.vllm:AsyncVLLMBackend",
    "openai": "unified_ranker.backends.openai:OpenAIBackend",
}


class LoadedBackend(Backend, Protocol):
    """A backend that knows how its model wants to be asked."""

    settings: ModelSettings


def load_backend(name: str, model: str, /, **options: Any) -> LoadedBackend:
    """Load a model behind a backend.

    Args:
        name: One of :data:`BACKENDS`.
        model: A folder, or the name of a model on the hub.
        **options: Passed to the backend's ``from_pretrained``.

    Raises:
        OptionError: the backend or one of its options is not known.
        MissingExtraError: the backend's package is not installed.
        BackendError: the model cannot be loaded.
    """
    if name not in BACKENDS:
        raise unknown_choice("backend", name, BACKENDS)
    module, _, attribute = BACKENDS[name].partition(":")
    make = getattr(import_module(module), attribute).from_pretrained
    # The first is the model itself.
    own, *known = signature(make).parameters.values()
    if own.name in options:
        raise OptionError(f"{own.name}={options[own.name]!r}: the model was given already, {model!r}")
    if not any(entry.kind is Parameter.VAR_KEYWORD for entry in known):
        names = [entry.name for entry in known]
        for option in options:
            if option not in names:
                raise OptionError(
                    f"{option}={options[option]!r}: backend={name!r} does not take it; it takes {', '.join(names)}"
                )
    return cast("LoadedBackend", make(model, **options))
