from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.backends.scripted import WordTools
from unified_ranker.prompts.budget import fair_cap, said_once, snippet

CHECKED = settings(deadline=None, derandomize=True, max_examples=300)
TOOLS = WordTools()


@pytest.mark.parametrize(
    ("lengths", "budget", "cap"),
    [
        ([3, 10, 20], 33, 20),
        ([3, 10, 20], 100, 20),
        ([3, 10, 20], 32, 19),
        ([3, 10, 20], 21, 9),
        ([3, 10, 20], 9, 3),
        ([3, 10, 20], 8, 2),
        ([3, 10, 20], 3, 1),
        ([3, 10, 20], 2, 0),
        ([3, 10, 20], 0, 0),
        ([3, 10, 20], -5, 0),
        ([0, 0], 0, 0),
        ([0, 5], 3, 3),
        ([7], 7, 7),
        ([], 10, 0),
        ([], -1, 0),
    ],
)
def test_the_longest_give_way_first(lengths: list[int], budget: int, cap: int) -> None:
    assert fair_cap(lengths, budget) == cap


@CHECKED
@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(-20, 250))
def test_the_cap_is_the_largest_that_fits(lengths: list[int], budget: int) -> None:
    caps = [cap for cap in range(max(lengths) + 1) if sum(min(length, cap) for length in lengths) <= budget]
    assert fair_cap(lengths, budget) == max(caps, default=0)


@CHECKED
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(-20, 250))
def test_the_cap_does_not_depend_on_the_order(lengths: list[int], budget: int) -> None:
    assert fair_cap(lengths[::-1], budget) == fair_cap(lengths, budget) == fair_cap(sorted(lengths), budget)


@CHECKED
@given(st.lists(st.integers(0, 30), max_size=8), st.integers(-20, 250))
def test_more_budget_never_lowers_the_cap(lengths: list[int], budget: int) -> None:
    assert fair_cap(lengths, budget) <= fair_cap(lengths, budget + 1)


def test_a_snippet_is_the_stretch_around_the_words_of_the_query() -> None:
    text = "Filler words stand here first. Lighthouse keepers light lamps at dusk. More filler follows after that."
    assert snippet(text, query="who lights the lamps of a lighthouse at dusk?", limit=6, tools=TOOLS) == (
        "Lighthouse keepers light lamps at dusk."
    )


def test_a_text_that_fits_is_left_as_it_is() -> None:
    assert snippet("two  words ", query="words", limit=2, tools=TOOLS) == "two  words "


def test_a_text_without_words_of_the_query_keeps_its_beginning() -> None:
    text = " ".join(f"w{number}" for number in range(40))
    assert snippet(text, query="nothing like it", limit=5, tools=TOOLS) == "w0 w1 w2 w3 w4"


def test_short_words_of_the_query_count_for_nothing() -> None:
    text = "one two six ten all the end of it"
    assert snippet(text, query="of it the end", limit=3, tools=TOOLS) == "one two six"


def test_the_words_of_the_query_are_found_in_any_case_and_with_marks() -> None:
    text = "one two three four five six seven (LIGHTHOUSE), eight nine ten eleven twelve"
    assert "LIGHTHOUSE" in snippet(text, query="'lighthouse'?", limit=3, tools=TOOLS)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_tiny_limit_is_kept(limit: int) -> None:
    assert TOOLS.count(snippet("a b c lighthouse d e", query="lighthouse", limit=limit, tools=TOOLS)) <= limit


@pytest.mark.parametrize(("length", "limit"), [(11, 4), (10, 6), (20, 9), (9, 8), (100, 10)])
def test_the_last_word_of_a_text_can_be_found(length: int, limit: int) -> None:
    text = " ".join(["filler"] * (length - 1) + ["lighthouse"])
    assert "lighthouse" in snippet(text, query="lighthouse", limit=limit, tools=TOOLS)


words = st.sampled_from(["filler", "a", "words", "(here)"])


@CHECKED
@given(st.lists(words, max_size=30), st.lists(words, max_size=30) | st.just([]), st.integers(1, 40))
def test_a_snippet_keeps_a_word_of_the_query_wherever_it_stands(
    before: list[str], after: list[str], limit: int
) -> None:
    text = " ".join([*before, "lighthouse", *after])
    found = snippet(text, query="the lighthouse", limit=limit, tools=TOOLS)
    assert "lighthouse" in found.split()


@CHECKED
@given(st.text(max_size=200), st.text(max_size=40), st.integers(0, 12))
def test_a_snippet_is_a_stretch_of_the_text_within_the_limit(text: str, query: str, limit: int) -> None:
    found = snippet(text, query=query, limit=limit, tools=TOOLS)
    assert TOOLS.count(found) <= limit
    assert " ".join(found.split()) in " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The flea, the FLEA and (the) fleas", "The flea, and fleas"),
        ("one two  three", "one two three"),
        ("- a - a -", "- a - -"),
        ("", ""),
    ],
)
def test_a_word_that_comes_again_is_left_out_whatever_its_case(text: str, kept: str) -> None:
    assert said_once(text) == kept
