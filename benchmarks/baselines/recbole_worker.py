"""Trains a recommender with RecBole and scores candidates with it; runs alone, in RecBole's own environment.

Nothing of unified-ranker can be imported here: RecBole 1.2.1 needs packages that the rest cannot live with. It is
started as ``python recbole_worker.py JOB.json``; the job names the folder of the atomic files and the folder of the
lists to score. Every training run that is done is a line of ``trials.jsonl`` beside the former, and its figure on the
validation lists a line of ``measured.jsonl`` beside the latter: a killed job goes on from there, within a run from its
last epoch, and a job with other lists trains nothing again.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")

SEQUENTIAL = ("SASRec",)


def main(path: str) -> None:
    """Run a job."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    folder, asked = Path(job["folder"]), Path(job["asked"])
    trials, measured = Records(folder / "trials.jsonl"), Records(asked / "measured.jsonl")

    def trial(options: Mapping[str, Any], seed: int) -> dict[str, Any]:
        own = {"options": options, "seed": seed}
        at_hand = None
        if own not in trials:
            record, at_hand = train(job, folder, options, seed)
            trials.add({**own, **record})
        if own not in measured:
            model, dataset = at_hand or restored(job, folder, trials[own])
            measured.add({**own, "validation_rr": validation_rr(job, model, dataset, asked)})
        return {**trials[own], **measured[own]}

    searched = [trial(options, job["seeds"][0]) for options in job["grid"]]
    best = max(searched, key=lambda record: record["validation_rr"])
    seeded = [trial(best["options"], seed) for seed in job["seeds"]]
    winner = max(seeded, key=lambda record: record["validation_rr"])
    scores, seconds = score(job, folder, asked, winner)
    result = {
        "options": winner["options"],
        "seed": winner["seed"],
        "epochs": winner["epochs"],
        "validation_rr": winner["validation_rr"],
        "validation_rr_by_seed": {str(record["seed"]): record["validation_rr"] for record in seeded},
        "trials": [{key: record[key] for key in ("options", "seed", "validation_rr", "epochs")} for record in searched],
        "seconds_per_list": seconds,
        "scores": scores,
    }
    part = asked / "result.json.part"
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(asked / "result.json")


class Records:
    """Lines of a file, each of one setting and seed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, dict[str, Any]] = {}
        if not path.is_file():
            return
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        # The last line may have been cut off when the job was killed.
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        for record in map(json.loads, whole.splitlines()):
            self._found[_key(record)] = record

    def __contains__(self, of: Mapping[str, Any]) -> bool:
        return _key(of) in self._found

    def __getitem__(self, of: Mapping[str, Any]) -> dict[str, Any]:
        return self._found[_key(of)]

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record, also for the next job."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self._found[_key(record)] = record


def _key(record: Mapping[str, Any]) -> str:
    return json.dumps([record["options"], record["seed"]], sort_keys=True)


def _configured(job: Mapping[str, Any], folder: Path, options: Mapping[str, Any], seed: int) -> Any:
    from recbole.config import Config

    sequential = job["model"] in SEQUENTIAL
    settings = {
        "data_path": str(folder.parent),
        "checkpoint_dir": str(folder / "checkpoints"),
        "benchmark_filename": ["train", "valid", "valid"],
        "load_col": {
            "inter": ["user_id", "item_id", *(["item_id_list"] if sequential else [])],
        },
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "group_by": "user", "order": "TO", "mode": "full"},
        "epochs": job["epochs"],
        # RecBole stops one epoch after so many.
        "stopping_step": job["patience"] - 1,
        "train_batch_size": job["batch"],
        "eval_batch_size": 4096,
        "use_gpu": False,
        "gpu_id": "",
        "seed": seed,
        "show_progress": False,
        "state": "WARNING",
        "topk": [10],
        "valid_metric": "MRR@10",
        **(
            {
                "alias_of_item_id": ["item_id_list"],
                "train_neg_sample_args": None,
                "MAX_ITEM_LIST_LENGTH": job["history"],
            }
            if sequential
            else {}
        ),
        **options,
    }
    return Config(model=job["model"], dataset=folder.name, config_dict=settings)


def _prepared(job: Mapping[str, Any], folder: Path, options: Mapping[str, Any], seed: int) -> tuple[Any, Any, Any]:
    """Return configuration, data set and the three data loaders, all by the seed alone."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import init_seed

    config = _configured(job, folder, options, seed)
    init_seed(seed, True)
    dataset = create_dataset(config)
    return config, dataset, data_preparation(config, dataset)


