"""What a task is, what building it takes, and where its raw files are looked for."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from unified_ranker.tasks.beside import Beside

from unified_ranker.errors import MissingSourceError, OptionError, unknown_choice
from unified_ranker.schema.types import RankingExample

EDITIONS = ("paper", "open")
NEGATIVES = ("uniform", "popularity")
DATA_VARIABLE = "UNIFIED_RANKER_DATA"


@dataclass(frozen=True, slots=True)
class Source:
    """Where raw data comes from.

    Attributes:
        folder: Folder below the data directory in which its files are expected.
        title: What it is.
        url: Where to get it.
        licence: Under which terms, in short.
        note: What a user should know besides.
    """

    folder: str
    title: str
    url: str
    licence: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a task is built.

    Attributes:
        edition: ``"paper"`` (the sources and sampling that R1-Ranker publishes) or ``"open"`` (free files).
        data_dir: The data directory; by default the variable ``UNIFIED_RANKER_DATA``.
        seed: Decides splits, negatives and the order of candidates.
        negatives: ``"uniform"``, as published, or ``"popularity"``: drawn in proportion to how often an item was
            chosen in training.
        lists_per_group: Most training lists made of one user or query; None for the task's default. Test has one each.
        limit: Most lists of each split; None for all.
        from_hub: For the paper edition: read the ready-made lists of ``ulab-ai/Ranking-bench`` (or, for passages, MS
            MARCO) from the hub.
    """

    edition: str = "open"
    data_dir: Path | None = None
    seed: int = 42
    negatives: str = "uniform"
    lists_per_group: int | None = None
    limit: int | None = None
    from_hub: bool = False

    def __post_init__(self) -> None:
        if self.edition not in EDITIONS:
            raise unknown_choice("edition", self.edition, EDITIONS)
        if self.negatives not in NEGATIVES:
            raise unknown_choice("negatives", self.negatives, NEGATIVES)
        for name in ("lists_per_group", "limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise OptionError(f"{name}={value} must be ≥ 1")

    def root(self) -> Path:
        """Return the data directory.

        Raises:
            MissingSourceError: none was given, or it does not exist.
        """
        given = self.data_dir or (Path(os.environ[DATA_VARIABLE]) if os.environ.get(DATA_VARIABLE) else None)
        if given is None:
            raise MissingSourceError(f"no data directory: give --data-dir DIR (data_dir=…) or set {DATA_VARIABLE}")
        if not given.is_dir():
            raise MissingSourceError(
                f"the data directory {str(given)!r} does not exist; check --data-dir or {DATA_VARIABLE}"
            )
        return given

    def find(self, source: Source, *names: str) -> Path:
        """Return the first of several files of a source that exists; each name is also tried with ``.gz``.

        Raises:
            MissingSourceError: saying what to get, where from, and where to put it.
        """
        root = self.root()
        tried = [root / source.folder / (name + suffix) for name in names for suffix in ("", ".gz")]
        for path in tried:
            if path.is_file():
                return path
        note = f" {source.note}" if source.note else ""
        raise MissingSourceError(
            f"{source.title}: none of {', '.join(names)} in {str(root / source.folder)!r}. Get it from "
            f"{source.url}, put it there, and "
            f"point --data-dir (or {DATA_VARIABLE}) at {str(root)!r}.{note}"
        )


@dataclass(frozen=True, slots=True)
class Built:
    """What building gives.

    Attributes:
        splits: Examples by split.
        sources: What they were made of.
        sampling: How, in words; goes into the card.
        counts: Numbers for the card, such as lists that were dropped and why.
        beside: What specialists and some measures need besides the lists.
    """

    splits: Mapping[str, list[RankingExample]]
    sources: tuple[Source, ...]
    sampling: str
    counts: Mapping[str, Any] = field(default_factory=dict)
    beside: Beside = Beside()


@dataclass(frozen=True, slots=True)
class Task:
    """One entry of the registry.

    Attributes:
        name: Such as ``"movie"``.
        domain: ``"recommendation"``, ``"routing"`` or ``"passage"``.
        title: What it is, in a line.
        binary: What counts as relevant for RR and Success@k: ``"positive"`` (grade > 0), ``"top"`` (the best grade of
            the list), or a least grade such as ``"2"``.
        build: Builder by edition.
        sources: Sources by edition, for listings.
    """

    name: str
    domain: str
    title: str
    binary: str
    build: Mapping[str, Callable[[BuildOptions], Built]]
    sources: Mapping[str, tuple[Source, ...]]


def open_text(path: Path, *, encoding: str = "utf-8") -> TextIO:
    """Open a text file, unpacking ``.gz``."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")
