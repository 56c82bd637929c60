"""verl's own supervised trainer, by recipe, on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("verl")

from unified_ranker import Ranker
from unified_ranker.model_settings import embedded_path

pytestmark = [pytest.mark.verl, pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]

RECIPE = {
    "name": "tiny-cold-start",
    "trainer": "verl",
    "platform": "cpu",
    "tasks": {"passage-5": 1.0, "router-cost": 1.0},
    "methods": {"iranker": 0.5, "dranker": 0.5},
    "rows": 48,
    "batch": 8,
    "save_every": 3,
    "verl": {"optim.lr": 1e-3, "data.max_token_len_per_gpu": 2048},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy_data: Path) -> Path:
    folder = tmp_path_factory.mktemp("sft")
    (folder / "recipe-file.yaml").write_text(yaml.safe_dump(RECIPE))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from unified_ranker.cli.main import main; main()",
            *("train", "sft", "--recipe", str(folder / "recipe-file.yaml")),
            *("--data", str(toy_data), "--out", str(folder / "run")),
        ],
        capture_output=True,
        text=True,
        timeout=350,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    (folder / "said.txt").write_text(done.stdout)
    return folder


def test_the_loss_falls_and_is_said_step_by_step(run: Path) -> None:
    losses = [json.loads(line)["data"]["train/loss"] for line in (run / "run" / "log" / "000.jsonl").open()]
    assert len(losses) == 6 and losses[-1] < losses[0]
    said = (run / "said.txt").read_text()
    assert "step 1/6  loss" in said and "step 6/6  loss" in said


def test_the_hashes_of_its_data_lie_beside_the_model(run: Path, toy_data: Path) -> None:
    from unified_ranker.training.data_note import note_of, read_note

    assert read_note(run / "run" / "model") == note_of(toy_data, dict.fromkeys(RECIPE["tasks"], ("train",)))


def test_what_it_trains_on_are_prompt_and_right_reply(run: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_parquet(str(run / "run" / "rows.parquet"))
    assert len(rows) == 48
    worst, best = 0, 0
    for row in rows:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        labels = [f"<{part}>" for part in assistant["content"].strip("<>").split("><")]
        grades = [int(user["content"].split(f" {label}")[0].rsplit("grade ", 1)[1].split()[0]) for label in labels]
        if user["content"].endswith("<|worst|>"):
            worst += 1
            assert grades == sorted(grades)
        else:
            best += 1
            assert grades == sorted(grades, reverse=True)
    assert worst > 10 and best > 10


def test_the_model_is_a_plain_folder_that_has_changed(run: Path) -> None:
    import torch
    from safetensors.torch import load_file

    before, after = (
        load_file(embedded_path() / "model.safetensors"),
        load_file(run / "run" / "model" / "model.safetensors"),
    )
    assert before.keys() == after.keys() and after["model.norm.weight"].dtype == torch.float32
    assert any(not torch.equal(before[name].float(), after[name]) for name in before)
    assert len(Ranker.from_pretrained(run / "run" / "model").rank("red", ["cherry", "sky", "sea"])) == 3
