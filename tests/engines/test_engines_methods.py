"""Recipes of the published rankers, run for real: Ray, verl and vLLM on a CPU, from rows to a model that ranks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("verl")
pytest.importorskip("vllm")

from unified_ranker.tasks.build import read_split

from unified_ranker import Ranker
from unified_ranker.model_settings import embedded_path, read_settings

pytestmark = [pytest.mark.verl, pytest.mark.vllm, pytest.mark.timeout(600), pytest.mark.filterwarnings("ignore")]

#: The parts of its reward that each recipe has to log.
PARTS = {
    "rank-r1-tiny": ("choice", "format"),
    "reasonrank-tiny": ("ranking", "recall", "overlap", "format"),
    "erank-tiny": ("rank", "inversion", "distance", "format"),
}
SMALL = [
    *("tasks={passage-5: 1, router-cost: 1}", "steps=2", "batch=4", "group=4", "validation_lists=2", "test_lists=3"),
    *("save_every=2", "validate_every=2", "verl.actor_rollout_ref.rollout.max_num_seqs=16"),
    "verl.actor_rollout_ref.rollout.max_num_batched_tokens=2048",
    "verl.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
    "verl.actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=16",
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    found: dict[str, torch.Tensor] = load_file(folder / "model.safetensors")
    return found


@pytest.mark.parametrize("recipe", list(PARTS))
def test_a_recipe_trains_a_model_that_ranks(recipe: str, toy_data: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-c", "from unified_ranker.cli.main import main; main()"),
        *("train", "rl", "--recipe", recipe, "--data", str(toy_data), "--out", str(tmp_path / "run"), *SMALL),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=550, env={**os.environ})
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["recipe"] == recipe
    assert summary["steps"] == 2
    (line, *_) = [line for line in done.stdout.splitlines() if line.startswith("step 1/2")]
    for part in PARTS[recipe]:
        assert part in line, line

    model = tmp_path / "run" / "model"
    before, after = weights(embedded_path()), weights(model)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert read_settings(model).method == {"rank-r1-tiny": "setwise", "erank-tiny": "pointwise"}.get(recipe, "dranker")
    ranker: Any = Ranker.from_pretrained(model)
    (example, *_) = read_split(toy_data, "passage-5", "test")
    (ranking,) = ranker.rank_batch([example])
    assert sorted(ranking.ids) == sorted(candidate.id for candidate in example.candidates)
    assert ranking.usage.failed_steps == 0
