"""One list, one model, one set of options: transformers, both engines of vLLM and its server give the same ranking."""

from __future__ import annotations

import asyncio
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vllm")

from unified_ranker.tasks.build import read_split

from unified_ranker import Ranker, Ranking, RankingExample
from unified_ranker.backends import load_backend
from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.exchange import Message, Request
from unified_ranker.model_settings import embedded_path, read_settings

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]

# Between two programs that add up the same float32 products in another order; large weights magnify that.
TOLERANCE = 1e-2
# Toy candidates differ by a number alone, and some steps are nearly ties then. With these words each step of an
# elimination is decided by .06 nats or more.
TOLD_APART = ("horse", "music", "winter", "village", "planet", "battle")
WAYS: dict[str, dict[str, Any]] = {
    "one decode": {"permute": True},
    "a request a step": {},
    "rounds": {"layout": "rounds"},
    "two leave a step": {"drop_per_step": 2},
    "tournament": {"method": "tournament", "block": 3, "permute": True},
    "shuffles": {"shuffles": 3, "permute": True},
    "dranker": {"method": "dranker"},
    "dranker in one decode": {"method": "dranker", "permute": True},
    "unguided": {"unguided": True},
    "best first": {"method": "best_first", "picks": 2},
    "best first in one decode": {"method": "best_first", "permute": True},
    "setwise": {"method": "setwise", "set_size": 3, "places": 2},
    "setwise by the worst": {"method": "setwise", "ask": "worst", "set_size": 3, "sort": "insertion", "places": 2},
    "first token": {"method": "first_token", "ask": "worst"},
    "windows of first tokens": {"method": "window", "inner": "first_token", "size": 3, "step": 2},
    "partition": {"method": "window", "inner": {"method": "dranker", "permute": True}, "size": 3, "order": "partition"},
    "pointwise": {"method": "pointwise", "score": "grade"},
    "cascade": {"method": "cascade", "depth": 3},
    "aggregate": {"method": "aggregate", "of": ["iranker", "first_token"]},
}
# Ways whose steps carry no log-probability of a candidate.
SILENT = ("dranker", "dranker in one decode", "unguided", "partition", "pointwise")
BACKENDS = ("vllm", "vllm-async", "openai")


@pytest.fixture(scope="module")
def lists(toy_data: Path) -> list[RankingExample]:
    """Lists of two tasks, of five and six candidates, and one cut to two: ragged on purpose."""
    found = [e for task in ("passage-5", "router-cost") for e in list(read_split(toy_data, task, "test"))[:4]]
    found = [
        e.with_candidates(
            tuple(replace(c, text=f"{c.text} {word}") for c, word in zip(e.candidates, TOLD_APART, strict=False))
        )
        for e in found
    ]
    return [*found, found[0].with_candidates(found[0].candidates[:2])]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Start vLLM's own server with the embedded model on loopback, and return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", str(embedded_path()), "--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--max-model-len", "2048", "--block-size", "32", "--max-num-seqs", "16"),
        *("--kv-cache-memory-bytes", str(2**28), "--enforce-eager", "--enable-prompt-tokens-details"),
        *("--logits-processors", "unified_ranker.backends.permute_logits:PermuteLogits"),
    ]
    process = subprocess.Popen(
        command, env={**os.environ, "VLLM_NO_USAGE_STATS": "1"}, stdout=subprocess.DEVNULL, start_new_session=True
    )
    address = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(300):
            assert process.poll() is None, "the server stopped while it started"
            try:
                urllib.request.urlopen(f"{address}/models", timeout=5).read()
                break
            except OSError:
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def vllm_async(vllm_options: dict[str, Any]) -> Iterator[Any]:
    made: Any = load_backend("vllm-async", str(embedded_path()), **vllm_options)
    yield made
    made.close()
    made.close()


@pytest.fixture(scope="module")
def openai(server: str) -> Iterator[Any]:
    made: Any = load_backend("openai", "tiny", base_url=server, tokenizer=str(embedded_path()))
    yield made
    made.close()


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue({"vllm": "vllm_backend", "vllm-async": "vllm_async"}.get(request.param, "openai"))


def ranked(backend: Any, lists: list[RankingExample], **options: Any) -> list[Ranking]:
    ranker = Ranker(backend, settings=read_settings(embedded_path()), **{"method": "iranker", **options})
    return list(ranker.rank_batch(lists))


@pytest.fixture(scope="module")
def by_transformers(lists: list[RankingExample]) -> dict[str, list[Ranking]]:
    backend = load_backend("transformers", str(embedded_path()))
    return {way: ranked(backend, lists, **options) for way, options in WAYS.items()}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_the_ranking_is_that_of_transformers(
    backend: Any, way: str, lists: list[RankingExample], by_transformers: dict[str, list[Ranking]]
) -> None:
    told = ties = 0
    for found, expected in zip(ranked(backend, lists, **WAYS[way]), by_transformers[way], strict=True):
        if turns_on_a_tie(found, expected):
            ties += 1
            continue
        assert found.ids == expected.ids
        # vLLM writes a blank before the first piece of a reply.
        assert [step.reply.strip() for step in found.steps] == [step.reply.strip() for step in expected.steps]
        assert [step.outcome for step in found.steps] == [step.outcome for step in expected.steps]
        assert found.usage.prompt_tokens == expected.usage.prompt_tokens
        assert found.usage.calls == expected.usage.calls
        for step, other in zip(found.steps, expected.steps, strict=True):
            assert step.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
            told += len(step.logprobs)
    assert (told > 0) == (way not in SILENT)
    assert ties <= len(lists) // 4


