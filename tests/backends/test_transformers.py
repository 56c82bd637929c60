from __future__ import annotations

import asyncio
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_backend, make_model, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import load_backend
from unified_ranker.backends import transformers as transformers_backend
from unified_ranker.backends.transformers import TransformersBackend
from unified_ranker.errors import BackendError, OptionError, ReplyError
from unified_ranker.exchange import Completion, Message, Request
from unified_ranker.model_settings import ModelSettings, write_settings

TOLERANCE = 1e-4
WORDS = [
    "stone",
    "river",
    "cloud",
    "ember",
    "maple",
    "copper",
    "violin",
    "anchor",
    "meadow",
    "falcon",
    "lantern",
    "pepper",
    "harbor",
    "cedar",
]
NUMBERS = tuple(f"{number:02}" for number in range(1, 13))


@pytest.fixture(scope="module")
def shared() -> TransformersBackend:
    """Return a backend that no test changes."""
    return make_backend()


@pytest.fixture
def backend(shared: TransformersBackend) -> Iterator[TransformersBackend]:
    yield shared
    shared._groups.clear()


def another(backend: TransformersBackend, **options: Any) -> TransformersBackend:
    """Return a backend around the same model that has kept nothing."""
    return TransformersBackend(backend.model, backend.tokenizer, **options)


def ask(text: str, **fields: Any) -> Request:
    return Request(messages=(Message("user", text),), **fields)


def make_list(number: int, n: int) -> RankingExample:
    candidates = tuple(
        Candidate(f"c{i}", " ".join(WORDS[(number + i * step) % len(WORDS)] for step in range(1, 2 + (number + i) % 4)))
        for i in range(n)
    )
    return RankingExample(id=f"list{number}", query=" ".join(WORDS[number : number + 3]), candidates=candidates)


LISTS = [make_list(number, n) for number, n in enumerate([5, 2, 9, 1, 4, 7, 3, 9])]


def assert_same(found: Completion, expected: Completion) -> None:
    assert found.text == expected.text
    assert found.choice_logprobs == pytest.approx(expected.choice_logprobs, abs=TOLERANCE)
    assert (found.generated_tokens, found.finish_reason) == (expected.generated_tokens, expected.finish_reason)
    assert found.prompt_tokens == expected.prompt_tokens


def assert_same_ranking(found: Ranking, expected: Ranking) -> None:
    assert found.ids == expected.ids
    for step, other in zip(found.steps, expected.steps, strict=True):
        assert (step.chosen, step.reply, step.outcome) == (other.chosen, other.reply, other.outcome)
        assert step.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)


class Forgetful:
    """A backend that answers every request by itself, without a session."""

    def __init__(self, inner: TransformersBackend) -> None:
        self.inner = inner
        self.text = inner.text

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.inner.generate([replace(request, session="")])[0] for request in requests]


def full_prefix_logprobs(backend: TransformersBackend, request: Request) -> dict[str, float]:
    """Score each choice by one plain pass over prompt and choice; no batch, no cache."""
    scores = {}
    prompt = backend.text.prompt_ids(request.messages, request.reply_prefix)
    for choice in request.choices:
        tokens = backend.text.spell(choice, after=request.reply_prefix)
        with torch.no_grad():
            logits = backend.model(input_ids=torch.tensor([[*prompt, *tokens]])).logits[0].float()
        logprobs = logits.log_softmax(-1)
        scores[choice] = sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(tokens))
    total = float(torch.logsumexp(torch.tensor(list(scores.values())), 0))
    return {choice: score - total for choice, score in scores.items()}


def greedy_by_tokens(backend: TransformersBackend, request: Request) -> str:
    """Write the likeliest allowed token after token, each by one plain pass; no batch, no cache."""
    prompt = backend.text.prompt_ids(request.messages, request.reply_prefix)
    spelled = {choice: backend.text.spell(choice, after=request.reply_prefix) for choice in request.choices}
    written: tuple[int, ...] = ()
    while written not in spelled.values():
        allowed = {tokens[len(written)] for tokens in spelled.values() if tokens[: len(written)] == written}
        with torch.no_grad():
            logits = backend.model(input_ids=torch.tensor([[*prompt, *written]])).logits[0, -1]
        written = (*written, max(allowed, key=lambda token: float(logits[token])))
    return next(choice for choice, tokens in spelled.items() if tokens == written)


