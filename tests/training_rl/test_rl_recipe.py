from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_models import make_tokenizer
from toy_tasks import toy_list

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.strategies.registry import METHODS, make_strategy
from unified_ranker.training.rl.recipe import RLRecipe, load_recipe, parse_recipe, recipe_names

PLAIN: dict[str, Any] = {"name": "plain", "tasks": {"movie": 1}}
TINY = "iranker-tiny"
# A value for each field that differs from its default.
CHANGES = {
    "name": "other",
    "tasks": "{game: 1}",
    "model": "folder",
    "platform": "cpu",
    "method": "dranker",
    "options": "{on_error: raise}",
    "style": "compact",
    "token_budget": "77",
    "reward": "graded",
    "measure": "rr",
    "mutation": "0.25",
    "form": "cases",
    "frozen_labels": "true",
    "learns": "words",
    "order": "sequence",
    "steps": "7",
    "batch": "7",
    "group": "7",
    "validation_lists": "7",
    "test_lists": "7",
    "save_every": "7",
    "validate_every": "7",
    "keep": "7",
    "gpus": "7",
    "nodes": "7",
    "seed": "7",
    "verl": "{trainer.val_only: true}",
}


def parsed(**changes: Any) -> RLRecipe:
    return parse_recipe({**PLAIN, **changes})


def write(folder: Path, record: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(record if isinstance(record, str) else yaml.safe_dump(record), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_of_the_package_loads_and_survives_yaml(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    every = set(load_recipe(TINY).tasks)
    assert len(every) == 9
    # All tasks, or those of passages where the method was published for them.
    assert set(recipe.tasks) in (every, {task for task in every if task.startswith("passage")})
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", recipe_names())
def test_the_settings_of_verl_in_a_recipe_of_the_package_are_full_names_with_plain_values(name: str) -> None:
    for key, value in load_recipe(name).verl.items():
        assert key.count(".") >= 1, key
        assert isinstance(value, (int, float, bool, list)) or not value.replace(".", "").isdigit(), (key, value)


def test_a_recipe_for_a_machine_without_accelerator_is_there_for_each_method() -> None:
    there = [load_recipe(name) for name in recipe_names()]
    assert {recipe.method for recipe in there if recipe.platform == "cpu"} == {
        "iranker",
        "dranker",
        "setwise",
        "pointwise",
    }
    assert load_recipe(TINY).model == "embedded"


def test_the_table_of_changes_knows_every_field() -> None:
    assert set(CHANGES) == {entry.name for entry in fields(RLRecipe)}


# What a field needs besides: a reward fits one method alone, labels are kept on a CPU alone, and grades are mutated.
NEEDS = {
    "method": ["reward=permutation"],
    "frozen_labels": ["platform=cpu"],
    "learns": ["platform=cpu"],
    "mutation": ["method=pointwise", "reward=erank", "options={score: grade}"],
}


@pytest.mark.parametrize("key", CHANGES)
def test_an_override_changes_its_field_and_no_other(tmp_path: Path, key: str) -> None:
    path, more = write(tmp_path, PLAIN), NEEDS.get(key, [])
    before = load_recipe(path).to_dict()
    after = load_recipe(path, [f"{key}={CHANGES[key]}", *more]).to_dict()
    assert {name for name in before if before[name] != after[name]} == {key, *(line.partition("=")[0] for line in more)}


def test_overrides_reach_into_mappings_and_the_last_one_counts() -> None:
    recipe = load_recipe(TINY, ["options.max_steps=3", "tasks.movie=3", "seed=1", "seed=2"])
    assert (recipe.options["max_steps"], recipe.tasks["movie"], recipe.seed) == (3, 3, 2)
    assert recipe.options["permute"] is True
    assert recipe.tasks["game"] == load_recipe(TINY).tasks["game"]


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("verl.trainer.nnodes=2", "trainer.nnodes", 2),
        ("verl.actor_rollout_ref.actor.optim.lr=1e-5", "actor_rollout_ref.actor.optim.lr", 1e-5),
        ("verl.actor_rollout_ref.actor.optim.lr=1.0e-5", "actor_rollout_ref.actor.optim.lr", 1e-5),
        ("verl.algorithm.norm_adv_by_std_in_grpo=false", "algorithm.norm_adv_by_std_in_grpo", False),
        ("verl.trainer.logger=[console, file]", "trainer.logger", ["console", "file"]),
        ("verl.trainer.project_name=a=b", "trainer.project_name", "a=b"),
        ("verl.+ray_kwargs.ray_init.num_gpus=1", "+ray_kwargs.ray_init.num_gpus", 1),
        ("verl.critic.model.path=null", "critic.model.path", None),
    ],
)
def test_a_setting_of_verl_keeps_its_dots(override: str, name: str, value: Any) -> None:
    recipe = load_recipe(TINY, [override])
    assert recipe.verl[name] == value
    assert type(recipe.verl[name]) is type(value)
    others = {key: entry for key, entry in load_recipe(TINY).verl.items() if key != name}
    assert {key: entry for key, entry in recipe.verl.items() if key != name} == others


@pytest.mark.parametrize("text", ["1", "0123", "nan", "infinity", "1_0", "2026"])
def test_a_string_that_is_meant_as_one_stays_one(text: str) -> None:
    # Such as a variable of the environment, which has to be one. YAML tells "1" from 1; only 1e-4 it takes for text.
    recipe = parsed(verl={"+ray_kwargs.ray_init.runtime_env.env_vars.LEVEL": text})
    assert recipe.verl["+ray_kwargs.ray_init.runtime_env.env_vars.LEVEL"] == text


def test_all_settings_of_verl_may_be_replaced_at_once(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, PLAIN), ["verl={algorithm.gamma: 0.5}"])
    assert recipe.verl == {"algorithm.gamma": 0.5}