def _made(config: Any, train_data: Any) -> Any:
    from recbole.utils import get_model

    model = get_model(config["model"])
    if config["model"] in SEQUENTIAL:
        model = at_every_choice(model)
    return model(config, train_data.dataset).to(config["device"])


def at_every_choice(model: Any) -> Any:
    """Return the sequential model with a loss at every choice of a row, as Kang and McAuley (2018, III-E) train it.

    RecBole's own loss is of a row's last choice alone, so that each choice is a row with all choices before it: as many
    times the work as a row is long.
    """

    class AtEveryChoice(model):  # type: ignore[misc]
        def gather_indexes(self, output: Any, index: Any) -> Any:
            return output if self.training else super().gather_indexes(output, index)

        def calculate_loss(self, interaction: Any) -> Any:
            import torch

            seen, lengths = interaction[self.ITEM_SEQ], interaction[self.ITEM_SEQ_LEN]
            chosen = torch.roll(seen, -1, dims=1)
            chosen[torch.arange(len(seen)), lengths - 1] = interaction[self.POS_ITEM_ID]
            real = torch.arange(seen.shape[1]) < lengths[:, None]
            found = self.forward(seen, lengths)[real]
            return torch.nn.functional.cross_entropy(found @ self.item_embedding.weight.T, chosen[real])

    return AtEveryChoice


def train(
    job: Mapping[str, Any], folder: Path, options: Mapping[str, Any], seed: int
) -> tuple[dict[str, Any], tuple[Any, Any]]:
    """Train until the validation metric has not risen for ``patience`` epochs; return what to keep, and the model."""
    from recbole.utils import get_trainer

    started = time.time()
    config, dataset, (train_data, valid_data, _) = _prepared(job, folder, options, seed)
    model = _made(config, train_data)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    name = "-".join([job["model"], *(f"{key}={value}" for key, value in sorted(options.items())), str(seed)])
    epochs = Epochs(trainer, train_data, folder / "checkpoints" / f"{name}.part")
    finished = epochs.go_on()
    trainer.saved_model_file = str(folder / "checkpoints" / f"{name}.pth")
    if not finished:
        trainer.fit(train_data, valid_data, saved=True, show_progress=False, callback_fn=epochs.keep)
    _restore(model, trainer.saved_model_file)
    losses = getattr(trainer, "train_loss_dict", {})
    record = {
        "epochs": len(losses),
        "converged": len(losses) < job["epochs"],
        "seconds": time.time() - started,
        "checkpoint": f"{name}.pth",
    }
    epochs.forget()
    return record, (model, dataset)


class Epochs:
    """A training run after its last epoch, from which a killed job goes on as if it had not been killed.

    RecBole's own checkpoint is of the best epoch, and knows neither the order of the rows nor the negatives to come.
    """

    def __init__(self, trainer: Any, train_data: Any, path: Path) -> None:
        self._trainer, self._rows, self._path = trainer, train_data, path
        self._started = time.time()

    def keep(self, epoch: int, figure: float) -> None:
        """Keep an epoch, and say what came of it; RecBole calls this after each."""
        import numpy
        import torch

        state = {
            # What RecBole's resume_checkpoint reads.
            "config": self._trainer.config,
            "epoch": epoch,
            "cur_step": self._trainer.cur_step,
            "best_valid_score": self._trainer.best_valid_score,
            "state_dict": self._trainer.model.state_dict(),
            "other_parameter": self._trainer.model.other_parameter(),
            "optimizer": self._trainer.optimizer.state_dict(),
            "losses": self._trainer.train_loss_dict,
            "random": (random.getstate(), numpy.random.get_state(), torch.get_rng_state()),
            "rows": self._rows.generator.get_state(),
        }
        part = self._path.with_suffix(".writing")
        torch.save(state, part)
        part.replace(self._path)
        taken = time.time() - self._started
        sys.stdout.write(f"epoch {epoch}: {self._trainer.valid_metric} {figure:.4f}, {taken:.0f} s in all\n")
        sys.stdout.flush()

    def go_on(self) -> bool:
        """Put a run that was kept back where it was, and tell whether it had come to its end; at first do nothing."""
        import numpy
        import torch

        if not self._path.is_file():
            return False
        self._trainer.resume_checkpoint(self._path)
        state = torch.load(self._path, map_location="cpu", weights_only=False)
        self._trainer.train_loss_dict.update(state["losses"])
        python, arrays, tensors = state["random"]
        random.setstate(python)
        numpy.random.set_state(arrays)
        torch.set_rng_state(tensors)
        self._rows.generator.set_state(state["rows"])
        stopped: bool = self._trainer.cur_step > self._trainer.stopping_step
        return stopped or self._trainer.start_epoch >= self._trainer.epochs

    def forget(self) -> None:
        """Keep nothing of a run that is done."""
        self._path.unlink(missing_ok=True)


