"""Any server that speaks OpenAI's API: ``vllm serve``, a gateway, a provider.

Two ways to ask, chosen with ``api``:

- ``"completions"`` sends the tokens of the prompt, made with the model's own tokenizer. A reply can be gone on with, so
  that every method and layout works, and with ``server="vllm"`` replies are restricted to labels, with their
  log-probabilities, exactly as in process.
- ``"chat"`` sends messages and needs no tokenizer. Replies are whatever the model writes and are parsed; each request
  is a chat of its own, so that an elimination needs ``layout="rounds"``.

The key is read from the environment, and appears in no message, log or result.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from unified_ranker.backends.estimate import EstimatedTools
from unified_ranker.backends.loop_thread import LoopThread, all_or_none
from unified_ranker.backends.openai_answers import Answer, by_token, read_answer, read_models
from unified_ranker.backends.openai_connection import Connection, check_address, make_client
from unified_ranker.backends.tokenizer import TokenizerTools, load_tokenizer
from unified_ranker.backends.vllm_requests import make_ready, normalised, read
from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.exchange import Completion, Request, TextTools
from unified_ranker.model_settings import ModelSettings, read_settings

T = TypeVar("T")

APIS = ("completions", "chat")
SERVERS = ("vllm", "other")
KEY_VARIABLE = "OPENAI_API_KEY"
# vLLM's own default of --max-logprobs.
MAX_LOGPROBS = 20
# Options that OpenAI's own clients name; everything else travels in the body as vLLM defines it.
_PLAIN = frozenset({"temperature", "top_p", "max_tokens", "seed", "stop"})


class OpenAIBackend:
    """Answers requests through OpenAI's API, each as soon as the server does.

    Args:
        client: An ``openai.AsyncOpenAI``.
        model: Name of the model at the server.
        tools: Its view of text.
        api: ``"completions"`` or ``"chat"``.
        server: ``"vllm"`` where the server takes vLLM's extensions, else ``"other"``.
        concurrency: Most requests at the same time.
        timeout: Seconds that the body of an answer may take.
        retries: How often a request that failed is sent again.
        logprobs: Whether ``"chat"`` asks for log-probabilities of its labels; some models refuse to give them.
        max_logprobs: Of more labels than this, ``"completions"`` asks for no log-probabilities (``--max-logprobs`` of
            ``vllm serve``).
    """

    def __init__(
        self,
        client: Any,
        model: str,
        tools: TextTools,
        *,
        api: str,
        server: str,
        concurrency: int = 32,
        timeout: float = 120.0,
        retries: int = 4,
        logprobs: bool = False,
        max_logprobs: int = MAX_LOGPROBS,
    ) -> None:
        self._max_logprobs = max_logprobs
        self.model, self.api, self.server = model, api, server
        self.settings = ModelSettings()
        self.patterns = server == "vllm"
        self._tools, self._logprobs = tools, logprobs
        self._connection = Connection(client, concurrency=concurrency, timeout=timeout, retries=retries)
        self._thread = LoopThread("openai")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        base_url: str | None = None,
        key_variable: str = KEY_VARIABLE,
        api: str | None = None,
        server: str | None = None,
        tokenizer: str | None = None,
        revision: str | None = None,
        context_tokens: int | None = None,
        concurrency: int = 32,
        timeout: float = 120.0,
        retries: int = 4,
        logprobs: bool = False,
        max_logprobs: int = MAX_LOGPROBS,
    ) -> OpenAIBackend:
        """Connect to a server.

        Args:
            name_or_path: Name of the model at the server. If it is a folder here, too, its tokenizer is used.
            base_url: Where the server is, such as ``http://127.0.0.1:8000/v1``; by default ``OPENAI_BASE_URL``, or
                OpenAI's own.
            key_variable: Environment variable that holds the key.
            api: ``"completions"`` or ``"chat"``; by default the first where there is a tokenizer.
            server: ``"vllm"`` or ``"other"``; by default ``"vllm"`` for ``"completions"``.
            tokenizer: Folder or hub name of the model's tokenizer, from which ``ranker.json`` is read as well.
            revision: Its branch, tag or commit on the hub.
            context_tokens: Most tokens of prompt and reply; by default what the server says of the model.
            concurrency: Most requests at the same time.
            timeout: Seconds until one attempt is given up: to its first byte, and from there to its last.
            retries: How often a request is sent again after a lost connection, status 408, 409, 429 or 5xx, or a
                malformed answer; pauses double from half a second to eight, with jitter, or are what ``Retry-After``
                says.
            logprobs: See the class.
            max_logprobs: See the class.

        Raises:
            MissingExtraError: the package ``openai`` is not installed.
            OptionError: an option has a value that cannot be used, or the server does not have the model.
            BackendError: the key is missing, or the server cannot be reached.
        """
        tokenizer = tokenizer or (name_or_path if Path(name_or_path).is_dir() else None)
        api = api or ("completions" if tokenizer else "chat")
        server = server or ("vllm" if api == "completions" else "other")
        if base_url is None:
            check_address("OPENAI_BASE_URL", os.environ.get("OPENAI_BASE_URL") or None)
        else:
            check_address("base_url", base_url)
        if not isinstance(key_variable, str):
            raise OptionError(f"key_variable={key_variable!r} must be the name of an environment variable")
        for field, value, known in (("api", api, APIS), ("server", server, SERVERS)):
            if value not in known:
                raise unknown_choice(field, value, known)
        if api == "completions" and tokenizer is None:
            raise OptionError("api='completions' sends tokens; give tokenizer=FOLDER_OR_HUB_NAME, or use api='chat'")
        counts = {"concurrency": (concurrency, 1), "retries": (retries, 0), "max_logprobs": (max_logprobs, 0)}
        for field, (count, least) in counts.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < least:
                raise OptionError(f"{field}={count!r} must be a whole number ≥ {least}")
        if not _is_number(timeout) or not timeout > 0:
            raise OptionError(f"timeout={timeout!r} must be a number of seconds > 0")
        if context_tokens is not None and (type(context_tokens) is not int or context_tokens < 1):
            raise OptionError(f"context_tokens={context_tokens!r} must be ≥ 1, a whole number")
        client = make_client(base_url, key_variable, timeout=timeout, retries=retries)
        loaded, settings = _known(tokenizer, revision) if tokenizer else (None, ModelSettings())
        made = cls(
            client,
            name_or_path,
            # Replaced below, when the server has said how much the model can read.
            EstimatedTools(context_tokens=1),
            api=api,
            server=server,
            concurrency=concurrency,
            timeout=timeout,
            retries=retries,
            logprobs=logprobs,
            max_logprobs=max_logprobs,
        )
        try:
            context = context_tokens if context_tokens is not None else made._thread.run(made._context())
            if loaded is not None:
                made._tools = TokenizerTools(loaded, context_tokens=context, labels=settings.labels)
            else:
                made._tools = EstimatedTools(context_tokens=context)
        except BaseException:
            made.close()
            raise
        made.settings = settings
        return made

    async def _context(self) -> int:
        """Ask the server how many tokens the model can read."""
        try:
            served = await self._connection.sent(
                lambda client: client.models.with_streaming_response.list(), read=read_models
            )
        except BackendError as error:
            raise BackendError(
                f"{error}. Check base_url and the key, or give context_tokens, so that the server need not be asked "
                "which models it has"
            ) from None
        if self.model not in served:
            raise unknown_choice("model", self.model, [self._connection.hide(name) for name in served])
        length = served[self.model]
        if not length:
            raise BackendError(
                f"the server at {self._connection.url} does not say how many tokens {self.model!r} can read; give "
                "context_tokens"
            )
        return length

    @property
    def text(self) -> TextTools:
        """The model's view of text; an estimate where no tokenizer is known."""
        return self._tools

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the client's loop."""
        return self._thread.submit(work)

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, on the client's loop.

        Raises:
            BackendError: the server could not be reached or refused, or a request asks for what the API cannot give.
        """
        return await all_or_none(self._answer(request) for request in requests)

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, in their order; errors are those of :meth:`ask`."""
        return self._thread.run(self.ask(requests))

    def forget(self, sessions: Collection[str]) -> None:
        """Do nothing: what the server keeps is its own affair."""

    def close(self) -> None:
        """End the requests under way, then close the connections; doing it again does nothing."""
        self._thread.close(self._connection.close)

    async def _answer(self, request: Request) -> Completion:
        return await (self._complete(request) if self.api == "completions" else self._chat(request))

    async def _complete(self, request: Request) -> Completion:
        assert isinstance(self._tools, TokenizerTools)
        held = request if self.server == "vllm" else _unheld(request)
        asked = make_ready(held, self._tools)
        plain = {name: value for name, value in asked.options.items() if name in _PLAIN}
        body: dict[str, Any] = {}
        if self.server == "vllm":
            body = {name: value for name, value in asked.options.items() if name not in _PLAIN}
            body |= {"return_token_ids": True, "return_tokens_as_token_ids": True}
            if "extra_args" in body:
                body["vllm_xargs"] = body.pop("extra_args")
            told = len(body.pop("logprob_token_ids", ()))
            if 0 < told <= self._max_logprobs:
                plain["logprobs"] = told
                body["logprob_token_ids"] = asked.options["logprob_token_ids"]

        def finished(text: str) -> Completion:
            answer = self._hidden(read_answer(text, chat=False))
            if self.server != "vllm":
                return _plain(answer, _until_stop(answer.text, request), prompt_tokens=len(asked.prompt))
            if answer.tokens is None:
                raise BackendError(
                    f"the server at {self._connection.url} gave no token_ids; it is no vLLM, or an old one: use "
                    "server='other'"
                )
            return read(
                asked,
                text=answer.text,
                written=answer.tokens,
                logprobs=by_token(answer.logprobs),
                cached=answer.cached_tokens or 0,
                finish_reason=answer.finish_reason,
            )

        try:
            return await self._connection.sent(
                lambda client: client.completions.with_streaming_response.create(
                    model=self.model, prompt=asked.prompt, extra_body=body or None, **plain
                ),
                read=finished,
            )
        except BackendError as error:
            if request.draws == 1 or "was held to" not in str(error):
                raise
            raise BackendError(
                f"{error}. A server holds replies to orders only if it was started with --logits-processors "
                "unified_ranker.backends.permute_logits:PermuteLogits; else use permute=False"
            ) from None

    async def _chat(self, request: Request) -> Completion:
        if request.reply_prefix:
            raise BackendError(
                "api='chat' cannot go on from the middle of a reply, which layout='append' needs; use layout='rounds', "
                "or api='completions' with the model's tokenizer"
            )
        if request.draws > 1:
            raise BackendError("api='chat' cannot hold a reply to an order of labels; use permute=False")
        plain: dict[str, Any] = {
            "temperature": request.temperature,
            "top_p": request.top_p,
            "max_tokens": request.max_tokens,
        }
        body: dict[str, Any] = {}
        if request.seed is not None:
            plain["seed"] = request.seed
        if self.server == "vllm":
            if request.stop:
                plain["stop"] = list(request.stop)
                body["include_stop_str_in_output"] = True
            if request.choices:
                body["structured_outputs"] = {"choice": list(request.choices)}
            elif request.pattern:
                body["structured_outputs"] = {"regex": request.pattern}
        elif request.pattern:
            raise BackendError("a server that is no vLLM cannot hold a reply to a pattern; drop guided=True")
        if self._logprobs and request.choices:
            plain |= {"logprobs": True, "top_logprobs": 20}

        def finished(text: str) -> Completion:
            answer = self._hidden(read_answer(text, chat=True))
            reply = answer.text if self.server == "vllm" else _until_stop(answer.text, request)
            told = answer.logprobs[0] if answer.logprobs and request.choices and self._logprobs else {}
            return _plain(
                answer,
                reply,
                prompt_tokens=self._tools.count_prompt(request.messages),
                # All or none: of those that were left out nobody knows how likely they are.
                logprobs=normalised({name: told[name] for name in request.choices})
                if told and all(name in told for name in request.choices)
                else {},
            )

        messages = [{"role": message.role, "content": message.content} for message in request.messages]
        return await self._connection.sent(
            lambda client: client.chat.completions.with_streaming_response.create(
                model=self.model, messages=messages, extra_body=body or None, **plain
            ),
            read=finished,
        )

    def _hidden(self, answer: Answer) -> Answer:
        return replace(answer, text=self._connection.hide(answer.text))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _known(source: str, revision: str | None) -> tuple[Any, ModelSettings]:
    """Return a model's tokenizer and what its ``ranker.json`` says."""
    try:
        return load_tokenizer(source, revision=revision), read_settings(source, revision=revision)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"cannot load the tokenizer {source!r}: {error}\nGive a folder with a tokenizer, a name on the hub, or "
            "api='chat', which needs none"
        ) from error