def test_the_order_of_tasks_is_kept() -> None:
    assert list(parsed(tasks={"movie": 1, "game": 2, "passage-5": 1}, order="sequence").tasks) == [
        "movie",
        "game",
        "passage-5",
    ]


@pytest.mark.parametrize(
    ("changes", "free"),
    [
        ({}, False),
        ({"form": "cases"}, False),
        ({"options": {"reasoning": True}}, False),
        ({"form": "cases", "options": {"reasoning": True}}, True),
        ({"form": "cases", "options": {"unguided": True}}, True),
        ({"form": "cases", "options": {"unguided": False, "layout": "rounds"}}, False),
        ({"method": "dranker", "reward": "permutation"}, False),
    ],
)
def test_verl_plays_single_replies_that_nothing_restricts(changes: dict[str, Any], free: bool) -> None:
    assert parsed(**changes).by_verl is free


@pytest.mark.parametrize(
    ("method", "options", "restricted"),
    [
        ("iranker", {}, True),
        ("iranker", {"layout": "rounds"}, True),
        ("iranker", {"permute": True}, True),
        ("iranker", {"reasoning": True}, False),
        ("iranker", {"unguided": True}, False),
        ("dranker", {}, False),
        ("dranker", {"reasoning": True}, False),
        ("dranker", {"permute": True}, True),
    ],
)
def test_replies_are_restricted_where_the_strategy_asks_for_labels(
    method: str, options: dict[str, Any], restricted: bool
) -> None:
    reward = "binary" if method == "iranker" else "permutation"
    recipe = parsed(method=method, reward=reward, options=options)
    assert recipe.restricted is restricted
    # As the strategy itself has it.
    tools = TokenizerTools(make_tokenizer(labels=("<1>", "<2>")), context_tokens=4096, labels=("<1>", "<2>"))
    style = "natural" if options.get("reasoning") else "compact"
    writer = PromptWriter(load_template(style, METHODS[method].template, "passage"), tools)
    (request,) = next(make_strategy(method, writer=writer, **options).rank(toy_list("list", (1, 0))))
    assert bool(request.choices) is restricted


