"""RecBole's recommenders, each trained in an environment of its own and asked through files."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, ClassVar

from unified_ranker.benchmarks.baselines.base import Scorer
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks.beside import History

from unified_ranker.errors import BackendError, DataError, MissingExtraError, OptionError
from unified_ranker.schema.types import RankingExample

PYTHON_VARIABLE = "UNIFIED_RANKER_RECBOLE_PYTHON"
_HOME = Path(".venv-recbole/bin/python")
# As RecBole has it for SASRec.
LONGEST_HISTORY = 50
#: Most training users whose latest choice tells when to stop.
STOPPING_USERS = 2000
#: Users of a task that counts as large.
LARGE_USERS = 10_000
_DATASET = "lists"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a recommender is trained.

    Attributes:
        grid: The settings to try.
        seeds: How many seeds the best setting is trained with.
        batch: Interactions of a training step.
        patience: Epochs without a rise after which a training run stops.
    """

    grid: Sequence[Mapping[str, Any]]
    seeds: int = 3
    batch: int = 2048
    patience: int = 10


class RecBole:
    """A recommender of RecBole.

    Trained on what training users chose and on what validation and test users chose *before* the ranked choice, as a
    recommender in use knows it. Each setting of :attr:`PLAN` is trained until MRR@10 over all items has not risen for
    ``patience`` epochs on the validation users' choices and on the latest choices of up to 2,000 training users, which
    are left out of training for that: over the few dozen validation users alone, chance ends a run after some epochs.
    The setting with the best RR on the validation *lists* is trained with every seed, and the best of those on the
    validation lists ranks. Lists with other negatives for the same choices share what was trained.

    Args:
        python: The Python of RecBole's environment; by default the variable ``UNIFIED_RANKER_RECBOLE_PYTHON``, or
            ``.venv-recbole/bin/python``.
        epochs: Most epochs of a training run.
        patience: As in :class:`Plan`; by default that of the plan, as are the next three.
        seeds: As in :class:`Plan`.
        batch: As in :class:`Plan`.
        grid: As in :class:`Plan`.
        history: Latest choices that a sequential model reads.
    """

    name: ClassVar[str]
    model: ClassVar[str]
    PLAN: ClassVar[Plan]
    #: What replaces it where there are :data:`LARGE_USERS` or more, if it would take most of a day there.
    LARGE: ClassVar[Plan | None] = None
    domains = ("recommendation",)
    trained = True

    def __init__(
        self,
        *,
        python: str = "",
        epochs: int = 300,
        patience: int | None = None,
        seeds: int | None = None,
        batch: int | None = None,
        history: int = LONGEST_HISTORY,
        grid: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        counts = {"epochs": epochs, "patience": patience, "seeds": seeds, "batch": batch, "history": history}
        for option, value in counts.items():
            planned = value is None and option in ("patience", "seeds", "batch")
            if not planned and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise OptionError(f"{option}={value!r} must be a whole number ≥ 1")
        listed = isinstance(grid, (list, tuple)) and grid
        if grid is not None and (not listed or not all(isinstance(entry, Mapping) for entry in grid)):
            raise OptionError(f"grid={grid!r} must be a list of settings, such as [{{learning_rate: 0.001}}]")
        self.epochs, self.history = epochs, history
        given = {"grid": grid, "seeds": seeds, "batch": batch, "patience": patience}
        self._given: dict[str, Any] = {option: value for option, value in given.items() if value is not None}
        self._python = python

    def plan(self, task: BuiltTask) -> Plan:
        """Return how a task's recommender is trained: as was asked for, the rest by the size of the task."""
        plan = self.LARGE if self.LARGE is not None and len(task.histories) >= LARGE_USERS else self.PLAN
        return replace(plan, **self._given)

    def python(self) -> Path:
        """Return the Python of RecBole's environment.

        Raises:
            MissingExtraError: there is none.
        """
        given = self._python or os.environ.get(PYTHON_VARIABLE) or str(_HOME)
        # Not resolved: a virtual environment is known by the link through which its Python is called.
        found = Path(given).absolute()
        if not found.is_file():
            raise MissingExtraError(
                f"baseline {self.name!r} needs RecBole in an environment of its own, and {str(found)!r} is not there; "
                f"make it with: make install-recbole, or point {PYTHON_VARIABLE} at one made from "
                "benchmarks/baselines/recbole_requirements.txt"
            )
        return found

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> RecBoleScorer:
        """Train and choose, and score all validation and test lists; what an earlier call has trained is not repeated.

        Raises:
            MissingExtraError: RecBole's environment is missing.
            BackendError: RecBole stopped with an error.
        """
        python, plan = self.python(), self.plan(task)
        targets = [[example.group, _target(example)] for example in task.lists("validation")]
        training: dict[str, Any] = {
            "model": self.model,
            "epochs": self.epochs,
            "patience": plan.patience,
            "batch": plan.batch,
        }
        # Other models know users, not orders: how long a history is makes no other training of them.
        sequential = self.model == "SASRec"
        if sequential:
            training["history"] = self.history
        name = f"{task.name}-{self.model}-{_digest([training, task.history_fingerprint, targets])}"
        folder = (scratch / "recbole" / name / _DATASET).absolute()
        choosing = {"grid": [dict(entry) for entry in plan.grid], "seeds": list(range(seed, seed + plan.seeds))}
        lists = [task.fingerprint(split) for split in ("validation", "test")]
        asked = folder.with_name(f"asked-{_digest([choosing, task.edition, lists])}")
        if not (asked / "result.json").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            asked.mkdir(exist_ok=True)
            write_atomic(task, folder, sequential=sequential, longest=self.history)
            write_asked(task, asked)
            job = {**training, **choosing, "folder": str(folder), "asked": str(asked)}
            (asked / "job.json").write_text(json.dumps(job), encoding="utf-8")
            self._run(python, asked)
        result = json.loads((asked / "result.json").read_text(encoding="utf-8"))
        items = {}
        for line in (asked / "lists.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            items[entry["id"]] = entry["items"]
        return RecBoleScorer(result, items)

    def _run(self, python: Path, folder: Path) -> None:
        worker = files("unified_ranker.benchmarks.baselines").joinpath("recbole_worker.py")
        with as_file(worker) as script, (folder / "worker.log").open("ab") as log:
            try:
                # Its log folders lie where it stands.
                status = subprocess.run(
                    [str(python), str(script), str(folder / "job.json")],
                    cwd=folder,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
                    check=False,
                ).returncode
            except OSError as error:
                raise BackendError(f"RecBole's Python {str(python)!r} cannot be started: {error}") from error
        if status == 0 and not (folder / "result.json").is_file():
            raise BackendError(
                f"RecBole's {self.model} ended without a result; is {str(python)!r} a Python? All that it said is in "
                f"{folder / 'worker.log'}"
            )
        if status != 0:
            last = (folder / "worker.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
            raise BackendError(
                f"RecBole's {self.model} stopped with exit code {status}: {' '.join(last)}; "
                f"all that it said is in {folder / 'worker.log'}"
            )

    def settings(self, scorer: Scorer) -> Mapping[str, Any]:
        """Return what won on validation, and how the others did."""
        assert isinstance(scorer, RecBoleScorer)
        return scorer.chosen


class RecBoleItemKNN(RecBole):
    """Cosine of items over users, the k nearest kept (Deshpande and Karypis 2004)."""

    name = "recbole-itemknn"
    model = "ItemKNN"
    # It counts; no seed changes anything.
    PLAN = Plan(tuple({"k": k, "shrink": shrink} for k in (50, 200, 800) for shrink in (10.0, 50.0)), seeds=1)


class RecBoleBPR(RecBole):
    """Matrix factorisation with a pairwise loss (Rendle et al. 2009)."""

    name = "recbole-bpr"
    model = "BPR"
    PLAN = Plan(
        tuple({"learning_rate": rate, "weight_decay": decay} for rate in (0.001, 0.003) for decay in (0.0, 1e-5, 1e-4))
    )


class RecBoleSASRec(RecBole):
    """Self-attention over the history (Kang and McAuley 2018)."""

    name = "recbole-sasrec"
    model = "SASRec"
    # A row is a user, or fifty choices of one.
    PLAN = Plan(
        tuple({"hidden_dropout_prob": dropout, "attn_dropout_prob": dropout} for dropout in (0.2, 0.5)), batch=32
    )
    # A softmax over all items at every choice: a run of game is half an hour on one core, or more.
    LARGE = Plan(tuple({**setting, "learning_rate": 0.002} for setting in PLAN.grid), seeds=2, batch=128, patience=4)


class RecBoleLightGCN(RecBole):
    """Embeddings smoothed over the graph of users and items (He et al. 2020)."""

    name = "recbole-lightgcn"
    model = "LightGCN"
    # Each step smooths the whole graph, so that few large steps cost less than many small ones; an epoch is a dozen of
    # them, and the first ones, which learn popularity, are followed by some that are worse.
    PLAN = Plan(
        tuple({"n_layers": layers, "reg_weight": 1e-4, "learning_rate": 0.005} for layers in (2, 3)),
        batch=8192,
        patience=30,
    )
    LARGE = replace(PLAN, seeds=2)


class RecBoleScorer:
    """The scores that RecBole gave."""

    def __init__(self, result: Mapping[str, Any], items: Mapping[str, Sequence[str]]) -> None:
        self._scores = {
            id: dict(zip(items[id], (float(score) for score in scores), strict=True))
            for id, scores in result["scores"].items()
        }
        self.chosen = {key: value for key, value in result.items() if key != "scores"}
        #: What predicting took for a list, in RecBole's own process.
        self.seconds_elsewhere = float(result["seconds_per_list"])

    def score(self, example: RankingExample) -> list[float]:
        """Return the scores of a list.

        Raises:
            DataError: it was not among the lists that were scored.
        """
        known = self._scores.get(example.id, {})
        if not all(candidate.id in known for candidate in example.candidates):
            raise DataError(f"list {example.id!r} was not scored by RecBole; it knows validation and test lists alone")
        return [known[candidate.id] for candidate in example.candidates]


def _digest(key: object) -> str:
    return hashlib.sha256(json.dumps(key).encode("utf-8")).hexdigest()[:12]


def _target(example: RankingExample) -> str:
    (target,) = (candidate.id for candidate in example.candidates if example.grade(candidate.id) > 0)
    return target


def write_atomic(task: BuiltTask, folder: Path, *, sequential: bool, longest: int = LONGEST_HISTORY) -> None:
    """Write RecBole's atomic files.

    ``train`` holds the histories of training users and the known part of the others'; ``valid`` the choices of the
    validation users, and the latest choice of up to :data:`STOPPING_USERS` training users, evenly spaced, which
    ``train`` then lacks. Test users' choices are in neither. For a sequential model a row is a choice with the history
    before it, at most its ``longest`` latest choices; in ``train`` each choice that has a history stands once, whether
    as a row's own or in its history, since the model learns from all of them.
    """
    known = {history.user: history for history in task.histories}
    users = [history for history in task.histories if history.split == "train" and len(history.items) > 2]
    stopping = {history.user for history in users[:: -(-len(users) // STOPPING_USERS) or 1]}
    with (
        (folder / f"{_DATASET}.train.inter").open("w", encoding="utf-8", newline="\n") as train,
        (folder / f"{_DATASET}.valid.inter").open("w", encoding="utf-8", newline="\n") as valid,
    ):
        for file in (train, valid):
            file.write("user_id:token\t" + ("item_id_list:token_seq\t" if sequential else "") + "item_id:token\n")
        for example in task.lists("validation"):
            history = known[example.group]
            _write(valid, history, history.items[-longest:], _target(example), sequential)
        for history in task.histories:
            items = history.items
            if history.user in stopping:
                _write(valid, history, items[:-1][-longest:], items[-1], sequential)
                items = items[:-1]
            step = longest if sequential else 1
            for place in range((len(items) - 1) % step, len(items), step):
                _write(train, history, items[max(0, place - longest) : place], items[place], sequential)


def write_asked(task: BuiltTask, folder: Path) -> None:
    """Write the lists to score: ``validation``, with what was chosen, and ``lists``, which adds the test lists."""
    known = {history.user: history for history in task.histories}
    for name, splits in (("validation", ("validation",)), ("lists", ("validation", "test"))):
        with (folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for split in splits:
                for example in task.lists(split):
                    file.write(json.dumps(_asked(example, known[example.group], split)) + "\n")


def _write(file: Any, history: History, before: Sequence[str], item: str, sequential: bool) -> None:
    if sequential and not before:
        return
    listed = " ".join(before) + "\t" if sequential else ""
    file.write(f"{history.user}\t{listed}{item}\n")


def _asked(example: RankingExample, history: History, split: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": example.id,
        "user": history.user,
        "history": list(history.items),
        "items": [candidate.id for candidate in example.candidates],
    }
    if split == "validation":
        entry["positive"] = next(p for p, c in enumerate(example.candidates) if example.grade(c.id) > 0)
    return entry
