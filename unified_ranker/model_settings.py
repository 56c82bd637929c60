"""What a model folder says about how it wants to be asked: ``ranker.json`` beside the weights.

A model that was trained by this package carries the prompt style, method, token budget and labels it was trained
with. A model without the file gets the natural prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from unified_ranker.errors import BackendError, DataError

FILE_NAME = "ranker.json"
#: What recipes call the model that comes with the package.
EMBEDDED = "embedded"


_FITS: dict[str, Callable[[Any], bool]] = {
    "method": lambda value: isinstance(value, str),
    "style": lambda value: isinstance(value, str),
    "token_budget": lambda value: value is None or (type(value) is int and value > 0),
    "labels": lambda value: isinstance(value, list) and all(isinstance(label, str) for label in value),
    "options": lambda value: isinstance(value, dict),
}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """How a model wants to be asked.

    Attributes:
        method: Method it was trained for.
        style: Style of the prompts.
        token_budget: Most tokens of prompt and reply that it was trained with; None for its context.
        labels: Labels it was trained with; empty for those chosen by :func:`~unified_ranker.prompts.choose_labels`.
        options: Options of the method, such as ``{"layout": "append"}``.
    """

    method: str = "iranker"
    style: str = "natural"
    token_budget: int | None = None
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def read_settings(model: str | Path, *, revision: str | None = None) -> ModelSettings:
    """Read ``ranker.json`` of a model; the defaults where there is none.

    Args:
        model: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.

    Raises:
        DataError: the file is malformed.
        BackendError: the model is neither a folder nor a name that the hub knows.
    """
    path = Path(model) / FILE_NAME
    if not Path(model).is_dir():
        path = _on_hub(str(model), revision) or path
    if not path.is_file():
        return ModelSettings()
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not JSON: {error}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path}: expected an object, found {type(record).__name__}")
    unknown = set(record) - {"method", "style", "token_budget", "labels", "options"}
    if unknown:
        raise DataError(f"{path}: field {sorted(unknown)[0]!r} is not known")
    for name, value in record.items():
        if not _FITS[name](value):
            raise DataError(f"{path}: field {name!r} is {value!r}, which it cannot be")
    return ModelSettings(**{**record, "labels": tuple(record.get("labels", ()))})


def _on_hub(model: str, revision: str | None) -> Path | None:
    from transformers.utils import cached_file

    try:
        found = cached_file(
            model,
            FILE_NAME,
            revision=revision,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except (OSError, ValueError) as error:
        raise BackendError(f"{model!r} is no folder, and no model on the hub either: {error}") from error
    return Path(found) if found else None


def write_settings(model: str | Path, settings: ModelSettings) -> None:
    """Write ``ranker.json`` into a model folder."""
    record = {
        "method": settings.method,
        "style": settings.style,
        "token_budget": settings.token_budget,
        "labels": list(settings.labels),
        "options": dict(settings.options),
    }
    (Path(model) / FILE_NAME).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def embedded_path() -> Path:
    """Return the folder of the model that comes with the package.

    Raises:
        BackendError: the package was installed without it.
    """
    folder = Path(str(files("unified_ranker.embedded")))
    if not (folder / "model.safetensors").is_file():
        raise BackendError(
            "this installation has no embedded model (unified_ranker/embedded/model.safetensors); "
            "reinstall the package, or load another model with Ranker.from_pretrained(name_or_path)"
        )
    return folder
