from __future__ import annotations

from string import ascii_uppercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.backends.scripted import WordTools
from unified_ranker.errors import OptionError
from unified_ranker.exchange import TextTools
from unified_ranker.prompts import choose_labels

LETTERS = WordTools()
PAIRS = WordTools(single=lambda label: label.isalpha())
NOTHING = WordTools(single=lambda label: False)
TRAINED = WordTools(labels=("<1>", "<2>", "<3>"))


class JoinsAfter(WordTools):
    """Has single letters, but joins some of them to what stands before."""

    def called(self, name: str) -> str:
        """Return the name: no model is asked here that would know one whole."""
        return name

    def is_single_token(self, label: str, *, after: str) -> bool:
        return len(label) == 1 and not (after == "[" and label in "AC")


@pytest.mark.parametrize(
    ("n", "tools", "labels"),
    [
        (0, LETTERS, ()),
        (1, LETTERS, ("A",)),
        (3, LETTERS, ("A", "B", "C")),
        (26, LETTERS, tuple(ascii_uppercase)),
        (27, LETTERS, tuple(f"{number:02}" for number in range(1, 28))),
        (27, PAIRS, (*(f"A{letter}" for letter in ascii_uppercase), "BA")),
        (676, PAIRS, tuple(a + b for a in ascii_uppercase for b in ascii_uppercase)),
        (3, NOTHING, ("1", "2", "3")),
        (10, NOTHING, ("01", "02", "03", "04", "05", "06", "07", "08", "09", "10")),
        (2, TRAINED, ("<1>", "<2>")),
        (3, TRAINED, ("<1>", "<2>", "<3>")),
    ],
)
def test_labels_are_chosen_in_order_of_preference(n: int, tools: TextTools, labels: tuple[str, ...]) -> None:
    assert choose_labels(n, tools) == labels


def test_more_candidates_than_trained_labels_are_refused_with_both_numbers() -> None:
    with pytest.raises(OptionError, match=r"4 candidates.*3 labels"):
        choose_labels(4, TRAINED)


def test_letters_that_the_tokenizer_joins_are_left_out() -> None:
    assert choose_labels(3, JoinsAfter(), after=("", "[")) == ("B", "D", "E")
    assert choose_labels(3, JoinsAfter(), after=("", "\n")) == ("A", "B", "C")


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(0, 1200), st.sampled_from([LETTERS, PAIRS, NOTHING]))
def test_labels_differ_and_none_begins_another(n: int, tools: TextTools) -> None:
    labels = choose_labels(n, tools)
    assert len(set(labels)) == len(labels) == n
    assert len({len(label) for label in labels}) <= 1
