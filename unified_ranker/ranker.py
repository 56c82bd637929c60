"""The door: one backend and one strategy become ``Ranker.rank(query, candidates)``."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from unified_ranker.door import Door, check_domain
from unified_ranker.drivers import MicroBatcher, run_async, run_batch, run_concurrent
from unified_ranker.errors import OptionError
from unified_ranker.exchange import AsyncBackend, Backend
from unified_ranker.model_settings import ModelSettings, embedded_path, read_settings
from unified_ranker.prompts import PromptWriter, Template, load_template
from unified_ranker.prompts.template import load_template_file
from unified_ranker.prompts.thoughts import ThoughtBook, read_thoughts
from unified_ranker.schema.types import Ranking, RankingExample
from unified_ranker.schema.validate import check_example
from unified_ranker.strategies.base import Strategy
from unified_ranker.strategies.registry import check_options, make_strategy, method_named


class Ranker(Door):
    """Ranks candidates for a query with a language model.

    ``Ranker()`` loads the model that comes with the package. Any other model comes through :meth:`from_pretrained`; a
    backend made elsewhere can be given directly.

    Args:
        backend: The model; None for the embedded one.
        method: ``"iranker"`` (step-wise elimination), ``"dranker"`` (one reply) or ``"tournament"`` (elimination in
            blocks, for long lists); None for what the model was trained for.
        style: Style of the prompts, ``"natural"`` or ``"compact"``; None for what the model was trained with.
        template: A template file of your own, used for every domain instead of the package's.
        token_budget: Most tokens of prompt and reply together; None for the model's context, or less if it
            was trained with less.
        thoughts: A file of thoughts (see :mod:`~unified_ranker.prompts.thoughts`), of which the nearest stand in each
            prompt; or a book that was opened already.
        thought_count: How many; 3 by default.
        **options: The method's own options (``layout`` of ``"iranker"``), ``shuffles`` (join the rankings of so many
            random orders), and those of :class:`~unified_ranker.strategies.base.Sampling`: ``reasoning``,
            ``temperature``, ``top_p``, ``max_tokens``, ``seed``, ``shuffle_seed``, ``on_error``, ``retries``,
            ``unguided``.

    Raises:
        OptionError: an option is not known or has a value that cannot be used.
        TemplateError: the template file is malformed.

    Example:
        >>> from unified_ranker.backends import ScriptedBackend
        >>> ranking = Ranker(ScriptedBackend(["A", "C"])).rank("red fruit", ["sky", "cherry", "lime"])
        >>> [place.text for place in ranking]
        ['cherry', 'lime', 'sky']
    """

    def __init__(
        self,
        backend: Backend | None = None,
        *,
        method: str | None = None,
        style: str | None = None,
        template: str | Path | None = None,
        token_budget: int | None = None,
        thoughts: str | Path | ThoughtBook | None = None,
        thought_count: int | None = None,
        settings: ModelSettings | None = None,
        **options: Any,
    ) -> None:
        if backend is None:
            from unified_ranker.backends import load_backend

            path = embedded_path()
            settings = settings or read_settings(path)
            backend = load_backend("transformers", str(path))
        settings = settings or ModelSettings()
        self.backend = backend
        self.method = method or settings.method
        self.style = style or settings.style
        self.token_budget = token_budget if token_budget is not None else settings.token_budget
        self.options = {
            **{k: v for k, v in settings.options.items() if k in method_named(self.method).options},
            **options,
        }
        check_options(self.method, self.options)
        if _asked_for("guided", self.options) and not backend.patterns:
            raise OptionError("guided=True: this backend cannot hold a reply to a pattern; use 'vllm', or permute=True")
        self._own_template: Template | None = load_template_file(template) if template is not None else None
        if thought_count is not None and not isinstance(thoughts, (str, Path)):
            raise OptionError(f"thought_count={thought_count!r} goes with a file of thoughts")
        if isinstance(thoughts, (str, Path)):
            thoughts = ThoughtBook(read_thoughts(Path(thoughts)), count=3 if thought_count is None else thought_count)
        self._thoughts = thoughts
        self._strategies: dict[str, Strategy] = {}
        self._batchers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, MicroBatcher] = weakref.WeakKeyDictionary()
        # A wrong option is better told now than at the first query.
        self.strategy("passage")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path | None = None,
        *,
        method: str | None = None,
        backend: str = "transformers",
        revision: str | None = None,
        dtype: str | None = None,
        device: str | None = None,
        batch_tokens: int | None = None,
        style: str | None = None,
        template: str | Path | None = None,
        token_budget: int | None = None,
        backend_options: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Ranker:
        """Load a model.

        Args:
            name_or_path: A folder, or the name of a model on the hub; None for the embedded model.
            method: See :class:`Ranker`.
            backend: ``"transformers"``, ``"vllm"``, ``"vllm-async"`` or ``"openai"``.
            revision: Branch, tag or commit on the hub.
            dtype: ``"float32"``, ``"bfloat16"``, ``"float16"``; by default float32 on a CPU, and what the checkpoint
                has elsewhere.
            device: Such as ``"cpu"`` or ``"cuda:0"``; by default an accelerator where there is one.
            batch_tokens: Most prompt tokens that go through the model at once.
            style: See :class:`Ranker`.
            template: See :class:`Ranker`.
            token_budget: See :class:`Ranker`.
            backend_options: Further options of the backend: those of vLLM's engine (``tensor_parallel_size``), or those
                of a server (``base_url``).
            **options: See :class:`Ranker`.

        Raises:
            OptionError: an option is not known or has a value that cannot be used.
            BackendError: the model cannot be loaded; offline, the message says so.
            MissingExtraError: the backend's package is not installed.
        """
        from unified_ranker.backends import load_backend

        method_named(method) if method else None
        source = str(name_or_path) if name_or_path is not None else str(embedded_path())
        given = {"revision": revision, "dtype": dtype, "device": device, "batch_tokens": batch_tokens}
        given = {key: value for key, value in given.items() if value is not None}
        loaded = load_backend(backend, source, **{**given, **(backend_options or {})})
        return cls(
            loaded,
            settings=loaded.settings,
            method=method,
            style=style,
            template=template,
            token_budget=token_budget,
            **options,
        )

    def strategy(self, domain: str) -> Strategy:
        """Return the strategy as it is set up for a domain.

        Raises:
            OptionError: the domain is not known, or an option cannot be used.
        """
        if domain not in self._strategies:
            check_domain(domain)

            def writer(folder: str) -> PromptWriter:
                template = self._own_template or load_template(self.style, folder, domain)
                return PromptWriter(template, self.backend.text, self.token_budget, self._thoughts)

            folder = method_named(self.method).template
            self._strategies[domain] = make_strategy(self.method, writer=writer(folder), writers=writer, **self.options)
        return self._strategies[domain]

    async def _arun(self, example: RankingExample) -> Ranking:
        strategy = self.strategy(example.domain)
        if isinstance(self.backend, AsyncBackend):
            return await asyncio.wrap_future(self.backend.submit(run_async(strategy, example, self.backend)))
        loop = asyncio.get_running_loop()
        if loop not in self._batchers:
            self._batchers[loop] = MicroBatcher(self.backend)
        return await run_async(strategy, example, self._batchers[loop])

    def _run(self, examples: Iterable[RankingExample], *, concurrency: int) -> Iterator[Ranking]:
        class _ByDomain:
            """Each example goes to the strategy of its domain, all through one driver."""

            name = self.method

            @staticmethod
            def rank(example: RankingExample) -> Any:
                return self.strategy(example.domain).rank(check_example(example))

        if isinstance(self.backend, AsyncBackend):
            yield from run_concurrent(_ByDomain(), examples, self.backend, concurrency=concurrency)
        else:
            yield from run_batch(_ByDomain(), examples, self.backend, concurrency=concurrency)


def _asked_for(name: str, options: Any) -> bool:
    """Tell whether an option is set, here or in a method that is part of another."""
    if isinstance(options, Mapping):
        return bool(options.get(name)) or any(_asked_for(name, value) for value in options.values())
    return isinstance(options, (list, tuple)) and any(_asked_for(name, value) for value in options)
