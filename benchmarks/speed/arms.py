"""What is compared: each arm ranks the same lists with the same model in another way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from unified_ranker.benchmarks.speed.references import heapsort, lock_step

from unified_ranker.model_settings import ModelSettings
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.ranker import Ranker
from unified_ranker.schema.types import Ranking, RankingExample

Work = Callable[[Sequence[RankingExample]], list[Ranking]]

# Names that ratios and plots look for.
APPEND = "append, one decode"
STEPS = "append, a request a step"
LOCK_STEP = "lock-step rounds, no cache"
LOCK_STEP_CACHED = "lock-step rounds, prefix cache"
HEAPSORT = "sequential setwise heapsort, top 10"
TOURNAMENT = "tournament, blocks of 10"
FLOOR = "floor: plain decode"


@dataclass(frozen=True)
class Arm:
    """One way to rank.

    Attributes:
        name: Its name, unique among the arms of a backend.
        backend: Name of the backend.
        work: Ranks lists.
        reset: Makes the backend forget all prefixes.
        reference: Whether it is somebody else's loop.
        ranks: Whether what it returns is a ranking; the floor's is not.
    """

    name: str
    backend: str
    work: Work
    reset: Callable[[], None]
    reference: bool = False
    ranks: bool = True

    @property
    def key(self) -> str:
        """Name and backend."""
        return f"{self.backend}: {self.name}"


#: Our own strategies, by name: method and options.
STRATEGIES: dict[str, dict[str, Any]] = {
    APPEND: {"permute": True},
    STEPS: {},
    "rounds, a request a step": {"layout": "rounds"},
    "rounds, 2 leave a step": {"layout": "rounds", "drop_per_step": 2},
    "rounds, 4 leave a step": {"layout": "rounds", "drop_per_step": 4},
    "append, 4 leave a step": {"drop_per_step": 4},
    "append, one decode, stop at 10": {"permute": True, "stop_at": 10},
    "append, one decode to 10, who are ranked anew": {"permute": True, "stop_at": 10, "finish": "iranker"},
    TOURNAMENT: {"method": "tournament", "permute": True, "block": 10},
    "append, one decode, 4 shuffles": {"permute": True, "shuffles": 4},
    "dranker, one decode": {"method": "dranker", "permute": True},
}


def ranker_of(backend: Any, settings: ModelSettings, **options: Any) -> Ranker:
    """Return a ranker of a backend that was loaded before, with the model's own settings."""
    return Ranker(backend, settings=settings, **{"method": "iranker", **options})


def strategy_arms(name: str, backend: Any, settings: ModelSettings, *, only: Sequence[str] | None = None) -> list[Arm]:
    """Return our own strategies on a backend.

    Args:
        name: Name of the backend.
        backend: The backend.
        settings: How its model wants to be asked.
        only: Names of :data:`STRATEGIES`; None for all of them.
    """
    chosen = STRATEGIES if only is None else {key: STRATEGIES[key] for key in only}
    return [
        Arm(
            key,
            name,
            partial(_rank, ranker_of(backend, settings, **options)),
            reset_of(backend),
        )
        for key, options in chosen.items()
    ]


def reference_arms(name: str, backend: Any, settings: ModelSettings, *, cached: bool) -> list[Arm]:
    """Return the references on a backend whose prefix cache is on, or off."""
    writer_of = _writers(backend, settings)
    rounds = Arm(
        LOCK_STEP_CACHED if cached else LOCK_STEP,
        name,
        partial(_timed_together, lambda lists: lock_step(lists, backend, writer_of)),
        reset_of(backend),
        reference=True,
    )
    if not cached:
        return [rounds]
    # Its prompts share no more than their beginning, but whoever runs vLLM today has the cache on.
    sort = Arm(
        HEAPSORT,
        name,
        partial(_timed_alone, lambda example: heapsort([example], backend, writer_of)),
        reset_of(backend),
        reference=True,
    )
    return [rounds, sort]


def structured_arm(name: str, backend: Any, settings: ModelSettings) -> Arm:
    """Return the stepwise elimination whose labels vLLM's structured outputs hold, instead of a set of tokens."""
    other = type(backend)(backend.engine, backend.text, settings, structured=True)
    ranker = ranker_of(other, settings)
    return Arm(f"{STEPS}, structured outputs", name, partial(_rank, ranker), reset_of(backend))


def floor_arm(name: str, backend: Any, settings: ModelSettings) -> Arm:
    """Return the least that any elimination costs this engine.

    That is one prefill of the list and n - 1 decoded tokens, with nothing asked of them: no labels, no
    log-probabilities, no text.
    """
    ranker = ranker_of(backend, settings, permute=True)

    def work(examples: Sequence[RankingExample]) -> list[Ranking]:
        from vllm import SamplingParams

        prompts, params = [], []
        for example in examples:
            (request,) = next(ranker.strategy(example.domain).rank(example))
            prompts.append({"prompt_token_ids": backend.text.prompt_ids(request.messages)})
            params.append(SamplingParams(temperature=0.0, max_tokens=request.draws, ignore_eos=True, detokenize=False))
        backend.engine.generate(prompts, params, use_tqdm=False)
        return []

    return Arm(FLOOR, name, work, reset_of(backend), ranks=False)


def reset_of(backend: Any) -> Callable[[], None]:
    """Return what makes a backend start cold."""
    reset: Callable[[], None] = getattr(backend, "reset_cache", lambda: None)
    return reset


def _writers(backend: Any, settings: ModelSettings) -> Callable[[str], PromptWriter]:
    writers: dict[str, PromptWriter] = {}

    def writer_of(domain: str) -> PromptWriter:
        if domain not in writers:
            template = load_template(settings.style, "elimination", domain)
            writers[domain] = PromptWriter(template, backend.text, settings.token_budget)
        return writers[domain]

    return writer_of


def _rank(ranker: Ranker, examples: Sequence[RankingExample]) -> list[Ranking]:
    return list(ranker.rank_batch(examples, concurrency=max(1, len(examples))))


def _timed_together(work: Work, examples: Sequence[RankingExample]) -> list[Ranking]:
    """Nobody has a ranking before all have."""
    began = time.perf_counter()
    rankings = work(examples)
    seconds = time.perf_counter() - began
    return [replace(ranking, usage=replace(ranking.usage, seconds=seconds)) for ranking in rankings]


def _timed_alone(work: Callable[[RankingExample], list[Ranking]], examples: Sequence[RankingExample]) -> list[Ranking]:
    found = []
    for example in examples:
        found += _timed_together(lambda _, one=example: work(one), [example])  # type: ignore[misc]
    return found
