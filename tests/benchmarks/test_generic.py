from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from unified_ranker.benchmarks import generic
from unified_ranker.benchmarks.generic import PUBLISHED, as_markdown, run_generic

from unified_ranker.errors import BackendError, DataError, MissingExtraError, OptionError, UnifiedRankerError
from unified_ranker.model_settings import embedded_path

# ---------------------------------------------------------------------------------------------- a harness that is none


@dataclass
class Harness:
    """What stands in for the harness, and what it was asked for.

    Attributes:
        results: What it finds on each task, as the harness writes it.
        tasks: What it knows.
        models: Arguments of each model that was loaded.
        asked: Arguments of each evaluation.
        included: What each index of tasks was made of.
        error: What goes wrong, by ``"model"`` or ``"data"``.
    """

    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: list[str] = field(default_factory=lambda: ["colours", "shapes"])
    models: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    included: list[str | None] = field(default_factory=list)
    error: dict[str, Exception] = field(default_factory=dict)

    def simple_evaluate(self, *, model: Any, tasks: list[str], **rest: Any) -> dict[str, Any]:
        self.asked.append({"model": model, "tasks": tasks, **rest})
        if "data" in self.error:
            raise self.error["data"]
        return {"results": {task: self.results.get(task, {"alias": task, "acc,none": 0.5}) for task in tasks}}


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> Harness:
    found = Harness()

    class TaskManager:
        def __init__(self, include_path: str | None = None) -> None:
            found.included.append(include_path)
            self.all_tasks = found.tasks

    class Model:
        def __init__(self, **given: Any) -> None:
            found.models.append(given)
            if "model" in found.error:
                raise found.error["model"]

    modules = {name: ModuleType(name) for name in ("lm_eval", "lm_eval.tasks", "lm_eval.models.huggingface")}
    modules["lm_eval"].__dict__["simple_evaluate"] = found.simple_evaluate
    modules["lm_eval.tasks"].__dict__["TaskManager"] = TaskManager
    modules["lm_eval.models.huggingface"].__dict__["HFLM"] = Model
    for name, module in {**modules, "lm_eval.models": ModuleType("lm_eval.models")}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return found