def restored(job: Mapping[str, Any], folder: Path, record: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return a model that was trained before, and its data set."""
    config, dataset, (train_data, _, _) = _prepared(job, folder, record["options"], record["seed"])
    model = _made(config, train_data)
    _restore(model, folder / "checkpoints" / record["checkpoint"])
    return model, dataset


def validation_rr(job: Mapping[str, Any], model: Any, dataset: Any, asked: Path) -> float:
    """Return the mean RR of the validation lists, equals at their mean place."""
    lists = _lists(asked / "validation.jsonl")
    ranks: list[float] = []
    for entry, found in zip(lists, _predict(job, model, dataset, lists), strict=True):
        own = found[entry["positive"]]
        better = sum(value > own for value in found)
        equal = sum(value == own for value in found) - 1
        ranks.append(1 / (1 + better + equal / 2))
    return sum(ranks) / len(ranks)


def _restore(model: Any, checkpoint: str | Path) -> None:
    import torch

    saved = torch.load(checkpoint, map_location="cpu", weights_only=False)
    model.load_state_dict(saved["state_dict"])
    model.load_other_parameter(saved.get("other_parameter"))
    model.eval()


def score(
    job: Mapping[str, Any], folder: Path, asked: Path, winner: Mapping[str, Any]
) -> tuple[dict[str, list[float]], float]:
    """Score the candidates of all lists with the winner, and return the scores by list and the seconds of a list."""
    model, dataset = restored(job, folder, winner)
    lists = _lists(asked / "lists.jsonl")
    started = time.time()
    found = dict(zip([entry["id"] for entry in lists], _predict(job, model, dataset, lists), strict=True))
    return found, (time.time() - started) / max(1, len(lists))


def _lists(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _predict(job: Mapping[str, Any], model: Any, dataset: Any, lists: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return a score for each candidate of each list; one that RecBole never saw scores below all others."""
    import torch
    from recbole.data.interaction import Interaction

    users, items = dataset.field2token_id["user_id"], dataset.field2token_id["item_id"]
    longest = job["history"] if job["model"] in SEQUENTIAL else 0
    known = [[place for place, item in enumerate(entry["items"]) if item in items] for entry in lists]
    rows: dict[str, list[Any]] = {"user_id": [], "item_id": [], "item_id_list": [], "item_length": []}
    for entry, places in zip(lists, known, strict=True):
        history = [items[item] for item in entry["history"] if item in items][-(longest or 1) :]
        padded = history + [0] * ((longest or 1) - len(history))
        rows["user_id"] += [users.get(entry["user"], 0)] * len(places)
        rows["item_id"] += [items[entry["items"][place]] for place in places]
        rows["item_id_list"] += [padded] * len(places)
        rows["item_length"] += [max(1, len(history))] * len(places)
    if not longest:
        rows = {"user_id": rows["user_id"], "item_id": rows["item_id"]}
    # Some models compute everything anew at each call, so that all rows go through few of them.
    whole = Interaction({name: torch.tensor(column, dtype=torch.long) for name, column in rows.items()})
    with torch.no_grad():
        parts = [model.predict(whole[start : start + 4096]).flatten() for start in range(0, len(whole), 4096)]
    values = iter(torch.cat(parts).tolist() if parts else [])
    found = []
    for entry, places in zip(lists, known, strict=True):
        own = [float(next(values)) for _ in places]
        scores = [min(own, default=0.0) - 1] * len(entry["items"])
        for place, value in zip(places, own, strict=True):
            scores[place] = value
        found.append(scores)
    return found


if __name__ == "__main__":
    main(sys.argv[1])
