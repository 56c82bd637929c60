"""Whoever ranks in a benchmark: a language model by a method, or a baseline."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from unified_ranker.benchmarks.baselines.base import Baseline
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner.estimate import CountingBackend, Estimate

from unified_ranker.backends.scripted import WordTools
from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.embedding import Embedder
from unified_ranker.exchange import Backend
from unified_ranker.model_settings import ModelSettings, embedded_path, read_settings
from unified_ranker.prompts.thoughts import read_thoughts
from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import Ranking, RankingExample, Usage, places_below

#: Arguments that say how a model is loaded.
LOADING = ("revision", "dtype", "device", "batch_tokens")
#: What the embedded model is called in results.
EMBEDDED = "tiny"


class RankedList(NamedTuple):
    """A ranking with the seconds that went by for it."""

    ranking: Ranking
    wall: float


class Arm(Protocol):
    """One model by one method.

    Attributes:
        model: What the model is called in results.
        method: The method; a baseline's is its own name.
    """

    model: str
    method: str

    def refuses(self, task: BuiltTask) -> str:
        """Return why the arm does not apply to a task; empty where it does."""

    def settings(self, task: BuiltTask) -> Mapping[str, Any]:
        """Return what decides its rankings on a task, as plain types."""

    def open(self, task: BuiltTask) -> Mapping[str, Any]:
        """Make it ready for a task, and return what was found out meanwhile, for the cell's facts."""

    def rank(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Iterator[RankedList]:
        """Rank lists of a task that was opened, in their order."""

    def estimate(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Estimate:
        """Return what ranking the lists would cost, without ranking them."""

    def forget(self) -> None:
        """Forget what was computed for lists before, so that the next one starts cold."""


class ModelArm:
    """A language model.

    Args:
        arguments: Those of :meth:`~unified_ranker.ranker.Ranker.from_pretrained`.
        method: The method; None for what the model was trained for.
        name: What the model is called in results; None for ``tiny`` (the embedded one) or the last part of its name.
        concurrency: Most lists that run at the same time.
        share: An arm with the same model, whose backend this one uses.
    """

    def __init__(
        self,
        arguments: Mapping[str, Any],
        *,
        method: str | None = None,
        name: str | None = None,
        concurrency: int = 64,
        share: ModelArm | None = None,
    ) -> None:
        self._arguments = {key: value for key, value in arguments.items() if key != "method"}
        self._share, self._concurrency = share, concurrency
        source = self._arguments.get("name_or_path")
        self._source = str(source) if source is not None else str(embedded_path())
        self._settings = self._read_settings()
        self.method = method or arguments.get("method") or self._settings.method
        # A wrong option of any arm is told before the first arm ranks anything; thoughts are read when they are needed.
        self._ranker(CountingBackend(WordTools()), without=("thoughts", "thought_count"))
        self.model = name or (EMBEDDED if source is None else Path(str(source)).name)

    def refuses(self, task: BuiltTask) -> str:
        """Return nothing: a language model ranks everything."""
        return ""

    def _read_settings(self) -> ModelSettings:
        """Return how the model wants to be asked, without loading it."""
        if self._arguments.get("backend") != "openai":
            return read_settings(self._source, revision=self._arguments.get("revision"))
        # A server tells nothing of its model; its tokenizer's folder may.
        own = self._arguments.get("backend_options") or {}
        tokenizer = own.get("tokenizer")
        return read_settings(tokenizer, revision=own.get("revision")) if tokenizer else ModelSettings()

    @cached_property
    def backend(self) -> Backend:
        """The loaded model."""
        if self._share is not None:
            return self._share.backend
        # Without the method's options, which an arm with another method that shares the model may not know.
        given = ("name_or_path", "backend", "backend_options", *LOADING)
        return Ranker.from_pretrained(**{key: self._arguments[key] for key in given if key in self._arguments}).backend

    def _ranker(self, backend: Backend, *, without: Sequence[str] = (), **changed: Any) -> Ranker:
        loading = ("name_or_path", "backend", "backend_options", *LOADING, *without)
        rest = {key: value for key, value in self._arguments.items() if key not in loading}
        return Ranker(backend, method=self.method, settings=self._settings, **{**rest, **changed})

    @cached_property
    def ranker(self) -> Ranker:
        """The model with its method."""
        return self._ranker(self.backend)

    def settings(self, task: BuiltTask) -> Mapping[str, Any]:
        """Return the model's fingerprint, its prompts' and the options."""
        # What a file holds counts, by its hash, not where it lies.
        hashed = ("name_or_path", "device", "template", "thoughts")
        given = {key: value for key, value in self._arguments.items() if key not in hashed}
        found = {
            "source": self._where(),
            "model_hash": model_hash(self._source),
            "prompt_hash": self._prompt_hash(task.domain),
            "trained_options": dict(self._settings.options),
            **self._thoughts_hash(),
            **given,
        }
        plain: dict[str, Any] = json.loads(json.dumps(found, default=str))
        return plain

    def _where(self) -> str:
        if self._arguments.get("name_or_path") is None:
            return "embedded"
        return "folder" if Path(self._source).is_dir() else self._source

    def _prompt_hash(self, domain: str) -> str:
        from unified_ranker.prompts import load_template
        from unified_ranker.prompts.template import load_template_file
        from unified_ranker.strategies.registry import JOINED, METHODS, PARTS, method_named

        own = self._arguments.get("template")
        style = self._arguments.get("style") or self._settings.style
        budget = self._arguments.get("token_budget", self._settings.token_budget)
        # Parts of a method speak with templates of their own, which options may name at any depth.
        folders = [method_named(self.method).template]
        if any(name in self._arguments for name in PARTS) or self.method in JOINED:
            folders = sorted({method.template for method in METHODS.values()})
        templates = [load_template_file(own)] if own else [load_template(style, name, domain) for name in folders]
        return _digest(repr((templates, budget, self._settings.labels)).encode("utf-8"))

    def _thoughts_hash(self) -> dict[str, str]:
        given = self._arguments.get("thoughts")
        if not given:
            return {}
        # The reader tells what is wrong with a file.
        read_thoughts(Path(given))
        return {"thoughts_hash": _digest(Path(given).read_bytes())}

    def open(self, task: BuiltTask) -> Mapping[str, Any]:
        """Load the model, once."""
        self.ranker.strategy(task.domain)
        return {}

    def rank(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Iterator[RankedList]:
        """Rank lists; the seconds of a batch are shared by the lists that are done with it."""
        return timed(self.ranker.rank_batch(examples, concurrency=self._concurrency))

    def forget(self) -> None:
        """Empty the caches of the backend, of prefixes and tokens, and the embeddings that thoughts are found by."""
        if hasattr(self.backend, "reset_cache"):
            self.backend.reset_cache()
        if isinstance(self.backend.text, TokenizerTools):
            self.backend.text.forget()
        Embedder.forget_all()

    def estimate(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Estimate:
        """Write all prompts and count them."""
        counting = CountingBackend(self.backend.text)
        # Replies that are made up are no faults of the model's.
        ranker = self._ranker(counting, on_error="repair")
        for _ in ranker.rank_batch(examples):
            pass
        exact = not counting.free and counting.beginnings <= len(examples)
        return Estimate(len(examples), counting.calls, counting.prompt_tokens, exact=exact)


class BaselineArm:
    """A baseline.

    Args:
        baseline: The baseline.
        seed: Makes its training repeatable.
        scratch: Folder for its models and indices.
        options: What it was made with, for the cell's facts.
        name: What it is called in results; None for its own name.
    """

    def __init__(
        self,
        baseline: Baseline,
        *,
        seed: int,
        scratch: Path,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        self.model = self.method = name or baseline.name
        self._baseline, self._seed, self._scratch, self._options = baseline, seed, scratch, dict(options or {})
        self._scorers: dict[str, Any] = {}

    def refuses(self, task: BuiltTask) -> str:
        """Return why the baseline has nothing to say on a task."""
        from unified_ranker.benchmarks.baselines.first_stage import FirstStage

        if task.domain not in self._baseline.domains:
            return f"{self._baseline.name} is for {', '.join(self._baseline.domains)}"
        if isinstance(self._baseline, FirstStage) and not FirstStage.ordered(task):
            return "its lists are shuffled"
        return ""

    def settings(self, task: BuiltTask) -> Mapping[str, Any]:
        """Return the options, the seed, and the data it learned from."""
        trained = self._baseline.trained
        return {
            "options": self._options,
            "seed": self._seed,
            "training_hash": task.fingerprint("train") if trained and task.card["splits"]["train"]["lists"] else "",
            "history_hash": task.history_fingerprint if trained else "",
        }

    def open(self, task: BuiltTask) -> Mapping[str, Any]:
        """Prepare it on the training side of the task."""
        started = time.perf_counter()
        scorer = self._baseline.prepare(task, seed=self._seed, scratch=self._scratch)
        self._scorers[task.name] = scorer
        seconds = round(time.perf_counter() - started, 2)
        return {"chosen": dict(self._baseline.settings(scorer)), "prepare_seconds": seconds}

    def rank(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Iterator[RankedList]:
        """Order each list by its scores; equal ones stay in the list's order."""
        scorer = self._scorers[task.name]
        elsewhere = getattr(scorer, "seconds_elsewhere", 0.0)
        for found in timed(ranking_by(example, scorer.score(example), method=self.method) for example in examples):
            yield RankedList(found.ranking, found.wall + elsewhere)

    def forget(self) -> None:
        """Empty the embeddings that all baselines share."""
        Embedder.forget_all()

    def estimate(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Estimate:
        """Return nothing but the number of lists: a baseline asks no language model."""
        return Estimate(len(examples), 0, 0)


def ranking_by(example: RankingExample, scores: Sequence[float], *, method: str) -> Ranking:
    """Return the ranking that scores give, best first; equal ones stay in the list's order."""
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return Ranking(
        example_id=example.id,
        order=tuple(example.candidates[place] for place in order),
        scores=places_below(len(order)),
        usage=Usage(),
        method=method,
    )


def timed(rankings: Iterator[Ranking], clock: Callable[[], float] = time.perf_counter) -> Iterator[RankedList]:
    """Yield each ranking with the seconds since the one before was yielded; the consumer's own are not counted."""
    started = clock()
    for ranking in rankings:
        yield RankedList(ranking, clock() - started)
        started = clock()


def model_hash(source: str) -> str:
    """Return a hash of a model folder's weights, settings and tokenizer; of the name alone for a model on the hub."""
    folder = Path(source)
    if not folder.is_dir():
        return _digest(source.encode("utf-8"))
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json", ".jinja", ".txt", ".model"):
            digest.update(path.name.encode("utf-8"))
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()[:16]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Cost:
    """The estimate of a cell, for a dry run."""

    model: str
    method: str
    task: str
    missing: int
    estimate: Estimate
