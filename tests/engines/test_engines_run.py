"""A whole run as a user starts it: real Ray, verl and vLLM on a CPU, killed on the way and started again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("verl")
pytest.importorskip("vllm")

from unified_ranker.tasks.build import read_split

from unified_ranker import Ranker
from unified_ranker.model_settings import embedded_path
from unified_ranker.schema.types import RankingExample
from unified_ranker.training.rl.watch import read_logs, validation_of

pytestmark = [pytest.mark.verl, pytest.mark.vllm, pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore")]

STEPS = 5
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
RECIPE = {
    "name": "tiny-run",
    "platform": "cpu",
    "tasks": {"passage-5": 1.0, "router-cost": 1.0},
    "options": {"layout": "append", "permute": True},
    "reward": "graded",
    "measure": "rr",
    "steps": STEPS,
    "batch": 4,
    "group": 4,
    "validation_lists": 3,
    "test_lists": 4,
    "save_every": 2,
    "validate_every": 5,
    "verl": {
        "algorithm.adv_estimator": "step_grpo",
        "algorithm.gamma": 0.0,
        "algorithm.rollout_correction.bypass_mode": True,
        "actor_rollout_ref.actor.optim.lr": 1e-4,
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu": 16,
        "actor_rollout_ref.actor.checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
        "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu": 16,
        "actor_rollout_ref.rollout.max_num_seqs": 16,
        "actor_rollout_ref.rollout.max_num_batched_tokens": 2048,
        "trainer.rollout_data_dir": "rollouts",
    },
}


def start(folder: Path, data: Path) -> subprocess.Popen[str]:
    with (folder / "said.txt").open("a") as said:
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from unified_ranker.cli.main import main; main()",
                *("train", "rl", "--recipe", str(folder / "recipe-file.yaml")),
                *("--data", str(data), "--out", str(folder / "run")),
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )


def descendants(folder: Path) -> list[int]:
    """Return the processes that carry the run's mark in their environment; they outlive their parents if they can."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                environment = (process / "environ").read_bytes()
            except OSError:
                continue
            if f"TENSORBOARD_DIR={folder / 'run'}".encode() in environment:
                found.append(int(process.name))
    return found


def wait_for(what: Callable[[], bool], folder: Path, process: subprocess.Popen[str], *, seconds: float) -> None:
    limit = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, (folder / "said.txt").read_text()[-3000:]
        assert time.monotonic() < limit, (folder / "said.txt").read_text()[-3000:]
        time.sleep(0.2)


def left_after(folder: Path) -> list[str]:
    """Return what still runs, by its command line, after the time that Ray takes to see that its driver is gone.

    Two agents of Ray look for their node only now and then; they have nothing of the run, and are gone by its end.
    """
    limit = time.monotonic() + 60
    while lines := [line for line in command_lines(folder) if not line.startswith(AGENTS)]:
        if time.monotonic() > limit:
            break
        time.sleep(0.5)
    return lines


def command_lines(folder: Path) -> list[str]:
    found = []
    for pid in descendants(folder):
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
    return found


def workers(folder: Path) -> list[int]:
    """Return verl's training workers."""
    names = {pid: Path(f"/proc/{pid}/cmdline") for pid in descendants(folder)}
    return [pid for pid, name in names.items() if name.exists() and name.read_bytes().startswith(b"ray::WorkerDict")]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    """Start a run; kill a worker after the first checkpoint, then the driver of a second start; let a third finish."""
    folder = tmp_path_factory.mktemp("rl")
    recipe = {**RECIPE, "verl": {**RECIPE["verl"], "trainer.rollout_data_dir": str(folder / "rollouts")}}  # type: ignore[dict-item]
    (folder / "recipe-file.yaml").write_text(yaml.safe_dump(recipe))
    latest = folder / "run" / "checkpoints" / "latest_checkpointed_iteration.txt"

    first = start(folder, toy_data)
    wait_for(latest.is_file, folder, first, seconds=400)
    found = workers(folder)
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    notes: dict[str, Any] = {"worker killed": first.wait(timeout=120), "left after worker": left_after(folder)}
    notes["said after worker"] = (folder / "said.txt").read_text()[-2000:]
    notes["checkpoint of first"] = int(latest.read_text())

    second = start(folder, toy_data)
    logs = folder / "run" / "log"
    wait_for(
        lambda: (logs / "001.jsonl").exists() and bool((logs / "001.jsonl").read_text()), folder, second, seconds=400
    )
    second.send_signal(signal.SIGKILL)
    second.wait()
    notes["left after driver"] = left_after(folder)
    notes["checkpoint of second"] = int(latest.read_text())

    third = start(folder, toy_data)
    assert third.wait(timeout=450) == 0, (folder / "said.txt").read_text()[-3000:]
    (folder / "notes.json").write_text(json.dumps(notes))
    return folder


def noted(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "notes.json").read_text())
    return found


