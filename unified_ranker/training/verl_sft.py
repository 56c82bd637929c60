"""Supervised fine-tuning with verl's own trainer: the cold start of larger models, on one accelerator or many.

The plain trainer of :mod:`~unified_ranker.training.sft` spreads the target of a step over all labels that are right,
with one process. This one hands verl plain conversations, the prompt and a right reply, and leaves sharding,
checkpoints and logging to it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError, OptionError, RecipeError
from unified_ranker.rewards.grade import whole_grade
from unified_ranker.rewards.score import REWARDS
from unified_ranker.schema.parquet import write_quietly
from unified_ranker.schema.types import RankingExample
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.registry import TRAINED
from unified_ranker.strategies.setwise import Setwise
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.data_note import Note, note_of, note_of_file, write_note
from unified_ranker.training.lists import balanced, drawn_tasks, training_lists
from unified_ranker.training.recipe_file import build
from unified_ranker.training.rl.trainable import Trainable, chat_of, shown, strategies_by_domain

SCHEMA = "sft_trainer_engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerlSFTRecipe:
    """A supervised run of verl's trainer; a recipe file says ``trainer: verl``.

    Attributes:
        name: Its name.
        tasks: Share of each task among the rows.
        trainer: ``"verl"``.
        methods: Share of each method among the rows.
        model: Folder or hub name of the start; ``"embedded"`` for the model that comes with the package.
        platform: ``"gpu"`` or ``"cpu"``.
        style: Style of the prompts; empty for the model's own.
        token_budget: Most tokens of prompt and reply; 0 for the model's own.
        rows: Conversations to train on.
        conversations: A parquet file of conversations (``messages``), such as "train synthesize" writes, to train on
            instead of those that the lists' relevance gives; drawn anew, in random order, when all were seen.
        batch: Conversations of a step.
        save_every: Steps between checkpoints.
        keep: Checkpoints that are kept.
        gpus: Accelerators of this machine (on a CPU: 1).
        seed: Seed.
        verl: Settings of verl, by their full names, over all that the above says.
    """

    name: str
    tasks: Mapping[str, float]
    trainer: str = "verl"
    methods: Mapping[str, float] = field(default_factory=lambda: {"iranker": 1.0})
    model: str = "embedded"
    platform: str = "gpu"
    style: str = ""
    token_budget: int = 0
    rows: int = 10_000
    conversations: str = ""
    batch: int = 64
    save_every: int = 50
    keep: int = 2
    gpus: int = 1
    seed: int = 0
    verl: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @property
    def steps(self) -> int:
        """Updates of the run."""
        return self.rows // self.batch


def parse(record: Mapping[str, Any]) -> VerlSFTRecipe:
    """Check a recipe.

    Raises:
        RecipeError: naming the field, the value and what would do.
    """
    recipe: VerlSFTRecipe = build(VerlSFTRecipe, record, where="")
    for where, weights in (("tasks", recipe.tasks), ("methods", recipe.methods)):
        if not all(isinstance(w, (int, float)) and w >= 0 for w in weights.values()) or not sum(weights.values()) > 0:
            raise RecipeError(f"{where}={dict(weights)} must hold weights ≥ 0, not all of them 0")
    for name in recipe.methods:
        if name not in TRAINED:
            raise RecipeError(f"methods: {name!r} is not known; choose among {', '.join(TRAINED)}")
    for name in recipe.tasks:
        try:
            task_named(name)
        except OptionError as error:
            raise RecipeError(f"tasks: {error}") from error
    if recipe.trainer != "verl":
        raise RecipeError(f"trainer={recipe.trainer!r} must be 'verl'; leave it out for the plain trainer")
    if recipe.platform not in ("gpu", "cpu"):
        raise RecipeError(f"platform={recipe.platform!r} must be 'gpu' or 'cpu'")
    for name in ("batch", "save_every", "keep", "gpus"):
        if getattr(recipe, name) < 1:
            raise RecipeError(f"{name}={getattr(recipe, name)} must be ≥ 1")
    if recipe.platform == "cpu" and recipe.gpus > 1:
        raise RecipeError(f"gpus={recipe.gpus} with platform='cpu': one process is all there is; set gpus=1")
    if recipe.rows < recipe.batch:
        raise RecipeError(f"rows={recipe.rows} must be at least one batch={recipe.batch}")
    return recipe


def conversation(example: RankingExample, strategy: Trainable, rng: random.Random) -> list[dict[str, str]]:
    """Return a prompt of a list and a right reply to it.

    Worst first (``iranker``), best first (``dranker``) or the best alone (``setwise``), equals in random order; or the
    grade of a random candidate (``pointwise``).
    """
    if isinstance(strategy, Pointwise):
        candidate = balanced(example, rng)
        _, written = shown(example.with_candidates((candidate,)), strategy)
        grade = whole_grade(example, candidate.id, top=len(strategy.answers) - 1)
        return [*chat_of(written), {"role": "assistant", "content": strategy.answers[grade]}]
    listed, written = shown(example, strategy)
    sign = 1 if isinstance(strategy, Elimination) else -1
    order = sorted(listed, key=lambda entry: (sign * example.grade(entry.candidate.id), rng.random()))
    if isinstance(strategy, Elimination):
        order = order[:-1]
    if isinstance(strategy, Setwise):
        order = order[:1]
    reply = strategy.writer.template.label_separator.join(entry.label for entry in order)
    return [*chat_of(written), {"role": "assistant", "content": reply}]


def run(recipe: VerlSFTRecipe, *, data: Path, out: Path, say: Callable[[str], None]) -> Path:
    """Run a recipe to its end, going on where an earlier start of it stopped, and return the model's folder.

    Raises:
        RecipeError: the recipe does not fit the machine, or the folder holds a run of another recipe.
        MissingExtraError: verl is not installed.
        DataError: a task has no lists, or the folder holds a run that was started with other data.
        BackendError: verl stopped before the end.
    """
    from unified_ranker.training.rl.export import export, latest_step
    from unified_ranker.training.rl.launch import claim, environment, follow, refuse_other, resume, settled_note

    out = out.resolve()
    refuse_other(recipe.to_dict(), out)
    note = settled_note(data_note(recipe, data), out)
    config, setting, rows = plan(recipe, data=data, out=out)
    claim(recipe.to_dict(), out, note=note)
    _write(rows, out / "rows.parquet")
    from omegaconf import OmegaConf

    OmegaConf.save(config, out / "verl.yaml")
    checkpoints = out / "checkpoints"
    done = resume(checkpoints, say=say)
    if done is None or done < recipe.steps:
        env = environment(out, on_cpu=recipe.platform == "cpu")
        # Meant for workers of Ray, of which there are none here: verl would ask Ray which device it gave.
        env.pop("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", None)
        module = ["verl.trainer.sft_trainer"]
        if recipe.gpus == 1:
            env |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
            env.setdefault("MASTER_PORT", str(20_000 + os.getpid() % 20_000))
        else:
            module = ["torch.distributed.run", "--standalone", f"--nproc_per_node={recipe.gpus}", "-m", *module]
        follow(module, out, env=env, after=done or 0, say=say, line=lambda step, record: _line(step, record, recipe))
    last = checkpoints / f"global_step_{latest_step(checkpoints)}"
    model = export(last, out / "model", settings=setting.ranker)
    write_note(note, model)
    return model


def data_note(recipe: VerlSFTRecipe, data: Path) -> Note:
    """Return the hashes of what a run reads: its conversations, or the lists of its tasks.

    Raises:
        DataError: the file of conversations does not exist.
        MissingSourceError: a task is not built in ``data``.
    """
    if recipe.conversations:
        return note_of_file(_file_of(recipe))
    return note_of(data, dict.fromkeys(drawn_tasks(recipe.tasks), ("train",)))


def plan(recipe: VerlSFTRecipe, *, data: Path, out: Path) -> tuple[Any, Any, list[list[dict[str, str]]]]:
    """Return verl's configuration, the setting of prompts, and the conversations.

    Raises:
        RecipeError: verl refuses a setting.
        MissingExtraError: verl is not installed.
        DataError: a task has no lists.
    """
    from unified_ranker.training.rl.config import compose
    from unified_ranker.training.rl.prepare import Setting
    from unified_ranker.training.rl.recipe import parse_recipe as parse_rl
    from unified_ranker.training.rl.rows import training_examples

    # The reading of model, tokenizer and labels is that of reinforcement learning.
    main = max(recipe.methods, key=lambda name: recipe.methods[name])
    # Nothing is rewarded here; any reward of the method will do.
    reward = next(name for name, method in REWARDS.items() if method == main)
    setting = Setting(
        parse_rl(
            {
                "name": recipe.name,
                "tasks": recipe.tasks,
                "model": recipe.model,
                "method": main,
                "reward": reward,
                "options": {"score": "grade"} if main == "pointwise" else {},
                "style": recipe.style,
                "token_budget": recipe.token_budget,
            }
        )
    )
    if recipe.conversations:
        rows = _given(recipe)
        longest = max(_length(row, setting) for row in rows)
        found = _settings(recipe, out=out.resolve(), model=setting.source, length=longest)
        return compose(found, schema=SCHEMA), setting, rows
    strategies = {
        method: strategies_by_domain(
            method, style=setting.style, tools=setting.tools, token_budget=setting.token_budget, options={}
        )
        for method in recipe.methods
    }
    used = drawn_tasks(recipe.tasks)
    examples = training_examples(
        {task: training_lists(data, task) for task in used},
        used,
        rows=recipe.rows,
        order="mixed",
        cases=False,
        seed=recipe.seed,
    )
    rng = random.Random(f"{recipe.seed}/replies")
    names = list(recipe.methods)
    rows = []
    for example in examples:
        (method,) = rng.choices(names, [recipe.methods[name] for name in names])
        rows.append(conversation(example, strategies[method][example.domain], rng))
    longest = max(_length(row, setting) for row in rows)
    found = _settings(recipe, out=out.resolve(), model=setting.source, length=longest)
    return compose(found, schema=SCHEMA), setting, rows


def _file_of(recipe: VerlSFTRecipe) -> Path:
    path = Path(recipe.conversations)
    if not path.is_file():
        raise DataError(f"conversations={recipe.conversations!r} does not exist; make it with: train synthesize")
    return path


def _given(recipe: VerlSFTRecipe) -> list[list[dict[str, str]]]:
    """Return as many conversations of a file as the recipe has rows.

    Raises:
        DataError: the file is missing, holds none, or holds something else.
    """
    from pyarrow import ArrowInvalid
    from pyarrow.parquet import read_table

    path = _file_of(recipe)
    try:
        table = read_table(path)
    except (OSError, ArrowInvalid) as error:
        raise DataError(f"{path}: not a parquet file: {error}") from error
    if "messages" not in table.column_names or not table.num_rows:
        raise DataError(f"{path}: it must have rows and a column 'messages'; it has {table.num_rows} rows")
    given = [
        _conversation(messages, where=f"{path}, row {number}")
        for number, messages in enumerate(table.column("messages").to_pylist(), start=1)
    ]
    rng = random.Random(f"{recipe.seed}/conversations")
    rows: list[list[dict[str, str]]] = []
    while len(rows) < recipe.rows:
        rows += rng.sample(given, len(given))
    return rows[: recipe.rows]


def _conversation(messages: Any, *, where: str) -> list[dict[str, str]]:
    whole = isinstance(messages, list) and all(
        isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in ("role", "content"))
        for entry in messages
    )
    if not whole or len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise DataError(
            f"{where}: column 'messages' is {str(messages)[:80]!r}; it must be a list of role and content that ends "
            "with the assistant's"
        )
    return [{"role": entry["role"], "content": entry["content"]} for entry in messages]


def _length(row: Sequence[Mapping[str, str]], setting: Any) -> int:
    # A bound: the chat's own marks around the reply are few.
    from unified_ranker.exchange import Message

    messages = [Message(entry["role"], entry["content"]) for entry in row[:-1]]  # type: ignore[arg-type]  # ours
    return int(setting.tools.count_prompt(messages, row[-1]["content"])) + 8


def _settings(recipe: VerlSFTRecipe, *, out: Path, model: str, length: int) -> dict[str, Any]:
    from unified_ranker.training.rl.config import FLOAT32

    found: dict[str, Any] = {
        "data.train_files": str(out / "rows.parquet"),
        "data.val_files": None,
        "data.messages_key": "messages",
        "data.train_batch_size": recipe.batch,
        "data.max_length": length,
        "data.max_token_len_per_gpu": max(8192, length),
        "data.truncation": "error",
        # Some chat templates write a message alone otherwise than within its chat; verl trains on the whole one.
        "data.ignore_input_ids_mismatch": True,
        "model.path": model,
        "trainer.total_epochs": 1,
        "trainer.total_training_steps": recipe.steps,
        "trainer.save_freq": recipe.save_every,
        "trainer.test_freq": -1,
        "trainer.max_ckpt_to_keep": recipe.keep,
        "trainer.default_local_dir": str(out / "checkpoints"),
        "trainer.resume_mode": "auto",
        "trainer.project_name": "unified_ranker",
        "trainer.experiment_name": recipe.name,
        "trainer.logger": ["console", "tensorboard", "file"],
        "trainer.seed": recipe.seed,
        "trainer.n_gpus_per_node": recipe.gpus,
        "engine.seed": recipe.seed,
        "checkpoint.save_contents": ["model", "optimizer", "extra", "hf_model"],
    }
    if recipe.platform == "cpu":
        found |= {
            "trainer.device": "cpu",
            "engine.strategy": "fsdp2",
            "engine.use_torch_compile": False,
            "engine.model_dtype": "fp32",
            "+engine.mixed_precision": FLOAT32,
            "model.use_remove_padding": False,
            "+model.override_config.attn_implementation": "sdpa",
            "model.enable_gradient_checkpointing": False,
            "data.num_workers": 0,
        }
    return {**found, **recipe.verl}


def _write(rows: Sequence[Sequence[Mapping[str, str]]], path: Path) -> None:
    from datasets import Dataset

    write_quietly(Dataset.from_list([{"messages": [dict(entry) for entry in row]} for row in rows]), path)


def _line(step: int, record: Mapping[str, float], recipe: VerlSFTRecipe) -> str:
    facts = [f"step {step}/{recipe.steps}"]
    for name, key, form in (
        ("loss", "train/loss", ".4f"),
        ("gradient", "train/grad_norm", ".2f"),
        ("rate", "train/lr", ".2e"),
        ("tokens", "train/global_tokens", ".0f"),
    ):
        if key in record:
            facts.append(f"{name} {record[key]:{form}}")
    return "  ".join(facts)
