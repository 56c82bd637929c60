"""What a run says of itself: verl's log files read back, one line a step, and the curves as a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.errors import missing_extra
from unified_ranker.training.mrr import with_macro


def read_logs(folder: Path) -> dict[int, dict[str, float]]:
    """Return what verl logged of each step, 0 for the validation before the first.

    Every start of a run has a file of its own; where two speak of one step, since the run was killed after it and
    went on from an earlier checkpoint, the later counts.
    """
    found: dict[int, dict[str, float]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                # The last line of a run that was killed while it wrote.
                continue
            step = int(record["step"])
            numbers = {key: float(value) for key, value in record["data"].items() if isinstance(value, (int, float))}
            # verl logs a step's validation in a line of its own or with the step.
            found[step] = {**found.get(step, {}), **numbers}
    return found


def validation_of(record: Mapping[str, float], name: str) -> dict[str, float]:
    """Return a figure of a validation by task, and the mean over tasks as ``macro``; empty where there was none.

    Args:
        record: What verl logged of a step.
        name: A reported name, such as ``"rr"``; ``"reward"`` for the sum of a list's rewards.
    """
    found = {}
    for key, value in record.items():
        parts = key.split("/")
        if (
            len(parts) == 4
            and parts[0] in ("val-core", "val-aux")
            and parts[2] == name
            and parts[3].startswith("mean@")
        ):
            found[parts[1]] = [value]
    return with_macro(found)


def line_of(step: int, record: Mapping[str, float], *, steps: int) -> str:
    """Return one step as a line that a person can read."""
    facts = [f"step {step}/{steps}"]
    if "critic/score/mean" in record:
        facts.append(f"reward {record['critic/score/mean']:.3f}")
    for key, value in sorted(record.items()):
        if key.startswith("reward/"):
            facts.append(f"{key.removeprefix('reward/')} {value:.3f}")
    for name, key, form in (
        ("entropy", "actor/entropy", ".2f"),
        ("KL", "actor/kl_loss", ".4f"),
        ("gradient", "actor/grad_norm", ".2f"),
        ("response", "response_length/mean", ".1f"),
        ("tokens/s", "perf/throughput", ".0f"),
        ("seconds", "timing_s/step", ".1f"),
    ):
        if key in record:
            facts.append(f"{name} {record[key]:{form}}")
    for name, key in (
        ("validation RR", "rr"),
        ("validation step reward", "step_reward"),
        ("well formed", "well_formed"),
    ):
        found = validation_of(record, key)
        if found:
            facts.append(f"{name} {found['macro']:.3f}")
    return "  ".join(facts)


def draw(records: Mapping[int, Mapping[str, float]], picture: Path) -> None:
    """Draw rewards, validation, and the distance from the start, against the step.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("rl", package="matplotlib", purpose="drawing the curves") from error
    figure = Figure(figsize=(13, 4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _curve(left, records, "critic/score/mean", "rollouts")
    left.set(title="reward of a list (training rows)", xlabel="step")
    held = {step: validation_of(record, "rr") for step, record in sorted(records.items())}
    held = {step: found for step, found in held.items() if found}
    for task in next(iter(held.values()), {}):
        style: dict[str, Any] = {"color": "black", "linewidth": 2} if task == "macro" else {"linewidth": 1}
        middle.plot(list(held), [found.get(task, float("nan")) for found in held.values()], label=task, **style)
    middle.set(title="validation, most likely labels", xlabel="step", ylabel="RR")
    if middle.lines:
        middle.legend(fontsize=7, ncols=2)
    _curve(right, records, "actor/kl_loss", "KL from the start")
    _curve(right, records, "actor/entropy", "entropy")
    right.set(title="policy", xlabel="step")
    if right.lines:
        right.legend(fontsize=8)
    figure.savefig(picture, dpi=120)


def _curve(axes: Any, records: Mapping[int, Mapping[str, float]], key: str, label: str) -> None:
    steps: Sequence[int] = [step for step in sorted(records) if key in records[step]]
    values = [records[step][key] for step in steps]
    if not steps:
        return
    axes.plot(steps, values, alpha=0.3 if len(steps) > 20 else 1.0, color="C0" if label != "entropy" else "C1")
    if len(steps) > 20:
        window = max(5, len(steps) // 15)
        means = [
            sum(values[max(0, i - window) : i + 1]) / len(values[max(0, i - window) : i + 1])
            for i in range(len(values))
        ]
        axes.plot(steps, means, label=label, color="C0" if label != "entropy" else "C1")
    else:
        axes.lines[-1].set_label(label)
