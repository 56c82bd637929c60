"""Methods by name, with the template that each uses by default."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from unified_ranker.errors import OptionError, unknown_choice
from unified_ranker.prompts import PromptWriter
from unified_ranker.strategies.base import Sampling, Strategy
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.one_shot import OneShot


@dataclass(frozen=True, slots=True)
class Method:
    """A ranking method.

    Attributes:
        template: Folder of its templates within a style.
        make: Builds the strategy.
        options: Names of the options that ``make`` takes besides ``writer`` and ``sampling``.
        summary: One line for ``--help`` and ``doctor``.
    """

    template: str
    make: Callable[..., Strategy]
    options: tuple[str, ...]
    summary: str


METHODS: dict[str, Method] = {
    "iranker": Method(
        "elimination",
        Elimination,
        ("layout", "permute", "max_steps"),
        "eliminate the worst candidate step by step (IRanker)",
    ),
    "dranker": Method("one_shot", OneShot, ("permute",), "write the whole ranking in one reply (DRanker)"),
}

SAMPLING_OPTIONS = tuple(entry.name for entry in fields(Sampling))


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
    known = (*method_named(name).options, *SAMPLING_OPTIONS)
    for key in options:
        if key not in known:
            if any(key in method.options for method in METHODS.values()):
                raise OptionError(f"{key}={options[key]!r}: the method {name!r} does not take it")
            raise unknown_choice("option", key, known)


def make_strategy(name: str, *, writer: PromptWriter, **options: Any) -> Strategy:
    """Build a strategy.

    Args:
        name: One of :data:`METHODS`.
        writer: Writes the prompts.
        **options: The method's own options, and those of :class:`Sampling`.

    Raises:
        OptionError: the name or an option is not known, or a value cannot be used.
    """
    check_options(name, options)
    method = method_named(name)
    sampling = Sampling(**{key: value for key, value in options.items() if key in SAMPLING_OPTIONS})
    own = {key: value for key, value in options.items() if key in method.options}
    return method.make(writer=writer, sampling=sampling, **own)
