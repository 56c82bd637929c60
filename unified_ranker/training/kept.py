"""What a run has worked out before its first checkpoint, kept in its folder: a killed run does not do it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from unified_ranker.files import write_whole

T = TypeVar("T")


class Kept:
    """Keeps results by name.

    Args:
        folder: Where they are kept.
        run: What tells this run from others, such as its recipe, as JSON can hold it.
        check: Called with the ``run`` that kept what there is; raises where it is another one.

    Raises:
        Exception: what ``check`` raises.
    """

    def __init__(self, folder: Path, run: Mapping[str, Any], check: Callable[[Mapping[str, Any]], None]) -> None:
        self._folder, self._run = folder, run
        self._note = folder / "kept-run.json"
        if self._note.is_file():
            check(json.loads(self._note.read_text(encoding="utf-8")))

    def __contains__(self, name: str) -> bool:
        """Tell whether something is kept under a name."""
        return self._path(name).is_file()

    def once(self, name: str, make: Callable[[], T]) -> T:
        """Return what is kept under a name; what is not is made, and kept."""
        path = self._path(name)
        if name in self:
            # Our own file, which holds Python objects besides tensors.
            kept: T = torch.load(path, map_location="cpu", weights_only=False)
            return kept
        made = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._note, json.dumps(self._run))
        save_whole(path, made)
        return made

    def clear(self) -> None:
        """Remove everything."""
        for path in self._folder.glob("kept-*"):
            path.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"kept-{name}.pt"


def save_whole(path: Path, found: Any) -> None:
    """Save an object whole or not at all: aside, and moved; a kill in the middle leaves what was there before."""
    part = path.with_name(f"{path.name}.part")
    torch.save(found, part)
    part.replace(path)
