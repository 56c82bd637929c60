"""Every exception that this package raises on purpose.

::

    UnifiedRankerError
    ├── DataError            a list, a file or a record is not what the format allows
    │   └── MissingSourceError   a raw data set is not where it was looked for
    ├── OptionError          an option has a value that cannot be used (also a ValueError)
    ├── TemplateError        a prompt template is malformed
    ├── PromptTooLongError   a list does not fit the token budget
    ├── ReplyError           a reply could not be read and ``on_error="raise"``
    ├── BackendError         a backend could not do what it was asked for
    ├── RecipeError          a training recipe is malformed
    └── MissingExtraError    an optional dependency is not installed (also an ImportError)

Each message names the field, the value and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UnifiedRankerError(Exception):
    """The root of the tree: ``except UnifiedRankerError`` catches all that we raise on purpose."""


class DataError(UnifiedRankerError, ValueError):
    """A candidate list, a file or a record breaks the format."""


class MissingSourceError(DataError, FileNotFoundError):
    """A raw data set is not where it was looked for; the message says where to get it."""

    def __str__(self) -> str:
        """Return the message alone; ``FileNotFoundError`` would print it as an errno."""
        return str(self.args[0]) if self.args else ""


class OptionError(UnifiedRankerError, ValueError):
    """An option has a value that cannot be used."""


class TemplateError(UnifiedRankerError, ValueError):
    """A prompt template lacks a placeholder, or has one that nobody fills."""


class PromptTooLongError(UnifiedRankerError, ValueError):
    """A candidate list does not fit the token budget even with every text cut to its minimum."""


class ReplyError(UnifiedRankerError):
    """A reply could not be read and the caller asked for ``on_error="raise"``."""


class BackendError(UnifiedRankerError, RuntimeError):
    """A backend could not do what it was asked for."""


class RecipeError(UnifiedRankerError, ValueError):
    """A training recipe is malformed."""


class MissingExtraError(UnifiedRankerError, ImportError):
    """An optional dependency is missing; the message names the extra and the pip line."""


def missing_extra(extra: str, *, package: str, purpose: str) -> MissingExtraError:
    """Describe a missing optional dependency.

    Args:
        extra: Name of the extra in ``pyproject.toml``.
        package: The import that failed.
        purpose: What the user asked for, as a clause: ``"training the embedded model"``.

    Returns:
        The exception, for the caller to raise ``from`` the ``ImportError``.
    """
    return MissingExtraError(
        f"{purpose} needs the package {package!r}, which is not installed; "
        f"it comes with the extra {extra!r}: pip install 'unified-ranker[{extra}]'"
    )


def unknown_choice(field: str, value: object, choices: Iterable[str]) -> OptionError:
    """Describe a value outside a closed set, with the nearest name where there is one.

    Args:
        field: The option's name.
        value: What was given.
        choices: What would have been accepted.

    Returns:
        The exception, for the caller to raise.
    """
    known = sorted(choices)
    near = get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return OptionError(f"{field}={value!r} is not known{hint} Choose one of: {', '.join(known)}")
