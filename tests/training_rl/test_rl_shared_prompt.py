"""One pass over a shared prompt gives the numbers of a pass for each sequence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny_models import make_model, make_tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from unified_ranker.training.rl.shared_prompt import Packed, pack

PAD = 3
SIZE = 64
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def model(request: pytest.FixtureRequest) -> Any:
    if request.param == "qwen2":
        return make_model(make_tokenizer(), seed=1)
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval()


@dataclass(frozen=True)
class Batch:
    """Sequences, and how much of each response is asked for."""

    prompts: tuple[tuple[int, ...], ...]
    responses: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]

    def packed(self, pad: int = PAD) -> Packed:
        return pack(
            [torch.tensor(prompt) for prompt in self.prompts],
            [torch.tensor(response, dtype=torch.long) for response in self.responses],
            self.lengths,
            pad=pad,
        )


def drawn(seed: str, *, prompts: int, rows: int, longest: int = 9, empty: float = 0.0) -> Batch:
    """Draw sequences of a few prompts; ``empty`` is the share of rows of which nothing is asked for."""
    rng = random.Random(seed)

    def text(low: int, high: int) -> tuple[int, ...]:
        return tuple(rng.randrange(SIZE) for _ in range(rng.randint(low, high)))

    known = [text(1, longest) for _ in range(prompts)]
    responses = tuple(text(1, longest) for _ in range(rows))
    lengths = tuple(0 if rng.random() < empty else rng.randint(1, len(response)) for response in responses)
    return Batch(tuple(rng.choice(known) for _ in range(rows)), responses, lengths)


BATCHES = {
    "one row": Batch(((5, 6, 7),), ((8, 9, 10),), (3,)),
    "one row of one token and one": Batch(((5,),), ((8,),), (1,)),
    "a response that is not asked for whole": Batch(((5, 6),), ((8, 9, 10, 11),), (2,)),
    "all prompts the same": Batch(((5, 6, 7),) * 4, ((8, 9), (9, 8, 7), (1,), (8, 9)), (2, 3, 1, 2)),
    "all prompts different": Batch(((5, 6, 7), (5, 6), (7,), (5, 6, 8)), ((1, 2), (1, 2), (3,), (1, 2)), (2, 2, 1, 2)),
    "a prompt that begins another": Batch(((5, 6), (5, 6, 7), (5, 6)), ((7, 8), (8,), (7, 7)), (2, 1, 2)),
    "rows of two groups in turns": Batch(((5, 6), (7, 8, 9), (5, 6), (7, 8, 9)), ((1, 2, 3),) * 4, (3, 1, 2, 3)),
    "the first row is empty": Batch(((5, 6), (5, 6)), ((1, 2), (3, 4)), (0, 2)),
    "a group is empty": Batch(((5, 6, 7, 8, 9), (5,)), ((1, 2), (3, 4)), (0, 2)),
    "the short group answers at length": Batch(((5,), (1, 2, 3, 4, 5, 6)), (tuple(range(9)), (7,)), (9, 1)),
    "the long group answers at length": Batch(((5,), (1, 2, 3, 4, 5, 6)), ((7,), tuple(range(9))), (1, 9)),
    "the padding token is in the text": Batch(((PAD, PAD), (PAD,)), ((PAD, PAD), (PAD, 5, PAD)), (2, 3)),
    **{f"random {seed}": drawn(str(seed), prompts=1 + seed % 4, rows=2 + seed) for seed in range(6)},
    **{f"random with empty rows {seed}": drawn(f"e{seed}", prompts=3, rows=8, empty=0.4) for seed in range(4)},
}
EACH = pytest.mark.parametrize("name", BATCHES)


def apart(model: Any, batch: Batch) -> torch.Tensor:
    """Return log-probabilities in verl's layout, with a pass for each sequence."""
    found = []
    for prompt, response, length in zip(batch.prompts, batch.responses, batch.lengths, strict=True):
        whole = torch.tensor([[*prompt, *response]])
        predicted = model(input_ids=whole, use_cache=False).logits[0].float().log_softmax(-1)
        values = torch.zeros(whole.shape[1])
        # At the index of the token before it.
        places = torch.arange(len(prompt) - 1, len(prompt) - 1 + length)
        chosen = predicted[places, whole[0, places + 1]]
        found.append(values.index_put((places,), chosen))
    return torch.cat(found)


