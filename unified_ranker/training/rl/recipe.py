"""Recipes of reinforcement learning: what decides a run besides verl's own settings, and those under ``verl``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.model_settings import EMBEDDED
from unified_ranker.rewards.score import Scorer
from unified_ranker.strategies.registry import TRAINED, check_options
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.recipe_file import build, names_in, read_recipe

PACKAGE = "unified_ranker.training.rl"
FORMS = ("episodes", "cases")
ORDERS = ("mixed", "sequence")
PLATFORMS = ("gpu", "cpu")
LEARNS = ("all", "words")


@dataclass(frozen=True, slots=True, kw_only=True)
class RLRecipe:
    """A run of reinforcement learning.

    Attributes:
        name: Its name.
        tasks: Share of each task among the rows.
        model: Folder or hub name of the start; ``"embedded"`` for the model that comes with the package.
        platform: ``"gpu"``, or ``"cpu"`` for a machine without an accelerator.
        method: ``"iranker"``, ``"dranker"``, ``"setwise"`` or ``"pointwise"``.
        options: Options of the method and of its sampling, such as ``{"layout": "append"}``; how replies are drawn in
            training is verl's affair.
        style: Style of the prompts; empty for the model's own (``ranker.json``).
        token_budget: Most tokens of prompt and reply; 0 for the model's own.
        reward: A name of :data:`~unified_ranker.rewards.score.REWARDS`.
        measure: What ``graded`` and ``permutation`` go by: ``"ndcg"`` or ``"rr"``.
        mutation: Share of a group's rollouts whose grade is a variant of the reference (RARL, arXiv 2601.20585), so
            that a group of equals has something to learn from; for ``"pointwise"``.
        form: ``"episodes"`` (whole lists, on-policy) or ``"cases"`` (the published construction).
        frozen_labels: Keep the embeddings of labels as they are, on a CPU; for models that start here, whose labels are
            laid out.
        learns: ``"all"`` weights, or ``"words"``: what words mean and nothing else, on a CPU; for models that start
            here, whose layout ranks by what words mean. Labels stay as they are then, too.
        order: ``"mixed"`` or ``"sequence"``; see :func:`~unified_ranker.training.rl.rows.training_examples`.
        steps: Updates of the rollout policy.
        batch: Rows of a step.
        group: Rollouts of each row.
        validation_lists: Lists of each task that are ranked, with the most likely labels, before, during and after.
        test_lists: Test lists of each task for the MRR of start and end; 0 for all.
        save_every: Steps between checkpoints.
        validate_every: Steps between validations.
        keep: Checkpoints that are kept.
        gpus: Accelerators of a node (on a CPU: processes).
        nodes: Nodes.
        seed: Seed of rows, sampling and training.
        verl: Settings of verl, by their full names, over all that the above says.
    """

    name: str
    tasks: Mapping[str, float]
    model: str = EMBEDDED
    platform: str = "gpu"
    method: str = "iranker"
    options: Mapping[str, Any] = field(default_factory=dict)
    style: str = ""
    token_budget: int = 0
    reward: str = "binary"
    measure: str = "ndcg"
    mutation: float = 0.0
    form: str = "episodes"
    frozen_labels: bool = False
    learns: str = "all"
    order: str = "mixed"
    steps: int = 100
    batch: int = 64
    group: int = 8
    validation_lists: int = 16
    test_lists: int = 0
    save_every: int = 20
    validate_every: int = 20
    keep: int = 2
    gpus: int = 1
    nodes: int = 1
    seed: int = 0
    verl: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @property
    def restricted(self) -> bool:
        """Whether replies are restricted to labels."""
        if self.method == "dranker":
            return bool(self.options.get("permute"))
        return not (self.options.get("reasoning") or self.options.get("unguided"))

    @property
    def by_verl(self) -> bool:
        """Whether verl's own loop and reward manager play the rows: single replies that nothing restricts."""
        return self.form == "cases" and not self.restricted


def recipe_names() -> list[str]:
    """Return the recipes of the package."""
    return names_in(PACKAGE)


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> RLRecipe:
    """Load a recipe of the package, or a file.

    Args:
        name: A name of :func:`recipe_names`, or the path of a ``.yaml`` file.
        overrides: ``key=value``; what stands behind ``verl.`` is a setting of verl, such as
            ``verl.actor_rollout_ref.actor.optim.lr=1e-5``.

    Raises:
        OptionError: there is no such recipe.
        RecipeError: a field is unknown or has a value that cannot be used.
    """
    return parse_recipe(read_recipe(name, overrides, package=PACKAGE, whole=("verl",)))