def test_a_killed_worker_ends_the_run_with_a_word_on_how_to_go_on(run: Path) -> None:
    notes = noted(run)
    assert notes["worker killed"] == 2
    assert "Start the same command again to go on from the last checkpoint" in notes["said after worker"]


@pytest.mark.parametrize("who", ["worker", "driver"])
def test_a_killed_run_leaves_no_process_behind(run: Path, who: str) -> None:
    assert noted(run)[f"left after {who}"] == []


def test_it_goes_on_from_its_last_checkpoint(run: Path) -> None:
    notes, said = noted(run), (run / "said.txt").read_text()
    logs = sorted((run / "run" / "log").glob("*.jsonl"))
    assert len(logs) == 3
    for log, checkpoint in zip(logs[1:], (notes["checkpoint of first"], notes["checkpoint of second"]), strict=True):
        assert f"going on after step {checkpoint}" in said
        assert json.loads(log.read_text().splitlines()[0])["step"] == checkpoint + 1
    assert (run / "run" / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == str(STEPS)


def test_the_console_says_each_step_in_a_line(run: Path) -> None:
    said, notes = (run / "said.txt").read_text(), noted(run)
    for step in range(1, STEPS + 1):
        if step in (notes["checkpoint of first"], notes["checkpoint of second"]):
            # verl logs a step after its checkpoint, so that a kill in between leaves it without a line.
            continue
        (line, *_) = re.findall(rf"step {step}/{STEPS} .*", said)
        for word in ("reward", "choice", "format", "well_formed", "response", "tokens/s"):
            assert word in line, line


def test_updates_change_the_weights(run: Path) -> None:
    from safetensors.torch import load_file

    before = load_file(embedded_path() / "model.safetensors")
    after = load_file(run / "run" / "model" / "model.safetensors")
    assert before.keys() == after.keys()
    moved = {name: (after[name].float() - before[name].float()).abs() for name in before}
    # A step of bfloat16 is up to a 128th of a weight: that far a large one jumps when an update tips its rounding.
    assert all((change < 0.01 + before[name].float().abs() / 64).all() for name, change in moved.items())
    assert sum(float(change.max()) > 1e-5 for change in moved.values()) > len(moved) / 2
    gradients = [
        record["actor/grad_norm"] for record in read_logs(run / "run" / "log").values() if "actor/grad_norm" in record
    ]
    # Before clipping; the layout's weights are large. A step whose rollouts all earn the same has nothing to learn.
    assert len(gradients) >= STEPS - 2 and all(0 <= value < 1000 for value in gradients)
    assert sum(value > 0 for value in gradients) >= 2


def rollouts(run: Path) -> list[dict[str, Any]]:
    files = sorted((run / "rollouts").glob("*.jsonl"))
    assert files
    return [json.loads(line) for file in files for line in file.open()]


def test_rollouts_are_real_orders_of_the_labels_shown(run: Path) -> None:
    found = rollouts(run)
    orders: dict[str, set[str]] = {}
    for row in found:
        shown = re.findall(r"<\d+>", row["input"])
        written = re.findall(r"<\d+>", row["output"])
        assert len(written) == len(shown) - 1 and len(set(written)) == len(written) and set(written) <= set(shown)
        orders.setdefault(row["input"], set()).add(row["output"])
    # Sampled, not copied: rollouts of one list differ.
    assert sum(len(different) > 1 for different in orders.values()) > len(orders) / 2


def test_rewards_are_those_of_the_orders(run: Path) -> None:
    # The texts tell the grades. Removing the only best candidate at m in play costs 1 - 1/m of the reciprocal rank.
    checked = 0
    for row in rollouts(run):
        grades = {name: int(grade) for grade, name in re.findall(r"grade (\d+) of place \d+.*?(<\d+>)", row["input"])}
        best = max(grades.values())
        if list(grades.values()).count(best) > 1:
            continue
        checked += 1
        written = re.findall(r"<\d+>", row["output"])
        winner = next(name for name, grade in grades.items() if grade == best)
        lost = 1 - 1 / (len(grades) - written.index(winner)) if winner in written else 0.0
        assert row["score"] == pytest.approx(len(written) - lost, abs=1e-4)
    assert checked >= 8


def test_the_policy_is_the_one_that_was_sampled(run: Path) -> None:
    # The engine's probabilities stand for those before the update, so that the actor's have to be the same.
    records = [record for record in read_logs(run / "run" / "log").values() if "actor/ppo_kl" in record]
    assert len(records) >= STEPS - 2
    assert all(abs(record["actor/ppo_kl"]) < 1e-4 and record["actor/pg_clipfrac"] == 0 for record in records)


def test_validation_is_ranked_with_the_most_likely_labels(run: Path, toy_data: Path) -> None:
    # What verl's validation says of the start is what Ranker says of the same lists.
    found = validation_of(read_logs(run / "run" / "log")[0], "rr")
    ranker = Ranker(permute=True)
    from unified_ranker.rewards.gain import worth

    from unified_ranker.training.rl.prepare import validation_lists

    lists = validation_lists(toy_data, {"passage-5": 1.0, "router-cost": 1.0}, 3)
    by_task: dict[str, list[float]] = {}
    for example, ranking in zip(lists, ranker.rank_batch(lists), strict=True):
        among = [example.grade(c.id) for c in example.candidates]
        grades = [example.grade(c.id) for c in ranking.order]
        by_task.setdefault(example.task, []).append(worth(grades, among=among, measure="rr"))
    for task, values in by_task.items():
        assert found[task] == pytest.approx(sum(values) / len(values), abs=1e-6)


def test_the_summary_holds_what_was_promised(run: Path) -> None:
    summary = json.loads((run / "run" / "summary.json").read_text())
    assert summary["recipe"] == "tiny-run" and summary["steps"] == STEPS and summary["seconds"] > 0
    for key in ("mrr_start", "mrr_end"):
        assert set(summary[key]) == {"passage-5", "router-cost", "macro"}
    records = read_logs(run / "run" / "log")
    assert summary["reward_start"] == pytest.approx(validation_of(records[0], "step_reward")["macro"])
    assert summary["reward_end"] == pytest.approx(validation_of(records[STEPS], "step_reward")["macro"])
    assert (run / "run" / "curve.png").stat().st_size > 10_000
    assert list((run / "run" / "tensorboard").glob("**/events.*"))


def log_probabilities(ranker: Ranker, example: RankingExample) -> torch.Tensor:
    (ranking,) = ranker.rank_batch([example])
    return torch.tensor([step.logprobs[step.chosen[0]] for step in ranking.steps])


def test_the_exported_model_is_the_trainers(run: Path, toy_data: Path, tmp_path: Path) -> None:
    """The trainer's own weights, as verl's checkpoint holds them, against the folder that was exported."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from unified_ranker.backends.tokenizer import load_tokenizer
    from unified_ranker.backends.transformers import TransformersBackend
    from unified_ranker.model_settings import read_settings

    model = run / "run" / "model"
    actor = run / "run" / "checkpoints" / f"global_step_{STEPS}" / "actor"
    shard = torch.load(actor / "model_world_size_1_rank_0.pt", weights_only=False)
    weights = {name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in shard.items()}
    trained = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model), dtype=torch.float32)
    trained.load_state_dict(weights)
    settings = read_settings(model)
    theirs = Ranker(TransformersBackend(trained, load_tokenizer(str(model)), labels=settings.labels), settings=settings)
    ours = Ranker.from_pretrained(model)
    for example in list(read_split(toy_data, "passage-5", "test"))[:2]:
        assert torch.allclose(log_probabilities(ours, example), log_probabilities(theirs, example), atol=1e-5)


def test_the_folder_cannot_be_taken_by_another_recipe(run: Path, toy_data: Path) -> None:
    from unified_ranker.errors import RecipeError
    from unified_ranker.training.rl.launch import run as launch
    from unified_ranker.training.rl.recipe import parse_recipe

    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        launch(parse_recipe({**RECIPE, "steps": 7}), data=toy_data, out=run / "run", say=lambda _: None)


def test_the_folder_notes_its_data_and_cannot_be_taken_with_other(run: Path, toy_data: Path, tmp_path: Path) -> None:
    from unified_ranker.errors import DataError
    from unified_ranker.training.data_note import SEEN, note_of, read_note
    from unified_ranker.training.rl.launch import run as launch
    from unified_ranker.training.rl.recipe import parse_recipe

    tasks = list(RECIPE["tasks"])
    note = note_of(toy_data, dict.fromkeys(tasks, SEEN))
    assert read_note(run / "run") == read_note(run / "run" / "model") == note
    recipe = yaml.safe_load((run / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    other = shutil.copytree(toy_data, tmp_path / "other")
    shutil.copy(other / tasks[0] / "validation.parquet", other / tasks[0] / "train.parquet")
    with pytest.raises(DataError, match=f"holds a run on other data: {tasks[0]} differs"):
        launch(parse_recipe(recipe), data=other, out=run / "run", say=lambda _: None)


def test_export_takes_any_step_and_precision(run: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from unified_ranker.training.rl.export import export_run

    folder = export_run(run / "run", tmp_path / "half", step=4, dtype="bfloat16")
    assert {value.dtype for value in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    assert Ranker.from_pretrained(folder).rank("red fruit", ["a cherry", "the sky"], domain="passage").ids
    assert "ranking_labels" not in json.loads((folder / "config.json").read_text())


def test_no_process_of_the_run_is_left(run: Path) -> None:
    limit = time.monotonic() + 60
    while descendants(run) and time.monotonic() < limit:
        time.sleep(0.5)
    assert descendants(run) == []