def turns_on_a_tie(found: Ranking, expected: Ranking) -> bool:
    """Tell whether the first step that turned out differently was a tie: what follows it is another story then."""
    for step, other in zip(found.steps, expected.steps, strict=False):
        for id, expected_id in zip(step.chosen, other.chosen, strict=False):
            if id != expected_id:
                return abs(other.logprobs.get(id, 0) - other.logprobs.get(expected_id, math.inf)) < TOLERANCE
    return False


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_steps_reuse_the_prompt_and_say_so_from_the_engines_own_figures(
    backend: Any, lists: list[RankingExample]
) -> None:
    candidates = [f"passage number {number} about bees and honey" for number in range(20)]
    ranker = Ranker(backend, settings=read_settings(embedded_path()))
    usage = ranker.rank("bees", candidates).usage
    prompt = usage.prompt_tokens / usage.calls
    # Whole blocks of 32 tokens are reused, so that each step but the first computes less than one block and its label.
    assert usage.calls == 19
    assert usage.reused_tokens >= 18 * (prompt - 2 * 32)
    assert usage.reused_tokens % 32 == 0
    assert usage.generated_tokens == 19


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_sampled_orders_are_orders_and_a_seed_repeats_them(backend: Any, lists: list[RankingExample]) -> None:
    options = {"permute": True, "temperature": 1.0}
    first = ranked(backend, lists, seed=1, **options)
    again = ranked(backend, lists, seed=1, **options)
    others = [ranked(backend, lists, seed=seed, **options) for seed in range(2, 6)]
    assert [r.ids for r in first] == [r.ids for r in again]
    assert any([r.ids for r in other] != [r.ids for r in first] for other in others)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_pattern_holds_a_ranking_to_its_form(backend: Any, lists: list[RankingExample]) -> None:
    for ranking, example in zip(ranked(backend, lists, method="dranker", guided=True), lists, strict=True):
        (step,) = ranking.steps
        labels = set(step.labels)
        rest, written = "".join(step.reply.split()), 0
        while rest:
            (name,) = [label for label in labels if rest.startswith(label)]
            rest, written = rest[len(name) :], written + 1
        assert written == len(example.candidates)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_stop_string_ends_a_reply_and_is_part_of_it(backend: Any) -> None:
    free = Request((Message("user", "honey bees"),), max_tokens=12)
    (whole,) = backend.generate([free])
    word = whole.text.split()[0]
    (cut,) = backend.generate([Request(free.messages, max_tokens=12, stop=(word,))])
    assert cut.text == whole.text[: whole.text.index(word) + len(word)]
    assert (cut.finish_reason, cut.generated_tokens) == ("stop", 1)
    (short,) = backend.generate([Request(free.messages, max_tokens=1)])
    assert (short.finish_reason, short.generated_tokens) == ("length", 1)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_a_prompt_beyond_the_context_is_refused_before_it_is_sent(backend: Any) -> None:
    with pytest.raises(BackendError, match="lower token_budget"):
        backend.generate([Request((Message("user", "honey " * 2100),))])


@pytest.mark.parametrize("backend", ["vllm-async", "openai"], indirect=True)
def test_many_loops_share_one_engine(backend: Any, lists: list[RankingExample]) -> None:
    ranker = Ranker(backend, settings=read_settings(embedded_path()), permute=True)
    expected = [ranking.ids for ranking in ranker.rank_batch(lists)]

    async def all_at_once() -> list[tuple[str, ...]]:
        asked = [
            ranker.arank(e.query, e.candidates, domain=e.domain, context=e.context) for e in lists for _ in range(3)
        ]
        return [ranking.ids for ranking in await asyncio.gather(*asked)]

    for _ in range(2):
        assert asyncio.run(all_at_once()) == [ids for ids in expected for _ in range(3)]


def test_structure_holds_a_model_to_labels_however_it_would_spell_them(
    vllm_backend: Any, lists: list[RankingExample]
) -> None:
    from unified_ranker.backends.vllm import VLLMBackend

    # A grammar lets a label be spelt in pieces, which the model may prefer: the order need not be that of whole labels.
    structured = VLLMBackend(vllm_backend.engine, vllm_backend.text, structured=True)
    found = ranked(structured, lists)
    assert all(step.outcome == "ok" for ranking in found for step in ranking.steps)
    assert [sorted(r.ids) for r in found] == [sorted(c.id for c in e.candidates) for e in lists]
    assert all(not step.logprobs for ranking in found for step in ranking.steps)


