"""Structured outputs for real: choices of several tokens and patterns, by a random model whose tokens are bytes.

The embedded model's word pieces cannot be compiled into a grammar that agrees with its detokenizer; bytes can.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from tiny_models import make_model, make_tokenizer

from unified_ranker.backends import load_backend
from unified_ranker.exchange import Message, Request
from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import Candidate, RankingExample

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]

# No choice begins another: where one does, vLLM may end the reply there, and transformers goes on.
CHOICES = ("north east", "north west", "south", "doc-17", "doc-3", "日本")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bytes")
    tokenizer = make_tokenizer()
    # Heads of 32: vLLM's attention on a CPU knows none smaller.
    make_model(tokenizer, hidden_size=128, intermediate_size=64).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def engine(folder: Path, vllm_options: dict[str, Any]) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_NO_USAGE_STATS", "1")
        made: Any = load_backend("vllm", str(folder), **vllm_options)
        yield made
        made.close()


def requests(**settings: Any) -> list[Request]:
    return [Request(messages=(Message("user", f"question {number}"),), **settings) for number in range(12)]


def test_choices_of_several_tokens_are_those_of_transformers(engine: Any, folder: Path) -> None:
    asked = requests(choices=CHOICES)
    found = [completion.text for completion in engine.generate(asked)]
    expected = [completion.text for completion in load_backend("transformers", str(folder)).generate(asked)]
    assert found == expected
    assert len(set(found)) > 1


def test_a_sampled_choice_of_several_tokens_is_one_of_them(engine: Any) -> None:
    found = [completion.text for completion in engine.generate(requests(choices=CHOICES, temperature=2.0, seed=3))]
    assert set(found) <= set(CHOICES)
    assert len(set(found)) > 1


def test_a_reply_holds_to_its_pattern(engine: Any) -> None:
    pattern = r"\[[A-C]\] > \[[A-C]\]"
    for completion in engine.generate(requests(pattern=pattern, max_tokens=40)):
        assert re.fullmatch(pattern, completion.text)


def test_a_guided_ranking_holds_to_its_form(engine: Any) -> None:
    listed = tuple(Candidate(id, f"text of {id}") for id in "pqr")
    strategy = Ranker(engine, method="dranker", guided=True).strategy("passage")
    (request,) = next(strategy.rank(RankingExample(id="list", query="which?", candidates=listed)))
    (completion,) = engine.generate([request])
    assert re.fullmatch(request.pattern, completion.text)