def together(model: Any, batch: Batch, *, pad: int = PAD) -> torch.Tensor:
    """Return the same with one pass over all."""
    packed = batch.packed(pad)
    logits = model(
        input_ids=packed.ids,
        attention_mask=packed.mask,
        position_ids=packed.positions,
        logits_to_keep=packed.kept,
        use_cache=False,
    ).logits
    assert logits.shape[:2] == (packed.ids.shape[0], packed.kept)
    assert torch.isfinite(logits).all()
    logprobs = logits[packed.rows, packed.places].float().log_softmax(-1)
    values = logprobs.gather(-1, packed.targets[:, None])[:, 0]
    return torch.zeros(sum(map(len, (*batch.prompts, *batch.responses)))).index_put((packed.flat,), values)


@EACH
def test_log_probabilities_are_those_of_separate_passes(model: Any, name: str) -> None:
    batch = BATCHES[name]
    with torch.no_grad():
        one, other = together(model, batch), apart(model, batch)
    assert int((other != 0).sum()) == sum(batch.lengths)
    assert torch.allclose(one, other, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", [name for name in BATCHES if "random" in name or "group" in name])
def test_gradients_are_those_of_separate_passes(model: Any, name: str) -> None:
    batch = BATCHES[name]
    weights = torch.randn(sum(map(len, (*batch.prompts, *batch.responses))), generator=torch.Generator().manual_seed(0))
    found = []
    for way in (together, apart):
        model.zero_grad()
        (way(model, batch) * weights).sum().backward()
        found.append({key: value.grad.clone() for key, value in model.named_parameters() if value.grad is not None})
    model.zero_grad()
    assert found[0].keys() == found[1].keys() != set()
    for key, grad in found[0].items():
        scale = max(1.0, float(found[1][key].abs().max()))
        assert float((grad - found[1][key]).abs().max()) < TOLERANCE * scale, key
    assert any(float(grad.abs().max()) > 0.01 for grad in found[1].values())


@pytest.mark.parametrize("name", ["all prompts different", "the short group answers at length", "random 5"])
def test_the_padding_token_does_not_matter(model: Any, name: str) -> None:
    batch = BATCHES[name]
    with torch.no_grad():
        assert torch.allclose(together(model, batch, pad=0), together(model, batch, pad=41), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["all prompts the same", "rows of two groups in turns", "random 3"])
def test_what_stands_behind_the_length_does_not_matter(model: Any, name: str) -> None:
    batch = BATCHES[name]
    cut = tuple(
        (*response[:length], *[(token + 1) % SIZE for token in response[length:]])
        for response, length in zip(batch.responses, batch.lengths, strict=True)
    )
    with torch.no_grad():
        assert torch.equal(together(model, batch), together(model, Batch(batch.prompts, cut, batch.lengths)))


def test_rows_of_one_prompt_do_not_see_each_other(model: Any) -> None:
    alone = Batch(((5, 6, 7),), ((8, 9, 10),), (3,))
    with torch.no_grad():
        wanted = together(model, alone)
        for neighbour in ((1, 2, 3), (8, 9, 11), (40, 41, 42, 43, 44)):
            batch = Batch(((5, 6, 7),) * 2, (neighbour, (8, 9, 10)), (len(neighbour), 3))
            assert torch.allclose(together(model, batch)[-6:], wanted, rtol=0, atol=TOLERANCE)


def test_a_shared_prompt_stands_once() -> None:
    packed = Batch(((5, 6, 7),) * 3, ((1, 2), (3,), (4, 5, 6)), (2, 1, 3)).packed()
    # Of each response all but its last token, which predicts nothing.
    assert packed.ids.tolist() == [[5, 6, 7, 1, 4, 5]]
    assert packed.positions.tolist() == [[0, 1, 2, 3, 3, 4]]
    assert packed.kept == 4
    assert packed.targets.tolist() == [1, 2, 3, 4, 5, 6]
    assert packed.rows.tolist() == [0] * 6
    # Of the last four: the prompt's end, response 1, and the two of response 3.
    assert packed.places.tolist() == [0, 1, 0, 0, 2, 3]
    assert packed.flat.tolist() == [2, 3, 7, 11, 12, 13]
    seen = packed.mask[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 0, 1, 0],
        [1, 1, 1, 0, 1, 1],
    ]


def test_groups_are_padded_on_the_left_and_padding_sees_only_padding() -> None:
    packed = Batch(((5, 6, 7), (9,)), ((1, 2), (3, 4)), (2, 2)).packed()
    assert packed.ids.tolist() == [[5, 6, 7, 1], [PAD, PAD, 9, 3]]
    assert packed.positions.tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    assert packed.mask.dtype == torch.bool
    assert packed.mask.any(-1).all()
    assert not packed.mask[1, 0, 2:, :2].any()
    assert not packed.mask[1, 0, :2, 2:].any()


