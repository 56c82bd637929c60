"""vLLM's own engine with our logits processor, on this machine's CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from unified_ranker.tasks.build import read_split

from unified_ranker import Ranker
from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.strategies.base import label

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def engine(vllm_backend: Any) -> Any:
    return vllm_backend.engine


def requests(toy_data: Path) -> list[tuple[list[int], list[int], tuple[str, ...]]]:
    """Return prompt, tokens of the labels, and the order of the candidates under them, of each list."""
    ranker = Ranker(permute=True)
    tools: Any = ranker.backend.text
    found = []
    for task in ("passage-5", "router-cost"):
        for example in list(read_split(toy_data, task, "test"))[:4]:
            strategy: Any = ranker.strategy(example.domain)
            listed = label(example.candidates, tools, "")
            written = strategy.writer.write(example, listed, form="append", room=strategy.room(example))
            tokens = [tools.spell(entry.label, after="")[0] for entry in listed]
            (ranking,) = ranker.rank_batch([example])
            gone = tuple(c.id for c in reversed(ranking.order))[:-1]
            by_id = {entry.candidate.id: entry.label for entry in listed}
            found.append((tools.prompt_ids(written.messages), tokens, tuple(by_id[id] for id in gone)))
    return found


def test_an_elimination_is_one_decode_and_equals_that_of_transformers(engine: Any, toy_data: Path) -> None:
    from vllm import SamplingParams

    asked = requests(toy_data)
    params = [
        SamplingParams(temperature=0, max_tokens=len(tokens) - 1, ignore_eos=True, extra_args={LABELS_KEY: tokens})
        for _, tokens, _ in asked
    ]
    outs = engine.generate([{"prompt_token_ids": prompt} for prompt, _, _ in asked], params, use_tqdm=False)
    tokenizer = engine.get_tokenizer()
    for out, (_, _, expected) in zip(outs, asked, strict=True):
        assert tuple(tokenizer.convert_ids_to_tokens(out.outputs[0].token_ids)) == expected


def test_sampled_labels_never_repeat_and_requests_do_not_disturb_each_other(engine: Any, toy_data: Path) -> None:
    from vllm import SamplingParams

    asked = requests(toy_data)
    prompts, params = [], []
    for number, (prompt, tokens, _) in enumerate(asked * 6):
        prompts.append({"prompt_token_ids": prompt})
        # Every third is free, so that restricted and free rows come, go and move in one batch.
        free = number % 3 == 2
        params.append(
            SamplingParams(
                temperature=1.0,
                seed=number,
                max_tokens=len(tokens) - 1,
                ignore_eos=True,
                extra_args=None if free else {LABELS_KEY: tokens},
            )
        )
    outs = engine.generate(prompts, params, use_tqdm=False)
    orders = set()
    for number, (out, (_, tokens, _)) in enumerate(zip(outs, asked * 6, strict=True)):
        written = list(out.outputs[0].token_ids)
        assert len(written) == len(tokens) - 1
        if number % 3 != 2:
            assert len(set(written)) == len(written) and set(written) <= set(tokens)
            orders.add(tuple(written))
    assert len(orders) > 8


def test_more_tokens_than_labels_are_refused(engine: Any, toy_data: Path) -> None:
    from vllm import SamplingParams
    from vllm.exceptions import VLLMValidationError

    ((prompt, tokens, _), *_) = requests(toy_data)
    params = SamplingParams(max_tokens=len(tokens) + 1, extra_args={LABELS_KEY: tokens})
    with pytest.raises(VLLMValidationError, match="more than the 5 labels"):
        engine.generate([{"prompt_token_ids": prompt}], params, use_tqdm=False)
