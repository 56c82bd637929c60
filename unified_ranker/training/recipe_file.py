"""Reading recipe files: YAML of the package or of the user, overrides on top, checked against a dataclass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from unified_ranker.errors import RecipeError, unknown_choice


def names_in(package: str) -> list[str]:
    """Return the recipes that lie in the folder ``recipes`` of a package."""
    return sorted(
        f.name.removesuffix(".yaml") for f in (files(package) / "recipes").iterdir() if f.name.endswith(".yaml")
    )


def read_recipe(
    name: str | Path,
    overrides: Sequence[str] = (),
    *,
    package: str,
    whole: Sequence[str] = (),
    derived: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Read a recipe of a package, or a file, and apply overrides.

    A recipe that names another as its ``base`` holds what differs: its fields replace those of the base, and the parts
    named by ``whole`` are laid over the base's.

    Args:
        name: A name of :func:`names_in`, or the path of a ``.yaml`` file.
        overrides: ``key=value`` with dots for parts, such as ``optimizer.learning_rate=1e-4``.
        package: Package whose recipes are known by name.
        derived: Recipes that this one is a base of.
        whole: Parts whose keys hold dots themselves: ``verl.trainer.nnodes=2`` sets ``trainer.nnodes`` of ``verl``.

    Raises:
        OptionError: there is no such recipe.
        RecipeError: the file or an override is malformed.
    """
    if str(name).endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise RecipeError(f"recipe file {str(name)!r} does not exist")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RecipeError(f"recipe file {str(name)!r} is not UTF-8: {error}") from error
    elif str(name) in names_in(package):
        text = (files(package) / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        raise unknown_choice("recipe", str(name), names_in(package))
    try:
        record = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"recipe {name!s}: not YAML: {error}") from error
    if not isinstance(record, dict):
        raise RecipeError(f"recipe {name!s}: expected a mapping")
    record = _on_base(record, name, package=package, whole=whole, derived=derived)
    for override in overrides:
        _override(record, override, whole)
    return record


def _on_base(
    record: dict[str, Any], name: str | Path, *, package: str, whole: Sequence[str], derived: tuple[str, ...]
) -> dict[str, Any]:
    base = record.pop("base", None)
    if base is None:
        return record
    if not isinstance(base, str):
        raise RecipeError(f"recipe {name!s}: base={base!r} must be the name or file of another recipe")
    if base.endswith((".yaml", ".yml")):
        base = str((Path(name).parent / base).resolve())
    own = str(Path(name).resolve()) if str(name).endswith((".yaml", ".yml")) else str(name)
    line = (*derived, own)
    if base in line:
        raise RecipeError(f"recipe {name!s}: base={base!r} goes in a circle: {' → '.join((*line, base))}")
    found = read_recipe(base, package=package, whole=whole, derived=line)
    for key, value in record.items():
        laid_over = key in whole and isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = {**found[key], **value} if laid_over else value
    return found


def _override(record: dict[str, Any], override: str, whole: Sequence[str]) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError(f"override {override!r} must be key=value")
    head, dot, rest = key.partition(".")
    *path, last = (head, rest) if dot and head in whole else key.split(".")
    place = record
    for part in path:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise RecipeError(f"override {override!r}: {part!r} is not a mapping")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"override {override!r}: the value is not YAML: {error}") from error


def build(kind: Any, record: Any, *, where: str) -> Any:
    """Build a dataclass from a mapping.

    Args:
        kind: The dataclass.
        record: Its fields.
        where: What to put before a field's name in a message, such as ``"optimizer."``.

    Raises:
        RecipeError: a field is not known, missing or of another type.
    """
    if not isinstance(record, Mapping):
        raise RecipeError(f"{where.rstrip('.') or 'recipe'} must be a mapping, not {record!r}")
    known = {entry.name: entry for entry in fields(kind)}
    for key, value in record.items():
        if key not in known:
            raise RecipeError(f"{where}{key} is not known; known are {', '.join(where + name for name in known)}")
        wanted = str(known[key].type)
        if wanted.startswith("Mapping") and not isinstance(value, Mapping):
            raise RecipeError(f"{where}{key}={value!r} must be a mapping")
        if wanted in ("int", "float", "str", "bool") and not _fits(value, wanted):
            raise RecipeError(f"{where}{key}={value!r} must be of type {wanted}")
    try:
        return kind(**{k: float(v) if str(known[k].type) == "float" else v for k, v in record.items()})
    except TypeError as error:
        raise RecipeError(f"{where.rstrip('.') or 'recipe'}: {error}") from error


def _fits(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) or wanted == "bool":
        return isinstance(value, bool) and wanted == "bool"
    if wanted == "float":
        if isinstance(value, str):
            # YAML reads 1e-4 as a string.
            try:
                float(value)
            except ValueError:
                return False
            return True
        return isinstance(value, (int, float))
    return isinstance(value, int if wanted == "int" else str)