def _unheld(request: Request) -> Request:
    """Return a request as a server can answer it that holds replies to nothing."""
    if request.draws > 1:
        raise BackendError("a server that is no vLLM cannot hold a reply to an order of labels; use permute=False")
    if request.pattern:
        raise BackendError("a server that is no vLLM cannot hold a reply to a pattern; drop guided=True")
    return replace(request, choices=(), stop=())


def _until_stop(text: str, request: Request) -> str:
    """Cut a reply where it should have ended.

    Servers other than vLLM leave out the string that ended a reply, after which nobody could tell whether it was
    written; so they are not given one.
    """
    ends = [text.index(stop) + len(stop) for stop in request.stop if stop in text]
    return text[: min(ends)] if ends else text


def _plain(answer: Answer, text: str, *, prompt_tokens: int, logprobs: Mapping[str, float] | None = None) -> Completion:
    """Return an answer that was held to nothing; counts are the server's own where it tells them."""
    return Completion(
        text=text,
        choice_logprobs=logprobs or {},
        prompt_tokens=answer.prompt_tokens if answer.prompt_tokens is not None else prompt_tokens,
        reused_tokens=answer.cached_tokens or 0,
        generated_tokens=answer.generated_tokens or 0,
        finish_reason="length" if answer.finish_reason == "length" else "stop",
    )
