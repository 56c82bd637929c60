"""The learning curve of a run as a picture."""

from __future__ import annotations

import json
from pathlib import Path

from unified_ranker.errors import missing_extra


def draw_curve(log: Path, picture: Path) -> None:
    """Draw the parts of the loss, and the validation MRR of each task, against the tokens seen.

    A run that warmed up its words first has a picture of that, too.

    Args:
        log: ``log.jsonl`` of a run.
        picture: PNG to write.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("train", package="matplotlib", purpose="drawing the learning curve") from error
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    words = [record for record in records if record["kind"] == "words"]
    figure = Figure(figsize=(15 if words else 10, 4), layout="constrained")
    *first, left, right = figure.subplots(1, 3 if words else 2)
    for panel in first:
        panel.plot([r["words_step"] for r in words], [r["loss"] for r in words], label="loss in nats")
        panel.plot([r["words_step"] for r in words], [r["top"] for r in words], label="share of lists, best first")
        panel.set(title="warm-up of the words", xlabel="batch")
        panel.legend()
    steps = [record for record in records if record["kind"] == "train"]
    for part in ("labels", "vocabulary", "readout"):
        if steps and part in steps[0]:
            left.plot([r["tokens"] / 1e6 for r in steps], [r[part] for r in steps], label=part, marker=".")
    left.set(title="training loss", xlabel="million tokens", ylabel="nats", yscale="log")
    if left.lines:
        left.legend()
    validations = [record for record in records if record["kind"] == "validation"]
    for task in [
        key for key in (validations[-1] if validations else {}) if key not in ("kind", "step", "tokens", "seconds")
    ]:
        style = {"color": "black", "linewidth": 2} if task == "macro" else {"linewidth": 1}
        right.plot(
            [r["tokens"] / 1e6 for r in validations], [r[task] for r in validations], label=task, marker=".", **style
        )
    right.set(title="validation", xlabel="million tokens", ylabel="MRR")
    if right.lines:
        right.legend(fontsize=7, ncols=2)
    figure.savefig(picture, dpi=120)
