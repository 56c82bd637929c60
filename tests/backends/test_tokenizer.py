from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SPECIAL, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Message, Request
from unified_ranker.prompts import choose_labels

MERGES = (("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ã", "©"), ("Ċ", "B"), ("C", "D"))
MESSAGES = (Message("system", "be brief"), Message("user", "hello"))


def make_words() -> Any:
    vocabulary = {word: i for i, word in enumerate(["[UNK]", "<|end|>", "the", "cat", "sat", "on", "A", "B", ","])}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", unk_token="[UNK]")


BYTES = TokenizerTools(make_tokenizer(), context_tokens=100)
MERGED = TokenizerTools(make_tokenizer(merges=MERGES), context_tokens=100)
WORDS = TokenizerTools(make_words(), context_tokens=100)
ALL = pytest.mark.parametrize("tools", [BYTES, MERGED, WORDS], ids=["bytes", "merged", "words"])

texts = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["the", " the", "é", "👩‍👩‍👧", "漢字", " ", "\n", "cat", ",", "e\u0301"]), max_size=15
    ).map("".join),
)


@ALL
@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts, limit=st.integers(-1, 30))
def test_a_cut_is_a_beginning_within_the_limit(tools: TokenizerTools, text: str, limit: int) -> None:
    cut = tools.cut(text, limit)
    assert text.startswith(cut)
    assert tools.count(cut) <= max(limit, 0)


@ALL
@settings(max_examples=80, deadline=None, derandomize=True)
@given(text=texts)
def test_a_text_that_fits_is_not_cut(tools: TokenizerTools, text: str) -> None:
    assert tools.cut(text, tools.count(text)) == text


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=texts, limit=st.integers(0, 30))
def test_a_cut_never_splits_a_character_and_is_the_longest(text: str, limit: int) -> None:
    # A byte is a token here, so that the longest beginning is known.
    longest = max((end for end in range(len(text) + 1) if len(text[:end].encode()) <= limit), default=0)
    expected = text if longest == len(text) else text[:longest].rstrip()
    assert BYTES.cut(text, limit) == expected


def test_a_character_of_several_tokens_goes_as_a_whole() -> None:
    assert [BYTES.cut("a漢b", limit) for limit in range(6)] == ["", "a", "a", "a", "a漢", "a漢b"]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(text=texts)
def test_a_count_is_the_number_of_tokens(text: str) -> None:
    assert BYTES.count(text) == len(text.encode())


def test_words_are_counted_and_cut() -> None:
    assert WORDS.count("the cat sat") == 3
    assert WORDS.cut("the cat sat on", 2) == "the cat"


def test_a_chat_is_rendered_with_its_template() -> None:
    expected = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\nB\n"
    assert BYTES.render(MESSAGES, "B\n") == expected
    assert BYTES.decode(BYTES.prompt_ids(MESSAGES, "B\n")) == expected


def test_a_tokenizer_without_a_template_gets_plain_texts() -> None:
    assert WORDS.render(MESSAGES, "A") == "be brief\n\nhello\n\nA"


@ALL
def test_a_prompt_counts_its_reply_prefix(tools: TokenizerTools) -> None:
    plain = tools.count_prompt(MESSAGES)
    assert plain == len(tools.prompt_ids(MESSAGES)) == tools.count(tools.render(MESSAGES))
    assert tools.count_prompt(MESSAGES, "A") == plain + 1


def test_control_tokens_are_the_special_and_the_added() -> None:
    tools = TokenizerTools(make_tokenizer(labels=("<1>", "<2>")), context_tokens=10, labels=("<1>", "<2>"))
    assert tools.control_tokens == {*SPECIAL, "<1>", "<2>"}
    assert tools.labels == ("<1>", "<2>")
    assert tools.context_tokens == 10


def test_padding_takes_whatever_there_is() -> None:
    assert BYTES.pad_id == BYTES.tokenizer.pad_token_id
    assert WORDS.pad_id == WORDS.tokenizer.eos_token_id
    bare = make_words()
    bare.eos_token = None
    assert TokenizerTools(bare, context_tokens=10).pad_id == 0


def test_a_label_that_is_no_single_token_is_refused() -> None:
    with pytest.raises(BackendError, match=r"label '<7>' of ranker\.json is not a single token"):
        TokenizerTools(make_tokenizer(labels=("<1>",)), context_tokens=10, labels=("<1>", "<7>"))


@pytest.mark.parametrize(
    ("label", "after", "expected"),
    [("A", "", True), ("A", "\n", True), ("AA", "", False), ("the", "", True), ("the", " ", False), ("B", "\n", False)],
)
def test_a_label_is_single_only_where_it_stands_alone(label: str, after: str, expected: bool) -> None:
    assert MERGED.is_single_token(label, after=after) is expected


def test_labels_that_join_with_the_separator_are_passed_over() -> None:
    assert choose_labels(3, MERGED, after=("", "\n")) == ("A", "C", "D")


@pytest.mark.parametrize(
    ("choice", "after", "spelled"), [("A", "", 1), ("01", "", 2), ("01", "02\n", 2), ("D", "B\n", 1)]
)
def test_a_choice_is_spelled_after_what_stands_before_it(choice: str, after: str, spelled: int) -> None:
    tokens = MERGED.spell(choice, after=after)
    assert len(tokens) == spelled
    assert MERGED.decode(tokens) == choice


@pytest.mark.parametrize(("choice", "after"), [("B", "A\n"), ("D", "C"), ("", "A")])
def test_a_choice_that_joins_with_what_stands_before_it_is_refused(choice: str, after: str) -> None:
    with pytest.raises(BackendError, match="use another label separator"):
        MERGED.spell(choice, after=after)


def test_choices_of_several_tokens_are_recognised() -> None:
    assert not BYTES.spells_longer(Request(messages=(), choices=("A", "B")))
    assert BYTES.spells_longer(Request(messages=(), choices=("A", "10")))


def test_decoding_keeps_labels_and_control_tokens() -> None:
    tools = TokenizerTools(make_tokenizer(labels=("<1>",)), context_tokens=10, labels=("<1>",))
    assert tools.decode(tools.tokenizer("a<1>é<|im_end|>", add_special_tokens=False)["input_ids"]) == "a<1>é<|im_end|>"
