"""verl's settings: what follows from a recipe, and how they are spelled on its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from unified_ranker.errors import MissingExtraError
from unified_ranker.training.rl.config import as_overrides, compose, settings
from unified_ranker.training.rl.cpu_platform import ENVIRONMENT
from unified_ranker.training.rl.credit import TRAILER
from unified_ranker.training.rl.recipe import load_recipe, parse_recipe, recipe_names

RUN = Path("runs") / "one"
LABELS = "+actor_rollout_ref.model.override_config.ranking_labels"
FROZEN = "+actor_rollout_ref.model.override_config.ranking_frozen_labels"
WORDS_ALONE = "+actor_rollout_ref.model.override_config.ranking_words_alone"
MODE = "actor_rollout_ref.rollout.logprobs_mode"
PROCESSOR = "+actor_rollout_ref.rollout.engine_kwargs.vllm.logits_processors"


def found(*, ray_address: str | None = None, label_tokens: tuple[int, ...] = (), **changes: Any) -> dict[str, Any]:
    recipe = parse_recipe({"name": "mine", "tasks": {"movie": 1}, **changes})
    return settings(
        recipe,
        run=RUN,
        model="start",
        prompt_tokens=100,
        response_tokens=20,
        label_tokens=label_tokens,
        ray_address=ray_address,
    )


# A field of the recipe, a value, and the settings that have to follow it.
FOLLOWS: list[tuple[str, Any, dict[str, Any]]] = [
    ("name", "other", {"trainer.experiment_name": "other"}),
    (
        "batch",
        24,
        {"data.train_batch_size": 24, "actor_rollout_ref.actor.ppo_mini_batch_size": 24},
    ),
    ("group", 5, {"actor_rollout_ref.rollout.n": 5}),
    ("steps", 17, {"trainer.total_training_steps": 17}),
    ("save_every", 3, {"trainer.save_freq": 3}),
    ("validate_every", 4, {"trainer.test_freq": 4}),
    ("keep", 6, {"trainer.max_actor_ckpt_to_keep": 6, "trainer.max_critic_ckpt_to_keep": 6}),
    ("gpus", 2, {"trainer.n_gpus_per_node": 2}),
    ("nodes", 3, {"trainer.nnodes": 3}),
    (
        "seed",
        9,
        {
            "data.seed": 9,
            "actor_rollout_ref.rollout.seed": 9,
            "actor_rollout_ref.actor.data_loader_seed": 9,
            "actor_rollout_ref.actor.fsdp_config.seed": 9,
        },
    ),
]


@pytest.mark.parametrize(("field", "value", "wanted"), FOLLOWS, ids=[field for field, *_ in FOLLOWS])
def test_a_field_of_the_recipe_reaches_its_settings_and_no_others(
    field: str, value: Any, wanted: dict[str, Any]
) -> None:
    before, after = found(), found(**{field: value})
    assert {key: entry for key, entry in after.items() if before.get(key) != entry} == wanted


def test_sizes_and_places_reach_verl() -> None:
    there = found()
    assert there["data.max_prompt_length"] == 100
    # A response carries the trailer of its rewards.
    assert there["data.max_response_length"] == 20 + TRAILER
    assert there["actor_rollout_ref.rollout.max_model_len"] == 120
    assert there["actor_rollout_ref.model.path"] == "start"
    for key, name in (
        ("data.train_files", "rows/train.parquet"),
        ("data.val_files", "rows/validation.parquet"),
        ("actor_rollout_ref.rollout.agent.agent_loop_config_path", "loops.yaml"),
        ("trainer.default_local_dir", "checkpoints"),
    ):
        assert Path(there[key]) == RUN / name


def test_validation_takes_the_most_likely_labels_once() -> None:
    there = found()
    prefix = "actor_rollout_ref.rollout.val_kwargs"
    assert [there[f"{prefix}.{name}"] for name in ("temperature", "do_sample", "n")] == [0, False, 1]


def test_rows_are_trained_on_in_the_order_in_which_they_stand() -> None:
    there = found()
    assert not any(there[name] for name in ("data.shuffle", "data.validation_shuffle", "data.filter_overlong_prompts"))


@pytest.mark.parametrize("platform", ["gpu", "cpu"])
@pytest.mark.parametrize(
    ("name", "value"), [("trainer.total_epochs", 5), ("trainer.device", "npu"), ("data.train_batch_size", 3)]
)
def test_what_the_recipe_says_of_verl_comes_last(platform: str, name: str, value: Any) -> None:
    assert found(platform=platform, verl={name: value})[name] == value


def test_without_a_word_on_it_advantages_are_those_of_a_group() -> None:
    # verl's own default has a critic, for which a recipe would have to name a model; a group of eight rollouts says
    # that none is meant.
    assert found()["algorithm.adv_estimator"] in ("grpo", "step_grpo")


@pytest.mark.parametrize(
    ("changes", "restricted"),
    [
        ({}, True),
        ({"options": {"layout": "rounds"}}, True),
        ({"options": {"permute": True}}, True),
        ({"options": {"reasoning": True}}, False),
        ({"options": {"unguided": True}}, False),
        ({"method": "dranker", "reward": "permutation", "options": {"permute": True}}, True),
        # Its reply is free text: nothing keeps it to labels.
        ({"method": "dranker", "reward": "permutation"}, False),
    ],
)
@pytest.mark.parametrize("platform", ["gpu", "cpu"])
def test_probabilities_are_taken_among_labels_only_where_replies_are(
    platform: str, changes: dict[str, Any], restricted: bool
) -> None:
    there = found(platform=platform, label_tokens=(7, 8, 9), **changes)
    if platform == "cpu":
        assert there.get(LABELS) == ([7, 8, 9] if restricted else None)
        assert MODE not in there
    else:
        assert LABELS not in there
        assert there.get(MODE) == ("raw_logprobs" if restricted else None)


@pytest.mark.parametrize("frozen", [False, True])
def test_labels_are_kept_as_they_are_where_the_recipe_says_so(frozen: bool) -> None:
    there = found(platform="cpu", label_tokens=(7, 8), frozen_labels=frozen)
    assert there[LABELS] == [7, 8]
    assert bool(there.get(FROZEN)) is frozen


@pytest.mark.parametrize("learns", ["all", "words"])
def test_words_alone_learn_where_the_recipe_says_so(learns: str) -> None:
    there = found(platform="cpu", label_tokens=(7, 8), learns=learns)
    assert there.get(WORDS_ALONE) is (True if learns == "words" else None)


def test_labels_of_several_tokens_are_taken_among_the_whole_vocabulary() -> None:
    there = found(platform="cpu")
    assert LABELS not in there
    assert there[MODE] == "raw_logprobs"


@pytest.mark.parametrize("permute", [False, True])
def test_permutations_need_a_processor_of_the_engine(permute: bool) -> None:
    there = found(options={"permute": permute})
    assert (there.get(PROCESSOR) == ["unified_ranker.backends.permute_logits:PermuteLogits"]) is permute


def test_the_processor_that_is_named_exists() -> None:
    (named,) = found(options={"permute": True})[PROCESSOR]
    module, name = named.split(":")
    source = (Path(__file__).parents[2] / Path(*module.split("."))).with_suffix(".py").read_text(encoding="utf-8")
    assert f"class {name}" in source


@pytest.mark.parametrize("platform", ["gpu", "cpu"])
def test_a_cluster_is_joined_where_one_is_named(platform: str) -> None:
    apart, joined = found(platform=platform), found(platform=platform, ray_address="ray:1")
    assert "+ray_kwargs.ray_init.address" not in apart
    assert joined["+ray_kwargs.ray_init.address"] == "ray:1"
    # How many slots a cluster has is its own affair.
    assert not {name for name in joined if name.endswith((".num_gpus", ".num_cpus"))}


def test_a_run_on_cpus_tells_its_processes_so() -> None:
    there = found(platform="cpu", gpus=2, nodes=3)
    assert there["trainer.device"] == "cpu"
    prefix = "+ray_kwargs.ray_init.runtime_env.env_vars."
    assert {name.removeprefix(prefix): there[name] for name in there if name.startswith(prefix)} == ENVIRONMENT
    assert there["+ray_kwargs.ray_init.num_gpus"] == 6


def test_a_run_on_accelerators_has_nothing_of_the_cpu_platform() -> None:
    there = found()
    assert "trainer.device" not in there
    assert not [name for name in there if "env_vars" in name or "fsdp2" in str(there[name])]


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_can_be_spelled(name: str) -> None:
    recipe = load_recipe(name)
    there = settings(recipe, run=RUN, model="start", prompt_tokens=9, response_tokens=9, label_tokens=[1])
    lines = as_overrides(there)
    assert len(lines) == len(there)
    assert all("\n" not in line and line.partition("=")[0] == key for line, key in zip(lines, there, strict=True))


# Values, and how the language of overrides writes them. A backslash is itself there, but in front of a quote.
SPELLED: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (False, "false"),
    (3, "3"),
    (-1, "-1"),
    (0.5, "0.5"),
    (1e-5, "1e-05"),
    (1e30, "1e+30"),
    ("", "''"),
    ("text", "'text'"),
    ("null", "'null'"),
    ("1", "'1'"),
    ("true", "'true'"),
    ("a b", "'a b'"),
    ("a,b=[c]: {d}", "'a,b=[c]: {d}'"),
    ("it's", r"'it\'s'"),
    ("''", r"'\'\''"),
    ('say "x"', "'say \"x\"'"),
    ("end\\", r"'end\\'"),
    ("a\\'b", r"'a\\\'b'"),
    ("é ↦ ü", "'é ↦ ü'"),
    ([], "[]"),
    (["a", 1, None, True], "['a',1,null,true]"),
    (("a", ["b", "c"]), "['a',['b','c']]"),
    ({}, "{}"),
    ({"x": 1, "y": "z"}, "{x:1,y:'z'}"),
    ({"x": {"y": ["it's"]}}, r"{x:{y:['it\'s']}}"),
    # As in a pattern of layer names.
    (r".*\.(q|v)_proj", r"'.*\.(q|v)_proj'"),
    ("a\\b", r"'a\b'"),
]


@pytest.mark.parametrize(("value", "spelled"), SPELLED, ids=[repr(value) for value, _ in SPELLED])
def test_a_value_is_spelled_for_overrides(value: Any, spelled: str) -> None:
    assert as_overrides({"some.name": value}) == [f"some.name={spelled}"]


def listed(value: Any) -> Any:
    """Return a value with lists for tuples, which overrides do not know."""
    return [listed(entry) for entry in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.verl
@pytest.mark.parametrize("value", [value for value, _ in SPELLED], ids=repr)
def test_hydra_reads_back_what_was_spelled(value: Any) -> None:
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    (line,) = as_overrides({"+some.name": value})
    override = parser.parse_override(line)
    assert override.key_or_group == "some.name"
    assert override.value() == listed(value)


def test_settings_keep_their_order_and_names() -> None:
    assert as_overrides({"b.c": 1, "+a": "x", "~d": None}) == ["b.c=1", "+a='x'", "~d=null"]


def test_composing_without_verl_names_the_extra() -> None:
    try:
        import verl  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"'verl'.*unified-ranker\[rl\]"):
            compose(found())
    else:
        pytest.skip("verl is installed")
