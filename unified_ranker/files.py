"""Writing files so that nobody finds half of one."""

from __future__ import annotations

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text whole or not at all: aside, and moved, so that a kill in the middle leaves what was there before."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
