from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unified_ranker.backends.estimate import BYTES_PER_TOKEN, MESSAGE_TOKENS, EstimatedTools
from unified_ranker.exchange import Message

TOOLS = EstimatedTools(context_tokens=100)

texts = st.one_of(
    st.text(max_size=60),
    st.lists(
        st.sampled_from(["the", " the", "é", "👩‍👩‍👧", "漢字", " ", "\n", "\u3000", "\0", "e\u0301", "𝔘", "\ufffd"]),
        max_size=20,
    ).map("".join),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=texts, limit=st.integers(-2, 80))
def test_a_cut_is_a_beginning_within_the_limit(text: str, limit: int) -> None:
    cut = TOOLS.cut(text, limit)
    assert text.startswith(cut)
    assert TOOLS.count(cut) <= max(limit, 0)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=texts, limit=st.integers(0, 80))
@example(text="漢" * 5, limit=1)
@example(text="a𝔘", limit=1)
@example(text="a\ufffd\ufffd", limit=1)
def test_a_cut_splits_no_character_and_is_the_longest(text: str, limit: int) -> None:
    fitting = [end for end in range(len(text) + 1) if len(text[:end].encode()) <= limit * BYTES_PER_TOKEN]
    expected = text if fitting[-1] == len(text) else text[: fitting[-1]].rstrip()
    assert TOOLS.cut(text, limit) == expected


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts)
def test_a_text_that_fits_is_not_cut(text: str) -> None:
    assert TOOLS.cut(text, TOOLS.count(text)) == text
    assert TOOLS.cut(text, 10_000) == text


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts, more=texts)
def test_a_longer_text_is_never_estimated_shorter_nor_at_more_than_its_parts(text: str, more: str) -> None:
    both = TOOLS.count(text + more)
    assert max(TOOLS.count(text), TOOLS.count(more)) <= both <= TOOLS.count(text) + TOOLS.count(more)


@pytest.mark.parametrize(
    ("text", "tokens"), [("", 0), ("a", 1), ("abc", 1), ("abcd", 2), ("é", 1), ("漢", 1), ("漢字", 2), ("👩", 2)]
)
def test_a_text_is_counted_by_its_bytes_rounded_up(text: str, tokens: int) -> None:
    assert TOOLS.count(text) == tokens


@pytest.mark.parametrize("limit", [-5, 0])
def test_nothing_is_left_of_a_text_without_room(limit: int) -> None:
    assert TOOLS.cut("red", limit) == ""
    assert TOOLS.cut("", limit) == ""


@settings(max_examples=80, deadline=None, derandomize=True)
@given(contents=st.lists(texts, max_size=4), prefix=texts)
def test_a_chat_is_estimated_at_its_parts(contents: list[str], prefix: str) -> None:
    messages = [Message("user", content) for content in contents]
    parts = sum(TOOLS.count(content) for content in contents) + TOOLS.count(prefix)
    assert TOOLS.count_prompt(messages, prefix) == parts + MESSAGE_TOKENS * len(messages)


def test_a_chat_is_shown_with_all_that_it_says() -> None:
    shown = TOOLS.render([Message("system", "be brief"), Message("user", "red\nstones")], "A\n")
    assert shown == "system: be brief\n\nuser: red\nstones\n\nA\n"


@pytest.mark.parametrize(
    ("label", "after", "single"),
    [("A", "", True), ("Z", "A\n", True), ("AB", "", False), ("10", "", False), ("é", "", False), ("", "", False)],
)
def test_a_letter_is_a_token_and_nothing_else_is(label: str, after: str, single: bool) -> None:
    assert TOOLS.is_single_token(label, after=after) is single
