"""The short names under which candidates are shown: single tokens where the tokenizer has them, checked."""

from __future__ import annotations

from itertools import product
from string import ascii_uppercase
from typing import TYPE_CHECKING

from unified_ranker.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unified_ranker.exchange import TextTools

_PAIRS = tuple("".join(pair) for pair in product(ascii_uppercase, repeat=2))


def choose_labels(n: int, tools: TextTools, *, after: Sequence[str] = ("",)) -> tuple[str, ...]:
    """Return ``n`` labels, none a prefix of another.

    In order of preference: the labels that the model was trained with; the letters A to Z; pairs of
    letters; all of them only where each is one token in the places where the model will write it. Where the
    tokenizer has too few, numbers of equal width (``"01"``, ``"02"``, …), which may take several tokens each.

    Args:
        n: How many are needed.
        tools: The model's view of text.
        after: The strings that a reply may have before a label.

    Raises:
        OptionError: the model has labels of its own, but fewer than ``n``.
    """
    if tools.labels:
        if len(tools.labels) < n:
            raise OptionError(
                f"the list has {n} candidates, but this model was trained with {len(tools.labels)} labels; "
                "rank a shorter list or use another model"
            )
        return tools.labels[:n]
    for alphabet in (tuple(ascii_uppercase), _PAIRS):
        single = [label for label in alphabet if all(tools.is_single_token(label, after=before) for before in after)]
        if len(single) >= n:
            return tuple(single[:n])
    width = len(str(n))
    return tuple(str(number).zfill(width) for number in range(1, n + 1))