# What is wrong in an override of the tiny recipe, and what its message has to name.
MISTAKES = [
    ("tasks={}", "tasks is empty; name at least one task with its weight"),
    ("tasks={movie: -1}", r"tasks=\{'movie': -1\} must hold weights ≥ 0"),
    ("tasks={movie: 0, game: 0}", "not all of them 0"),
    ("tasks={movie: much}", "must hold weights"),
    ("tasks={movie: .nan}", "must hold weights"),
    ("tasks={movie: .inf}", "must hold weights"),
    ("tasks={movie: }", "must hold weights"),
    ("tasks={movy: 1}", "task='movy' is not known; did you mean 'movie'"),
    ("tasks=[movie]", r"tasks=\['movie'\] must be a mapping"),
    ("tasks.pasage-5=1", "did you mean 'passage-5'"),
    ("platform=tpu", "platform='tpu' must be one of: gpu, cpu"),
    ("method=ranker", "method='ranker' must be one of: iranker, dranker"),
    ("method=tournament", "method='tournament' must be one of: iranker, dranker"),
    ("form=case", "form='case' must be one of: episodes, cases"),
    ("order=random", "order='random' must be one of: mixed, sequence"),
    ("token_budget=-1", "token_budget=-1 must be ≥ 0"),
    ("steps=0", "steps=0 must be ≥ 1"),
    ("batch=0", "batch=0 must be ≥ 1"),
    ("group=0", "group=0 must be ≥ 1"),
    ("validation_lists=0", "validation_lists=0 must be ≥ 1"),
    ("test_lists=-1", "test_lists=-1 must be ≥ 0"),
    ("save_every=0", "save_every=0 must be ≥ 1"),
    ("validate_every=0", "validate_every=0 must be ≥ 1"),
    ("keep=0", "keep=0 must be ≥ 1"),
    ("gpus=0", "gpus=0 must be ≥ 1"),
    ("nodes=0", "nodes=0 must be ≥ 1"),
    ("steps=many", "steps='many' must be of type int"),
    ("steps=1.5", "steps=1.5 must be of type int"),
    ("steps=true", "steps=True must be of type int"),
    ("model=3", "model=3 must be of type str"),
    ("verl=3", "verl=3 must be a mapping"),
    ("options=[layout]", r"options=\['layout'\] must be a mapping"),
    ("stepz=3", "stepz is not known; known are .*steps"),
    ("name.first=1", "'name' is not a mapping"),
    ("steps", "override 'steps' must be key=value"),
    ("steps=[1", "override 'steps=.1': the value is not YAML"),
    ("options.layouts=append", "option='layouts' is not known; did you mean 'layout'"),
    ("options.permut=true", "did you mean 'permute'"),
    ("options.block=20", "block=20: the method 'iranker' does not take it"),
    ("options.guided=true", "guided=True: the method 'iranker' does not take it"),
    (
        "options.drop_per_step=2",
        r"options\.drop_per_step: each step of a rollout is one label of one list; leave it out",
    ),
    ("options.finish=dranker", r"options\.finish: .*leave it out"),
    ("options.shuffles=3", r"options\.shuffles: .*leave it out"),
    ("reward=graadded", "reward='graadded' is not known; did you mean 'graded'"),
    ("reward=permutation", "reward='permutation' is not for method 'iranker'; choose one of: binary, graded"),
    ("measure=mrr", "measure='mrr' is not known; did you mean 'rr'"),
    ("form=cases", "options.permute=true for a whole order; drop one of them"),
    ("verl.algorithm.use_kl_in_reward=true", "use actor_rollout_ref.actor.use_kl_loss=true"),
    ("options.on_error=retry", "options.on_error='retry' asks a step twice.*use 'repair'"),
    ("options.temperature=1", r"options\.temperature: .*set verl\.actor_rollout_ref\.rollout\.temperature instead"),
    ("options.top_p=0.9", r"options\.top_p: .*set verl\.actor_rollout_ref\.rollout\.top_p instead"),
    ("options.seed=1", r"options\.seed: "),
    ("options.shuffle_seed=1", r"options\.shuffle_seed"),
    ("group=1", "group=1: a group of one has nothing to be compared with; take at least 2"),
]