def greedy_tokens(backend: TransformersBackend, request: Request) -> list[int]:
    """Write the likeliest token after token, each by one plain pass; no batch, no cache."""
    tokens = backend.text.prompt_ids(request.messages, request.reply_prefix)
    start = len(tokens)
    while len(tokens) < start + request.max_tokens:
        with torch.no_grad():
            tokens.append(int(backend.model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[start:]


MIXED = [
    ask("short", choices=("A", "B", "C")),
    ask("a much longer prompt " * 12, choices=("A", "B", "C", "D")),
    ask("free text", max_tokens=7),
    ask("with a prefix", reply_prefix="B\n", choices=("A", "C")),
    ask("numbers", choices=NUMBERS),
    ask("free and longer, a little", max_tokens=3),
    ask("x", choices=("A",)),
    ask("sampled", max_tokens=6, temperature=1.0, seed=3),
    ask("sampled choice", choices=("A", "B", "C"), temperature=1.0, seed=4),
]


@pytest.mark.parametrize("batch_tokens", [1, 60, 400, 100_000])
def test_replies_do_not_depend_on_the_batch(backend: TransformersBackend, batch_tokens: int) -> None:
    alone = [backend.generate([request])[0] for request in MIXED]
    for found, expected in zip(another(backend, batch_tokens=batch_tokens).generate(MIXED), alone, strict=True):
        assert_same(found, expected)


def test_replies_come_in_the_order_of_the_requests(backend: TransformersBackend) -> None:
    forwards = backend.generate(MIXED)
    backwards = backend.generate(MIXED[::-1])[::-1]
    for found, expected in zip(backwards, forwards, strict=True):
        assert_same(found, expected)


def test_no_request_gets_no_reply(backend: TransformersBackend) -> None:
    assert backend.generate([]) == []


def test_a_batch_has_no_more_tokens_than_allowed(backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = TransformersBackend._forward

    def watch(self: TransformersBackend, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        sizes.append(ids.numel())
        return forward(self, ids, *rest)

    monkeypatch.setattr(TransformersBackend, "_forward", watch)
    requests = [ask("word " * n, choices=("A", "B")) for n in (10, 10, 3, 3, 3, 1)]
    another(backend, batch_tokens=200).generate(requests)
    assert max(sizes) <= 200
    assert 1 < len(sizes) < len(requests)


def test_choices_restrict_the_reply_and_their_probabilities_add_up(backend: TransformersBackend) -> None:
    for request in (ask(f"prompt {i}", choices=("A", "B", "C", "D")) for i in range(8)):
        (completion,) = backend.generate([request])
        assert completion.text == max(completion.choice_logprobs, key=completion.choice_logprobs.__getitem__)
        assert set(completion.choice_logprobs) == set(request.choices)
        assert sum(torch.tensor(list(completion.choice_logprobs.values())).exp()) == pytest.approx(1, abs=1e-5)
        assert completion.choice_logprobs == pytest.approx(full_prefix_logprobs(backend, request), abs=TOLERANCE)
        assert (completion.generated_tokens, completion.finish_reason) == (1, "stop")


def test_where_choices_are_tokens_the_output_layer_computes_no_others(
    backend: TransformersBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    hook = backend.model.lm_head.register_forward_hook(lambda *_: seen.append(1))
    requests = [ask("one two", choices=("A", "B", "C")), ask("three", choices=("B", "D"))]
    narrow = backend.generate(requests)
    assert not seen
    monkeypatch.setattr(transformers_backend, "_PLAIN_HEADS", ())
    whole = backend.generate(requests)
    assert seen
    hook.remove()
    for found, expected in zip(narrow, whole, strict=True):
        assert_same(found, expected)


def test_a_free_reply_and_long_choices_see_the_whole_vocabulary(backend: TransformersBackend) -> None:
    seen: list[int] = []
    hook = backend.model.lm_head.register_forward_hook(lambda *_: seen.append(1))
    for request in (ask("one", max_tokens=1), ask("one", choices=("AB", "C"))):
        seen.clear()
        backend.generate([request])
        assert seen
    hook.remove()


def test_replies_differ_from_prompt_to_prompt(backend: TransformersBackend) -> None:
    # Otherwise the tests here would show nothing.
    requests = [ask(f"prompt {word}", choices=tuple("ABCDEFGH")) for word in WORDS]
    assert len({completion.text for completion in backend.generate(requests)}) > 2


@pytest.mark.parametrize("number", range(4))
def test_choices_of_several_tokens_are_written_as_by_plain_passes(backend: TransformersBackend, number: int) -> None:
    request = ask(f"which of {WORDS[number]}", choices=NUMBERS, reply_prefix="07\n" * (number % 2))
    (completion,) = backend.generate([request])
    assert completion.text == greedy_by_tokens(backend, request)
    assert completion.generated_tokens == 2


def test_choices_of_several_tokens_have_no_probabilities(backend: TransformersBackend) -> None:
    (completion,) = backend.generate([ask("which of them", choices=NUMBERS)])
    assert completion.choice_logprobs == {}


def test_a_list_too_long_for_letters_is_ranked_by_numbers() -> None:
    # Few labels are single tokens here: bytes joined by a merge cost the letters, as in tokenizers with odd merges.
    letters = [chr(code) for code in range(ord("A"), ord("Z") + 1)]
    tokenizer = make_tokenizer(merges=tuple(("Ċ", letter) for letter in letters))
    backend = TransformersBackend(make_model(tokenizer), tokenizer)
    ranking = Ranker(backend).rank("stone", WORDS)
    assert_same_ranking(ranking, Ranker(Forgetful(backend)).rank("stone", WORDS))
    assert {len(step.reply) for step in ranking.steps} == {2}
    assert ranking.usage.reused_tokens > 0
    assert backend._groups == []


@pytest.mark.parametrize(
    "options", [{}, {"unguided": True}, {"style": "compact"}, {"reasoning": True, "max_tokens": 12}]
)
def test_eliminations_with_a_cache_are_those_without(backend: TransformersBackend, options: dict[str, Any]) -> None:
    cached = list(Ranker(backend, **options).rank_batch(LISTS))
    fresh = list(Ranker(Forgetful(another(backend)), **options).rank_batch(LISTS))
    for found, expected in zip(cached, fresh, strict=True):
        assert_same_ranking(found, expected)
        assert expected.usage.reused_tokens == 0
    if not options.get("reasoning"):
        assert sum(ranking.usage.reused_tokens for ranking in cached) > 0
    assert backend._groups == []


@pytest.mark.parametrize("method", [{"layout": "append"}, {"layout": "rounds"}, {"method": "dranker"}])
@pytest.mark.parametrize(("concurrency", "batch_tokens"), [(1, 100_000), (3, 1), (64, 3000)])
def test_rankings_do_not_depend_on_the_batch(
    backend: TransformersBackend, method: dict[str, str], concurrency: int, batch_tokens: int
) -> None:
    expected = Ranker(another(backend), **method).rank_batch(LISTS)
    batched = another(backend, batch_tokens=batch_tokens)
    for found, other in zip(
        Ranker(batched, **method).rank_batch(LISTS, concurrency=concurrency), expected, strict=True
    ):
        assert_same_ranking(found, other)
    assert batched._groups == []


def test_retries_with_a_cache_are_those_without(backend: TransformersBackend) -> None:
    options: dict[str, Any] = {"unguided": True, "on_error": "retry", "seed": 1}
    cached = list(Ranker(backend, **options).rank_batch(LISTS))
    fresh = list(Ranker(Forgetful(another(backend)), **options).rank_batch(LISTS))
    assert any(step.attempts > 1 for ranking in cached for step in ranking.steps)
    for found, expected in zip(cached, fresh, strict=True):
        assert_same_ranking(found, expected)
    assert backend._groups == []


def test_concurrent_calls_rank_as_single_ones_do(backend: TransformersBackend) -> None:
    ranker = Ranker(backend)

    async def together() -> list[Ranking]:
        return await asyncio.gather(*(ranker.arank(example.query, example.candidates) for example in LISTS))

    for found, example in zip(asyncio.run(together()), LISTS, strict=True):
        assert_same_ranking(found, ranker.rank(example.query, example.candidates))
    assert backend._groups == []


@pytest.mark.parametrize("n", [3, 6, 12, 24])
def test_append_computes_the_list_once_and_then_one_label_a_step(backend: TransformersBackend, n: int) -> None:
    example = make_list(1, n)
    (ranking,) = Ranker(backend).rank_batch([example])
    asking = Ranker(backend).strategy("passage").rank(example)
    (first,) = next(asking)
    prompt = backend.text.count_prompt(first.messages)
    label_and_separator = 2
    assert ranking.usage.computed_tokens == prompt + label_and_separator * (n - 2)
    assert ranking.usage.prompt_tokens == sum(prompt + label_and_separator * step for step in range(n - 1))
    assert ranking.usage.reused_tokens == ranking.usage.prompt_tokens - ranking.usage.computed_tokens > 0
    assert ranking.usage.generated_tokens == n - 1


def test_rounds_reuse_nothing(backend: TransformersBackend) -> None:
    (ranking,) = Ranker(backend, layout="rounds").rank_batch([make_list(1, 6)])
    assert ranking.usage.reused_tokens == 0


def step_of(session: str, prefix: str, *, last: bool = False, **fields: Any) -> Request:
    text = f"session {session} " * len(session)
    choices = tuple(letter for letter in "ABCDE" if letter not in prefix)
    return ask(text, **{"reply_prefix": prefix, "choices": choices, "session": session, "last": last, **fields})


@pytest.mark.parametrize(
    "calls",
    [
        [["one:"], ["two2:"], ["one:B\n"], ["two2:C\n"]],
        [["one:", "two2:"], ["one:B\n", "two2:C\n"], ["two2:C\nA\n", "one:B\nE\n"]],
        [["one:", "two2:", "x:"], ["two2:C\n"], ["one:B\n", "x:A\n"], ["two2:C\nB\n", "x:A\nB\n"]],
        [["one:", "two2:"], ["one:B\nC\n", "two2:C\n"], ["one:B\nC\nA\n", "two2:C\nA\n"]],
        [["one:B\n"], ["one:C\n"], ["one:C\nA\n"]],
        [["one:B\n"], ["one:"], ["one:A\n"]],
        [["one:", "one:B\n"], ["one:B\nC\n"], ["one:B\nC\n", "one:B\nC\n"]],
    ],
    ids=["in-turns", "together", "split", "uneven", "changed-its-mind", "stepped-back", "twice-at-once"],
)
def test_sessions_may_interleave_in_any_way(backend: TransformersBackend, calls: list[list[str]]) -> None:
    for call in calls:
        requests = [step_of(*entry.split(":")) for entry in call]
        for found, request in zip(backend.generate(requests), requests, strict=True):
            assert_same(found, another(backend).generate([replace(request, session="")])[0])


def test_a_session_keeps_its_cache_while_others_are_asked(backend: TransformersBackend) -> None:
    backend.generate([step_of("one", "")])
    backend.generate([step_of("two2", "")])
    backend.generate([ask("no session", choices=("A", "B"))])
    first, second = (backend.generate([step_of(name, "B\n")])[0] for name in ("one", "two2"))
    assert first.reused_tokens == first.prompt_tokens - 2
    assert second.reused_tokens == second.prompt_tokens - 2


def test_free_replies_leave_the_cache_of_their_prompt_as_it_was(backend: TransformersBackend) -> None:
    free = {"choices": (), "max_tokens": 5}
    backend.generate([step_of("one", "", **free), step_of("two2", "")])
    requests = [step_of("one", "B\n", **free), step_of("two2", "B\n")]
    for found, request in zip(backend.generate(requests), requests, strict=True):
        assert found.reused_tokens == found.prompt_tokens - 2
        assert_same(found, another(backend).generate([replace(request, session="")])[0])


def test_the_last_request_drops_the_cache(backend: TransformersBackend) -> None:
    backend.generate([step_of("one", ""), step_of("two2", "")])
    assert sum(len(group.sessions) for group in backend._groups) == 2
    backend.generate([step_of("one", "B\n", last=True), step_of("two2", "B\n")])
    assert [session for group in backend._groups for session in group.sessions] == ["two2"]
    backend.generate([step_of("two2", "B\nA\n", last=True)])
    assert backend._groups == []


def test_a_request_without_a_session_leaves_nothing_behind(backend: TransformersBackend) -> None:
    backend.generate(MIXED)
    assert backend._groups == []


def test_a_model_with_a_sliding_window_ranks_the_same_with_a_cache() -> None:
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, use_sliding_window=True, sliding_window=32, max_window_layers=1)
    backend = TransformersBackend(model, tokenizer)
    # Several lists of different length, so that rows of a batch leave it and the cache is taken apart.
    cached = list(Ranker(backend).rank_batch(LISTS))
    for found, expected in zip(cached, Ranker(Forgetful(backend)).rank_batch(LISTS), strict=True):
        assert_same_ranking(found, expected)


def test_choices_spelled_otherwise_within_a_reply_leave_the_cache_as_it_was() -> None:
    # As in tokenizers that put a space before a text: "02" alone is one token, and two after a new line.
    pairs = [("▁", "0"), ("▁0", "1"), ("▁0", "2"), ("▁0", "3")]
    pieces = ["▁", "0", "1", "2", "3", "\n", "q", *("".join(pair) for pair in pairs)]
    inner = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=pairs))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    inner.add_special_tokens(["<e>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<e>", pad_token="<e>")
    tokenizer.chat_template = "qqq"
    backend = TransformersBackend(make_model(tokenizer), tokenizer)
    for prefix, choices in [("", ("01", "02", "03")), ("01\n", ("02", "03")), ("01\n02\n", ("1", "2", "3"))]:
        request = ask("q", reply_prefix=prefix, choices=choices, session="one")
        expected = another(backend).generate([replace(request, session="")])[0]
        assert_same(backend.generate([request])[0], expected)


def test_a_batch_that_is_given_up_leaves_no_cache_behind(backend: TransformersBackend) -> None:
    rankings = Ranker(backend).rank_batch(iter(LISTS))
    next(rankings)
    assert isinstance(rankings, Generator)
    rankings.close()
    del rankings
    list(Ranker(backend).rank_batch(LISTS))
    assert backend._groups == []


def test_a_batch_that_ends_in_an_error_leaves_no_cache_behind(backend: TransformersBackend) -> None:
    with pytest.raises(ReplyError):
        list(Ranker(backend, unguided=True, on_error="raise").rank_batch(LISTS))
    list(Ranker(backend).rank_batch(LISTS))
    assert backend._groups == []


def test_a_text_with_half_a_character_is_ranked_all_the_same(backend: TransformersBackend) -> None:
    # JSON can carry a lone surrogate, and our files keep it; a tokenizer cannot encode it.
    assert set(Ranker(backend).rank("half \ud800", ["half \udfff", "whole"]).ids) == {"0", "1"}


def test_a_free_reply_ends_at_a_stop_string(backend: TransformersBackend) -> None:
    request = ask("free text", max_tokens=40)
    (whole,) = backend.generate([request])
    assert whole.finish_reason == "length" or whole.generated_tokens < 40
    mark = whole.text[5:7]
    (stopped,) = backend.generate([replace(request, stop=(mark,))])
    assert stopped.text == whole.text[: whole.text.index(mark) + len(mark)]
    assert stopped.finish_reason == "stop"
    assert stopped.generated_tokens < whole.generated_tokens


@pytest.mark.parametrize("limit", [1, 2, 9])
def test_a_free_reply_has_at_most_max_tokens(backend: TransformersBackend, limit: int) -> None:
    (longer, shorter) = backend.generate([ask("free text", max_tokens=12), ask("free text", max_tokens=limit)])
    assert longer.generated_tokens == 12
    assert shorter.generated_tokens == limit
    assert shorter.finish_reason == "length"
    assert longer.text.startswith(shorter.text.rstrip("\ufffd"))


def test_a_free_reply_is_that_of_plain_passes(backend: TransformersBackend) -> None:
    request = ask("free text", max_tokens=6)
    assert backend.generate([request])[0].text == backend.text.decode(greedy_tokens(backend, request))


@pytest.mark.parametrize("place", [0, 2])
def test_a_free_reply_ends_at_the_end_token_and_leaves_it_out(backend: TransformersBackend, place: int) -> None:
    request = ask("free text", max_tokens=6)
    tokens = greedy_tokens(backend, request)
    assert tokens.index(tokens[place]) == place
    ending = another(backend)
    ending._ends = frozenset({tokens[place]})
    (ended,) = ending.generate([request])
    assert ended.text == backend.text.decode(tokens[:place])
    assert (ended.generated_tokens, ended.finish_reason) == (place + 1, "stop")


def test_the_end_tokens_are_those_of_tokenizer_and_model(backend: TransformersBackend) -> None:
    assert backend._ends == {backend.tokenizer.eos_token_id}


def test_sampling_with_a_seed_repeats_itself(backend: TransformersBackend) -> None:
    def draw(seed: int | None, **fields: Any) -> str:
        return backend.generate([ask("a text", max_tokens=8, temperature=1.5, seed=seed, **fields)])[0].text

    assert draw(1) == draw(1)
    assert len({draw(seed) for seed in range(5)}) > 1
    assert draw(1, top_p=1e-6) == backend.generate([ask("a text", max_tokens=8)])[0].text


def test_sampling_takes_only_choices_and_each_of_them(backend: TransformersBackend) -> None:
    requests = [ask("a text", choices=("A", "B", "C"), temperature=50.0, seed=seed) for seed in range(40)]
    assert {completion.text for completion in backend.generate(requests)} == {"A", "B", "C"}


def test_top_p_leaves_out_the_unlikely(backend: TransformersBackend) -> None:
    request = ask("a text", choices=("A", "B", "C"), temperature=1.0)
    (greedy,) = backend.generate([replace(request, temperature=0.0)])
    ordered = sorted(greedy.choice_logprobs, key=greedy.choice_logprobs.__getitem__, reverse=True)
    probability = [float(torch.tensor(greedy.choice_logprobs[name]).exp()) for name in ordered]
    kept = ordered[: 1 + sum(sum(probability[:i]) < 0.8 for i in (1, 2))]
    drawn = backend.generate([replace(request, seed=seed, top_p=0.8) for seed in range(60)])
    assert {completion.text for completion in drawn} == set(kept)


def test_a_prompt_that_is_too_long_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(
        BackendError, match=r"a prompt of \d+ tokens and its reply take \d+ of 4096; lower token_budget"
    ):
        backend.generate([ask("fits", choices=("A", "B")), ask("x" * 5000, choices=("A", "B"))])


def test_the_reply_must_fit_too(backend: TransformersBackend) -> None:
    room = 4096 - backend.text.count_prompt(ask("hi").messages)
    with pytest.raises(BackendError, match="take 4097 of 4096"):
        backend.generate([ask("hi", max_tokens=room + 1)])


def test_a_refused_call_leaves_kept_sessions_alone(backend: TransformersBackend) -> None:
    backend.generate([step_of("one", "")])
    with pytest.raises(BackendError, match="lower token_budget"):
        backend.generate([ask("x" * 5000, choices=("A", "B"))])
    assert backend.generate([step_of("one", "B\n")])[0].reused_tokens > 0


def test_a_batch_of_no_tokens_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(OptionError, match="batch_tokens=0 must be ≥ 1"):
        another(backend, batch_tokens=0)


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "~/nowhere", "a/b/c"])
def test_a_folder_that_does_not_exist_is_named(name: str) -> None:
    with pytest.raises(BackendError, match=f"model folder '{name}' does not exist"):
        TransformersBackend.from_pretrained(name)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-model"])
def test_a_hub_name_without_a_network_is_told_with_a_way_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackendError, match=rf"cannot load the model '{name}'[\s\S]*embedded model"):
        TransformersBackend.from_pretrained(name)


