"""All that a run needs before verl starts: its checks, its rows, its loops, its configuration."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from unified_ranker.backends.tokenizer import TokenizerTools, load_tokenizer
from unified_ranker.errors import BackendError, RecipeError, missing_extra
from unified_ranker.exchange import Message
from unified_ranker.model_settings import EMBEDDED, ModelSettings, embedded_path, read_settings
from unified_ranker.rewards.score import Scorer
from unified_ranker.schema.types import RankingExample, Usage
from unified_ranker.strategies.elimination import Elimination
from unified_ranker.strategies.one_shot import OneShot
from unified_ranker.strategies.picking import LABEL_TOKENS
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.registry import method_named
from unified_ranker.strategies.setwise import Setwise
from unified_ranker.tasks.build import read_split
from unified_ranker.training.lists import drawn_tasks, training_lists
from unified_ranker.training.rl.config import settings
from unified_ranker.training.rl.recipe import RLRecipe
from unified_ranker.training.rl.rows import (
    CASE_LOOP,
    RANKING_LOOP,
    VERL_LOOP,
    row_of,
    shuffled,
    training_examples,
    write_rows,
)
from unified_ranker.training.rl.trainable import Trainable, shown, strategies_by_domain
from unified_ranker.training.start import MEANINGS

# What Ray, verl's actors and vLLM took beside the weights, measured on a machine with two cores.
BASE_BYTES = 7_000_000_000
# "<think></think><answer></answer>", whatever the tokenizer makes of it.
_SETTLED_TOKENS = 32
# float32 weights, gradients and two moments, the reference model, and vLLM's copy.
BYTES_PER_PARAMETER = 4 * 6


@dataclass(frozen=True)
class Prepared:
    """A run that can start.

    Attributes:
        model: Where the start lies: a folder, or a name on the hub.
        ranker: How the trained model wants to be asked.
        settings: verl's settings, by full name.
    """

    model: str
    ranker: ModelSettings
    settings: Mapping[str, Any]


def check_machine(recipe: RLRecipe, *, ray_address: str | None = None) -> None:
    """Check that this machine can do what the recipe asks for, before Ray starts.

    Raises:
        MissingExtraError: verl, Ray or vLLM are not installed.
        RecipeError: there are too few accelerators, or one where the recipe wants none, or too little memory.
    """
    for package in ("verl", "ray", "vllm", "transfer_queue"):
        if find_spec(package) is None:
            raise missing_extra(
                "rl-cpu" if recipe.platform == "cpu" else "rl", package=package, purpose="reinforcement learning"
            )
    import torch

    seen = torch.cuda.device_count()
    if recipe.platform == "gpu" and not ray_address:
        if seen < recipe.gpus:
            raise RecipeError(
                f"platform='gpu' with gpus={recipe.gpus}: this machine has {seen} accelerators that torch can use. "
                "Lower gpus, join a cluster with --ray-address, or take a recipe with platform: cpu (iranker-tiny)"
            )
        if recipe.nodes > 1:
            raise RecipeError(f"nodes={recipe.nodes} needs a Ray cluster that runs already; name it with --ray-address")
    if recipe.platform == "cpu" and seen:
        raise RecipeError(f"platform='cpu': this machine has {seen} accelerators; take platform=gpu, which is faster")
    if recipe.platform == "cpu" and not ray_address:
        needed = BASE_BYTES + BYTES_PER_PARAMETER * _parameters(source_of(recipe))
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if there < needed:
            raise RecipeError(
                f"model={recipe.model!r} needs about {needed / 1e9:.0f} GB of memory to train on a CPU, and "
                "this machine "
                f"has {there / 1e9:.0f} GB; take a smaller model"
            )


def source_of(recipe: RLRecipe) -> str:
    """Return where the start lies.

    Raises:
        BackendError: a folder that does not exist.
    """
    if recipe.model == EMBEDDED:
        return str(embedded_path())
    if recipe.model.startswith((".", "/", "~")) and not Path(recipe.model).expanduser().is_dir():
        raise BackendError(f"model folder {recipe.model!r} does not exist")
    return str(Path(recipe.model).expanduser()) if Path(recipe.model).expanduser().is_dir() else recipe.model


def _parameters(source: str) -> int:
    """Return about how many parameters a folder holds (two bytes each), 0 for what is not here."""
    return sum(file.stat().st_size for file in Path(source).glob("*.safetensors")) // 2


class Setting:
    """Strategies, labels and sizes of a run, from the recipe and the model's own settings."""

    def __init__(self, recipe: RLRecipe) -> None:
        self.recipe = recipe
        self.source = source_of(recipe)
        own = read_settings(self.source)
        self.tokenizer, config = _read(self.source)
        if recipe.learns == "words" and not hasattr(config, MEANINGS):
            raise RecipeError(
                f"learns='words': the model {self.source!r} does not say where its words have what they mean; take one "
                "that train sft started, or learns=all"
            )
        context = int(config.get_text_config().max_position_embeddings)
        self.style = recipe.style or own.style
        self.token_budget = recipe.token_budget or own.token_budget or context
        self.tools = TokenizerTools(self.tokenizer, context_tokens=context, labels=own.labels)
        self.strategies = self._strategies()
        first = next(iter(self.strategies.values()))
        self.answers = first.answers if isinstance(first, Pointwise) else ()
        self.scorer = Scorer(recipe.reward, recipe.measure, self.answers)  # type: ignore[arg-type]  # checked before
        # A case is the first step of its list, whose prompt needs room for that step alone.
        self.cases = self._strategies(max_steps=1) if recipe.form == "cases" else self.strategies
        self.ranker = ModelSettings(
            method=recipe.method,
            style=self.style,
            token_budget=self.token_budget,
            labels=own.labels,
            options=dict(recipe.options),
        )

    def _strategies(self, **more: Any) -> dict[str, Trainable]:
        return strategies_by_domain(
            self.recipe.method,
            style=self.style,
            tools=self.tools,
            token_budget=self.token_budget,
            options={**self.recipe.options, **more},
        )

    def _strategy(self, domain: str, loop: str) -> Trainable:
        return (self.strategies if loop == RANKING_LOOP else self.cases)[domain]

    def spec(self, **more: Any) -> dict[str, Any]:
        """Return what the agent loop needs to build the same again, with more options for cases."""
        own = method_named(self.recipe.method).options
        return {
            "method": self.recipe.method,
            "options": {**self.recipe.options, **{name: value for name, value in more.items() if name in own}},
            "style": self.style,
            "token_budget": self.token_budget,
            "context_tokens": self.tools.context_tokens,
            "labels": list(self.tools.labels),
            "reward": self.scorer.reward,
            "measure": self.scorer.measure,
            "group": self.recipe.group,
            "mutation": self.recipe.mutation,
            "seed": self.recipe.seed,
        }

    def answer_tokens(self) -> list[int]:
        """Return the tokens of all grades, where each is a single token."""
        spelled = [self.tools.spell(answer, after="") for answer in self.answers]
        return [tokens[0] for tokens in spelled] if all(len(tokens) == 1 for tokens in spelled) else []

    def row(self, example: RankingExample, *, index: int, split: str, loop: str) -> dict[str, Any]:
        """Return one row."""
        return row_of(
            example,
            index=index,
            split=split,
            strategy=self._strategy(example.domain, loop),
            scorer=self.scorer,
            loop=loop,
        )

    def lengths(self, rows: Iterable[tuple[RankingExample, Mapping[str, Any]]]) -> tuple[int, int]:
        """Return bounds for the tokens of a prompt and of a response, over lists and the rows made of them."""
        prompts, responses = 1, 1
        for example, row in rows:
            messages = [Message(entry["role"], entry["content"]) for entry in row["prompt"]]
            strategy = self._strategy(row["ability"], row["agent_name"])
            prompt, response = self._bounds(self.tools.count_prompt(messages), example, strategy)
            prompts, responses = max(prompts, prompt), max(responses, response)
        return prompts, responses

    def _bounds(self, prompt: int, example: RankingExample, strategy: Trainable) -> tuple[int, int]:
        room = strategy.room(example)
        if isinstance(strategy, Pointwise):
            alone = [example.with_candidates((candidate,)) for candidate in example.candidates]
            sizes = [self.tools.count_prompt(shown(entry, strategy)[1].messages) for entry in alone]
            return max(sizes), room
        if isinstance(strategy, OneShot) or (isinstance(strategy, Elimination) and strategy.permute):
            return prompt, room
        if isinstance(strategy, Setwise) and strategy.places == 1 and len(example.candidates) <= strategy.set_size:
            return prompt, room
        if isinstance(strategy, Setwise) and len(example.candidates) > strategy.set_size:
            # Sets that are asked later may be of longer texts than the first.
            return max(prompt, min(self.token_budget, self.tools.context_tokens) - room), room
        if isinstance(strategy, Setwise) or not isinstance(strategy, Elimination) or strategy.layout == "rounds":
            # Where texts had to be cut, a later round, of fewer candidates, may show more of each.
            _, written = shown(example, strategy)
            whole = written.cut == Usage()
            return prompt if whole else max(prompt, min(self.token_budget, self.tools.context_tokens) - room), room
        # Between the replies stand separators and, with reasoning, the settled form of each step. A reply that had to
        # be mended begins a new sequence, whose prompt holds all that was settled before.
        steps = strategy.steps(len(example.candidates))
        form = _SETTLED_TOKENS if strategy.sampling.reasoning else 0
        between = self.tools.count(strategy.writer.template.label_separator) + form
        reply = steps * (strategy.sampling.reply_tokens(LABEL_TOKENS) + between)
        return prompt + reply, reply