def rows(*found: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [(row["task"], row["measure"], row["value"], row["standard_error"]) for row in found]


def test_measures_come_with_their_standard_errors_and_all_else_is_left_out(harness: Harness, tmp_path: Path) -> None:
    harness.results["colours"] = {
        "alias": "colours",
        "sample_len": 20,
        "name": "colours",
        "acc,none": 0.25,
        "acc_stderr,none": 0.1,
        "acc_norm,none": 1,
        "acc_norm_stderr,none": "N/A",
        "exact_match,strict-match": 0.5,
        "exact_match_stderr,strict-match": 0.05,
        "exact_match,flexible-extract": 0.75,
        "comment,none": "none",
    }
    assert rows(*run_generic(["org/name"], ["colours"], out=tmp_path)) == [
        ("colours", "acc", 0.25, 0.1),
        ("colours", "acc_norm", 1.0, None),
        ("colours", "exact_match (flexible-extract)", 0.75, None),
        ("colours", "exact_match (strict-match)", 0.5, 0.05),
    ]


def test_what_is_asked_for_reaches_the_harness(harness: Harness, tmp_path: Path) -> None:
    run_generic(
        ["org/name"], ["shapes"], out=tmp_path / "out", limit=3, batch_size=5, device="cuda:1", include=tmp_path
    )
    assert harness.included == [str(tmp_path)]
    assert harness.models == [{"pretrained": "org/name", "batch_size": 5, "device": "cuda:1"}]
    (asked,) = harness.asked
    assert (asked["tasks"], asked["limit"], asked["log_samples"]) == (["shapes"], 3, False)
    assert asked["task_manager"].all_tasks == harness.tasks


def test_what_is_not_asked_for_is_left_to_the_harness(harness: Harness, tmp_path: Path) -> None:
    run_generic(["org/name"], ["shapes"], out=tmp_path)
    assert harness.included == [None]
    assert harness.models == [{"pretrained": "org/name", "batch_size": 8}]
    assert harness.asked[0]["limit"] is None


def test_rows_go_by_model_and_then_by_task(harness: Harness, tmp_path: Path) -> None:
    found = run_generic([None, "org/name"], ["shapes", "colours"], out=tmp_path)
    assert [(row["model"], row["task"]) for row in found] == [
        ("tiny", "shapes"),
        ("tiny", "colours"),
        ("org/name", "shapes"),
        ("org/name", "colours"),
    ]
    assert harness.models[0]["pretrained"] == str(embedded_path())


def test_what_was_computed_is_not_computed_again(harness: Harness, tmp_path: Path) -> None:
    first = run_generic(["org/name"], ["colours"], out=tmp_path, limit=2)
    (kept,) = tmp_path.glob("name-*.json")
    assert list(json.loads(kept.read_text(encoding="utf-8"))) == ["colours, limit 2"]
    harness.results["colours"] = {"acc,none": 0.9}
    assert run_generic(["org/name"], ["colours"], out=tmp_path, limit=2) == first
    assert len(harness.asked) == 1


@pytest.mark.parametrize(
    ("models", "tasks", "limit"),
    [(["org/name"], ["shapes"], 2), (["org/name"], ["colours"], None), (["other/name"], ["colours"], 2)],
)
def test_another_task_limit_or_model_is_computed(
    models: list[str | None], tasks: list[str], limit: int | None, harness: Harness, tmp_path: Path
) -> None:
    run_generic(["org/name"], ["colours"], out=tmp_path, limit=2)
    run_generic(models, tasks, out=tmp_path, limit=limit)
    assert len(harness.asked) == 2


def test_a_model_that_was_trained_further_is_computed_anew(harness: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for weights in ("before", "after"):
        (folder / "model.safetensors").write_text(weights, encoding="utf-8")
        run_generic([str(folder)], ["colours"], out=tmp_path / "out")
    assert len(harness.asked) == 2
    assert len(list((tmp_path / "out").glob("model-*.json"))) == 2


def test_what_is_done_is_kept_where_a_later_task_fails(harness: Harness, tmp_path: Path) -> None:
    run_generic(["org/name"], ["colours"], out=tmp_path)
    harness.error["data"] = ConnectionError("no network")
    with pytest.raises(DataError):
        run_generic(["org/name"], ["colours", "shapes"], out=tmp_path)
    del harness.error["data"]
    run_generic(["org/name"], ["colours", "shapes"], out=tmp_path)
    assert [asked["tasks"] for asked in harness.asked] == [["colours"], ["shapes"], ["shapes"]]


def test_half_a_file_of_results_is_told_by_its_name(harness: Harness, tmp_path: Path) -> None:
    run_generic(["org/name"], ["colours"], out=tmp_path)
    (kept,) = tmp_path.iterdir()
    kept.write_text(kept.read_text(encoding="utf-8")[:20], encoding="utf-8")
    with pytest.raises(DataError) as caught:
        run_generic(["org/name"], ["colours"], out=tmp_path)
    assert str(caught.value).startswith(f"{kept} is no JSON") and "remove it" in str(caught.value)


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("missing", ["lm_eval", "lm_eval.tasks"])
def test_without_the_harness_it_is_told_what_to_install(
    missing: str, harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtraError, match=r"evaluating generic tasks needs .*unified-ranker\[generic\]"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


def test_without_what_the_harness_needs_for_models_it_is_told_what_to_install(
    harness: Harness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval.models.huggingface", None)
    with pytest.raises(MissingExtraError, match=r"unified-ranker\[generic\]"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


@pytest.mark.parametrize(("models", "tasks"), [([], ["colours"]), (["org/name"], []), ([], [])])
def test_at_least_one_model_and_task_are_needed(
    models: list[str | None], tasks: list[str], harness: Harness, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match="give at least one model and one task"):
        run_generic(models, tasks, out=tmp_path)


def test_a_task_that_is_not_known_is_told_with_the_nearest_before_a_model_is_loaded(
    harness: Harness, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=r"task='colors' is not known; did you mean 'colours'\?"):
        run_generic(["org/name"], ["shapes", "colors"], out=tmp_path)
    assert harness.models == []


def test_of_thousands_of_tasks_the_nearest_alone_is_told(harness: Harness, tmp_path: Path) -> None:
    harness.tasks += [f"language_{number}" for number in range(5000)]
    with pytest.raises(OptionError) as caught:
        run_generic(["org/name"], ["colors"], out=tmp_path)
    assert "did you mean 'colours'" in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("error", [OSError("no such model"), ValueError("no such architecture")])
def test_a_model_that_cannot_be_loaded_is_told(error: Exception, harness: Harness, tmp_path: Path) -> None:
    harness.error["model"] = error
    with pytest.raises(BackendError, match=f"the model 'org/name' cannot be loaded: {error}"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


@pytest.mark.parametrize("error", [FileNotFoundError("no such file"), ConnectionError("no network")])
def test_data_that_cannot_be_loaded_are_told(error: Exception, harness: Harness, tmp_path: Path) -> None:
    harness.error["data"] = error
    with pytest.raises(DataError, match=rf"data of the task 'colours' cannot be loaded \({error}\)"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


def test_a_task_that_runs_code_is_refused_with_a_way_out(harness: Harness, tmp_path: Path) -> None:
    harness.error["data"] = ValueError("Attempted to run task: colours which is marked as unsafe. Set confirm_run_…")
    with pytest.raises(OptionError, match=r"the task 'colours' is marked as unsafe.*--run-code"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


@pytest.mark.parametrize("allowed", [False, True])
def test_code_runs_where_it_is_allowed_alone(allowed: bool, harness: Harness, tmp_path: Path) -> None:
    run_generic(["org/name"], ["colours"], out=tmp_path, run_code=allowed)
    assert [asked["confirm_run_unsafe_code"] for asked in harness.asked] == [allowed]


def test_a_task_that_the_harness_cannot_evaluate_is_told(harness: Harness, tmp_path: Path) -> None:
    harness.error["data"] = ValueError("no such column")
    with pytest.raises(DataError, match="the task 'colours' cannot be evaluated: no such column"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


def test_a_task_whose_own_packages_are_missing_is_told(harness: Harness, tmp_path: Path) -> None:
    harness.error["data"] = ModuleNotFoundError("No module named 'langdetect'", name="langdetect")
    with pytest.raises(UnifiedRankerError, match="langdetect"):
        run_generic(["org/name"], ["colours"], out=tmp_path)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("option", ["limit", "batch_size"])
def test_a_number_below_one_is_refused_before_a_model_is_loaded(
    option: str, value: int, harness: Harness, tmp_path: Path
) -> None:
    with pytest.raises(OptionError, match=f"{option}={value} must be ≥ 1"):
        run_generic(["org/name"], ["colours"], out=tmp_path, **{option: value})  # type: ignore[arg-type]
    assert harness.models == []


# --------------------------------------------------------------------------------------------------------------- table


def row(model: str, task: str, measure: str, value: float, error: float | None = None) -> Mapping[str, Any]:
    return {"model": model, "task": task, "measure": measure, "value": value, "standard_error": error}


def test_the_table_has_a_line_a_task_and_measure_and_a_column_a_model() -> None:
    found = [
        row("base", "gsm8k", "exact_match (strict)", 0.1234, 0.0117),
        row("base", "ifeval", "acc", 0.5),
        row("trained", "gsm8k", "exact_match (strict)", 0.1),
        row("trained", "mathqa", "acc", 1.0, 0.0),
    ]
    assert as_markdown(found) == (
        "| task | measure | base | trained |\n"
        "|---|---|--:|--:|\n"
        "| gsm8k | exact_match (strict) | 0.123 ± 0.012 | 0.100 |\n"
        "| ifeval | acc | 0.500 |  |\n"
        "| mathqa | acc |  | 1.000 ± 0.000 |\n"
    )


# -------------------------------------------------------------------------------------------------- the harness itself

QUESTIONS = [
    {"question": "The sky is", "choices": ["blue", "green", "red"], "answer": 0},
    {"question": "Grass is", "choices": ["red", "green", "grey"], "answer": 1},
    {"question": "Snow is", "choices": ["white", "black"], "answer": 0},
    {"question": "Coal is", "choices": ["white", "black"], "answer": 1},
    {"question": "Blood is", "choices": ["blue", "green", "red"], "answer": 2},
    {"question": "A lemon is", "choices": ["brown", "yellow"], "answer": 1},
]


def write_task(folder: Path, name: str, **changes: Any) -> None:
    """Write a task of questions with choices, as the harness wants it."""
    folder.mkdir(exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS), encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{answer}}",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
        **changes,
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder of tasks; nothing is asked of a hub, and nothing is kept outside the test."""
    pytest.importorskip("lm_eval")
    import datasets
    import lm_eval.tasks
    import torch

    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")

    class Local(lm_eval.tasks.TaskManager):  # type: ignore[misc]
        """The harness's own, without the fifteen thousand tasks that it comes with."""

        def __init__(self, include_path: str | None = None) -> None:
            super().__init__(include_path=include_path, include_defaults=False)

    monkeypatch.setattr(lm_eval.tasks, "TaskManager", Local)
    write_task(tmp_path / "tasks", "colours")
    shown, threads = datasets.is_progress_bar_enabled(), torch.get_num_threads()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    yield tmp_path / "tasks"
    torch.set_num_threads(threads)
    if shown:
        datasets.enable_progress_bars()


def right(folder: Path, count: int) -> list[float]:
    """Return whether the model finds each answer the likeliest, computed without the harness."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    found = []
    for question in QUESTIONS[:count]:
        scores = []
        for choice in question["choices"]:  # type: ignore[attr-defined]
            before = tokenizer(question["question"], add_special_tokens=False)["input_ids"]
            whole = tokenizer(f"{question['question']} {choice}", add_special_tokens=False)["input_ids"]
            with torch.inference_mode():
                lines = model(torch.tensor([whole])).logits[0].float().log_softmax(-1)
            scores.append(sum(float(lines[place - 1, whole[place]]) for place in range(len(before), len(whole))))
        found.append(float(scores.index(max(scores)) == question["answer"]))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("count", [6, 4])
def test_a_local_task_is_evaluated_without_a_network(
    count: int, offline: Path, tiny_model: Path, tmp_path: Path
) -> None:
    limit = None if count == 6 else count
    (found,) = run_generic(
        [str(tiny_model)], ["colours"], out=tmp_path / "out", include=offline, limit=limit, batch_size=2, device="cpu"
    )
    expected = right(tiny_model, count)
    mean = sum(expected) / count
    assert (found["model"], found["task"], found["measure"]) == (str(tiny_model), "colours", "acc")
    assert found["value"] == pytest.approx(mean)
    # The standard deviation of a sample over the root of its size.
    assert found["standard_error"] == pytest.approx((mean * (1 - mean) / (count - 1)) ** 0.5)


@pytest.mark.slow
def test_the_embedded_model_is_evaluated_and_kept(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_task(offline, "again")
    given: dict[str, Any] = {"out": tmp_path / "out", "include": offline, "limit": 3, "device": "cpu"}
    found = run_generic([None], ["colours", "again"], **given)
    mean = sum(right(embedded_path(), 3)) / 3
    assert [(entry["model"], entry["task"], entry["value"]) for entry in found] == [
        ("tiny", "colours", pytest.approx(mean)),
        ("tiny", "again", pytest.approx(mean)),
    ]

    def fails(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(generic, "_evaluate", fails)
    assert run_generic([None], ["colours", "again"], **given) == found


@pytest.mark.slow
def test_groups_of_tasks_have_their_mean_beside_the_tasks(offline: Path, tiny_model: Path, tmp_path: Path) -> None:
    write_task(offline, "again")
    group = {
        "group": "both",
        "task": ["colours", "again"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
    }
    (offline / "both.yaml").write_text(yaml.safe_dump(group), encoding="utf-8")
    found = run_generic([str(tiny_model)], ["both"], out=tmp_path / "out", include=offline, device="cpu")
    mean = pytest.approx(sum(right(tiny_model, 6)) / 6)
    assert {entry["task"]: entry["value"] for entry in found} == {"both": mean, "colours": mean, "again": mean}


@pytest.mark.slow
def test_tags_are_taken_as_their_tasks(offline: Path, tiny_model: Path, tmp_path: Path) -> None:
    write_task(offline, "again", tag="tagged")
    found = run_generic([str(tiny_model)], ["tagged"], out=tmp_path / "out", include=offline, device="cpu")
    assert [(entry["task"], entry["measure"]) for entry in found] == [("again", "acc")]


@pytest.mark.slow
def test_a_local_task_that_runs_code_is_refused_or_run(offline: Path, tiny_model: Path, tmp_path: Path) -> None:
    write_task(offline, "again", unsafe_code=True)
    given: dict[str, Any] = {"out": tmp_path / "out", "include": offline, "device": "cpu", "limit": 2}
    with pytest.raises(OptionError, match="unsafe"):
        run_generic([str(tiny_model)], ["again"], **given)
    (found,) = run_generic([str(tiny_model)], ["again"], run_code=True, **given)
    assert found["value"] == pytest.approx(sum(right(tiny_model, 2)) / 2)


@pytest.mark.slow
def test_data_that_are_gone_are_told_by_the_tasks_name(offline: Path, tiny_model: Path, tmp_path: Path) -> None:
    (offline / "colours.jsonl").unlink()
    with pytest.raises(DataError, match="the data of the task 'colours' cannot be loaded"):
        run_generic([str(tiny_model)], ["colours"], out=tmp_path / "out", include=offline, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nobody/nothing", "no such folder/at all"])
def test_a_model_that_is_nowhere_is_told(name: str, offline: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=f"the model '{name}' cannot be loaded"):
        run_generic([name], ["colours"], out=tmp_path / "out", include=offline, device="cpu")


@pytest.mark.slow
def test_the_harness_knows_the_published_tasks_and_tells_the_nearest_of_all(tmp_path: Path) -> None:
    tasks = pytest.importorskip("lm_eval.tasks")
    known = set(tasks.TaskManager().all_tasks)
    assert len(PUBLISHED) == 8 and set(PUBLISHED) <= known
    with pytest.raises(OptionError, match=r"task='gsm8kk' is not known; did you mean 'gsm8k"):
        run_generic(["org/name"], ["gsm8kk"], out=tmp_path)