def test_a_folder_without_a_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"Give a folder that holds config\.json"):
        TransformersBackend.from_pretrained(str(tmp_path))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_told(file: str, tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "damaged")
    (folder / file).write_bytes((folder / file).read_bytes()[:50])
    with pytest.raises(BackendError, match="cannot load the model"):
        TransformersBackend.from_pretrained(str(folder))


@pytest.mark.parametrize(("dtype", "expected"), [(None, "float32"), ("float32", "float32"), ("bfloat16", "bfloat16")])
def test_a_saved_model_loads_as_asked(tiny_model: Path, dtype: str | None, expected: str) -> None:
    backend = TransformersBackend.from_pretrained(str(tiny_model), dtype=dtype, device="cpu", batch_tokens=77)
    assert backend.model.dtype == getattr(torch, expected)
    assert backend.model.device.type == "cpu"
    assert backend.batch_tokens == 77
    assert backend.text.context_tokens == 4096
    assert Ranker(backend).rank("stone", WORDS[:3]).usage.failed_steps == 0


def test_a_saved_model_answers_as_before_it_was_saved(tmp_path: Path, backend: TransformersBackend) -> None:
    backend.model.save_pretrained(tmp_path)
    backend.tokenizer.save_pretrained(tmp_path)
    loaded = load_backend("transformers", str(tmp_path))
    for found, expected in zip(loaded.generate(MIXED), backend.generate(MIXED), strict=True):
        assert_same(found, expected)


