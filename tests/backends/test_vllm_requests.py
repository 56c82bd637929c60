"""Requests in vLLM's terms, without vLLM: what is asked of it, and how its answers are read."""

from __future__ import annotations

import math
from typing import Any

import pytest

from unified_ranker.backends import load_backend
from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.backends.vllm_requests import MOST_LOGPROBS, make_ready, read
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Message, Request
from unified_ranker.model_settings import embedded_path

CHAT = (Message("user", "honey bees"),)
LABELS = ("<1>", "<2>", "<3>")


@pytest.fixture(scope="module")
def tools() -> TokenizerTools:
    found: Any = load_backend("transformers", str(embedded_path())).text
    assert isinstance(found, TokenizerTools)
    return found


def test_one_label_is_a_set_of_tokens(tools: TokenizerTools) -> None:
    asked = make_ready(Request(CHAT, choices=LABELS, max_tokens=4), tools)
    tokens = sorted(tools.spell(label, after="")[0] for label in LABELS)
    assert asked.options["allowed_token_ids"] == asked.options["logprob_token_ids"] == tokens
    assert (asked.options["max_tokens"], asked.options["ignore_eos"]) == (1, True)
    assert asked.prompt == tools.prompt_ids(CHAT)


def test_several_labels_are_the_processors_affair(tools: TokenizerTools) -> None:
    asked = make_ready(Request(CHAT, choices=LABELS, draws=2), tools)
    assert asked.options["extra_args"] == {LABELS_KEY: sorted(asked.tokens.values())}
    assert asked.options["max_tokens"] == 2 and "allowed_token_ids" not in asked.options


def test_choices_of_several_tokens_and_patterns_are_structures(tools: TokenizerTools) -> None:
    asked = make_ready(Request(CHAT, choices=("make honey", "sting")), tools)
    assert asked.options["structured_outputs"] == {"choice": ["make honey", "sting"]}
    assert asked.options["max_tokens"] > len(tools.spell("make honey", after=""))
    assert not asked.tokens
    assert make_ready(Request(CHAT, pattern="a+"), tools).options["structured_outputs"] == {"regex": "a+"}
    forced = make_ready(Request(CHAT, choices=LABELS), tools, structured=True)
    assert (
        forced.options["structured_outputs"] == {"choice": list(LABELS)} and "allowed_token_ids" not in forced.options
    )


def test_sampling_and_stops_reach_the_engine(tools: TokenizerTools) -> None:
    request = Request(CHAT, temperature=0.3, top_p=0.9, seed=7, stop=("</answer>",), max_tokens=33)
    options = make_ready(request, tools).options
    assert (options["temperature"], options["top_p"], options["seed"], options["max_tokens"]) == (0.3, 0.9, 7, 33)
    assert options["stop"] == ["</answer>"] and options["include_stop_str_in_output"] is True
    assert options["skip_special_tokens"] is False
    assert not {"seed", "stop"} & set(make_ready(Request(CHAT), tools).options)


def test_of_too_many_labels_no_log_probabilities_are_asked(tools: TokenizerTools) -> None:
    words = [f"<{number}>" for number in range(1, 101)]
    more = [word for word in tools.tokenizer.get_vocab() if word.isalpha() and tools.is_single_token(word, after="")]
    choices = (*words, *more[: MOST_LOGPROBS + 1 - len(words)])
    assert "logprob_token_ids" not in make_ready(Request(CHAT, choices=choices), tools).options
    assert "logprob_token_ids" in make_ready(Request(CHAT, choices=choices[:-1]), tools).options


def test_log_probabilities_are_those_of_the_labels_that_are_left(tools: TokenizerTools) -> None:
    asked = make_ready(Request(CHAT, choices=LABELS, draws=2), tools)
    first, second, third = (asked.tokens[label] for label in LABELS)
    place = {first: -1.0, second: -2.0, third: -3.0}
    found = read(asked, text="", written=(second, first), logprobs=[place, place], cached=5, finish_reason="length")
    assert (found.text, found.generated_tokens, found.reused_tokens, found.finish_reason) == ("<2><1>", 2, 5, "stop")
    assert found.choice_logprobs == found.draw_logprobs[0]
    assert sum(math.exp(value) for value in found.draw_logprobs[0].values()) == pytest.approx(1)
    assert found.draw_logprobs[1] == pytest.approx(
        {"<1>": -math.log1p(math.exp(-2)), "<3>": -2 - math.log1p(math.exp(-2))}
    )


@pytest.mark.parametrize("written", [(), (0,), (1, 1)])
def test_a_reply_that_was_not_held_is_an_error(tools: TokenizerTools, written: tuple[int, ...]) -> None:
    asked = make_ready(Request(CHAT, choices=LABELS, draws=2), tools)
    tokens = [asked.tokens["<1>"] if token else 0 for token in written]
    with pytest.raises(BackendError, match="was held to 2 different labels"):
        read(asked, text="?", written=tokens, logprobs=[], cached=0, finish_reason="length")


def test_a_structure_is_read_whatever_blanks_the_detokenizer_puts_in(tools: TokenizerTools) -> None:
    asked = make_ready(Request(CHAT, choices=("make honey", "sting")), tools)
    found = read(asked, text=" make hon ey", written=(1, 2, 3), logprobs=[], cached=0, finish_reason="length")
    assert (found.text, found.finish_reason) == ("make honey", "stop")
    with pytest.raises(BackendError, match="was held to one of"):
        read(asked, text="fly", written=(1,), logprobs=[], cached=0, finish_reason="stop")
