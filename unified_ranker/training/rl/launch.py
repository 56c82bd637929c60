"""Runs a recipe: prepares, starts verl's ``main_ppo`` in a process of its own, follows it, and measures the outcome.

A run folder holds ``recipe.yaml``, ``data.yaml`` (hashes of what it reads), ``rows/``, ``loops.yaml``, ``verl.yaml``
(verl's whole configuration), ``verl.log`` (all that verl, Ray and vLLM say), ``log/`` (verl's figures, a file for each
start), ``tensorboard/``, ``checkpoints/``, and at the end ``model/``, ``curve.png`` and ``summary.json``. Starting the
same recipe in the same folder goes on where it stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from unified_ranker.errors import BackendError, RecipeError
from unified_ranker.ranker import Ranker
from unified_ranker.tasks.build import read_split
from unified_ranker.training.data_note import SEEN, Note, note_of, read_note, to_go_on, write_note
from unified_ranker.training.lists import drawn_tasks
from unified_ranker.training.mrr import reciprocal_ranks, with_macro
from unified_ranker.training.rl.config import compose
from unified_ranker.training.rl.cpu_platform import ENVIRONMENT
from unified_ranker.training.rl.export import checkpoint_at, export, latest_step, remove_unfinished
from unified_ranker.training.rl.prepare import Setting, check_machine, prepare
from unified_ranker.training.rl.recipe import RLRecipe
from unified_ranker.training.rl.watch import draw, line_of, read_logs, validation_of

Say = Callable[[str], None]
# How often the log is looked at.
LOOK_SECONDS = 1.0


def run(recipe: RLRecipe, *, data: Path, out: Path, say: Say, ray_address: str | None = None) -> dict[str, Any]:
    """Run a recipe to its end, going on where an earlier start of it stopped.

    Args:
        recipe: The recipe.
        data: Folder of built tasks.
        out: Folder of the run.
        say: Called with each line of progress.
        ray_address: Address of a Ray cluster to join; None to start one here.

    Returns:
        What ``summary.json`` holds.

    Raises:
        RecipeError: the recipe does not fit the machine, or the folder holds a run of another recipe.
        MissingExtraError: verl, Ray or vLLM are not installed.
        DataError: a task has no lists, or the folder holds a run that was started with other data.
        BackendError: verl stopped before the end.
    """
    check_machine(recipe, ray_address=ray_address)
    out = out.resolve()
    refuse_other(recipe.to_dict(), out)
    note = settled_note(note_of(data, dict.fromkeys(drawn_tasks(recipe.tasks), SEEN)), out)
    prepared = prepare(recipe, data=data, run=out, ray_address=ray_address)
    claim(recipe.to_dict(), out, note=note)
    checkpoints, began = out / "checkpoints", time.monotonic()
    done = resume(checkpoints, say=say)
    # A run that goes on has validated the weights it goes on from.
    first = {} if done is None else {"trainer.val_before_train": False}
    write_config({**first, **prepared.settings}, out)
    if done is None or done < recipe.steps:
        follow(
            ["verl.trainer.main_ppo"],
            out,
            env=environment(out, on_cpu=recipe.platform == "cpu"),
            after=-1 if done is None else done,
            say=say,
            line=lambda step, record: line_of(step, record, steps=recipe.steps),
        )
    _note_time(out, time.monotonic() - began)
    model = export(checkpoint_at(checkpoints), out / "model", settings=prepared.ranker)
    write_note(note, model)
    return summarize(recipe, data=data, out=out, start=prepared.model, model=model, say=say)


def resume(checkpoints: Path, *, say: Say) -> int | None:
    """Make ready to go on after the last whole checkpoint, and return its step; None where there is none."""
    done = latest_step(checkpoints)
    if done is not None:
        say(f"going on after step {done}")
        remove_unfinished(checkpoints, after=done)
    return done


def resolved(recipe: RLRecipe, *, data: Path, out: Path, ray_address: str | None = None) -> str:
    """Return verl's whole configuration for a run as YAML; nothing is written and nothing starts.

    Raises:
        MissingExtraError: verl is not installed.
        RecipeError: verl refuses a setting.
        DataError: a task has no lists.
    """
    prepared = prepare(recipe, data=data, run=out.resolve(), ray_address=ray_address, write=False)
    config = compose(prepared.settings)
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(config, resolve=True))


def write_config(found: Mapping[str, Any], out: Path) -> Any:
    """Write ``verl.yaml`` and return it.

    Raises:
        MissingExtraError: verl is not installed.
        RecipeError: verl refuses a setting.
    """
    config = compose(found)
    from omegaconf import OmegaConf

    OmegaConf.save(config, out / "verl.yaml")
    return config


def refuse_other(recipe: Mapping[str, Any], out: Path) -> None:
    """Check that a folder holds no run of another recipe.

    Raises:
        RecipeError: it does.
    """
    note = out / "recipe.yaml"
    if note.is_file() and note.read_text(encoding="utf-8") != _written(recipe):
        raise RecipeError(
            f"{str(out)!r} holds a run of another recipe; choose another --out, or the recipe it was started with"
        )


def settled_note(note: Note, out: Path) -> Note | None:
    """Return the note of the data of a run that starts in a folder, or goes on there after a checkpoint.

    Raises:
        DataError: it goes on, and was started with other data.
    """
    started = latest_step(out / "checkpoints") is not None
    return to_go_on(note, read_note(out), out) if started else note


def claim(recipe: Mapping[str, Any], out: Path, *, note: Note | None) -> None:
    """Note in a folder which recipe it is the run of, and on which data."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(_written(recipe), encoding="utf-8")
    write_note(note, out)