def test_an_unknown_dtype_is_refused_with_the_nearest_name(tiny_model: Path) -> None:
    with pytest.raises(OptionError, match="dtype='float31' is not known; did you mean 'float32'"):
        TransformersBackend.from_pretrained(str(tiny_model), dtype="float31")


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_told(tiny_model: Path, device: str) -> None:
    with pytest.raises(BackendError, match=f"device='{device}' cannot be used"):
        TransformersBackend.from_pretrained(str(tiny_model), device=device)


def test_the_settings_beside_a_model_are_used(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "trained")
    labels = ("<1>", "<2>", "<3>", "<4>")
    write_settings(
        folder, ModelSettings(style="compact", token_budget=300, labels=labels, options={"layout": "rounds"})
    )
    ranker = Ranker.from_pretrained(folder)
    ranking = ranker.rank("stone", WORDS[:4])
    assert ranking.steps[0].reply in labels
    assert (ranker.style, ranker.method, ranker.token_budget) == ("compact", "iranker", 300)
    assert ranking.usage.reused_tokens == 0
    assert Ranker.from_pretrained(folder, layout="append").rank("stone", WORDS[:4]).usage.reused_tokens > 0
    with pytest.raises(OptionError, match="the list has 5 candidates, but this model was trained with 4 labels"):
        ranker.rank("stone", WORDS[:5])


def test_settings_with_labels_that_are_no_tokens_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "trained")
    write_settings(folder, ModelSettings(labels=("<1>", "<99>")))
    with pytest.raises(BackendError, match="label '<99>'"):
        Ranker.from_pretrained(folder)
