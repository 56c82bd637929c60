from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from speed_judges import Engine, EngineBackend, EngineTools
from toy_tasks import build_toy
from unified_ranker.benchmarks.speed import arms as named
from unified_ranker.benchmarks.speed import run
from unified_ranker.benchmarks.speed.arms import Arm
from unified_ranker.benchmarks.speed.measure import Timed
from unified_ranker.benchmarks.speed.run import BACKENDS, SHORT, measure_speed

from unified_ranker.errors import BackendError, DataError, MissingExtraError, MissingSourceError, OptionError
from unified_ranker.model_settings import ModelSettings, read_settings, write_settings

LISTS, SIZE, REPEATS = 3, 12, 2
SIZES = (4, 8)
# Prompts of the compact style in words: three of the query, two marks; of a candidate six, a mark, the query again.
WORDS = {n: 5 + 10 * n for n in range(1, 40)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # No grade twice, so that no text stands in two lists.
    grades = [[20 * number + place for place in range(SIZE)] for number in range(LISTS)]
    return build_toy(tmp_path_factory.mktemp("data"), "passage-5", test=grades)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds settings alone: the engine that stands in needs no weights."""
    folder = tmp_path_factory.mktemp("models") / "invented"
    folder.mkdir()
    settings = ModelSettings(
        style="compact", labels=tuple(f"<{n}>" for n in range(1, 41)), options={"layout": "append"}
    )
    write_settings(folder, settings)
    return folder


@dataclass
class Loads:
    """Which backends were loaded, with which options, and what the engine wrote."""

    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    made: list[EngineBackend] = field(default_factory=list)
    engine: Engine = field(default_factory=Engine)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    """Let an engine that knows the grades stand in for every backend."""
    found = Loads()

    def load(name: str, folder: str, **options: Any) -> EngineBackend:
        found.asked.append((name, folder, options))
        settings = read_settings(folder)
        text = EngineTools(labels=settings.labels, single=lambda _: True)
        return EngineBackend(found.engine, text, settings, options=options)

    class SamplingParams(SimpleNamespace):
        pass

    vllm = ModuleType("vllm")
    vllm.SamplingParams = SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", vllm)
    monkeypatch.setattr(run, "load_backend", load)
    monkeypatch.setattr(EngineBackend, "made", found.made, raising=False)
    yield found


def measured(data: Path, model: Path, lines: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "data": data,
        "task": "passage-5",
        "model": str(model),
        "backends": ["vllm"],
        "queries": LISTS,
        "candidates": SIZE,
        "repeats": REPEATS,
        "growth": SIZES,
        "growth_queries": 2,
        "growth_repeats": 1,
        "say": (lines if lines is not None else []).append,
    }
    return measure_speed(**{**given, **changes})


def test_the_whole_comparison_on_one_engine(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model)
    assert set(found) == {"settings", "arms", "ratios", "ratios_spread", "growth"}
    json.dumps(found, allow_nan=False)
    structured = f"{named.STEPS}, structured outputs"
    references = [named.LOCK_STEP_CACHED, named.HEAPSORT, named.LOCK_STEP]
    assert [row["arm"] for row in found["arms"]] == [*named.STRATEGIES, structured, named.FLOOR, *references]
    assert [row["arm"] for row in found["arms"] if row["reference"]] == references
    assert all(len(row["seconds"]) == REPEATS for row in found["arms"])
    # A model that knows the grades finds the best in every arm that ranks.
    assert all(row["RR"] == 1.0 for row in found["arms"] if row["arm"] != named.FLOOR)
    assert found["settings"]["model"] == "invented"
    settings = {key: found["settings"][key] for key in ("task", "queries", "candidates", "repeats")}
    assert settings == {"task": "passage-5", "queries": LISTS, "candidates": SIZE, "repeats": REPEATS}


def test_cost_is_what_each_arm_has_to_ask_for(data: Path, model: Path, loads: Loads) -> None:
    rows = {row["arm"]: row for row in measured(data, model, growth=())["arms"]}

    def cost(name: str) -> tuple[float, float]:
        return rows[name]["calls"], rows[name]["prompt_tokens_computed"]

    rounds = sum(WORDS[n] for n in range(2, SIZE + 1))
    assert cost(named.APPEND) == (1, WORDS[SIZE])
    assert cost("rounds, a request a step") == (SIZE - 1, rounds)
    assert cost(named.LOCK_STEP) == cost(named.LOCK_STEP_CACHED) == (SIZE - 1, rounds)
    assert cost("rounds, 2 leave a step") == (6, sum(WORDS[n] for n in (12, 10, 8, 6, 4, 2)))
    assert cost("rounds, 4 leave a step") == (3, WORDS[12] + WORDS[8] + WORDS[4])
    assert cost("append, 4 leave a step")[0] == 3
    assert cost("append, one decode, stop at 10") == (1, WORDS[SIZE])
    assert rows["append, one decode, stop at 10"]["generated_tokens"] == 2
    assert cost("append, one decode, 4 shuffles") == (4, 4 * WORDS[SIZE])
    # Two blocks of six, of which three each go on.
    assert cost(named.TOURNAMENT) == (3, 3 * WORDS[6])
    # One comparison builds the heap of one level; nine more find the second to the tenth.
    assert cost(named.HEAPSORT) == (10, WORDS[12] + sum(WORDS[n] for n in range(3, 12)))
    assert "calls" not in rows[named.FLOOR]


def test_ratios_are_those_of_the_arms(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model)
    rounds, sort = 825, 800
    assert rounds == sum(WORDS[n] for n in range(2, 13)) and sort == WORDS[12] + sum(WORDS[n] for n in range(3, 12))
    ratios, rows = found["ratios"], {row["arm"]: row for row in found["arms"]}
    assert ratios["prompt_tokens_vs_lockstep"] == pytest.approx(rounds / WORDS[12])
    assert ratios["prompt_tokens_vs_lockstep_cached"] == pytest.approx(rounds / WORDS[12])
    assert ratios["prompt_tokens_vs_heapsort"] == pytest.approx(sort / WORDS[12])
    assert ratios["prompt_token_exponent"] == pytest.approx(log2(WORDS[8] / WORDS[4]))
    assert ratios["prompt_token_exponent_lockstep"] == pytest.approx(
        log2(sum(WORDS[n] for n in range(2, 9)) / sum(WORDS[n] for n in range(2, 5)))
    )
    for name, other in (
        ("throughput_vs_lockstep", named.LOCK_STEP),
        ("throughput_vs_lockstep_cached", named.LOCK_STEP_CACHED),
        ("throughput_vs_heapsort", named.HEAPSORT),
    ):
        quicker = [a / b for a, b in zip(rows[other]["seconds"], rows[named.APPEND]["seconds"], strict=True)]
        assert ratios[name] == pytest.approx(sum(quicker) / 2)
        assert found["ratios_spread"][name] == pytest.approx(
            {"median": sum(quicker) / 2, "low": min(quicker), "high": max(quicker)}
        )
    over = [a / b for a, b in zip(rows[named.APPEND]["seconds"], rows[named.FLOOR]["seconds"], strict=True)]
    assert ratios["over_floor"] == pytest.approx(sum(over) / 2)
    assert len(ratios) == 9


def test_growth_is_that_of_the_arms_that_stand_for_their_kind(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model)["growth"]
    assert {entry["arm"] for entry in found} == {named.APPEND, named.STEPS, named.TOURNAMENT, named.LOCK_STEP}
    for entry in found:
        assert (entry["backend"], entry["sizes"], len(entry["seconds"])) == ("vllm", list(SIZES), 2)
        assert all(seconds > 0 for seconds in entry["seconds"])
    by_arm = {entry["arm"]: entry["prompt_tokens"] for entry in found}
    assert by_arm[named.APPEND] == [WORDS[4], WORDS[8]]
    assert by_arm[named.LOCK_STEP] == [sum(WORDS[n] for n in range(2, size + 1)) for size in SIZES]


def test_the_engine_is_loaded_with_a_prefix_cache_and_without_and_closed(data: Path, model: Path, loads: Loads) -> None:
    lines: list[str] = []
    measured(data, model, lines, backend_options={"max_model_len": 99})
    assert loads.asked == [
        ("vllm", str(model), {"max_model_len": 99}),
        ("vllm", str(model), {"max_model_len": 99, "enable_prefix_caching": False}),
    ]
    assert lines[:2] == ["loading vllm", "loading vllm without a prefix cache"]
    # The third holds labels by structured outputs, on the engine of the first.
    cached, structured, uncached = loads.made
    assert (cached.closed, structured.closed, uncached.closed) == (1, 0, 1)
    assert structured.structured and not cached.structured and not uncached.structured
    assert structured.settings == cached.settings and structured.text is cached.text
    assert structured.asked == (REPEATS + 1) * LISTS * (SIZE - 1)


def test_every_measured_run_begins_with_a_cold_cache(data: Path, model: Path, loads: Loads) -> None:
    measured(data, model)
    cached, _, uncached = loads.made
    # Eleven strategies, one with structured outputs, the floor, two references; three of them at each of two sizes.
    assert len(named.STRATEGIES) == 11
    assert cached.resets == (11 + 1 + 1 + 2) * REPEATS + 3 * 2
    assert uncached.resets == REPEATS + 2
    # Lock-step without a cache, and nothing else, is asked there: warm-up and repeats, then both sizes.
    asked_each = LISTS * (SIZE - 1)
    grown = sum((1 + 2) * (size - 1) for size in SIZES)
    assert uncached.asked == (1 + REPEATS) * asked_each + grown


def test_the_floor_is_one_prefill_and_as_many_tokens_as_there_are_eliminations(
    data: Path, model: Path, loads: Loads
) -> None:
    measured(data, model, growth=())
    assert len(loads.engine.asked) == (1 + REPEATS) * LISTS
    for words, params in loads.engine.asked:
        assert words == WORDS[SIZE]
        assert vars(params) == {"temperature": 0.0, "max_tokens": SIZE - 1, "ignore_eos": True, "detokenize": False}


def test_other_backends_run_what_can_be_compared_and_give_no_ratios(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model, backends=["transformers", "vllm-async"], backend_options={"max_model_len": 99})
    keys = [(row["backend"], row["arm"]) for row in found["arms"]]
    assert keys == [(backend, arm) for backend in ("transformers", "vllm-async") for arm in SHORT]
    assert (found["ratios"], found["ratios_spread"]) == ({}, {})
    assert loads.asked == [("transformers", str(model), {}), ("vllm-async", str(model), {"max_model_len": 99})]
    assert [(entry["backend"], entry["arm"]) for entry in found["growth"]] == [
        ("transformers", named.APPEND),
        ("transformers", named.STEPS),
    ]


def test_ratios_do_not_depend_on_the_order_in_which_backends_are_named(data: Path, model: Path, loads: Loads) -> None:
    first = measured(data, model, backends=["vllm", "transformers"])
    second = measured(data, model, backends=["transformers", "vllm"])
    assert set(second["ratios"]) == set(first["ratios"])
    assert {entry["backend"] for entry in (*first["growth"], *second["growth"])} == {"vllm"}


def test_engines_are_closed_where_the_work_fails(
    data: Path, model: Path, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise BackendError("the engine died")

    monkeypatch.setattr(EngineBackend, "generate", fail)
    with pytest.raises(BackendError, match="the engine died"):
        measured(data, model)
    assert [made.closed for made in loads.made if not made.structured] == [1, 1]


@pytest.mark.parametrize(
    "growth", [{"growth": (4, LISTS * SIZE + 1)}, {"growth_queries": LISTS + 1}], ids=["sizes", "queries"]
)
def test_lists_that_cannot_be_made_are_told_before_anything_is_measured(
    data: Path, model: Path, loads: Loads, growth: dict[str, Any]
) -> None:
    lines: list[str] = []
    with pytest.raises(DataError):
        measured(data, model, lines, **growth)
    assert [line for line in lines if line.startswith("repeat")] == []


def test_a_model_gets_the_labels_that_the_longest_lists_need(
    data: Path, model: Path, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, int, bool]] = []

    def labels(given: Path, count: int, *, out: Path) -> Path:
        asked.append((given, count, out.exists()))
        return given

    monkeypatch.setattr(run, "with_labels", labels)
    measured(data, model, backends=["transformers"], candidates=3, growth=(4, 30))
    measured(data, model, backends=["transformers"], candidates=7, growth=())
    assert asked == [(model, 30, False), (model, 7, False)]


def test_a_size_that_is_named_twice_is_grown_once(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model, backends=["transformers"], growth=(8, 4, 8))["growth"]
    assert [entry["sizes"] for entry in found] == [[8, 4]] * 2
    assert [len(entry["seconds"]) for entry in found] == [2] * 2
    assert found[0]["prompt_tokens"] == [WORDS[8], WORDS[4]]
    assert found[0]["prompt_token_exponent"] == pytest.approx(log2(WORDS[8] / WORDS[4]))


def test_a_growth_of_no_sizes_is_none(data: Path, model: Path, loads: Loads) -> None:
    found = measured(data, model, growth=())
    assert found["growth"] == []
    assert not [name for name in found["ratios"] if "exponent" in name]
    assert len(found["ratios"]) == 7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"backends": ["vlm"]}, "backends='vlm' is not known; did you mean 'vllm'"),
        ({"backends": ["transformers", "openai"]}, "backends='openai' is not known"),
        ({"queries": 0}, "queries=0 must be ≥ 1"),
        ({"candidates": 1}, "candidates=1 must be ≥ 2"),
        ({"repeats": 0}, "repeats=0 must be ≥ 1"),
        ({"growth_queries": 0}, "growth_queries=0 must be ≥ 1"),
        ({"growth_repeats": -1}, "growth_repeats=-1 must be ≥ 1"),
        ({"growth": (5,)}, r"growth=\[5\] must hold at least two sizes"),
        ({"growth": (5, 5)}, r"growth=\[5, 5\] must hold at least two sizes"),
        ({"growth": (1, 5)}, r"growth=\[1, 5\] must hold at least two sizes, each ≥ 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_loaded(
    changes: dict[str, Any], words: str, data: Path, model: Path, loads: Loads
) -> None:
    with pytest.raises(OptionError, match=words):
        measured(data, model, **changes)
    assert loads.asked == []


def test_no_backend_at_all_is_refused(data: Path, model: Path, loads: Loads) -> None:
    with pytest.raises(OptionError, match="backends"):
        measured(data, model, backends=[])


def test_a_backend_that_is_named_twice_is_refused_or_measured_once(data: Path, model: Path, loads: Loads) -> None:
    try:
        found = measured(data, model, backends=["transformers", "transformers"])
    except OptionError as error:
        assert "transformers" in str(error)
        return
    assert [row["arm"] for row in found["arms"]] == list(SHORT)
    assert all(len(row["seconds"]) == REPEATS for row in found["arms"])


def test_too_few_lists_and_tasks_that_were_not_built_are_told(data: Path, model: Path, loads: Loads) -> None:
    with pytest.raises(DataError, match=f"has {LISTS} test lists, not {LISTS + 1}"):
        measured(data, model, queries=LISTS + 1)
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie"):
        measured(data, model, task="movie")
    assert loads.asked == []


def test_a_missing_backend_names_its_extra(data: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'unified-ranker\[vllm\]'"):
        measured(data, model)


def test_a_model_folder_that_is_not_there_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="nowhere"):
        measured(data, tmp_path / "nowhere", backends=["transformers"])


def timed(name: str, *seconds: float, backend: str = "vllm") -> Timed:
    return Timed(Arm(name, backend, lambda _: [], lambda: None), seconds, (), 1)


TIMED = {
    entry.arm.key: entry
    for entry in (
        timed(named.APPEND, 2.0, 4.0, 1.0),
        timed(named.LOCK_STEP, 8.0, 8.0, 8.0),
        timed(named.LOCK_STEP_CACHED, 4.0, 4.0, 4.0),
        timed(named.HEAPSORT, 20.0, 20.0, 5.0),
        timed(named.FLOOR, 1.0, 1.0, 1.0),
        timed(named.APPEND, 100.0, 100.0, 100.0, backend="transformers"),
    )
}
ROWS = [
    {"backend": "transformers", "arm": named.APPEND, "prompt_tokens_computed": 1.0},
    {"backend": "vllm", "arm": named.APPEND, "prompt_tokens_computed": 50.0},
    {"backend": "vllm", "arm": named.LOCK_STEP, "prompt_tokens_computed": 200.0},
    {"backend": "vllm", "arm": named.LOCK_STEP_CACHED, "prompt_tokens_computed": 100.0},
    {"backend": "vllm", "arm": named.HEAPSORT, "prompt_tokens_computed": 125.0},
    {"backend": "vllm", "arm": named.FLOOR},
]


def test_ratios_are_medians_of_repeats_with_their_ends() -> None:
    grown = [
        {"backend": "vllm", "arm": named.APPEND, "prompt_token_exponent": 0.9},
        {"backend": "vllm", "arm": named.STEPS, "prompt_token_exponent": 5.0},
        {"backend": "vllm", "arm": named.LOCK_STEP, "prompt_token_exponent": 1.8},
    ]
    ratios, spread = run._ratios(TIMED, ROWS, grown)
    assert ratios == {
        "prompt_tokens_vs_lockstep": 4.0,
        "prompt_tokens_vs_lockstep_cached": 2.0,
        "prompt_tokens_vs_heapsort": 2.5,
        # 8/2, 8/4, 8/1; 4/2, 4/4, 4/1; 20/2, 20/4, 5/1; and how many times as long as the floor: 2, 4, 1.
        "throughput_vs_lockstep": 4.0,
        "throughput_vs_lockstep_cached": 2.0,
        "throughput_vs_heapsort": 5.0,
        "over_floor": 2.0,
        "prompt_token_exponent": 0.9,
        "prompt_token_exponent_lockstep": 1.8,
    }
    assert spread == {
        "throughput_vs_lockstep": {"median": 4.0, "low": 2.0, "high": 8.0},
        "throughput_vs_lockstep_cached": {"median": 2.0, "low": 1.0, "high": 4.0},
        "throughput_vs_heapsort": {"median": 5.0, "low": 5.0, "high": 10.0},
        "over_floor": {"median": 2.0, "low": 1.0, "high": 4.0},
    }


def test_without_growth_there_are_no_exponents_and_without_vllm_no_ratios() -> None:
    assert not [name for name in run._ratios(TIMED, ROWS, [])[0] if "exponent" in name]
    others = {key: entry for key, entry in TIMED.items() if entry.arm.backend != "vllm"}
    assert run._ratios(others, ROWS, []) == ({}, {})


def test_the_default_is_every_backend_of_one_machine() -> None:
    assert BACKENDS == ("vllm", "vllm-async", "transformers")
    assert set(SHORT) <= set(named.STRATEGIES)
