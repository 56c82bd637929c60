"""From a recipe to verl's configuration: what follows from it, composed with verl's defaults and checked by hydra."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unified_ranker.errors import RecipeError, missing_extra
from unified_ranker.training.rl.cpu_platform import ENVIRONMENT
from unified_ranker.training.rl.credit import TRAILER
from unified_ranker.training.rl.recipe import RLRecipe
from unified_ranker.training.rl.shared_prompt import ANSWERS, FROZEN, LABELS, WORDS_ALONE

PERMUTE = "unified_ranker.backends.permute_logits:PermuteLogits"

FLOAT32 = {"param_dtype": "fp32", "reduce_dtype": "fp32", "buffer_dtype": "fp32"}


def settings(
    recipe: RLRecipe,
    *,
    run: Path,
    model: Path | str,
    prompt_tokens: int,
    response_tokens: int,
    label_tokens: Sequence[int] = (),
    answer_tokens: Sequence[int] = (),
    ray_address: str | None = None,
) -> dict[str, Any]:
    """Return the settings of verl that a recipe stands for, by full name; those under ``verl`` come last.

    Args:
        recipe: The recipe.
        run: Folder of the run.
        model: Where the start lies.
        prompt_tokens: Longest prompt of the rows.
        response_tokens: Longest response of the rows.
        label_tokens: Tokens of all labels, where replies are restricted to them and each is a single token.
        answer_tokens: Likewise of all grades.
        ray_address: Address of a Ray cluster to join; None to start one here.
    """
    # The trailer is ours, and never reaches the engine, whose context may be full without it.
    length = prompt_tokens + response_tokens
    found: dict[str, Any] = {
        "data.train_files": str(run / "rows" / "train.parquet"),
        "data.val_files": str(run / "rows" / "validation.parquet"),
        "data.train_batch_size": recipe.batch,
        "data.max_prompt_length": prompt_tokens,
        "data.max_response_length": response_tokens + TRAILER,
        # The rows stand in the order in which they are to be trained on.
        "data.shuffle": False,
        "data.validation_shuffle": False,
        "data.filter_overlong_prompts": False,
        "data.truncation": "error",
        "data.seed": recipe.seed,
        # verl's own default wants a critic.
        "algorithm.adv_estimator": "grpo",
        "actor_rollout_ref.model.path": str(model),
        "actor_rollout_ref.actor.ppo_mini_batch_size": recipe.batch,
        "actor_rollout_ref.actor.data_loader_seed": recipe.seed,
        "actor_rollout_ref.actor.fsdp_config.seed": recipe.seed,
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": recipe.group,
        "actor_rollout_ref.rollout.seed": recipe.seed,
        "actor_rollout_ref.rollout.max_model_len": length,
        "actor_rollout_ref.rollout.calculate_log_probs": True,
        "actor_rollout_ref.rollout.val_kwargs.temperature": 0,
        "actor_rollout_ref.rollout.val_kwargs.do_sample": False,
        "actor_rollout_ref.rollout.val_kwargs.n": 1,
        "actor_rollout_ref.rollout.agent.agent_loop_config_path": str(run / "loops.yaml"),
        "reward.custom_reward_function.path": "pkg://unified_ranker.rewards.verl_entry",
        "reward.custom_reward_function.name": "compute_score",
        "trainer.v1.sampler.custom_sampler.path": "pkg://unified_ranker.training.rl.sampler",
        "trainer.v1.sampler.custom_sampler.name": "StrictReplayBuffer",
        "trainer.total_training_steps": recipe.steps,
        # The rows suffice for one pass; steps end the run.
        "trainer.total_epochs": 1,
        "trainer.save_freq": recipe.save_every,
        "trainer.test_freq": recipe.validate_every,
        "trainer.max_actor_ckpt_to_keep": recipe.keep,
        "trainer.max_critic_ckpt_to_keep": recipe.keep,
        "trainer.default_local_dir": str(run / "checkpoints"),
        "trainer.resume_mode": "auto",
        "trainer.project_name": "unified_ranker",
        "trainer.experiment_name": recipe.name,
        "trainer.logger": ["console", "tensorboard", "file"],
        "trainer.nnodes": recipe.nodes,
        "trainer.n_gpus_per_node": recipe.gpus,
        "hydra.run.dir": str(run / "hydra"),
        "hydra.output_subdir": None,
    }
    if recipe.options.get("permute"):
        found["+actor_rollout_ref.rollout.engine_kwargs.vllm.logits_processors"] = [PERMUTE]
    grades = recipe.method == "pointwise"
    if recipe.restricted and answer_tokens and recipe.platform == "cpu":
        found[f"+actor_rollout_ref.model.override_config.{ANSWERS}"] = list(answer_tokens)
        if recipe.frozen_labels and label_tokens:
            # A label stands in the prompts of grades, too.
            found[f"+actor_rollout_ref.model.override_config.{LABELS}"] = list(label_tokens)
            found[f"+actor_rollout_ref.model.override_config.{FROZEN}"] = True
    elif recipe.restricted and label_tokens and not grades and recipe.platform == "cpu":
        # The actor's probabilities are those among the free labels, as the engine's are after its restriction.
        found[f"+actor_rollout_ref.model.override_config.{LABELS}"] = list(label_tokens)
        found[f"+actor_rollout_ref.model.override_config.{FROZEN}"] = recipe.frozen_labels
    elif recipe.restricted:
        # The actor's are those among the whole vocabulary; verl's default would compare them with those after it.
        found["actor_rollout_ref.rollout.logprobs_mode"] = "raw_logprobs"
    if recipe.learns == "words":
        found[f"+actor_rollout_ref.model.override_config.{WORDS_ALONE}"] = True
    if ray_address:
        found["+ray_kwargs.ray_init.address"] = ray_address
    if recipe.platform == "cpu":
        found |= _on_cpu(recipe, ray_address)
    return {**found, **recipe.verl}


def _on_cpu(recipe: RLRecipe, ray_address: str | None) -> dict[str, Any]:
    slots = recipe.gpus * recipe.nodes
    found: dict[str, Any] = {
        "trainer.device": "cpu",
        # FSDP1 refuses a CPU.
        "actor_rollout_ref.actor.strategy": "fsdp2",
        "actor_rollout_ref.ref.strategy": "fsdp2",
        "actor_rollout_ref.model.use_remove_padding": False,
        "+actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
        "actor_rollout_ref.model.enable_gradient_checkpointing": False,
        "actor_rollout_ref.actor.use_torch_compile": False,
        "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
        "actor_rollout_ref.actor.fsdp_config.model_dtype": "fp32",
        "actor_rollout_ref.ref.fsdp_config.model_dtype": "fp32",
        # bfloat16 is emulated on most CPUs, several times slower than float32.
        "+actor_rollout_ref.actor.fsdp_config.mixed_precision": FLOAT32,
        "+actor_rollout_ref.ref.fsdp_config.mixed_precision": FLOAT32,
        "actor_rollout_ref.ref.use_torch_compile": False,
        "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
        "actor_rollout_ref.rollout.dtype": "float32",
        "actor_rollout_ref.rollout.enforce_eager": True,
        "actor_rollout_ref.rollout.free_cache_engine": False,
        "+actor_rollout_ref.rollout.enable_sleep_mode": False,
        # Loaded at once: the default writes dummy weights first and waits for the first sync.
        "actor_rollout_ref.rollout.load_format": "auto",
        "actor_rollout_ref.rollout.agent.num_workers": 1,
        # The embedded model's words are 70 MB in float32, and a tensor has to fit whole.
        "actor_rollout_ref.rollout.checkpoint_engine.update_weights_bucket_megabytes": 128,
        "reward.num_workers": 1,
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": 1,
        "data.dataloader_num_workers": 0,
    }
    for name, value in ENVIRONMENT.items():
        # A cluster that runs already does not have this process's environment.
        found[f"+ray_kwargs.ray_init.runtime_env.env_vars.{name}"] = value
    if not ray_address:
        # Logical slots: Ray schedules by them, and verl's pools ask for no others. The number of CPUs is one, too:
        # verl's small actors ask for one each, and most of them wait.
        found["+ray_kwargs.ray_init.num_gpus"] = slots
        found["ray_kwargs.ray_init.num_cpus"] = 16 * slots
        found["+ray_kwargs.ray_init.include_dashboard"] = False
    return found


def as_overrides(found: Mapping[str, Any]) -> list[str]:
    """Return settings as hydra overrides."""
    return [f"{name}={_spell(value)}" for name, value in found.items()]


def _spell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # hydra's grammar: a backslash stands for itself, but for those before a quote or the end.
        spelled = re.sub(r"(\\+)('|\Z)", r"\1\1\2", value).replace("'", "\\'")
        return f"'{spelled}'"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_spell(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_spell(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def compose(found: Mapping[str, Any], *, schema: str = "ppo_trainer") -> Any:
    """Return verl's whole configuration, its defaults included, as OmegaConf.

    Args:
        found: Settings by full name.
        schema: Name of the configuration within verl.

    Raises:
        MissingExtraError: verl is not installed.
        RecipeError: verl knows no such setting, or refuses its value.
    """
    try:
        import verl  # noqa: F401
        from hydra import compose as hydra_compose
        from hydra import initialize_config_module
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException
    except ImportError as error:
        raise missing_extra("rl", package="verl", purpose="reinforcement learning") from error
    own = {name: value for name, value in found.items() if not name.startswith("hydra.")}
    try:
        with initialize_config_module("verl.trainer.config", version_base=None):
            return hydra_compose(schema, overrides=as_overrides(own))
    except (HydraException, OmegaConfBaseException) as error:
        raise RecipeError(f"verl refuses the configuration: {error}") from error
