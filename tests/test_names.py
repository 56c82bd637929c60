from __future__ import annotations

from pathlib import Path

import pytest
from tiny_models import make_tokenizer

from unified_ranker.backends.tokenizer import TokenizerTools, load_tokenizer
from unified_ranker.names import plain, token_of
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.prompts.writer import Listed
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.training.vocabulary import Vocabulary

MADE = Vocabulary(words=("zorblax",), names=("zorblax river (1999)", "the hill"))


def tools() -> TokenizerTools:
    made = MADE.tokenizer(9)
    return TokenizerTools(made, context_tokens=900, labels=tuple(f"<{number}>" for number in range(1, 10)))


@pytest.mark.parametrize("name", ["The  Hill", " the hill\n", "THE HILL", "\uff54he hill"])
def test_a_name_is_known_whatever_its_case_and_spaces(name: str) -> None:
    assert plain(name) == "the hill"
    assert tools().called(name) == token_of("the hill")


def test_a_name_is_one_token_and_no_word_of_it_is_part_of_the_model(tmp_path: Path) -> None:
    MADE.tokenizer(9).save_pretrained(tmp_path)
    saved = TokenizerTools(load_tokenizer(str(tmp_path)), context_tokens=900)
    for at_hand in (tools(), saved):
        assert at_hand.count(at_hand.called("Zorblax River (1999)")) == 1
        assert at_hand.tokens(at_hand.called("the hill"))[0] == 30_524
        assert at_hand.called("the hills") == "the hills"
    everything = "".join(file.read_text(encoding="utf-8") for file in tmp_path.iterdir())
    assert token_of("the hill") in everything
    assert "zorblax river" not in everything.lower()


def test_other_tokenizers_know_no_names() -> None:
    assert TokenizerTools(make_tokenizer(), context_tokens=100).called("the hill") == "the hill"


def test_a_prompt_shows_known_names_by_their_tokens_and_others_in_words() -> None:
    writer = PromptWriter(load_template("compact", "elimination", "recommendation"), tools())
    example = RankingExample(
        id="1",
        query="next?",
        context=("Zorblax River (1999)", "Another <1>"),
        candidates=(
            Candidate("a", title="The Hill", text="Drama"),
            Candidate("b", text="the hill"),
            Candidate("c", text="a hill"),
        ),
        domain="recommendation",
    )
    listed = [Listed(f"<{place}>", c) for place, c in enumerate(example.candidates, start=1)]
    written = writer.write(example, listed, form="append", room=9)
    known, hill = token_of("zorblax river (1999)"), token_of("the hill")
    shown = written.messages[0].content
    assert shown.count(known) == 2 and shown.count(f"{hill} <") == 2
    assert f"{hill} <1> {hill} <2> a hill <3>" in shown
    # A name is text of the user; marks within others are still made harmless.
    assert shown.count("<1>") == 1
    # Bags, from which words are learned, hold the same.
    assert writer.entry("Zorblax River (1999)") == known
    assert writer.shown(example.candidates[0], query="") == hill


def test_a_passage_is_shown_in_words() -> None:
    writer = PromptWriter(load_template("compact", "elimination", "passage"), tools())
    passage = Candidate("a", text="the hill")
    assert writer.shown(passage, query="where") == "the hill"