def parse_recipe(record: Mapping[str, Any]) -> RLRecipe:
    """Check a recipe.

    Raises:
        RecipeError: naming the field, the value and what would do.
    """
    recipe: RLRecipe = build(RLRecipe, record, where="")
    recipe = replace(recipe, verl={name: _number(value) for name, value in recipe.verl.items()})
    if not recipe.tasks:
        raise RecipeError("tasks is empty; name at least one task with its weight")
    weights = recipe.tasks.values()
    if not all(isinstance(w, (int, float)) and 0 <= w < math.inf for w in weights) or not sum(weights) > 0:
        raise RecipeError(f"tasks={dict(recipe.tasks)} must hold weights ≥ 0, finite and not all of them 0")
    for where, value, known in (
        ("platform", recipe.platform, PLATFORMS),
        ("method", recipe.method, TRAINED),
        ("form", recipe.form, FORMS),
        ("learns", recipe.learns, LEARNS),
        ("order", recipe.order, ORDERS),
    ):
        if value not in known:
            raise RecipeError(f"{where}={value!r} must be one of: {', '.join(known)}")
    for name, least in {
        "token_budget": 0,
        "steps": 1,
        "batch": 1,
        "group": 1,
        "validation_lists": 1,
        "test_lists": 0,
        "save_every": 1,
        "validate_every": 1,
        "keep": 1,
        "gpus": 1,
        "nodes": 1,
    }.items():
        if getattr(recipe, name) < least:
            raise RecipeError(f"{name}={getattr(recipe, name)} must be ≥ {least}")
    try:
        for task in recipe.tasks:
            task_named(task)
        check_options(recipe.method, dict(recipe.options))
        Scorer(recipe.reward, recipe.measure).check(recipe.method)  # type: ignore[arg-type]  # checked there
    except OptionError as error:
        raise RecipeError(str(error)) from error
    _check_combinations(recipe)
    return recipe


def _number(value: Any) -> Any:
    """Return the number that YAML 1.1 takes for a string, such as 1e-4."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value):
        return float(value)
    return value


def _check_combinations(recipe: RLRecipe) -> None:
    if recipe.frozen_labels and (recipe.platform != "cpu" or not recipe.restricted):
        raise RecipeError(
            "frozen_labels=true is for platform='cpu' and replies that are restricted to labels; leave it out"
        )
    if recipe.learns == "words" and (recipe.platform != "cpu" or not recipe.restricted):
        raise RecipeError(
            "learns='words' is for platform='cpu' and replies that are restricted to labels; set learns='all'"
        )
    stepwise = recipe.verl.get("algorithm.adv_estimator") == "step_grpo"
    if recipe.form == "cases" and recipe.method != "iranker":
        raise RecipeError(f"form='cases' are single eliminations; method={recipe.method!r} needs form='episodes'")
    if recipe.form == "cases" and recipe.options.get("permute"):
        raise RecipeError("form='cases' asks for one label, options.permute=true for a whole order; drop one of them")
    if recipe.form == "cases" and stepwise:
        raise RecipeError(
            "algorithm.adv_estimator=step_grpo compares steps of episodes; for form='cases' use grpo or gae"
        )
    if stepwise and recipe.verl.get("algorithm.use_kl_in_reward"):
        raise RecipeError(
            "algorithm.use_kl_in_reward=true changes the reward of every token, and step_grpo reads the steps' "
            "ends from them; use actor_rollout_ref.actor.use_kl_loss=true"
        )
    if recipe.options.get("on_error", "repair") == "retry":
        raise RecipeError(
            "options.on_error='retry' asks a step twice, and its tokens could not be told apart; use 'repair'"
        )
    if recipe.options.get("guided"):
        raise RecipeError(
            "options.guided: rollouts are not held to a pattern; use options.permute=true, or leave it out"
        )
    if recipe.method == "pointwise" and recipe.options.get("score", "expectation") != "grade":
        raise RecipeError("method='pointwise': a rollout is one grade a candidate; set options.score='grade'")
    if recipe.options.get("ask") == "worst":
        raise RecipeError("options.ask='worst' reads log-probabilities, which are not drawn; leave it out")
    if not 0 <= recipe.mutation < 1:
        raise RecipeError(f"mutation={recipe.mutation} must be in [0, 1)")
    if recipe.mutation and recipe.method != "pointwise":
        raise RecipeError(f"mutation={recipe.mutation} changes grades; method={recipe.method!r} has none")
    if recipe.mutation and recipe.verl.get("algorithm.rollout_correction.bypass_mode"):
        raise RecipeError(
            f"mutation={recipe.mutation}: the rollout has no probabilities of what it did not write; set "
            "verl.algorithm.rollout_correction.bypass_mode=false"
        )
    for name in ("drop_per_step", "finish", "shuffles"):
        if name in recipe.options:
            raise RecipeError(f"options.{name}: each step of a rollout is one label of one list; leave it out")
    if "stop_at" in recipe.options:
        raise RecipeError("options.stop_at leaves short lists without a step to learn from; use options.max_steps")
    for name in ("temperature", "top_p"):
        if name in recipe.options:
            raise RecipeError(
                f"options.{name}: rollouts are drawn by verl; set verl.actor_rollout_ref.rollout.{name} instead"
            )
    for name in ("seed", "shuffle_seed"):
        if name in recipe.options:
            raise RecipeError(f"options.{name}: rows and rollouts go by the recipe's own seed; set seed instead")
    if recipe.group < 2 and recipe.verl.get("algorithm.adv_estimator", "grpo") in ("grpo", "step_grpo"):
        raise RecipeError(f"group={recipe.group}: a group of one has nothing to be compared with; take at least 2")
    micro = recipe.verl.get("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu")
    dynamic = recipe.verl.get("actor_rollout_ref.actor.use_dynamic_bsz")
    # Where each rollout is one sequence; others come to numbers that only the run knows.
    single = recipe.method == "dranker" or bool(recipe.options.get("permute")) or recipe.form == "cases"
    if single and isinstance(micro, int) and not dynamic and recipe.batch * recipe.group % micro:
        raise RecipeError(
            f"batch={recipe.batch} · group={recipe.group} sequences do not divide into micro-batches of {micro}; set "
            "verl.actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu to a divisor, or "
            "verl.actor_rollout_ref.actor.use_dynamic_bsz=true"
        )
