"""Choices read off the log-probabilities of labels, for models that name the best and for those that name the worst."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.exchange import Completion
from unified_ranker.strategies.base import Sampling

Ask = Literal["best", "worst"]
ASKS = ("best", "worst")


def check_ask(ask: str, sampling: Sampling) -> None:
    """Check what a method asks for.

    Raises:
        OptionError: ``ask`` is not known, or ``"worst"`` with options under which there are no log-probabilities.
    """
    if ask not in ASKS:
        raise unknown_choice("ask", ask, ASKS)
    if ask == "worst":
        for name in ("reasoning", "unguided"):
            if getattr(sampling, name):
                raise OptionError(f"ask='worst' goes by log-probabilities of bare labels, without {name}=True")


def by_likelihood(completion: Completion, labels: Sequence[str]) -> list[tuple[str, float]]:
    """Return labels with their log-probabilities, the most likely first; equal ones in the order given.

    Raises:
        BackendError: the backend did not tell.
    """
    told = completion.choice_logprobs
    missing = [name for name in labels if name not in told]
    if missing:
        raise BackendError(
            f"the backend told no log-probability of {len(missing)} of {len(labels)} labels ({missing[0]!r}, …), by "
            "which this method goes; use labels of one token and a backend that tells them, or another method"
        )
    return sorted(((name, told[name]) for name in labels), key=lambda entry: -entry[1])


def least_likely(completion: Completion, labels: Sequence[str]) -> str:
    """Return the label that is least likely; of equal ones the first.

    Raises:
        BackendError: the backend did not tell.
    """
    lowest = by_likelihood(completion, labels)[-1][1]
    return next(name for name in labels if completion.choice_logprobs[name] == lowest)
