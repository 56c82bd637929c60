from __future__ import annotations

import asyncio
import inspect
import json
import logging
import math
import random
import re
import threading
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from fake_server import (
    MODEL,
    Call,
    FakeServer,
    Reply,
    Script,
    chat,
    completion,
    failure,
    served_models,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker import Candidate, Ranker, Ranking, RankingExample
from unified_ranker.backends import openai as subject
from unified_ranker.backends import openai_connection
from unified_ranker.backends.estimate import EstimatedTools
from unified_ranker.backends.openai import OpenAIBackend
from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.backends.tokenizer import TokenizerTools, load_tokenizer
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.exchange import AsyncBackend, Completion, Message, Request
from unified_ranker.model_settings import embedded_path, read_settings
from unified_ranker.schema.types import Usage

pytestmark = pytest.mark.timeout(120)

KEY = "sk-9f3b71c0de5a4e62b8d7f1a2c3e4d5f6"
EMBEDDED = str(embedded_path())
HELLO = Request(messages=(Message("user", "hello"),))
Connect = Callable[..., OpenAIBackend]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    # Retries take no time, here.
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.002)
    monkeypatch.setattr(openai_connection, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(openai_connection, "LONGEST_PAUSE", 0.002)
    # A tokenizer and a context of TLS, which nobody speaks here, take most of the time of a connection.
    monkeypatch.setattr(subject, "load_tokenizer", cached_tokenizer)
    for library in ("httpx", "httpx2"):
        with suppress(ImportError):
            make = import_module(f"{library}._config").create_ssl_context
            transports = import_module(f"{library}._transports.default")
            monkeypatch.setattr(transports, "create_ssl_context", lambda *a, make=make, **o: shared(make))


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return what connects to a server, and closes when the test ends."""
    made: list[OpenAIBackend] = []

    def call(server: FakeServer, name: str = MODEL, /, **options: Any) -> OpenAIBackend:
        made.append(OpenAIBackend.from_pretrained(name, **{"base_url": server.url, **options}))
        return made[-1]

    yield call
    for backend in made:
        backend.close()


cached_tokenizer = lru_cache(load_tokenizer)


@lru_cache
def shared(make: Callable[[], Any]) -> Any:
    return make()


@lru_cache
def embedded_tools() -> TokenizerTools:
    return TokenizerTools(cached_tokenizer(EMBEDDED), context_tokens=8192, labels=read_settings(EMBEDDED).labels)


def always(reply: Reply) -> Script:
    return lambda call: reply


def make_examples(count: int) -> list[RankingExample]:
    return [
        RankingExample(
            id=f"list{i}",
            query=f"query number {i}",
            candidates=tuple(Candidate(f"{i}-{j}", f"text {i} {j} {'x' * (i * j % 7)}") for j in range(2 + i % 5)),
        )
        for i in range(count)
    ]


def timeless(ranking: Ranking) -> Ranking:
    return replace(ranking, usage=replace(ranking.usage, seconds=0.0), steps=())


def assert_same(found: Sequence[Ranking], expected: Sequence[Ranking]) -> None:
    assert [timeless(ranking) for ranking in found] == [timeless(ranking) for ranking in expected]
    for one, other in zip(found, expected, strict=True):
        assert [replace(step, logprobs={}) for step in one.steps] == [replace(s, logprobs={}) for s in other.steps]
        for step, wanted in zip(one.steps, other.steps, strict=True):
            assert step.logprobs == pytest.approx(wanted.logprobs)


def chance(*about: object) -> float:
    """Return a number in [0, 10) that depends on nothing but what it is about."""
    return zlib.crc32(repr(about).encode()) % 1000 / 100


# What the model behind the server would say, told twice: to the server, and to the backend that the rankings of the
# server are compared with.


def label_said(messages: Sequence[tuple[str, str]]) -> str:
    labels = re.findall(r"^\[(\w+)\]", messages[-1][1], re.MULTILINE)
    return max(labels, key=lambda label: chance(messages, label))


def as_chat(call: Call) -> Reply:
    messages = [(message["role"], message["content"]) for message in call.body["messages"]]
    usage = {"prompt_tokens": 40, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 7}}
    return chat(label_said(messages), usage=usage)


def as_vllm(call: Call) -> Reply:
    body = call.body
    labels, draws = (body["vllm_xargs"][LABELS_KEY], body["max_tokens"]) if "vllm_xargs" in body else ([], 1)
    labels = labels or body["allowed_token_ids"]
    written = sorted(labels, key=lambda token: -chance(body["prompt"], token))[:draws]
    told = {f"token_id:{token}": chance(body["prompt"], token) - 10 for token in body.get("logprob_token_ids", ())}
    usage = {"prompt_tokens_details": {"cached_tokens": len(body["prompt"]) // 2}}
    return completion("(not looked at)", token_ids=written, top_logprobs=[told] * len(written), usage=usage)


class ChatReference:
    """Says what the chat server says, without a server."""

    patterns = False
    text = EstimatedTools(context_tokens=8192)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [
            Completion(
                label_said([(message.role, message.content) for message in request.messages]),
                prompt_tokens=40,
                reused_tokens=7,
                generated_tokens=1,
            )
            for request in requests
        ]

    def forget(self, sessions: Collection[str]) -> None:
        pass


class VLLMReference:
    """Says what the completions server says, without a server."""

    patterns = True
    text = embedded_tools()

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        return [self.answer(request) for request in requests]

    def answer(self, request: Request) -> Completion:
        prompt = self.text.prompt_ids(request.messages, request.reply_prefix)
        token = {choice: self.text.tokenizer.convert_tokens_to_ids(choice) for choice in request.choices}
        written = sorted(request.choices, key=lambda choice: -chance(prompt, token[choice]))[: request.draws]
        left, draws = list(request.choices), []
        for choice in written:
            total = math.log(sum(math.exp(chance(prompt, token[other])) for other in left))
            draws.append({other: chance(prompt, token[other]) - total for other in left})
            left.remove(choice)
        return Completion(
            "".join(written),
            choice_logprobs=draws[0],
            draw_logprobs=tuple(draws),
            prompt_tokens=len(prompt),
            reused_tokens=len(prompt) // 2,
            generated_tokens=len(written),
        )

    def forget(self, sessions: Collection[str]) -> None:
        pass


# How each API is asked in the tests that hold for both: how to connect, how to rank, who answers, and the truth.
CHAT: dict[str, Any] = {
    "connection": {"api": "chat"},
    "ranking": {"layout": "rounds"},
    "script": as_chat,
    "reference": ChatReference,
    "path": "/v1/chat/completions",
}
COMPLETIONS: dict[str, Any] = {
    "connection": {"api": "completions", "tokenizer": EMBEDDED},
    "ranking": {"style": "compact"},
    "script": as_vllm,
    "reference": VLLMReference,
    "path": "/v1/completions",
}
BOTH = pytest.mark.parametrize("api", [CHAT, COMPLETIONS], ids=["chat", "completions"])


def truth(api: dict[str, Any], examples: Sequence[RankingExample], **options: Any) -> list[Ranking]:
    return list(Ranker(api["reference"](), **{**api["ranking"], **options}).rank_batch(examples))


# Rankings.


@BOTH
def test_rankings_are_those_of_the_same_model_in_process(api: dict[str, Any], connect: Connect) -> None:
    examples = make_examples(20)
    with FakeServer(api["script"]) as server:
        ranker = Ranker(connect(server, **api["connection"]), **api["ranking"])
        found = list(ranker.rank_batch(examples))
    assert_same(found, truth(api, examples))
    assert {call.path for call in server.asked} == {api["path"]}
    assert len(server.asked) == sum(len(example.candidates) - 1 for example in examples)


def test_whole_orders_are_those_of_the_same_model_in_process(connect: Connect) -> None:
    examples = make_examples(20)
    with FakeServer(as_vllm) as server:
        ranker = Ranker(connect(server, **COMPLETIONS["connection"]), style="compact", permute=True)
        found = list(ranker.rank_batch(examples))
    assert_same(found, truth(COMPLETIONS, examples, permute=True))
    assert len(server.asked) == len(examples)


def test_an_openai_backend_is_asynchronous_and_carries_the_settings_of_its_tokenizer(connect: Connect) -> None:
    with FakeServer(as_vllm) as server:
        with_tokenizer = connect(server, tokenizer=EMBEDDED)
        without = connect(server)
        assert isinstance(without, AsyncBackend)
        assert with_tokenizer.settings == read_settings(EMBEDDED)
        assert with_tokenizer.text.labels == read_settings(EMBEDDED).labels
        assert (without.settings.style, without.text.labels) == ("natural", ())


@BOTH
def test_a_ranker_is_loaded_with_the_options_of_the_server(api: dict[str, Any]) -> None:
    with FakeServer(api["script"]) as server:
        ranker = Ranker.from_pretrained(
            MODEL, backend="openai", backend_options={"base_url": server.url, **api["connection"]}, **api["ranking"]
        )
        example = make_examples(5)[4]
        assert_same(list(ranker.rank_batch([example])), truth(api, [example]))
        assert isinstance(ranker.backend, OpenAIBackend)
        ranker.backend.close()


# Faults.

SLOWER_THAN_THE_CLIENT = 60.0
FAULTS: dict[str, Reply] = {
    "429": failure(429),
    "500": failure(500),
    "503": failure(503),
    "408": failure(408),
    "409": failure(409),
    "an HTML page of a proxy": Reply(b"<html>bad gateway</html>", status=502, headers={"Content-Type": "text/html"}),
    "hang up": Reply(hang_up=True),
    "truncated": Reply(completion("A").body, missing=40),
    "no JSON": Reply(b"certainly! here is"),
    "half JSON": Reply(b'{"id": "c", "choices": [{"te'),
    "no choices": Reply({"choices": []}),
    "two choices": Reply({"choices": [{"text": "A", "message": {"content": "A"}}] * 2}),
    "another shape": Reply({"choices": [{"text": None, "message": None}]}),
    "an error with status 200": Reply({"error": {"message": "overloaded"}}),
}


def with_faults(script: Script, *, seed: int, slow: int = 3) -> tuple[Script, Counter[str]]:
    """Return a script that goes wrong at random places, at most three times at each, and counts how."""
    done: Counter[str] = Counter()

    def faulty(call: Call) -> Reply:
        draw = random.Random(f"{seed} {json.dumps(call.body)} {call.attempt}")
        if call.attempt >= 3 or draw.random() < 0.4:
            return script(call)
        kind = draw.choice([*FAULTS, "slow"])
        if kind == "slow" and done["slow"] >= slow:
            kind = "429"
        done[kind] += 1
        return Reply(delay=SLOWER_THAN_THE_CLIENT) if kind == "slow" else FAULTS[kind]

    return faulty, done


@pytest.mark.parametrize("seed", range(2))
@BOTH
def test_no_query_is_lost_or_doubled_whatever_goes_wrong(api: dict[str, Any], seed: int, connect: Connect) -> None:
    examples = make_examples(50)
    expected = truth(api, examples)
    script, done = with_faults(api["script"], seed=seed)
    with FakeServer(script) as server:
        backend = connect(server, timeout=2.0, retries=6, concurrency=16, **api["connection"])
        found = list(Ranker(backend, **api["ranking"]).rank_batch(examples, concurrency=32))
    assert [ranking.example_id for ranking in found] == [example.id for example in examples]
    assert_same(found, expected)
    assert set(done) == {*FAULTS, "slow"}
    # Each question is put again word for word, and no other one is put.
    different = {json.dumps(body) for body in server.bodies}
    assert len(different) == sum(ranking.usage.calls for ranking in expected)


@pytest.mark.parametrize("fault", FAULTS)
@BOTH
def test_one_fault_of_any_kind_is_got_over(api: dict[str, Any], fault: str, connect: Connect) -> None:
    example = make_examples(1)[0]
    with FakeServer(lambda call: api["script"](call) if call.attempt else FAULTS[fault]) as server:
        ranker = Ranker(connect(server, retries=1, **api["connection"]), **api["ranking"])
        assert_same(list(ranker.rank_batch([example])), truth(api, [example]))
    assert len(server.asked) == 2
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("429", "refused a request with status 429: Error code: 429"),
        ("500", "refused a request with status 500: Error code: 500"),
        ("503", "refused a request with status 503: Error code: 503"),
        ("an HTML page of a proxy", "refused a request with status 502: Error code: 502"),
        ("hang up", "could not be reached after 3 attempts: Connection error. Server disconnected"),
        ("truncated", "could not be reached after 3 attempts: peer closed connection"),
        ("no JSON", "gave 3 malformed answers, the last: "),
        ("no choices", "gave 3 malformed answers, the last: not one choice: "),
        ("two choices", "gave 3 malformed answers, the last: not one choice: "),
        ("an error with status 200", "gave 3 malformed answers, the last: not one choice: "),
        ("another shape", "gave 3 malformed answers, the last: a "),
    ],
)
@BOTH
def test_a_fault_that_stays_is_told_with_place_and_cause_when_the_retries_are_spent(
    api: dict[str, Any], fault: str, words: str, connect: Connect
) -> None:
    with FakeServer(always(FAULTS[fault])) as server:
        backend = connect(server, retries=2, **api["connection"])
        with pytest.raises(BackendError) as caught:
            backend.generate([HELLO])
    assert server.url in str(caught.value)
    assert words in str(caught.value)
    assert len(server.asked) == 3


@pytest.mark.parametrize("retries", [0, 1, 3])
@BOTH
def test_a_request_is_sent_once_more_than_retries_at_most(api: dict[str, Any], retries: int, connect: Connect) -> None:
    with FakeServer(lambda call: failure(500) if call.number % 2 else FAULTS["no JSON"]) as server:
        backend = connect(server, retries=retries, context_tokens=999, **api["connection"])
        with pytest.raises(BackendError):
            backend.generate([HELLO])
    assert len(server.asked) == retries + 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
@BOTH
def test_what_is_wrong_with_the_request_is_not_tried_again(api: dict[str, Any], status: int, connect: Connect) -> None:
    with FakeServer(always(failure(status, "max_tokens is too large"))) as server:
        backend = connect(server, retries=5, **api["connection"])
        with pytest.raises(BackendError, match=rf"status {status}: .*max_tokens is too large") as caught:
            backend.generate([HELLO])
    assert server.url in str(caught.value)
    assert len(server.asked) == 1


@BOTH
def test_an_error_ends_the_run_with_what_came_before(api: dict[str, Any], connect: Connect) -> None:
    examples = make_examples(6)

    def script(call: Call) -> Reply:
        return failure(400, "no more") if "query number 3" in decoded(call.body) else api["script"](call)

    with FakeServer(script) as server:
        ranker = Ranker(connect(server, **api["connection"]), **api["ranking"])
        rankings = ranker.rank_batch(examples, concurrency=1)
        found = [next(rankings) for _ in range(3)]
        with pytest.raises(BackendError, match="no more"):
            next(rankings)
    assert_same(found, truth(api, examples[:3]))


def decoded(body: Any) -> str:
    """Return the text of a prompt, whichever API it came through."""
    if "prompt" in body:
        return embedded_tools().decode(body["prompt"])
    return "\n".join(message["content"] for message in body["messages"])


@BOTH
def test_an_error_stops_what_was_asked_together_with_it(api: dict[str, Any], connect: Connect) -> None:
    with FakeServer(lambda call: replace(failure(400), delay=0.01)) as server:
        backend = connect(server, concurrency=1, **api["connection"])
        with pytest.raises(BackendError):
            backend.generate([HELLO] * 30)
        before = len(server.asked)
        time.sleep(0.5)
        assert len(server.asked) <= before + 1


@BOTH
def test_an_answer_that_takes_too_long_is_given_up(api: dict[str, Any], connect: Connect) -> None:
    attempts: list[Any] = []

    async def count(request: Any) -> None:
        attempts.append(request)

    with FakeServer(always(Reply(delay=SLOWER_THAN_THE_CLIENT))) as server:
        backend = connect(server, timeout=0.2, retries=1, context_tokens=999, **api["connection"])
        # Counted as they leave: on a busy machine an attempt can be given up before the server has seen it.
        backend._connection._client._client.event_hooks = {"request": [count]}
        began = time.monotonic()
        with pytest.raises(BackendError, match=r"could not be reached after 2 attempts: \S") as caught:
            backend.generate([HELLO])
        assert time.monotonic() - began < 20
    assert server.url in str(caught.value)
    assert len(attempts) == 2


@pytest.mark.parametrize("reply", [chat("A" * 400), failure(400, "x" * 600)], ids=["answer", "refusal"])
def test_an_answer_that_drips_is_given_up_after_the_timeout(reply: Reply, connect: Connect) -> None:
    with FakeServer(always(replace(reply, drip=0.01))) as server:
        backend = connect(server, timeout=1.0, retries=0, context_tokens=999)
        began = time.monotonic()
        with pytest.raises(BackendError):
            backend.generate([HELLO])
        assert time.monotonic() - began < 4


def test_an_answer_that_drips_is_asked_for_again(connect: Connect) -> None:
    # Gateways do send blanks to keep a connection open while a model is busy.
    with FakeServer(lambda call: replace(chat("A" * 400), drip=0.0 if call.attempt else 0.01)) as server:
        backend = connect(server, timeout=1.0, retries=1, context_tokens=999)
        assert backend.generate([HELLO])[0].text == "A" * 400
    assert len(server.asked) == 2


@BOTH
def test_a_server_that_dies_midway_is_an_error_and_no_hang(api: dict[str, Any], connect: Connect) -> None:
    died = threading.Event()

    def script(call: Call) -> Reply:
        if call.number >= 40 and not died.is_set():
            died.set()
            threading.Thread(target=server.die, daemon=True).start()
        return replace(api["script"](call), delay=0.01)

    with FakeServer(script) as server:
        backend = connect(server, retries=2, timeout=5.0, concurrency=8, **api["connection"])
        rankings = Ranker(backend, **api["ranking"]).rank_batch(make_examples(50), concurrency=16)
        began, found = time.monotonic(), list[Ranking]()
        with pytest.raises(BackendError, match="could not be reached after 3 attempts: Connection error") as caught:
            found.extend(rankings)
        assert time.monotonic() - began < 30
        assert server.url in str(caught.value)
        with pytest.raises(BackendError, match="could not be reached"):
            backend.generate([HELLO])


def test_a_server_that_was_never_there_is_an_error() -> None:
    with FakeServer(as_chat) as server:
        url = server.url
    with pytest.raises(BackendError, match="could not be reached after 2 attempts: Connection error") as caught:
        OpenAIBackend.from_pretrained(MODEL, base_url=url, retries=1)
    assert url in str(caught.value)


# Answers of the wrong shape: (body, headers).
BENT: dict[str, Reply] = {
    "nothing": Reply(b""),
    "no content": Reply(b"", status=204),
    "null": Reply(None),
    "a list": Reply([]),
    "a number": Reply(17),
    "a string": Reply("A"),
    "an empty object": Reply({}),
    "no UTF-8": Reply(b'{"choices": "\xff\xfe"}'),
    "NUL": Reply(b"\x00"),
    "HTML": Reply(b"<html></html>", headers={"Content-Type": "text/html"}),
    "text": Reply(b"A", headers={"Content-Type": "text/plain; charset=nonsense"}),
    "broken gzip": Reply(b"not gzip", headers={"Content-Encoding": "gzip"}),
    "choices is null": Reply({"choices": None}),
    "choices is an object": Reply({"choices": {"text": "A"}}),
    "choices is a string": Reply({"choices": "A"}),
    "a choice is null": Reply({"choices": [None]}),
    "a choice is a string": Reply({"choices": ["A"]}),
    "a choice is a list": Reply({"choices": [[]]}),
    "a choice is empty": Reply({"choices": [{}]}),
    "text is null": Reply({"choices": [{"index": 0, "text": None, "message": None, "finish_reason": "stop"}]}),
    "text is a number": Reply({"choices": [{"text": 5, "message": {"content": 5}, "finish_reason": "stop"}]}),
    "text is a list": Reply({"choices": [{"text": ["A"], "message": {"content": ["A"]}, "finish_reason": "stop"}]}),
    "a message is a string": Reply({"choices": [{"message": "A", "finish_reason": "stop"}]}),
    "a message is a list": Reply({"choices": [{"message": ["A"], "finish_reason": "stop"}]}),
    "deeply nested": Reply(b"[" * 200_000),
}


@pytest.mark.parametrize("shape", BENT)
@BOTH
def test_an_answer_of_the_wrong_shape_is_asked_for_again_and_then_an_error(
    api: dict[str, Any], shape: str, connect: Connect
) -> None:
    with FakeServer(always(BENT[shape])) as server:
        backend = connect(server, retries=2, context_tokens=999, **api["connection"])
        with pytest.raises(BackendError) as caught:
            backend.generate([HELLO])
    assert server.url in str(caught.value)
    assert len(server.asked) == 3


LABELS = ("<1>", "<2>", "<3>")
PICK = Request(messages=(Message("user", "hello"),), choices=LABELS)


def label_tokens() -> list[int]:
    return [embedded_tools().tokenizer.convert_tokens_to_ids(label) for label in LABELS]


def full_logprobs() -> dict[str, float]:
    return {f"token_id:{token}": -float(place + 1) for place, token in enumerate(label_tokens())}


def pick_of(choice: dict[str, Any]) -> Reply:
    found = {"index": 0, "text": "<1>", "token_ids": label_tokens()[:1], "finish_reason": "stop", "logprobs": None}
    return Reply({"choices": [{**found, **choice}]})


def logprobs_of(top_logprobs: Any) -> Reply:
    return pick_of({"logprobs": {"top_logprobs": top_logprobs}})


BENT_PICKS: dict[str, Callable[[], Reply]] = {
    "no tokens": lambda: pick_of({"token_ids": None}),
    "tokens are a string": lambda: pick_of({"token_ids": "1"}),
    "no token": lambda: pick_of({"token_ids": []}),
    "a token that was not allowed": lambda: pick_of({"token_ids": [0]}),
    "two tokens": lambda: pick_of({"token_ids": label_tokens()[:2]}),
    "a token is null": lambda: pick_of({"token_ids": [None]}),
    "a token is a string": lambda: pick_of({"token_ids": ["1"]}),
    "a token is a list": lambda: pick_of({"token_ids": [[1]]}),
    "log-probabilities are a string": lambda: pick_of({"logprobs": "none"}),
    "log-probabilities are a number": lambda: logprobs_of(5),
    "log-probabilities are an object": lambda: logprobs_of({"A": -1.0}),
    "log-probabilities are text": lambda: logprobs_of("A"),
    "a place is a list": lambda: logprobs_of([[1, 2]]),
    "names instead of numbers": lambda: logprobs_of([{"<1>": -1.0, "<2>": -2.0, "<3>": -3.0}]),
    "a label left out": lambda: logprobs_of([dict(list(full_logprobs().items())[:2])]),
    "a log-probability is null": lambda: logprobs_of([dict.fromkeys(full_logprobs())]),
    "a number of 5000 digits": lambda: logprobs_of([{"token_id:" + "9" * 5000: -1.0}]),
    "a log-probability beyond all floats": lambda: logprobs_of([dict.fromkeys(full_logprobs(), 10**400)]),
    "all log-probabilities are infinitely low": lambda: logprobs_of([dict.fromkeys(full_logprobs(), -math.inf)]),
    "a log-probability is infinitely high": lambda: logprobs_of(
        [{**full_logprobs(), "token_id:0": 0.0} | {f"token_id:{label_tokens()[0]}": math.inf}]
    ),
    "a log-probability is a string": lambda: logprobs_of([dict.fromkeys(full_logprobs(), "high")]),
}


@pytest.mark.parametrize("shape", BENT_PICKS)
def test_a_label_of_the_wrong_shape_is_an_error_of_ours(shape: str, connect: Connect) -> None:
    with FakeServer(always(BENT_PICKS[shape]())) as server:
        backend = connect(server, retries=1, **COMPLETIONS["connection"])
        with pytest.raises(BackendError):
            backend.generate([PICK])


CHAT_PICK = Request(messages=(Message("user", "hello"),), choices=("A", "B", "C"), max_tokens=4)


@pytest.mark.parametrize(
    "logprobs",
    [
        None,
        {"content": None},
        {"content": []},
        "none",
        {"content": "A"},
        {"content": [None]},
        {"content": [{"token": "A", "logprob": 0.0}]},
        {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": None}]},
        {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": ["A"]}]},
        {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": [{"token": None, "logprob": 0.0}]}]},
        {"content": [{"token": "A", "logprob": 0.0, "top_logprobs": [{"token": "A", "logprob": None}]}]},
    ],
    ids=json.dumps,
)
def test_log_probabilities_of_a_chat_that_cannot_be_read_are_none_or_an_error_of_ours(
    logprobs: Any, connect: Connect
) -> None:
    with FakeServer(always(chat("B", logprobs=logprobs))) as server:
        backend = connect(server, logprobs=True, retries=0)
        try:
            (found,) = backend.generate([CHAT_PICK])
        except BackendError:
            return
        assert (found.text, dict(found.choice_logprobs)) == ("B", {})


# What is asked.


def test_a_prompt_travels_as_the_tokens_of_the_model_itself(connect: Connect) -> None:
    requests = [
        Request(messages=(Message("system", "be brief"), Message("user", "red stones é 漢"))),
        Request(messages=(Message("user", "red"),), reply_prefix="<2><1>", choices=("<3>", "<4>")),
    ]
    with FakeServer(
        lambda call: as_vllm(call) if "allowed_token_ids" in call.body else completion("x", token_ids=[1])
    ) as (server):
        connect(server, tokenizer=EMBEDDED, concurrency=1).generate(requests)
    expected = [embedded_tools().prompt_ids(request.messages, request.reply_prefix) for request in requests]
    assert [body["prompt"] for body in server.bodies] == expected


def test_a_chat_travels_as_its_messages(connect: Connect) -> None:
    request = Request(messages=(Message("system", "be brief"), Message("user", "red é\n漢")), max_tokens=9)
    with FakeServer(always(chat("A"))) as server:
        connect(server).generate([request])
    assert server.bodies == [
        {
            "model": MODEL,
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "red é\n漢"}],
            "temperature": 0.0,
            "top_p": 1.0,
            "max_tokens": 9,
        }
    ]


def token_of(label: str) -> int:
    return int(embedded_tools().tokenizer.convert_tokens_to_ids(label))


BARE = (Message("user", "hello"),)
# What a request says, and what of it stands in the body; None for what must not stand there.
COMPLETION_BODIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "bare": (
        {"max_tokens": 7},
        {
            "model": MODEL,
            "max_tokens": 7,
            "temperature": 0.0,
            "top_p": 1.0,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
            "seed": None,
            "stop": None,
            "logprobs": None,
            "logprob_token_ids": None,
            "allowed_token_ids": None,
            "vllm_xargs": None,
            "structured_outputs": None,
            "extra_args": None,
        },
    ),
    "sampling": (
        {"temperature": 0.7, "top_p": 0.9, "seed": 0},
        {"temperature": 0.7, "top_p": 0.9, "seed": 0},
    ),
    "stop": ({"stop": ("</a>", "b")}, {"stop": ["</a>", "b"], "include_stop_str_in_output": True}),
    "pattern": ({"pattern": "[ab]+"}, {"structured_outputs": {"regex": "[ab]+"}, "max_tokens": 16}),
    "labels": (
        {"choices": LABELS},
        {
            "allowed_token_ids": sorted(label_tokens()),
            "logprob_token_ids": sorted(label_tokens()),
            "logprobs": 3,
            "max_tokens": 1,
            "ignore_eos": True,
            "structured_outputs": None,
            "vllm_xargs": None,
        },
    ),
    "draws": (
        {"choices": LABELS, "draws": 2, "seed": 5},
        {
            "vllm_xargs": {LABELS_KEY: sorted(label_tokens())},
            "extra_args": None,
            "allowed_token_ids": None,
            "logprob_token_ids": sorted(label_tokens()),
            "logprobs": 3,
            "max_tokens": 2,
            "seed": 5,
        },
    ),
    "long choices": (
        {"choices": ("red stone", "blue")},
        {
            "structured_outputs": {"choice": ["red stone", "blue"]},
            "allowed_token_ids": None,
            "logprob_token_ids": None,
            "logprobs": None,
        },
    ),
}


@pytest.mark.parametrize("kind", COMPLETION_BODIES)
def test_a_request_says_in_its_body_what_vllm_shall_do(kind: str, connect: Connect) -> None:
    asked, expected = COMPLETION_BODIES[kind]

    def script(call: Call) -> Reply:
        if "choices" in asked and kind != "long choices":
            return as_vllm(call)
        return completion("blue", token_ids=[1])

    with FakeServer(script) as server:
        connect(server, tokenizer=EMBEDDED).generate([Request(messages=BARE, **asked)])
    (body,) = server.bodies
    assert {name: body.get(name) for name in expected} == expected
    assert {name for name in expected if expected[name] is None} & set(body) == set()


CHAT_BODIES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "sampling": (
        {},
        {"temperature": 0.7, "top_p": 0.9, "seed": 0, "max_tokens": 7},
        {"temperature": 0.7, "top_p": 0.9, "seed": 0, "max_tokens": 7},
    ),
    "choices, no vLLM": ({}, {"choices": ("A", "B")}, {"structured_outputs": None, "logprobs": None}),
    "choices, vLLM": (
        {"server": "vllm"},
        {"choices": ("A", "B")},
        {"structured_outputs": {"choice": ["A", "B"]}, "logprobs": None, "top_logprobs": None},
    ),
    "pattern, vLLM": ({"server": "vllm"}, {"pattern": "[ab]"}, {"structured_outputs": {"regex": "[ab]"}}),
    "stop, no vLLM": ({}, {"stop": ("</a>",)}, {"stop": None, "include_stop_str_in_output": None}),
    "stop, vLLM": ({"server": "vllm"}, {"stop": ("</a>",)}, {"stop": ["</a>"], "include_stop_str_in_output": True}),
    "log-probabilities": ({"logprobs": True}, {"choices": ("A", "B")}, {"logprobs": True, "top_logprobs": 20}),
    "log-probabilities of nothing": ({"logprobs": True}, {}, {"logprobs": None, "top_logprobs": None}),
}


@pytest.mark.parametrize("kind", CHAT_BODIES)
def test_a_chat_says_in_its_body_what_the_server_shall_do(kind: str, connect: Connect) -> None:
    options, asked, expected = CHAT_BODIES[kind]
    with FakeServer(always(chat("A"))) as server:
        connect(server, **options).generate([Request(messages=BARE, **asked)])
    (body,) = server.bodies
    assert {name: body.get(name) for name in expected} == expected
    assert {name for name in expected if expected[name] is None} & set(body) == set()


def held_up(count: int) -> Script:
    """Return a script that answers nobody until so many are waiting."""
    reached = threading.Event()
    lock, waiting = threading.Lock(), [0]

    def script(call: Call) -> Reply:
        with lock:
            waiting[0] += 1
            if waiting[0] >= count:
                reached.set()
        assert reached.wait(20), f"no {count} requests at the same time"
        return replace(chat("A"), delay=0.02)

    return script


def header(name: str) -> Callable[[FakeServer, OpenAIBackend], object]:
    def seen(server: FakeServer, backend: OpenAIBackend) -> object:
        backend.generate([HELLO])
        return server.asked[-1].headers.get(name)

    return seen


def in_body(name: str, request: Request = HELLO) -> Callable[[FakeServer, OpenAIBackend], object]:
    def seen(server: FakeServer, backend: OpenAIBackend) -> object:
        backend.generate([request])
        return server.asked[-1].body.get(name)

    return seen


def path_of(server: FakeServer, backend: OpenAIBackend) -> object:
    backend.generate([HELLO])
    return server.asked[-1].path


def peak_of(server: FakeServer, backend: OpenAIBackend) -> object:
    backend.generate([HELLO] * 20)
    return server.peak


def context_of(server: FakeServer, backend: OpenAIBackend) -> object:
    return backend.text.context_tokens, [call.path for call in server.calls]


def prompt_of(server: FakeServer, backend: OpenAIBackend) -> object:
    backend.generate([HELLO])
    return server.asked[-1].body["prompt"] == embedded_tools().prompt_ids(HELLO.messages), backend.settings.style


def tries_of(server: FakeServer, backend: OpenAIBackend) -> object:
    with pytest.raises(BackendError):
        backend.generate([HELLO])
    return len(server.asked)


def any_completion(call: Call) -> Reply:
    return as_vllm(call) if "allowed_token_ids" in call.body else completion("x", token_ids=[1])


# Of each option: what is given, who answers, what is looked at, and what stands there. URL is the server's.
OPTIONS: dict[str, list[tuple[dict[str, Any], Script, Callable[[FakeServer, OpenAIBackend], object], object]]] = {
    "name_or_path": [({}, always(chat("A")), in_body("model"), MODEL)],
    "base_url": [({"base_url": "URL/deeper/v9"}, always(chat("A")), path_of, "/v1/deeper/v9/chat/completions")],
    "key_variable": [
        ({}, always(chat("A")), header("authorization"), f"Bearer {KEY}"),
        ({"key_variable": "OTHER_KEY"}, always(chat("A")), header("authorization"), "Bearer other-key"),
        ({"key_variable": "MISSING_KEY"}, always(chat("A")), header("authorization"), "Bearer none"),
    ],
    "api": [
        ({}, always(chat("A")), path_of, "/v1/chat/completions"),
        ({"api": "chat", "tokenizer": EMBEDDED}, always(chat("A")), path_of, "/v1/chat/completions"),
        ({"tokenizer": EMBEDDED}, any_completion, path_of, "/v1/completions"),
        ({"api": "completions", "tokenizer": EMBEDDED}, any_completion, path_of, "/v1/completions"),
    ],
    "server": [
        ({}, always(chat("A")), in_body("structured_outputs", PICK), None),
        ({"server": "vllm"}, always(chat("A")), in_body("structured_outputs", PICK), {"choice": list(LABELS)}),
        ({"tokenizer": EMBEDDED}, any_completion, in_body("return_token_ids"), True),
        ({"tokenizer": EMBEDDED, "server": "other"}, any_completion, in_body("return_token_ids"), None),
    ],
    "tokenizer": [({"tokenizer": EMBEDDED}, any_completion, prompt_of, (True, "compact"))],
    "context_tokens": [
        ({}, always(chat("A")), context_of, (8192, ["/v1/models"])),
        ({"context_tokens": 77}, always(chat("A")), context_of, (77, [])),
        ({"context_tokens": 77, "tokenizer": EMBEDDED}, any_completion, context_of, (77, [])),
        ({"tokenizer": EMBEDDED}, any_completion, context_of, (8192, ["/v1/models"])),
    ],
    "concurrency": [
        ({"concurrency": 1}, held_up(1), peak_of, 1),
        ({"concurrency": 3}, held_up(3), peak_of, 3),
        ({}, held_up(20), peak_of, 20),
    ],
    "timeout": [
        ({}, always(chat("A")), header("x-stainless-read-timeout"), "120.0"),
        ({"timeout": 7}, always(chat("A")), header("x-stainless-read-timeout"), "7"),
    ],
    "retries": [
        ({}, always(failure(500)), tries_of, 5),
        ({"retries": 2}, always(failure(500)), tries_of, 3),
        ({"retries": 2}, always(FAULTS["no JSON"]), tries_of, 3),
    ],
    "logprobs": [
        ({}, always(chat("A")), in_body("logprobs", CHAT_PICK), None),
        ({"logprobs": True}, always(chat("A")), in_body("logprobs", CHAT_PICK), True),
    ],
    "max_logprobs": [
        ({"tokenizer": EMBEDDED}, any_completion, in_body("logprobs", PICK), 3),
        ({"tokenizer": EMBEDDED, "max_logprobs": 3}, any_completion, in_body("logprobs", PICK), 3),
        ({"tokenizer": EMBEDDED, "max_logprobs": 2}, any_completion, in_body("logprobs", PICK), None),
        ({"tokenizer": EMBEDDED, "max_logprobs": 2}, any_completion, in_body("logprob_token_ids", PICK), None),
        ({"tokenizer": EMBEDDED, "max_logprobs": 0}, any_completion, in_body("logprobs", PICK), None),
    ],
}


@pytest.mark.parametrize(
    ("option", "case"), [(option, case) for option, cases in OPTIONS.items() for case in range(len(cases))]
)
def test_an_option_reaches_what_it_is_meant_for(
    option: str, case: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "other-key")
    monkeypatch.delenv("MISSING_KEY", raising=False)
    given, script, look, expected = OPTIONS[option][case]
    with FakeServer(script) as server:
        given = {k: v.replace("URL", server.url) if isinstance(v, str) else v for k, v in given.items()}
        assert look(server, connect(server, **given)) == expected


def test_the_revision_is_that_of_tokenizer_and_settings(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str | None]] = []

    def note(kind: str, answer: Any) -> Any:
        def call(source: str, *, revision: str | None = None) -> Any:
            asked.append((kind, source, revision))
            return answer

        return call

    monkeypatch.setattr(subject, "read_settings", note("settings", read_settings(EMBEDDED)))
    monkeypatch.setattr(subject, "load_tokenizer", note("tokenizer", embedded_tools().tokenizer))
    with FakeServer(any_completion) as server:
        connect(server, tokenizer="org/name", revision="v2")
    assert sorted(asked) == [("settings", "org/name", "v2"), ("tokenizer", "org/name", "v2")]


def test_each_option_is_looked_at() -> None:
    known = set(inspect.signature(OpenAIBackend.from_pretrained).parameters)
    assert known - {"revision"} == set(OPTIONS)


def test_the_server_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeServer(always(chat("A"))) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        backend = OpenAIBackend.from_pretrained(MODEL)
        assert backend.generate([HELLO])[0].text == "A"
        backend.close()


def test_a_model_that_is_a_folder_here_brings_its_tokenizer(connect: Connect, tmp_path: Path) -> None:
    models = always(served_models({"id": EMBEDDED, "max_model_len": 500}))
    with FakeServer(any_completion, models=models) as server:
        backend = connect(server, EMBEDDED)
        backend.generate([PICK])
    assert (backend.api, backend.server, backend.text.context_tokens) == ("completions", "vllm", 500)
    assert server.bodies[0]["model"] == EMBEDDED


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"api": "chats"}, "api='chats' is not known; did you mean 'chat'"),
        ({"server": "vlm"}, "server='vlm' is not known; did you mean 'vllm'"),
        ({"api": "completions"}, "give tokenizer=FOLDER_OR_HUB_NAME"),
        ({"concurrency": 0}, "concurrency=0 must be a whole number ≥ 1"),
        ({"concurrency": 2.0}, "concurrency=2.0 must be a whole number ≥ 1"),
        ({"concurrency": True}, "concurrency=True must be a whole number ≥ 1"),
        ({"concurrency": "8"}, "concurrency='8' must be a whole number ≥ 1"),
        ({"retries": -1}, "retries=-1 must be a whole number ≥ 0"),
        ({"max_logprobs": -1}, "max_logprobs=-1 must be a whole number ≥ 0"),
        ({"timeout": 0}, "timeout=0 must be a number of seconds > 0"),
        ({"timeout": -1.0}, "timeout=-1.0 must be a number of seconds > 0"),
        ({"timeout": math.nan}, "timeout=nan must be a number of seconds > 0"),
        ({"context_tokens": 0}, "context_tokens=0 must be ≥ 1"),
        ({"timeout": "5s"}, "timeout='5s' must be"),
        ({"timeout": None}, "timeout=None must be"),
        ({"context_tokens": "4k"}, "context_tokens='4k' must be"),
        ({"key_variable": 5}, "key_variable=5 must be"),
        ({"base_url": 5}, "base_url=5 must be"),
    ],
    ids=str,
)
def test_an_option_that_cannot_be_used_is_told(options: dict[str, Any], words: str, connect: Connect) -> None:
    with FakeServer(as_chat) as server, pytest.raises(OptionError) as caught:
        connect(server, **options)
    assert words in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:9/v1",
        "ftp://127.0.0.1/v1",
        "",
        "http://",
        "http://127.0.0.1:port/v1",
        "http://[::1/v1",
        "http://a\nb/v1",
        "http://☃.example/v1",
    ],
)
def test_an_address_that_is_none_is_an_error_of_ours(url: str) -> None:
    with pytest.raises((BackendError, OptionError)):
        OpenAIBackend.from_pretrained(MODEL, base_url=url, retries=0)


@pytest.mark.parametrize("url", ["http://[::1/v1", "http://127.0.0.1:port/v1", "127.0.0.1:9/v1"])
def test_an_address_of_the_environment_that_is_none_is_an_error_of_ours(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises((BackendError, OptionError)):
        OpenAIBackend.from_pretrained(MODEL, retries=0)


def test_a_backend_can_be_made_of_any_client() -> None:
    from openai import AsyncOpenAI

    with FakeServer(always(chat("A"))) as server:
        tools = EstimatedTools(context_tokens=99)
        backend = OpenAIBackend(AsyncOpenAI(base_url=server.url), MODEL, tools, api="chat", server="other")
        assert backend.generate([HELLO])[0].text == "A"
        backend.close()


@pytest.mark.parametrize("tokenizer", ["/nowhere/at/all", "no/such/name/anywhere"])
def test_a_tokenizer_that_is_not_there_is_an_error_of_ours(tokenizer: str, connect: Connect) -> None:
    with FakeServer(as_vllm) as server, pytest.raises((BackendError, OptionError)):
        connect(server, tokenizer=tokenizer)


# What comes back.


def test_log_probabilities_are_normalised_over_the_choices(connect: Connect) -> None:
    first, second, third = label_tokens()
    told = {f"token_id:{first}": -1.0, f"token_id:{second}": -2.0, f"token_id:{third}": -9.0, "token_id:0": -0.1}
    usage = {"prompt_tokens": 999, "completion_tokens": 888, "prompt_tokens_details": {"cached_tokens": 2}}
    reply = completion("", token_ids=[second], top_logprobs=[told], usage=usage, finish_reason="length")
    with FakeServer(always(reply)) as server:
        (found,) = connect(server, tokenizer=EMBEDDED).generate([PICK])
    assert found.text == "<2>"
    assert sum(math.exp(value) for value in found.choice_logprobs.values()) == pytest.approx(1)
    assert found.choice_logprobs["<1>"] - found.choice_logprobs["<2>"] == pytest.approx(1)
    assert found.choice_logprobs["<2>"] - found.choice_logprobs["<3>"] == pytest.approx(7)
    # A label is whole after its token; its prompt was counted here.
    prompt = embedded_tools().count_prompt(PICK.messages)
    assert (found.prompt_tokens, found.reused_tokens, found.generated_tokens) == (prompt, 2, 1)
    assert found.finish_reason == "stop"


def test_log_probabilities_of_draws_are_those_of_the_choices_left(connect: Connect) -> None:
    first, _, third = label_tokens()
    places = [
        {f"token_id:{t}": value for t, value in zip(label_tokens(), row, strict=True)}
        for row in [(-1.0, -2.0, -3.0), (-0.5, -4.0, -5.0)]
    ]
    reply = completion("", token_ids=[first, third], top_logprobs=places)
    with FakeServer(always(reply)) as server:
        (found,) = connect(server, tokenizer=EMBEDDED).generate([replace(PICK, draws=2)])
    assert found.text == "<1><3>"
    assert [set(draw) for draw in found.draw_logprobs] == [set(LABELS), {"<2>", "<3>"}]
    assert found.draw_logprobs[1]["<2>"] - found.draw_logprobs[1]["<3>"] == pytest.approx(1)
    assert math.exp(found.draw_logprobs[1]["<2>"]) + math.exp(found.draw_logprobs[1]["<3>"]) == pytest.approx(1)


def test_a_place_without_log_probabilities_does_not_lend_itself_those_of_the_next(connect: Connect) -> None:
    first, _, third = label_tokens()
    places: list[Any] = [None, {f"token_id:{t}": float(-n) for n, t in enumerate(label_tokens())}]
    with FakeServer(always(completion("", token_ids=[first, third], top_logprobs=places))) as server:
        (found,) = connect(server, tokenizer=EMBEDDED).generate([replace(PICK, draws=2)])
    assert set(found.draw_logprobs[0] if found.draw_logprobs else {}) != set(LABELS)


def test_a_server_that_holds_to_no_order_is_told_how_to_be_started(connect: Connect) -> None:
    reply = completion("", token_ids=label_tokens()[:1] * 2)
    with FakeServer(always(reply)) as server:
        backend = connect(server, tokenizer=EMBEDDED)
        with pytest.raises(BackendError, match=r"PermuteLogits; else use permute=False"):
            backend.generate([replace(PICK, draws=2)])
    assert len(server.asked) == 1


def entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": None}


def told(*entries: tuple[str, float]) -> dict[str, Any]:
    top = [entry(*found) for found in entries]
    return {"content": [{**entry(*entries[0]), "top_logprobs": top}], "refusal": None}


def test_log_probabilities_of_a_chat_are_normalised_over_the_choices(connect: Connect) -> None:
    logprobs = told(("B", -1.0), (" A", -2.0), ("the", -2.5), ("C", -4.0), ("A", -8.0))
    with FakeServer(always(chat("B", logprobs=logprobs))) as server:
        (found,) = connect(server, logprobs=True).generate([CHAT_PICK])
    assert found.choice_logprobs["B"] - found.choice_logprobs["A"] == pytest.approx(1)
    assert found.choice_logprobs["B"] - found.choice_logprobs["C"] == pytest.approx(3)
    assert sum(math.exp(value) for value in found.choice_logprobs.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("logprobs", "asked"),
    [
        (told(("A", -1.0), ("B", -2.0)), True),
        (told(("A", -1.0), ("B", -2.0), ("C", -3.0)), False),
        (None, True),
    ],
    ids=["one choice was not told", "nobody asked", "nothing was told"],
)
def test_log_probabilities_of_a_chat_are_all_or_none(logprobs: Any, asked: bool, connect: Connect) -> None:
    with FakeServer(always(chat("A", logprobs=logprobs))) as server:
        (found,) = connect(server, logprobs=asked).generate([CHAT_PICK])
    assert found == Completion("A", prompt_tokens=found.prompt_tokens)


def test_choices_that_are_all_next_to_impossible_have_log_probabilities(connect: Connect) -> None:
    # OpenAI's API tells -9999.0 for what is very unlikely; the exponentials of such add up to 0.
    logprobs = told(("the", -0.1), ("A", -9999.0), ("B", -9999.0), ("C", -9999.0))
    with FakeServer(always(chat("the", logprobs=logprobs))) as server:
        (found,) = connect(server, logprobs=True).generate([CHAT_PICK])
    assert found.choice_logprobs == pytest.approx(dict.fromkeys("ABC", -math.log(3)))


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {"prompt_tokens": 50, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 20}},
            (50, 20, 3),
        ),
        ({"prompt_tokens": 50, "completion_tokens": 3, "prompt_tokens_details": None}, (50, 0, 3)),
        ({"prompt_tokens": 50, "completion_tokens": 3}, (50, 0, 3)),
        ({"prompt_tokens": "many", "completion_tokens": None}, (None, 0, 0)),
        ({}, (None, 0, 0)),
        (None, (None, 0, 0)),
        ("free", (None, 0, 0)),
    ],
    ids=str,
)
def test_a_chat_costs_what_the_server_says_or_an_estimate(
    usage: Any, expected: tuple[int | None, int, int], connect: Connect
) -> None:
    with FakeServer(always(chat("A", usage=usage))) as server:
        backend = connect(server)
        (found,) = backend.generate([HELLO])
    estimate = backend.text.count_prompt(HELLO.messages)
    assert (found.prompt_tokens, found.reused_tokens, found.generated_tokens) == (
        expected[0] if expected[0] is not None else estimate,
        *expected[1:],
    )


def test_usage_of_all_steps_is_added_up(connect: Connect) -> None:
    with FakeServer(as_chat) as server:
        ranking = Ranker(connect(server), layout="rounds").rank("q", ["a", "b", "c", "d"])
    assert replace(ranking.usage, seconds=0.0) == Usage(
        calls=3, prompt_tokens=120, reused_tokens=21, generated_tokens=3
    )
    assert ranking.usage.seconds > 0


@pytest.mark.parametrize(("told", "expected"), [("length", "length"), ("stop", "stop"), ("content_filter", "stop")])
@pytest.mark.parametrize("answer", [chat, completion])
def test_a_reply_that_was_cut_off_says_so(
    answer: Callable[..., Reply], told: str, expected: str, connect: Connect
) -> None:
    more = {"tokenizer": EMBEDDED, "server": "other"} if answer is completion else {}
    with FakeServer(always(answer("A", finish_reason=told))) as server:
        (found,) = connect(server, **more).generate([HELLO])
    assert found.finish_reason == expected


def test_a_model_that_thought_until_its_tokens_ran_out_gave_an_empty_reply(connect: Connect) -> None:
    with FakeServer(always(chat(None, finish_reason="length"))) as server:
        (found,) = connect(server).generate([HELLO])
    assert (found.text, found.finish_reason) == ("", "length")


@pytest.mark.parametrize(
    ("reply", "stop", "expected"),
    [
        ("<answer>A</answer> and so on", ("</answer>",), "<answer>A</answer>"),
        ("<answer>A</answer> <answer>B</answer>", ("</answer>",), "<answer>A</answer>"),
        ("<answer>A", ("</answer>",), "<answer>A"),
        ("one two three", ("three", "two"), "one two"),
        ("one two three", (), "one two three"),
    ],
)
@pytest.mark.parametrize("answer", [chat, completion])
def test_a_server_that_is_no_vllm_is_sent_no_stop_and_its_reply_is_cut_here(
    answer: Callable[..., Reply], reply: str, stop: tuple[str, ...], expected: str, connect: Connect
) -> None:
    more = {"tokenizer": EMBEDDED} if answer is completion else {}
    with FakeServer(always(answer(reply))) as server:
        (found,) = connect(server, server="other", **more).generate([replace(HELLO, stop=stop)])
    assert found.text == expected
    assert "stop" not in server.bodies[0]


def test_a_server_that_is_no_vllm_gets_nothing_of_vllms_own(connect: Connect) -> None:
    with FakeServer(always(completion("<2>"))) as server:
        (found,) = connect(server, tokenizer=EMBEDDED, server="other").generate([replace(PICK, seed=3)])
    assert found.text == "<2>"
    (body,) = server.bodies
    assert set(body) == {"model", "prompt", "temperature", "top_p", "max_tokens", "seed"}
    assert body["max_tokens"] == PICK.max_tokens


# What cannot be done.


@pytest.mark.parametrize(
    ("connection", "request_options", "words"),
    [
        ({}, {"reply_prefix": "A"}, "use layout='rounds', or api='completions'"),
        ({}, {"choices": ("A", "B"), "draws": 2}, "use permute=False"),
        ({}, {"pattern": "[ab]"}, "drop guided=True"),
        ({"tokenizer": EMBEDDED, "server": "other"}, {"choices": LABELS, "draws": 2}, "use permute=False"),
        ({"tokenizer": EMBEDDED, "server": "other"}, {"pattern": "[ab]"}, "drop guided=True"),
        ({"tokenizer": EMBEDDED, "context_tokens": 12}, {"max_tokens": 12}, "lower token_budget"),
    ],
    ids=str,
)
def test_what_the_api_cannot_do_is_refused_before_anything_is_sent(
    connection: dict[str, Any], request_options: dict[str, Any], words: str, connect: Connect
) -> None:
    with FakeServer(as_chat) as server:
        backend = connect(server, **connection)
        with pytest.raises(BackendError) as caught:
            backend.generate([Request(messages=BARE, **request_options)])
    assert words in str(caught.value)
    assert server.asked == []


@pytest.mark.parametrize(
    ("options", "patterns"),
    [({}, False), ({"server": "vllm"}, True), ({"tokenizer": EMBEDDED}, True)],
    ids=["chat", "vLLM's chat", "vLLM's completions"],
)
def test_a_backend_says_whether_it_can_hold_a_reply_to_a_pattern(
    options: dict[str, Any], patterns: bool, connect: Connect
) -> None:
    with FakeServer(as_chat) as server:
        assert connect(server, **options).patterns is patterns


def test_an_elimination_by_chat_says_which_layout_it_needs(connect: Connect) -> None:
    with FakeServer(as_chat) as server:
        ranker = Ranker(connect(server), layout="append")
        with pytest.raises(BackendError, match="use layout='rounds'"):
            ranker.rank("q", ["a", "b", "c"])


def test_no_model_of_that_name_is_told_with_the_nearest(connect: Connect) -> None:
    models = always(served_models({"id": "qwen-7b", "max_model_len": 9}, {"id": "llama-8b", "max_model_len": 9}))
    with FakeServer(as_chat, models=models) as server, pytest.raises(OptionError) as caught:
        connect(server, "qwen-7B")
    assert "model='qwen-7B' is not known; did you mean 'qwen-7b'?" in str(caught.value)
    assert "llama-8b" in str(caught.value)


def test_a_server_that_does_not_say_how_much_its_model_can_read_must_be_told(connect: Connect) -> None:
    with FakeServer(as_chat, models=always(served_models({"id": MODEL}))) as server:
        with pytest.raises(
            BackendError, match=rf"does not say how many tokens '{MODEL}' can read; give context_tokens"
        ):
            connect(server)
        assert connect(server, context_tokens=100).text.context_tokens == 100


@pytest.mark.parametrize(
    "reply",
    [
        failure(401, "wrong key"),
        failure(404),
        failure(500),
        Reply(hang_up=True),
        Reply(b"<html></html>", headers={"Content-Type": "text/html"}),
        Reply(b"{"),
        Reply(None),
        Reply([]),
        Reply("models"),
        Reply({"data": None}),
        Reply({"data": 5}),
        Reply({"data": "models"}),
        Reply({"data": [None]}),
        Reply({"data": ["tiny-ranker"]}),
        Reply({"data": [{}]}),
        Reply({"models": []}),
        Reply(b"[" * 200_000),
    ],
    ids=lambda reply: f"{reply.status} {str(reply.body)[:30]}",
)
def test_a_list_of_models_that_cannot_be_read_is_an_error_of_ours(reply: Reply, connect: Connect) -> None:
    with FakeServer(as_chat, models=always(reply)) as server, pytest.raises((BackendError, OptionError)):
        connect(server, retries=1)


# The key.


def assert_hidden(text: str, key: str = KEY) -> None:
    """Check that no part of the key that would help anybody stands in a text."""
    found = [key[i : i + 8] for i in range(3, len(key) - 7) if key[i : i + 8] in text]
    assert not found, f"{len(found)} pieces of the key stand in {text[:1500]!r}"


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def echo(call: Call) -> str:
    return f"you sent {call.headers['authorization']} to me"


ECHOES: dict[str, Script] = {
    "status 400": lambda call: failure(400, echo(call)),
    "status 401": lambda call: Reply(echo(call).encode(), status=401, headers={"Content-Type": "text/plain"}),
    "status 500": lambda call: failure(500, echo(call)),
    "no JSON": lambda call: Reply(echo(call).encode()),
    "no choice": lambda call: Reply({"choices": [], "note": echo(call)}),
    "no text": lambda call: Reply({"choices": [{"text": None, "message": {"content": 5}, "note": echo(call)}]}),
    "broken header": lambda call: Reply(b"x", headers={"Content-Length": echo(call)}),
    "broken encoding": lambda call: Reply(echo(call).encode(), headers={"Content-Encoding": "gzip"}),
    "broken address": lambda call: Reply(b"", status=307, headers={"Location": f"http://[{echo(call)}"}),
}


@pytest.mark.parametrize("kind", ECHOES)
@BOTH
def test_the_key_is_in_no_error_even_if_the_server_sends_it_back(
    api: dict[str, Any], kind: str, connect: Connect
) -> None:
    with FakeServer(ECHOES[kind]) as server:
        backend = connect(server, retries=1, context_tokens=999, **api["connection"])
        with pytest.raises(BackendError) as caught:
            backend.generate([HELLO])
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert_hidden(printed(caught.value))
    assert_hidden(repr(caught.value))


@pytest.mark.parametrize("kind", ECHOES)
def test_the_key_is_in_no_error_of_the_list_of_models(kind: str, connect: Connect) -> None:
    with FakeServer(as_chat, models=ECHOES[kind]) as server, pytest.raises((BackendError, OptionError)) as caught:
        connect(server, retries=1)
    assert_hidden(printed(caught.value))


def test_the_key_is_not_among_the_names_of_models(connect: Connect) -> None:
    def names(call: Call) -> Reply:
        return served_models({"id": echo(call)})

    with FakeServer(as_chat, models=names) as server, pytest.raises((BackendError, OptionError)) as caught:
        connect(server)
    assert_hidden(printed(caught.value))


@pytest.mark.parametrize("kind", ["status", "malformed"])
def test_no_piece_of_the_key_is_left_where_a_message_is_cut(kind: str, connect: Connect) -> None:
    def script(call: Call) -> Reply:
        text = "x" * (10 * call.number) + echo(call)
        return failure(400, text) if kind == "status" else Reply({"choices": [], "note": text})

    shown = []
    with FakeServer(script) as server:
        backend = connect(server, retries=0, context_tokens=999)
        for _ in range(50):
            with pytest.raises(BackendError) as caught:
                backend.generate([HELLO])
            shown.append(str(caught.value))
    assert len(shown) == 50
    assert_hidden("\n".join(shown))


@pytest.mark.parametrize(
    "key",
    [KEY + "\n", KEY + "\r\n", "\n" + KEY, f" {KEY}", KEY + "é"],
    ids=ascii,
)
@pytest.mark.parametrize("context", [None, 999])
def test_a_key_that_cannot_be_sent_is_an_error_of_ours_and_not_shown(
    key: str, context: int | None, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ODD_KEY", key)
    with FakeServer(as_chat) as server, pytest.raises((BackendError, OptionError)) as caught:
        connect(server, key_variable="ODD_KEY", context_tokens=context, retries=0).generate([HELLO])
    assert_hidden(printed(caught.value))


def test_the_key_is_in_no_repr(connect: Connect) -> None:
    with FakeServer(as_chat) as server:
        backend = connect(server)
        ranker = Ranker(backend, layout="rounds")
        shown = [repr(backend), str(backend), repr(ranker), repr(backend.text), repr(backend.settings)]
        shown += [repr(value) for value in vars(backend).values()]
    assert_hidden("\n".join(shown))


@BOTH
def test_the_key_is_in_no_log_and_no_ranking(
    api: dict[str, Any], connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("openai", "httpx", "httpx2", "httpcore", "httpcore2", "asyncio", "anyio", "unified_ranker")
    for name in ("", *names):
        caplog.set_level(logging.DEBUG, logger=name)
    script, done = with_faults(api["script"], seed=7, slow=0)
    with FakeServer(script) as server:
        ranker = Ranker(connect(server, retries=6, **api["connection"]), **api["ranking"])
        rankings = list(ranker.rank_batch(make_examples(10)))
    assert sum(done.values()) > 10
    assert any(record.name.startswith("openai") for record in caplog.records)
    assert_hidden("\n".join(f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records))
    assert_hidden(caplog.text)
    assert_hidden("\n".join(f"{ranking!r} {json.dumps(ranking.to_dict())}" for ranking in rankings))


def test_the_key_is_in_no_log_even_if_the_server_sends_it_back(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("", "openai", "httpx", "httpx2", "httpcore", "httpcore2"):
        caplog.set_level(logging.DEBUG, logger=name)
    with FakeServer(lambda call: (failure(500, echo(call)), Reply(echo(call).encode()))[call.number % 2]) as server:
        backend = connect(server, retries=3, context_tokens=999)
        with pytest.raises(BackendError):
            backend.generate([HELLO])
    assert caplog.records
    assert_hidden("\n".join(record.getMessage() for record in caplog.records))


def test_the_key_is_in_no_ranking_even_if_the_server_sends_it_back(connect: Connect) -> None:
    with FakeServer(lambda call: chat(f"{echo(call)} [A]")) as server:
        ranking = Ranker(connect(server), layout="rounds").rank("q", ["a", "b"])
    assert_hidden(f"{ranking!r} {json.dumps(ranking.to_dict())}")


def test_the_key_is_in_no_ranking_even_if_the_server_spells_it_in_another_way(connect: Connect) -> None:
    def script(call: Call) -> Reply:
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in echo(call))
        return Reply(json.dumps(chat("HERE [A]").body).replace("HERE", escaped).encode())

    with FakeServer(script) as server:
        ranking = Ranker(connect(server), layout="rounds").rank("q", ["a", "b"])
    assert ranking.steps[0].reply.endswith("to me [A]")
    assert_hidden(f"{ranking!r} {json.dumps(ranking.to_dict())}")


@pytest.mark.parametrize("key", ["x", "1", "A", "e", "text", "choices", "EMPTY", "none"])
@BOTH
def test_a_key_that_is_no_secret_leaves_answers_as_they_are(
    api: dict[str, Any], key: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    # People have such for servers of their own; it is not to be hidden wherever it occurs.
    monkeypatch.setenv("OPENAI_API_KEY", key)
    examples = make_examples(5)
    with FakeServer(api["script"]) as server:
        found = list(Ranker(connect(server, retries=0, **api["connection"]), **api["ranking"]).rank_batch(examples))
    assert_same(found, truth(api, examples))
    assert server.asked[0].headers["authorization"] == f"Bearer {key}"


ODD_KEY = "sk-'9f3b71c0de5a\\4e62b8d7f1\"a2c3e4d5f6"


@pytest.mark.parametrize("kind", ECHOES)
def test_a_key_with_marks_that_are_escaped_is_in_no_error(
    kind: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", ODD_KEY)
    with FakeServer(ECHOES[kind]) as server:
        backend = connect(server, retries=1, context_tokens=999)
        with pytest.raises(BackendError) as caught:
            backend.generate([HELLO])
    assert_hidden(printed(caught.value), ODD_KEY)


def test_the_key_is_in_no_complaint_about_a_reply(connect: Connect) -> None:
    with FakeServer(lambda call: completion(echo(call), token_ids=[0])) as server:
        backend = connect(server, tokenizer=EMBEDDED)
        with pytest.raises(BackendError, match="the engine was held to") as caught:
            backend.generate([PICK])
    assert_hidden(printed(caught.value))


def test_the_key_does_not_follow_to_another_host(connect: Connect) -> None:
    with FakeServer(always(chat("A"))) as thief:
        away = thief.url.replace("/v1", "/v1/chat/completions")
        with FakeServer(always(Reply(b"", status=307, headers={"Location": away}))) as server:
            backend = connect(server, retries=0)
            try:
                backend.generate([HELLO])
            except BackendError as error:
                assert_hidden(printed(error))
    assert server.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert [call.headers.get("authorization") for call in thief.calls if "authorization" in call.headers] == []


@pytest.mark.parametrize("key", [None, ""])
def test_a_missing_key_is_told_before_anything_is_sent(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("a client was made")

    monkeypatch.setattr("openai.AsyncOpenAI", unwanted)
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(BackendError, match="no key: set the environment variable OPENAI_API_KEY, or give base_url"):
        OpenAIBackend.from_pretrained("gpt")
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(BackendError, match="set the environment variable MY_KEY"):
        OpenAIBackend.from_pretrained("gpt", key_variable="MY_KEY")


# Loops, closing.


def test_no_more_requests_are_under_way_than_allowed(connect: Connect) -> None:
    with FakeServer(held_up(4)) as server:
        ranker = Ranker(connect(server, concurrency=4), layout="rounds")
        assert len(list(ranker.rank_batch(make_examples(12), concurrency=12))) == 12
    assert server.peak == 4


@BOTH
def test_one_ranker_serves_several_event_loops_at_once(api: dict[str, Any], connect: Connect) -> None:
    examples = make_examples(24)
    expected = {ranking.example_id: ranking.ids for ranking in truth(api, examples)}
    found: dict[str, tuple[str, ...]] = {}

    async def rank(ranker: Ranker, mine: Sequence[RankingExample]) -> None:
        rankings = await asyncio.gather(*(ranker.arank(example.query, example.candidates) for example in mine))
        found.update({example.id: ranking.ids for example, ranking in zip(mine, rankings, strict=True)})

    with FakeServer(lambda call: replace(api["script"](call), delay=0.005)) as server:
        ranker = Ranker(connect(server, **api["connection"]), **api["ranking"])
        threads = [threading.Thread(target=lambda i=i: asyncio.run(rank(ranker, examples[i::3]))) for i in range(3)]
        for thread in threads:
            thread.start()
        # And one that is not asynchronous, between them.
        assert_same(list(ranker.rank_batch(examples[:2])), truth(api, examples[:2]))
        for thread in threads:
            thread.join(60)
    assert found == expected


def test_an_error_reaches_the_loop_that_asked(connect: Connect) -> None:
    with FakeServer(always(failure(400, "no such thing"))) as server:
        ranker = Ranker(connect(server), layout="rounds")
        with pytest.raises(BackendError, match="no such thing"):
            asyncio.run(ranker.arank("q", ["a", "b"]))


def test_a_call_that_is_cancelled_lets_go_of_the_server(connect: Connect) -> None:
    with FakeServer(lambda call: replace(as_chat(call), delay=SLOWER_THAN_THE_CLIENT if not call.number else 0)) as (
        server
    ):
        # Only one request at a time: the second is answered only if the first was let go of.
        ranker = Ranker(connect(server, concurrency=1, context_tokens=999), layout="rounds")

        async def run() -> Ranking:
            given_up = asyncio.create_task(ranker.arank("q", ["a", "b"]))
            while not server.asked:
                await asyncio.sleep(0.001)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            return await asyncio.wait_for(ranker.arank("r", ["a", "b"]), timeout=20)

        assert len(asyncio.run(run()).ids) == 2


def test_closing_again_does_nothing_and_use_after_closing_is_told(connect: Connect) -> None:
    with FakeServer(as_chat) as server:
        backend = connect(server)
        ranker = Ranker(backend, layout="rounds")
        assert len(ranker.rank("q", ["a", "b"])) == 2
        backend.close()
        backend.close()
        before = len(server.calls)
        with pytest.raises(BackendError, match="was closed; load it again"):
            backend.generate([HELLO])
        with pytest.raises(BackendError, match="was closed; load it again"):
            ranker.rank("q", ["a", "b"])
        with pytest.raises(BackendError, match="was closed; load it again"):
            asyncio.run(ranker.arank("q", ["a", "b"]))
        with pytest.raises(BackendError, match="was closed; load it again"):
            list(ranker.rank_batch(make_examples(3)))
        assert len(server.calls) == before


def test_closing_ends_the_thread_and_the_connections(connect: Connect) -> None:
    before = threading.active_count()
    with FakeServer(as_chat) as server:
        backend = connect(server)
        backend.generate([replace(HELLO, messages=(Message("user", "[A] a\n[B] b"),))])
        named = [thread for thread in threading.enumerate() if thread.name == "openai"]
        backend.close()
        assert [thread for thread in named if thread.is_alive()] == []
    assert threading.active_count() <= before + 1


def test_closing_while_requests_are_under_way_ends_them(connect: Connect) -> None:
    raised: list[BaseException] = []

    def ask(backend: OpenAIBackend) -> None:
        try:
            backend.generate([HELLO] * 3)
        except BackendError as error:
            raised.append(error)

    with FakeServer(always(Reply(delay=SLOWER_THAN_THE_CLIENT))) as server:
        backend = connect(server, context_tokens=999)
        thread = threading.Thread(target=ask, args=(backend,))
        thread.start()
        while len(server.asked) < 3:
            time.sleep(0.005)
        began = time.monotonic()
        backend.close()
        thread.join(20)
        assert not thread.is_alive()
        assert time.monotonic() - began < 20
    assert len(raised) == 1


def test_a_connection_that_fails_leaves_no_thread_behind(connect: Connect) -> None:
    with FakeServer(as_chat, models=always(failure(401))) as server, pytest.raises(BackendError):
        connect(server)
    assert [thread for thread in threading.enumerate() if thread.name == "openai" and thread.is_alive()] == []


# Chats that are cut by an estimate.


def test_a_chat_of_any_text_arrives_and_fits_the_context(connect: Connect) -> None:
    with FakeServer(always(chat("A"))) as server:
        ranker = Ranker(connect(server, context_tokens=200), layout="rounds")

        @settings(max_examples=40, deadline=None, derandomize=True)
        @given(text=st.text(min_size=1, max_size=400))
        def check(text: str) -> None:
            ranking = ranker.rank("q", [f"{text} one", f"{text} two"])
            assert sorted(ranking.ids) == ["0", "1"]
            body = server.bodies[-1]
            size = sum(len(message["content"].encode()) / 3 for message in body["messages"])
            assert size + body["max_tokens"] <= 200

        check()


def test_retry_after_is_obeyed(connect: Connect) -> None:
    # The client's own pauses take two milliseconds here, so that only the header can be the reason.
    busy = Reply({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "0.4"})
    at: list[float] = []

    def script(call: Call) -> Reply:
        at.append(time.monotonic())
        return chat("A") if call.attempt else busy

    with FakeServer(script) as server:
        connect(server).generate([HELLO])
    assert at[1] - at[0] >= 0.39


def test_retry_after_is_obeyed_however_short_the_timeout(connect: Connect) -> None:
    busy = Reply({"error": {"message": "busy"}}, status=429, headers={"Retry-After": "1.5"})
    with FakeServer(lambda call: chat("A") if call.attempt else busy) as server:
        (found,) = connect(server, timeout=0.5, retries=1, context_tokens=999).generate([HELLO])
    assert found.text == "A"