def _read(source: str) -> tuple[Any, Any]:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source)
        tokenizer = load_tokenizer(source)
    except (OSError, ValueError) as error:
        raise BackendError(
            f"cannot load the model {source!r}: {error}\nGive a folder, or a name on the hub where it can be reached"
        ) from error
    return tokenizer, config


def prepare(recipe: RLRecipe, *, data: Path, run: Path, ray_address: str | None = None, write: bool = True) -> Prepared:
    """Write the rows and loops of a run, and settle verl's settings.

    Args:
        recipe: The recipe.
        data: Folder of built tasks.
        run: Folder of the run.
        ray_address: See :func:`~unified_ranker.training.rl.config.settings`.
        write: Write into the folder; without, only the settings come back.

    Raises:
        MissingSourceError: a task of the recipe is not built in ``data``.
        DataError: a task has no training lists.
        RecipeError: a task has no validation lists.
        PromptTooLongError: a list does not fit the token budget.
    """
    setting = Setting(recipe)
    used = drawn_tasks(recipe.tasks)
    lists = {task: training_lists(data, task) for task in used}
    cases = recipe.form == "cases"
    drawn = training_examples(
        lists, used, rows=recipe.steps * recipe.batch, order=recipe.order, cases=cases, seed=recipe.seed
    )
    loop = VERL_LOOP if recipe.by_verl else CASE_LOOP if cases else RANKING_LOOP
    train = [setting.row(example, index=i, split="train", loop=loop) for i, example in enumerate(drawn)]
    held = validation_lists(data, used, recipe.validation_lists)
    validation = [
        setting.row(example, index=i, split="validation", loop=RANKING_LOOP) for i, example in enumerate(held)
    ]
    prompt, response = setting.lengths(zip([*drawn, *held], [*train, *validation], strict=True))
    if write:
        _write(run, train, validation, setting)
    found = settings(
        recipe,
        run=run.resolve(),
        model=setting.source,
        prompt_tokens=prompt,
        response_tokens=response,
        label_tokens=[setting.tools.spell(name, after="")[0] for name in setting.tools.labels],
        answer_tokens=setting.answer_tokens(),
        ray_address=ray_address,
    )
    return Prepared(setting.source, setting.ranker, found)


