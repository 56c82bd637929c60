"""Several labels in one decode, none of them twice: what the step-by-step path gives, and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import exp
from typing import Any

import pytest
import torch
from tiny_models import make_backend, make_model, make_tokenizer

from unified_ranker import Candidate, Ranker, RankingExample
from unified_ranker.backends.transformers import TransformersBackend
from unified_ranker.errors import BackendError
from unified_ranker.exchange import Completion, Message, Request

TOLERANCE = 1e-4
LETTERS = "ABCDEFGH"
TAGGED = tuple(f"<{number}>" for number in range(1, 13))
WORDS = ("stone", "river", "cloud", "ember", "maple", "copper", "violin", "anchor", "meadow", "falcon", "lantern")


@pytest.fixture(scope="module")
def backend() -> TransformersBackend:
    """Return a backend that no test changes."""
    return make_backend()


@pytest.fixture(scope="module")
def tagged() -> TransformersBackend:
    """Return a backend whose model has labels of its own."""
    tokenizer = make_tokenizer(labels=TAGGED)
    return TransformersBackend(make_model(tokenizer, seed=1), tokenizer, labels=TAGGED)


def ask(text: str, **fields: Any) -> Request:
    return Request(messages=(Message("user", text),), **fields)


def make_list(number: int, n: int) -> RankingExample:
    texts = (" ".join(WORDS[(number + i * step) % len(WORDS)] for step in range(1, 2 + i % 4)) for i in range(n))
    candidates = tuple(Candidate(f"c{i}", f"{i} {text}") for i, text in enumerate(texts))
    return RankingExample(id=f"list{number}", query=" ".join(WORDS[number : number + 2]), candidates=candidates)


LISTS = [make_list(number, n) for number, n in enumerate([5, 2, 9, 1, 4, 12, 3])]


def one_by_one(backend: TransformersBackend, request: Request) -> list[Completion]:
    """Ask for each label by a request of its own, with what has been said as its prefix."""
    left, prefix, found = list(request.choices), request.reply_prefix, list[Completion]()
    for _ in range(request.draws):
        (completion,) = backend.generate([replace(request, reply_prefix=prefix, choices=tuple(left), draws=1)])
        found.append(completion)
        prefix += completion.text
        left.remove(completion.text)
    return found


def split(text: str) -> list[str]:
    return [f"<{part}" for part in text.split("<")[1:]] if "<" in text else list(text)


def assert_same(found: Completion, expected: Completion) -> None:
    assert (found.text, found.generated_tokens, found.finish_reason) == (
        expected.text,
        expected.generated_tokens,
        expected.finish_reason,
    )
    assert found.prompt_tokens == expected.prompt_tokens
    assert found.choice_logprobs == pytest.approx(expected.choice_logprobs, abs=TOLERANCE)
    assert len(found.draw_logprobs) == len(expected.draw_logprobs)
    for draw, other in zip(found.draw_logprobs, expected.draw_logprobs, strict=True):
        assert draw == pytest.approx(other, abs=TOLERANCE)


@pytest.mark.parametrize("concurrency", [1, 64])
@pytest.mark.parametrize("most", [None, 3], ids=["all-steps", "three-steps"])
@pytest.mark.parametrize("kind", ["letters", "own-labels"])
def test_a_greedy_order_in_one_decode_is_the_order_step_by_step(
    backend: TransformersBackend, tagged: TransformersBackend, kind: str, most: int | None, concurrency: int
) -> None:
    model = backend if kind == "letters" else tagged
    options: dict[str, Any] = {"style": "compact", "max_steps": most}
    step_by_step = list(Ranker(model, **options).rank_batch(LISTS))
    at_once = list(Ranker(model, permute=True, **options).rank_batch(LISTS, concurrency=concurrency))
    # Otherwise the test would show nothing.
    assert len({ranking.ids for ranking in step_by_step if len(ranking.order) > 3}) > 2
    for found, expected in zip(at_once, step_by_step, strict=True):
        assert found.ids == expected.ids
        assert found.usage.calls == min(1, len(found.order) - 1)
        assert found.usage.generated_tokens == expected.usage.generated_tokens == len(found.steps)
        assert len(found.steps) == min(len(found.order) - 1, most or 99)
        for step, other in zip(found.steps, expected.steps, strict=True):
            assert (step.chosen, step.reply, step.outcome) == (other.chosen, other.reply, other.outcome)
            assert step.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
    assert model._groups == []


def test_a_whole_order_holds_each_label_once(backend: TransformersBackend, tagged: TransformersBackend) -> None:
    for model in (backend, tagged):
        for ranking in Ranker(model, method="dranker", style="compact", permute=True).rank_batch(LISTS):
            assert [step.outcome for step in ranking.steps] == ["ok"] * min(1, len(ranking.order) - 1)
            assert ranking.usage.generated_tokens == (len(ranking.order) if ranking.steps else 0)


@pytest.mark.parametrize("number", range(6))
def test_each_draw_tells_what_a_request_of_its_own_tells(backend: TransformersBackend, number: int) -> None:
    request = ask(f"worst of {WORDS[number]}", choices=tuple(LETTERS[: number + 3]), draws=number + 2 + number % 2)
    (completion,) = backend.generate([request])
    alone = one_by_one(backend, request)
    assert completion.text == "".join(reply.text for reply in alone)
    assert len(completion.draw_logprobs) == request.draws
    left = set(request.choices)
    for draw, reply in zip(completion.draw_logprobs, alone, strict=True):
        assert set(draw) == left
        assert sum(exp(value) for value in draw.values()) == pytest.approx(1, abs=1e-5)
        assert draw == pytest.approx(reply.choice_logprobs, abs=TOLERANCE)
        assert reply.text == max(draw, key=draw.__getitem__)
        left.discard(reply.text)
    assert completion.choice_logprobs == completion.draw_logprobs[0]
    assert (completion.generated_tokens, completion.finish_reason) == (request.draws, "stop")


def test_each_draw_is_that_of_a_plain_pass(backend: TransformersBackend) -> None:
    request = ask("no cache, no batch", choices=tuple("ABCDE"), draws=5)
    (completion,) = backend.generate([request])
    tokens = backend.text.prompt_ids(request.messages)
    for place, draw in enumerate(completion.draw_logprobs):
        with torch.no_grad():
            logits = backend.model(input_ids=torch.tensor([tokens])).logits[0, -1].float()
        left = [choice for choice in request.choices if choice not in completion.text[:place]]
        ids = [backend.text.spell(choice, after="")[0] for choice in left]
        expected = dict(zip(left, logits[ids].log_softmax(-1).tolist(), strict=True))
        assert draw == pytest.approx(expected, abs=TOLERANCE)
        tokens.append(backend.text.spell(completion.text[place], after="")[0])


def test_the_last_of_all_choices_is_certain(backend: TransformersBackend) -> None:
    (completion,) = backend.generate([ask("all of them", choices=("A", "B", "C"), draws=3)])
    assert sorted(completion.text) == ["A", "B", "C"]
    assert completion.draw_logprobs[-1] == {completion.text[-1]: pytest.approx(0, abs=1e-6)}


def test_one_draw_is_a_choice_as_ever(backend: TransformersBackend) -> None:
    request = ask("a single one", choices=("A", "B", "C"))
    (completion,) = backend.generate([request])
    assert completion.draw_logprobs == (completion.choice_logprobs,)
    assert len(completion.text) == completion.generated_tokens == 1
    free, several = backend.generate([ask("free", max_tokens=3), ask("which", choices=("01", "02"))])
    assert free.draw_logprobs == several.draw_logprobs == ()


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_sampling_with_a_seed_is_repeatable_and_never_repeats_a_label(
    tagged: TransformersBackend, top_p: float
) -> None:
    requests = [
        ask("sampled", choices=TAGGED[:6], draws=draws, temperature=3.0, top_p=top_p, seed=seed)
        for seed in range(12)
        for draws in (2, 5, 6)
    ]
    first, second = tagged.generate(requests), tagged.generate(requests)
    assert [completion.text for completion in first] == [completion.text for completion in second]
    assert len({completion.text for completion in first}) > 20
    for completion, request in zip(first, requests, strict=True):
        labels = split(completion.text)
        assert len(set(labels)) == len(labels) == request.draws
        assert set(labels) <= set(request.choices)


def test_a_smaller_number_of_draws_is_a_beginning_of_a_larger_one(backend: TransformersBackend) -> None:
    asked = [ask("sampled", choices=tuple("ABCDEF"), draws=n, temperature=2.0, seed=7) for n in (6, 4, 2)]
    longest, *others = (completion.text for completion in backend.generate(asked))
    assert [longest[: len(text)] for text in others] == others


def test_sampling_follows_the_probabilities_that_are_told(backend: TransformersBackend) -> None:
    base = ask("which comes first", choices=("A", "B", "C"), draws=2, temperature=1.0)
    (told,) = backend.generate([replace(base, temperature=0.0)])
    drawn = Counter(
        completion.text[0] for completion in backend.generate([replace(base, seed=seed) for seed in range(400)])
    )
    for label, value in told.choice_logprobs.items():
        assert drawn[label] / 400 == pytest.approx(exp(value), abs=0.08)


def test_what_is_told_does_not_depend_on_the_temperature(backend: TransformersBackend) -> None:
    requests = [ask("hot or cold", choices=("A", "B", "C"), draws=3, temperature=t, seed=1) for t in (0.0, 0.5, 4.0)]
    first, *others = (completion.choice_logprobs for completion in backend.generate(requests))
    assert all(other == pytest.approx(first, abs=TOLERANCE) for other in others)


def test_the_smallest_mass_of_tokens_is_the_greedy_order(backend: TransformersBackend) -> None:
    greedy = ask("top", choices=tuple("ABCDEF"), draws=5)
    sampled = replace(greedy, temperature=2.0, top_p=1e-6, seed=3)
    found = backend.generate([greedy, sampled])
    assert found[0].text == found[1].text


MIXED = [
    ask("short", choices=("A", "B", "C"), draws=2),
    ask("a much longer prompt " * 12, choices=tuple("ABCDEF"), draws=5),
    ask("all of them", choices=tuple("ABCD"), draws=4),
    ask("just one", choices=("A", "B", "C", "D")),
    ask("free text", max_tokens=7),
    ask("with a prefix", reply_prefix="B", choices=("A", "C", "D"), draws=2),
    ask("numbers", choices=("01", "02", "10")),
    ask("sampled", choices=tuple("ABCDEFGH"), draws=7, temperature=1.5, seed=3),
    ask("sampled and cut", choices=tuple("ABCDEFGH"), draws=3, temperature=1.5, top_p=0.7, seed=4),
    ask("x", choices=("A", "B"), draws=2),
]


@pytest.mark.parametrize("batch_tokens", [1, 60, 400, 100_000])
def test_replies_do_not_depend_on_the_batch(backend: TransformersBackend, batch_tokens: int) -> None:
    alone = [backend.generate([request])[0] for request in MIXED]
    batched = TransformersBackend(backend.model, backend.tokenizer, batch_tokens=batch_tokens)
    for requests, expected in ((MIXED, alone), (MIXED[::-1], alone[::-1])):
        for found, other in zip(batched.generate(requests), expected, strict=True):
            assert_same(found, other)
    assert batched._groups == []


def test_a_session_goes_on_after_several_draws(backend: TransformersBackend) -> None:
    first = ask("a session", choices=tuple("ABCDE"), draws=2, session="one")
    for kept in (first, replace(first, temperature=1.0, seed=5)):
        (reply,) = backend.generate([kept])
        left = tuple(choice for choice in "ABCDE" if choice not in reply.text)
        second = replace(first, reply_prefix=reply.text, choices=left, draws=3, last=True)
        (found,) = backend.generate([second])
        (expected,) = backend.generate([replace(second, session="")])
        assert_same(found, expected)
        assert found.reused_tokens == reply.prompt_tokens > 0
        assert backend._groups == []


def test_a_choice_of_several_tokens_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(BackendError, match=r"choice '10' is not a single token .* permute=False"):
        backend.generate([ask("numbers", choices=("1", "2", "10"), draws=2)])


def test_a_list_too_long_for_letters_is_refused(backend: TransformersBackend) -> None:
    with pytest.raises(BackendError, match="choice '01' is not a single token"):
        Ranker(backend, style="compact", permute=True).rank("stone", [f"thing {i}" for i in range(27)])


@pytest.mark.parametrize(("choices", "draws"), [(("A", "B"), 3), (("A",), 2), ((), 2)])
def test_more_draws_than_choices_are_refused(
    backend: TransformersBackend, choices: tuple[str, ...], draws: int
) -> None:
    with pytest.raises(
        BackendError, match=f"{draws} draws from {len(choices)} different choices; none can be drawn twice"
    ):
        backend.generate([ask("too many", choices=choices, draws=draws)])


def test_the_reply_has_to_fit_the_context() -> None:
    small = make_backend(max_position_embeddings=64)
    (fixed,) = small.generate([ask("", choices=("A", "B"), draws=2)])
    for draws, text in ((4, "x" * (60 - fixed.prompt_tokens)), (5, "x" * (59 - fixed.prompt_tokens))):
        (found,) = small.generate([ask(text, choices=tuple("ABCDEF"), draws=draws)])
        assert found.prompt_tokens + found.generated_tokens == 64
        with pytest.raises(BackendError, match="its reply take 65 of 64; lower token_budget"):
            small.generate([ask(text, choices=tuple("ABCDEF"), draws=draws + 1)])


def test_a_budget_leaves_room_for_the_whole_order() -> None:
    small = make_backend(max_position_embeddings=300)
    candidates = [" ".join(f"{place}{letter}" for letter in "abcdefghijklmnopqrstuvwxyz") for place in range(10)]
    for method in ("iranker", "dranker"):
        ranking = Ranker(small, method=method, style="compact", permute=True).rank("q", candidates)
        assert ranking.usage.truncated_candidates == 10
        assert 280 < ranking.usage.prompt_tokens + ranking.usage.generated_tokens <= 300
