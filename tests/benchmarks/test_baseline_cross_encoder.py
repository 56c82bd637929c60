from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from built_tasks import by_id, passages, turned
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast
from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.baselines.cross_encoder import CrossEncoder
from unified_ranker.benchmarks.baselines.registry import baseline_named

from unified_ranker.errors import BackendError, MissingExtraError, OptionError
from unified_ranker.schema.types import Candidate

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "fox", "lake", "hill")
LIST = passages("a", "red", ["red fox", "blue lake hill", "fox"])


def save(folder: Path, *, labels: int = 1) -> Path:
    """Write a random cross-encoder of nine words."""
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.5,
        num_labels=labels,
    )
    BertForSequenceClassification(config).eval().save_pretrained(folder)
    return folder


def prepared(model: Path, **options: Any) -> Scorer:
    return CrossEncoder(model=str(model), **options).prepare(None, seed=0, scratch=Path())  # type: ignore[arg-type]


def probability(folder: Path, query: str, text: str) -> float:
    """Return what transformers alone makes of a pair."""
    model = BertForSequenceClassification.from_pretrained(folder).eval()
    pair = [2, WORDS.index(query), 3, *(WORDS.index(word) for word in text.split()), 3]
    types = [0, 0, 0, *[1] * (len(pair) - 3)]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([pair]), token_type_ids=torch.tensor([types])).logits
    return float(torch.sigmoid(logits)[0, 0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("sentence_transformers")
    return save(tmp_path_factory.mktemp("cross-encoder"))


@pytest.fixture(scope="module")
def scorer(folder: Path) -> Scorer:
    return prepared(folder)


def test_each_candidate_is_read_with_the_query(folder: Path, scorer: Scorer) -> None:
    found = scorer.score(LIST)
    assert found == pytest.approx([probability(folder, "red", c.text) for c in LIST.candidates], abs=1e-5)
    assert len({round(value, 3) for value in found}) == 3
    assert {type(value) for value in found} == {float}


def test_scores_go_with_their_candidates_and_grades_are_not_looked_at(scorer: Scorer) -> None:
    assert by_id(scorer, turned(LIST)) == pytest.approx(by_id(scorer, LIST), abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_how_many_pairs_are_read_at_once_changes_nothing(folder: Path, scorer: Scorer, batch_size: int) -> None:
    assert prepared(folder, batch_size=batch_size).score(LIST) == pytest.approx(scorer.score(LIST), abs=1e-5)


def test_the_batch_size_reaches_the_model(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Model:
        def predict(self, pairs: list[tuple[str, str]], *, batch_size: int, show_progress_bar: bool) -> list[float]:
            sizes.append(batch_size)
            assert not show_progress_bar
            return [0.0] * len(pairs)

    monkeypatch.setattr(scorer, "_model", Model())
    scorer.score(LIST)
    assert sizes == [32]


def test_a_history_is_read_in_place_of_the_query_and_a_title_before_the_text(folder: Path, scorer: Scorer) -> None:
    titled = replace(LIST, query="lake", context=("red",), candidates=(Candidate("a-0", "fox", title="red"),))
    assert scorer.score(titled) == pytest.approx([probability(folder, "red", "red fox")], abs=1e-5)


def test_the_same_model_scores_the_same_again(folder: Path, scorer: Scorer) -> None:
    assert prepared(folder).score(LIST) == scorer.score(LIST)


def test_settings_say_which_model_it_is(scorer: Scorer) -> None:
    baseline = baseline_named("cross-encoder", model="some/where", batch_size=8)
    assert baseline.settings(scorer) == {"model": "some/where", "batch_size": 8}
    assert not baseline.trained


@pytest.mark.parametrize("options", [{}, {"model": ""}, {"batch_size": 4}])
def test_without_a_model_the_message_names_the_option(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="needs a model: --baseline-option model=FOLDER"):
        baseline_named("cross-encoder", **options)


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_of_nothing_is_refused(batch_size: int) -> None:
    with pytest.raises(OptionError, match=f"batch_size={batch_size} must be"):
        baseline_named("cross-encoder", model="m", batch_size=batch_size)


@pytest.mark.parametrize("batch_size", ["many", 2.5, True])
def test_a_batch_size_that_is_no_whole_number_is_refused_by_its_option(batch_size: Any) -> None:
    with pytest.raises(OptionError, match="batch_size="):
        baseline_named("cross-encoder", model="m", batch_size=batch_size)


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_model_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BackendError, match=rf"the cross-encoder '.*{name}' cannot be loaded"):
        prepared(tmp_path / name)


def test_a_model_that_gives_more_than_one_score_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises((BackendError, OptionError), match="label"):
        prepared(save(tmp_path / "three", labels=3)).score(LIST)


def test_without_its_package_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtraError, match=r"'sentence-transformers'.*'unified-ranker\[cross-encoder\]'"):
        prepared(Path("m"))