@pytest.mark.parametrize(("override", "named"), MISTAKES, ids=[override for override, _ in MISTAKES])
def test_a_mistake_is_named(override: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(TINY, [override])


def test_a_mend_names_no_setting_that_verl_does_not_have() -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(TINY, ["options.shuffle_seed=1"])
    assert "rollout.shuffle_seed" not in str(raised.value)


# What does not go together, whatever each is on its own.
COMBINATIONS = [
    (
        {"form": "cases", "method": "dranker", "reward": "permutation"},
        "form='cases' are single eliminations; method='dranker' needs form='episodes'",
    ),
    ({"form": "cases", "options": {"permute": True}}, "form='cases' asks for one label, options.permute=true"),
    (
        {"form": "cases", "verl": {"algorithm.adv_estimator": "step_grpo"}},
        "algorithm.adv_estimator=step_grpo compares steps of episodes; for form='cases' use grpo or gae",
    ),
    (
        {"verl": {"algorithm.adv_estimator": "step_grpo", "algorithm.use_kl_in_reward": True}},
        "algorithm.use_kl_in_reward=true changes the reward of every token",
    ),
    ({"options": {"on_error": "retry"}}, "use 'repair'"),
    ({"options": {"drop_per_step": 2}}, r"options\.drop_per_step: .*leave it out"),
    ({"options": {"stop_at": 2, "finish": "dranker"}}, r"options\.finish: .*leave it out"),
    ({"options": {"shuffles": 2}}, r"options\.shuffles: .*leave it out"),
    ({"form": "cases", "options": {"shuffles": 2}}, r"options\.shuffles: .*leave it out"),
    ({"method": "dranker", "reward": "permutation", "options": {"shuffles": 2}}, r"options\.shuffles: .*leave it out"),
    ({"method": "dranker", "reward": "permutation", "options": {"drop_per_step": 2}}, "drop_per_step=2.*'dranker'"),
    ({"method": "tournament"}, "method='tournament' must be one of: iranker, dranker"),
    ({"method": "tournament", "options": {"block": 20}}, "method='tournament' must be one of: iranker, dranker"),
    (
        {"method": "dranker", "reward": "permutation", "options": {"guided": True}},
        r"options\.guided: rollouts are not held to a pattern; use options\.permute=true, or leave it out",
    ),
    ({"form": "cases", "options": {"stop_at": 2}}, r"options\.stop_at .*use options\.max_steps"),
    ({"options": {"stop_at": 2}}, r"options\.stop_at .*use options\.max_steps"),
    ({"group": 1, "verl": {"algorithm.adv_estimator": "grpo"}}, "group=1: a group of one"),
    ({"learns": "labels"}, "learns='labels' must be one of: all, words"),
    ({"learns": "words"}, "learns='words' is for platform='cpu'.*set learns='all'"),
    ({"learns": "words", "platform": "cpu", "options": {"unguided": True}}, "learns='words' is for platform='cpu'"),
    ({"frozen_labels": True}, "frozen_labels=true is for platform='cpu'.*leave it out"),
    ({"frozen_labels": True, "platform": "cpu", "options": {"unguided": True}}, "frozen_labels=true is for"),
    ({"frozen_labels": True, "platform": "cpu", "method": "dranker", "reward": "permutation"}, "frozen_labels=true"),
    ({"group": 1, "verl": {"algorithm.adv_estimator": "step_grpo"}}, "group=1: a group of one"),
    ({"method": "dranker"}, "reward='binary' is not for method 'dranker'; choose one of: permutation"),
    ({"method": "dranker", "reward": "permutation", "options": {"layout": "append"}}, "layout='append'.*'dranker'"),
    ({"method": "dranker", "reward": "permutation", "options": {"max_steps": 1}}, "max_steps=1.*'dranker'"),
]


@pytest.mark.parametrize(("changes", "named"), COMBINATIONS)
def test_what_does_not_go_together_is_named_with_the_mend(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        parsed(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"form": "cases", "verl": {"algorithm.adv_estimator": "grpo"}},
        {"form": "cases", "group": 1, "verl": {"algorithm.adv_estimator": "gae"}},
        {"verl": {"algorithm.adv_estimator": "grpo", "algorithm.use_kl_in_reward": True}},
        {"verl": {"algorithm.adv_estimator": "step_grpo", "algorithm.use_kl_in_reward": False}},
        {"group": 2, "verl": {"algorithm.adv_estimator": "step_grpo"}},
        {"options": {"on_error": "raise"}},
        {"options": {"on_error": "repair", "reasoning": True, "max_tokens": 12, "max_steps": 2}},
        {"method": "dranker", "reward": "permutation", "options": {"permute": True}},
        {"tasks": {"movie": 0.25, "game": 0}},
        {"reward": "graded", "measure": "rr"},
        {"frozen_labels": True, "platform": "cpu"},
        {"learns": "words", "platform": "cpu", "method": "setwise", "reward": "rank_r1"},
        {"token_budget": 0, "test_lists": 0},
    ],
)
def test_what_goes_together_is_taken(changes: dict[str, Any]) -> None:
    record = parsed(**changes).to_dict()
    assert {name: record[name] for name in changes} == changes


@pytest.mark.parametrize(
    ("name", "near"), [("iranker-tini", "iranker-tiny"), ("dranker-tiny2", "dranker-tiny"), ("nothing", "")]
)
def test_a_recipe_that_does_not_exist_is_an_option_error(name: str, near: str) -> None:
    with pytest.raises(OptionError, match=f"did you mean '{near}'" if near else f"Choose one of: .*{TINY}"):
        load_recipe(name)


@pytest.mark.parametrize("missing", ["name", "tasks"])
def test_a_field_that_must_be_there_is_named(missing: str) -> None:
    with pytest.raises(RecipeError, match=missing):
        parse_recipe({key: value for key, value in PLAIN.items() if key != missing})


@pytest.mark.parametrize("record", [None, 3, "text", ["name"]])
def test_a_recipe_is_a_mapping(record: Any) -> None:
    with pytest.raises(RecipeError, match="recipe must be a mapping"):
        parse_recipe(record)


def test_a_recipe_does_not_change_the_record_that_it_was_made_from() -> None:
    record = {**PLAIN, "verl": {"a.b": "1e-4"}}
    assert parse_recipe(record).verl == {"a.b": 1e-4}
    assert record == {**PLAIN, "verl": {"a.b": "1e-4"}}