@pytest.mark.parametrize("lengths", [(0,), (0, 0), (0, 0, 0)])
def test_a_batch_of_which_nothing_is_asked_has_no_predictions(model: Any, lengths: tuple[int, ...]) -> None:
    batch = Batch(((5, 6, 7), (8, 9), (5, 6, 7))[: len(lengths)], ((1,), (2,), (3,))[: len(lengths)], lengths)
    packed = batch.packed()
    assert [len(values) for values in (packed.rows, packed.places, packed.targets, packed.flat)] == [0] * 4
    with torch.no_grad():
        assert not together(model, batch).any()


def test_a_response_without_tokens_is_a_row_without_predictions(model: Any) -> None:
    batch = Batch(((5, 6), (5, 6)), ((), (1, 2)), (0, 2))
    with torch.no_grad():
        assert torch.allclose(together(model, batch), apart(model, batch), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_tokens_may_be_of_any_whole_type(kind: torch.dtype) -> None:
    packed = pack([torch.tensor([5, 6], dtype=kind)], [torch.tensor([1, 2], dtype=kind)], [2], pad=PAD)
    assert packed.ids.tolist() == [[5, 6, 1]]
    assert packed.ids.dtype == packed.targets.dtype == torch.long


def test_free_are_the_labels_of_the_prompt_that_the_response_has_not_named() -> None:
    labels = [50, 51, 52, 53]
    packed = pack(
        [torch.tensor([5, 50, 51, 53]), torch.tensor([5, 52, 50]), torch.tensor([5, 50, 51, 53])],
        [torch.tensor([51, 53, 50]), torch.tensor([50, 7, 52]), torch.tensor([50, 50])],
        [2, 3, 2],
        pad=PAD,
        labels=labels,
    )
    assert packed.free is not None
    assert packed.free.dtype == torch.bool
    found = {int(index): row for index, row in zip(packed.flat, packed.free.int().tolist(), strict=True)}
    assert found == {
        # The first sequence: three labels stand in its prompt, and 51 is gone once it is named.
        3: [1, 1, 0, 1],
        4: [1, 0, 0, 1],
        # The second; 7 is no label, and takes none away.
        9: [1, 0, 1, 0],
        10: [0, 0, 1, 0],
        11: [0, 0, 1, 0],
        # The third, of the first one's prompt: what others named stays free.
        16: [1, 1, 0, 1],
        17: [0, 1, 0, 1],
    }


def test_nothing_restricts_a_reply_without_labels() -> None:
    assert BATCHES["random 1"].packed().free is None


def test_probabilities_among_free_labels_are_those_of_separate_passes(model: Any) -> None:
    labels, rng = list(range(40, 48)), random.Random(4)
    prompts = [tuple(rng.sample(range(40), 3)) + tuple(rng.sample(labels, 4)) for _ in range(2)]
    rows = [rng.choice(prompts) for _ in range(5)]
    responses = [tuple(rng.sample([token for token in prompt if token in labels], 3)) for prompt in rows]
    packed = pack(list(map(torch.tensor, rows)), list(map(torch.tensor, responses)), [3] * 5, pad=PAD, labels=labels)
    assert packed.free is not None
    with torch.no_grad():
        logits = model(
            input_ids=packed.ids,
            attention_mask=packed.mask,
            position_ids=packed.positions,
            logits_to_keep=packed.kept,
            use_cache=False,
        ).logits[packed.rows, packed.places][:, labels]
        logprobs = logits.masked_fill(~packed.free, -1e9).log_softmax(-1)
        found = {
            int(index): row[labels.index(int(target))].item()
            for index, row, target in zip(packed.flat, logprobs, packed.targets, strict=True)
        }
        offset = 0
        for prompt, response in zip(rows, responses, strict=True):
            whole = model(input_ids=torch.tensor([[*prompt, *response]]), use_cache=False).logits[0]
            for place, token in enumerate(response):
                free = [label for label in prompt if label in labels and label not in response[:place]]
                at = whole[len(prompt) + place - 1]
                wanted = (at[token] - at[free].logsumexp(-1)).item()
                assert found.pop(offset + len(prompt) + place - 1) == pytest.approx(wanted, abs=TOLERANCE)
            offset += len(prompt) + len(response)
    assert found == {}


def test_a_restricted_batch_of_which_nothing_is_asked_can_be_read_like_any_other() -> None:
    # Such as one of rows that fill a batch.
    free = pack([torch.tensor([5, 50])], [torch.tensor([50])], [0], pad=PAD, labels=[50, 51]).free
    assert free is not None
    assert free.dtype == torch.bool
    assert free.shape == (0, 2)
