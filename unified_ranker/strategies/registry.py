"""Methods by name, with the template that each uses by default."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.prompts import PromptWriter
from unified_ranker.strategies.base import Sampling, Strategy, Writers
from unified_ranker.strategies.consistency import Consistency
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.tournament import Tournament


@dataclass(frozen=True, slots=True)
class Method:
    """A ranking method.

    Attributes:
        template: Folder of its templates within a style.
        options: Names of its own options.
        summary: One line for ``--help`` and ``doctor``.
    """

    template: str
    options: tuple[str, ...]
    summary: str


ELIMINATION = ("layout", "permute", "max_steps", "stop_at", "finish", "drop_per_step")

METHODS: dict[str, Method] = {
    "iranker": Method("elimination", ELIMINATION, "eliminate the worst candidate step by step (IRanker)"),
    "dranker": Method("one_shot", ("permute", "guided"), "write the whole ranking in one reply (DRanker)"),
    "tournament": Method(
        "elimination",
        ("layout", "permute", "drop_per_step", "block", "survivors"),
        "eliminate the worst of blocks, round after round, for long lists",
    ),
}

#: Methods whose replies training teaches; the others ask the same questions of fewer candidates.
TRAINED = ("iranker", "dranker")

SAMPLING_OPTIONS = tuple(entry.name for entry in fields(Sampling))
#: Options of every method that are no part of a strategy: they say how many of it run side by side.
COMMON_OPTIONS = (*SAMPLING_OPTIONS, "shuffles")


def method_named(name: str) -> Method:
    """Return a method.

    Raises:
        OptionError: there is none of that name.
    """
    if name not in METHODS:
        raise unknown_choice("method", name, METHODS)
    return METHODS[name]


def check_options(name: str, options: dict[str, Any]) -> None:
    """Check that a method takes all of the given options.

    Raises:
        OptionError: naming the first that it does not take.
    """
    known = (*method_named(name).options, *COMMON_OPTIONS)
    for key in options:
        if key not in known:
            if any(key in method.options for method in METHODS.values()):
                raise OptionError(f"{key}={options[key]!r}: the method {name!r} does not take it")
            raise unknown_choice("option", key, known)


def make_strategy(
    name: str, *, writer: PromptWriter, writers: Writers | None = None, shuffles: int = 1, **options: Any
) -> Strategy:
    """Build a strategy.

    Args:
        name: One of :data:`METHODS`.
        writer: Writes the prompts.
        writers: Gives the writer of another template folder, for a ``finish`` of another method; None where there is
            no such method.
        shuffles: Rank so many random orders of the list, and join the rankings; see
            :class:`~unified_ranker.strategies.consistency.Consistency`. 1 for the list as it is.
        **options: The method's own options, and those of :class:`Sampling`.

    Raises:
        OptionError: the name or an option is not known, or a value cannot be used.
    """
    check_options(name, options)
    if isinstance(shuffles, bool) or not isinstance(shuffles, int) or shuffles < 1:
        raise OptionError(f"shuffles={shuffles!r} must be a whole number ≥ 1")
    sampling = Sampling(**{key: value for key, value in options.items() if key in SAMPLING_OPTIONS})
    own = {key: value for key, value in options.items() if key not in SAMPLING_OPTIONS}
    if shuffles == 1:
        return _make(name, writer, writers, sampling, own)
    first = sampling.shuffle_seed or 0
    return Consistency(
        shuffles=tuple(
            _make(name, writer, writers, replace(sampling, shuffle_seed=first + number), own)
            for number in range(shuffles)
        )
    )


def _make(
    name: str, writer: PromptWriter, writers: Writers | None, sampling: Sampling, own: dict[str, Any]
) -> Elimination | OneShot | Tournament:
    if name == "dranker":
        return OneShot(writer=writer, sampling=sampling, **own)
    if name == "tournament":
        rules = {key: value for key, value in own.items() if key in ("block", "survivors")}
        steps = {key: value for key, value in own.items() if key not in rules}
        return Tournament(elimination=Elimination(writer=writer, sampling=sampling, **steps), **rules)
    finish = own.get("finish")
    if finish is None:
        return Elimination(writer=writer, sampling=sampling, **own)
    if writers is None:
        raise OptionError(f"finish={finish!r}: this method's writer knows no other template")
    if finish not in tuple(METHODS):
        raise unknown_choice("finish", finish, METHODS)
    template = method_named(finish).template
    # Those that are left are listed as the elimination left them: the order was drawn once.
    last = _make(finish, writers(template), writers, replace(sampling, shuffle_seed=None), {})
    return Elimination(writer=writer, sampling=sampling, **{**own, "finish": last})