def test_a_cold_cache_reuses_nothing(vllm_backend: Any, lists: list[RankingExample]) -> None:
    ranked(vllm_backend, lists, permute=True)
    assert sum(r.usage.reused_tokens for r in ranked(vllm_backend, lists, permute=True)) > 0
    vllm_backend.reset_cache()
    assert sum(r.usage.reused_tokens for r in ranked(vllm_backend, lists[:1], permute=True)) == 0


def test_options_reach_the_engine(vllm_backend: Any, vllm_options: dict[str, Any]) -> None:
    config = vllm_backend.engine.llm_engine.vllm_config
    assert config.model_config.max_model_len == vllm_options["max_model_len"] == vllm_backend.text.context_tokens
    assert config.scheduler_config.max_num_seqs == vllm_options["max_num_seqs"]
    assert config.cache_config.enable_prefix_caching is True
    assert config.cache_config.block_size == 32
    assert str(config.model_config.dtype) == "torch.float32"
    assert config.model_config.enforce_eager is True


def test_every_option_is_handed_on_or_refused() -> None:
    from vllm import EngineArgs

    from unified_ranker.backends.vllm import PERMUTE, engine_options

    options = {"tensor_parallel_size": 2, "pipeline_parallel_size": 3, "block_size": 64, "enable_prefix_caching": False}
    made = EngineArgs(
        **engine_options(
            str(embedded_path()),
            revision="main",
            dtype="bfloat16",
            batch_tokens=4096,
            options={**options, "logits_processors": ["mine:Processor"]},
        )
    )
    assert {name: getattr(made, name) for name in options} == options
    assert (made.revision, made.dtype, made.max_num_batched_tokens) == ("main", "bfloat16", 4096)
    assert made.logits_processors == [PERMUTE, "mine:Processor"]
    with pytest.raises(OptionError, match="did you mean 'tensor_parallel_size'"):
        engine_options("x", options={"tensor_paralel_size": 2})


def test_a_model_that_is_not_there_is_told_before_an_engine_starts() -> None:
    with pytest.raises(BackendError, match="does not exist"):
        load_backend("vllm", "./no/such/folder")


def test_a_server_that_repeats_labels_is_told_how_to_be_started(openai: Any, lists: list[RankingExample]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        # The server's processor goes by this key; under another name it does nothing, as if it were not there.
        patch.setattr("unified_ranker.backends.vllm_requests.LABELS_KEY", f"{LABELS_KEY}_unknown")
        with pytest.raises(BackendError, match="--logits-processors"):
            ranked(openai, lists, permute=True)


def test_messages_alone_rank_with_a_server(server: str, lists: list[RankingExample]) -> None:
    chat: Any = load_backend("openai", "tiny", base_url=server, api="chat")
    try:
        assert chat.text.context_tokens == 2048
        ranker = Ranker(chat, method="iranker", layout="rounds")
        for ranking, example in zip(ranker.rank_batch(lists), lists, strict=True):
            assert sorted(ranking.ids) == sorted(c.id for c in example.candidates)
            assert ranking.usage.generated_tokens > 0
        with pytest.raises(BackendError, match="layout='rounds'"):
            Ranker(chat, method="iranker", layout="append").rank("bees", ["a", "b", "c"])
    finally:
        chat.close()


def test_a_closed_backend_says_so(server: str) -> None:
    made: Any = load_backend("openai", "tiny", base_url=server, tokenizer=str(embedded_path()))
    made.close()
    with pytest.raises(BackendError, match="was closed"):
        made.generate([Request((Message("user", "bees"),))])


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_expected_grades_are_those_of_transformers(backend: Any, lists: list[RankingExample]) -> None:
    by_id = [dict(zip(r.ids, r.scores, strict=True)) for r in ranked(backend, lists, method="pointwise")]
    plain = ranked(load_backend("transformers", str(embedded_path())), lists, method="pointwise")
    for found, ranking in zip(by_id, plain, strict=True):
        assert found == pytest.approx(dict(zip(ranking.ids, ranking.scores, strict=True)), abs=TOLERANCE)


def test_a_server_teaches_and_is_asked_for_nothing_twice(openai: Any, toy_data: Path, tmp_path: Path) -> None:
    from unified_ranker.training.synthesis.run import run
    from unified_ranker.training.synthesis.setting import Synthesis
    from unified_ranker.training.synthesis.teacher import Teacher

    setting = Synthesis(tasks=("passage-5",), limit=4, reasoning=False, keep="promoting", threshold=0.0, max_tokens=16)
    said: list[str] = []

    def synthesize() -> dict[str, Any]:
        teacher = Teacher(openai, setting, settings=read_settings(embedded_path()), style="compact")
        return run(setting, teacher, data=toy_data, out=tmp_path / "synthesis", say=said.append)

    first = synthesize()
    assert first["lists"] == 4
    assert first["kept"] + sum(first["dropped"].values()) == 4
    assert first["usage"]["calls"] == 4 * (5 + 1)
    assert first["usage"]["prompt_tokens"] > 0
    assert "4 lists, 24 calls" in said[0]
    said.clear()
    assert synthesize() == first
    assert "0 lists, 0 calls" in said[0]