def _written(recipe: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(recipe), sort_keys=False)


def environment(out: Path, *, on_cpu: bool) -> dict[str, str]:
    """Return the environment of verl's process; what the user has set stays."""
    logs = out / "log"
    logs.mkdir(exist_ok=True)
    ours = {
        # A file for each start: verl would begin the same one anew.
        "VERL_FILE_LOGGER_PATH": str(logs / f"{len(list(logs.glob('*.jsonl'))):03d}.jsonl"),
        "TENSORBOARD_DIR": str(out / "tensorboard"),
        "PYTHONUNBUFFERED": "1",
    }
    defaults = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if on_cpu:
        ours |= ENVIRONMENT
        defaults |= {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": str(os.cpu_count() or 1)}
    return {**defaults, **os.environ, **ours}


def follow(
    module: Sequence[str], out: Path, *, env: Mapping[str, str], after: int, say: Say, line: Callable[[int, Any], str]
) -> None:
    """Run a module of verl with the configuration ``verl.yaml`` of a folder, and say each step that it logs.

    Args:
        module: The module and arguments that come before those of hydra.
        out: Folder of the run.
        env: Environment of the process.
        after: Steps up to this one were said before.
        say: Called with each line.
        line: Turns a step and its figures into a line.

    Raises:
        BackendError: it stopped with an error.
    """
    command = [
        sys.executable,
        *("-m", "unified_ranker.training.rl.child", str(os.getpid())),
        *module,
        f"--config-path={out}",
        "--config-name=verl",
        f"hydra.run.dir={out / 'hydra'}",
        "hydra.output_subdir=null",
    ]
    shown = after
    with (out / "verl.log").open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=dict(env), start_new_session=True)
        try:
            while True:
                status = child.poll()
                records = read_logs(out / "log")
                for step in sorted(records):
                    if step > shown:
                        say(line(step, records[step]))
                        shown = step
                if status is not None:
                    break
                time.sleep(LOOK_SECONDS)
        finally:
            if child.poll() is None:
                _stop(child)
    if status != 0:
        raise BackendError(
            f"verl stopped with exit code {status} after step {max(shown, 0)}; what it said stands at the end of "
            f"{out / 'verl.log'}. Start the same command again to go on from the last checkpoint\n{_last_error(out)}"
        )


def _stop(child: subprocess.Popen[bytes]) -> None:
    """End verl and what it started: they are one session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, sign)
            child.wait(timeout=15)
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            return
        return


def _last_error(out: Path) -> str:
    """Return the last lines of the log that name an error, without verl's colours."""
    import re

    text = (out / "verl.log").read_bytes()[-200_000:].decode("utf-8", errors="replace")
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in text.splitlines()]
    named = [line.strip() for line in plain if re.search(r"\b\w*(Error|Exception)\b: ", line)]
    return "\n".join(dict.fromkeys(named[-3:]))


def _note_time(out: Path, seconds: float) -> None:
    """Add the time of this start to that of the earlier ones."""
    note = out / "seconds.json"
    before = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else []
    note.write_text(json.dumps([*before, round(seconds, 1)]), encoding="utf-8")


def measure(model: Path | str, recipe: RLRecipe, *, data: Path) -> dict[str, float]:
    """Return the MRR of each task on its test lists, and their mean as ``macro``, ranked by the path that serves."""
    setting = Setting(recipe)
    ranker = Ranker.from_pretrained(
        model, method=recipe.method, style=setting.style, token_budget=setting.token_budget, **dict(recipe.options)
    )
    lists = {}
    for task in drawn_tasks(recipe.tasks):
        found = list(read_split(data, task, "test"))
        lists[task] = found[: recipe.test_lists] if recipe.test_lists else found
    return with_macro(reciprocal_ranks(ranker, lists))


def summarize(recipe: RLRecipe, *, data: Path, out: Path, start: str, model: Path, say: Say) -> dict[str, Any]:
    """Measure start and end on the test lists, write ``summary.json`` and ``curve.png``, and return the summary.

    Rewards are means over validation lists of a step's mean reward, most likely labels throughout.
    """
    records = read_logs(out / "log")
    held = {step: validation_of(record, "step_reward") for step, record in sorted(records.items())}
    held = {step: found for step, found in held.items() if found}
    say("measuring the start on the test lists")
    before = measure(start, recipe, data=data)
    say("measuring the end on the test lists")
    after = measure(model, recipe, data=data)
    first, last = (held[min(held)], held[max(held)]) if held else ({}, {})
    timed = [record["timing_s/step"] for record in records.values() if "timing_s/step" in record]
    tokens = sum(record.get("perf/total_num_tokens", 0.0) for record in records.values())
    summary = {
        "recipe": recipe.name,
        "steps": latest_step(out / "checkpoints"),
        "seconds": sum(json.loads((out / "seconds.json").read_text(encoding="utf-8"))),
        "seconds_in_steps": round(sum(timed), 1),
        "tokens": int(tokens),
        "seed": recipe.seed,
        "reward_start": first.get("macro"),
        "reward_end": last.get("macro"),
        "reward_start_by_task": _rounded(first),
        "reward_end_by_task": _rounded(last),
        "mrr_start": _rounded(before),
        "mrr_end": _rounded(after),
        "test_lists": recipe.test_lists or "all",
    }
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    draw(records, out / "curve.png")
    return summary


def _rounded(found: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in found.items()}