def _write(
    run: Path, train: Sequence[Mapping[str, Any]], validation: Sequence[Mapping[str, Any]], setting: Setting
) -> None:
    folder = run / "rows"
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.parquet", train)
    write_rows(folder / "validation.parquet", validation)
    loops = [
        {"name": name, "_target_": "unified_ranker.training.rl.agent_loop.RankingLoop", "spec": json.dumps(spec)}
        for name, spec in ((RANKING_LOOP, setting.spec()), (CASE_LOOP, setting.spec(max_steps=1)))
    ]
    (run / "loops.yaml").write_text(yaml.safe_dump(loops, sort_keys=False), encoding="utf-8")


def validation_lists(data: Path, tasks: Mapping[str, float], count: int) -> list[RankingExample]:
    """Return the first lists of each task's validation split, in a fixed random order of their candidates.

    Raises:
        RecipeError: a task has none.
    """
    import random

    found = []
    for task in tasks:
        # A list of one has nothing to be ranked.
        lists = [e for e in read_split(data, task, "validation") if len(e.candidates) > 1][:count]
        if not lists:
            raise RecipeError(f"task {task!r} has no validation lists in {str(data / task)!r}; leave it out of tasks")
        found += [shuffled(example, random.Random(f"validation/{example.id}")) for example in lists]
    return found
