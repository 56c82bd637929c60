"""verl's real code on our parts, without Ray: configuration, rewards, advantages, the engine."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from toy_tasks import toy_list

verl = pytest.importorskip("verl")

from unified_ranker.rewards.score import Scorer  # noqa: E402

from unified_ranker.model_settings import embedded_path  # noqa: E402
from unified_ranker.schema.jsonl import example_to_dict  # noqa: E402
from unified_ranker.schema.types import RankingExample  # noqa: E402
from unified_ranker.strategies.base import label  # noqa: E402
from unified_ranker.training.rl import cpu_platform  # noqa: E402
from unified_ranker.training.rl.config import compose, settings  # noqa: E402
from unified_ranker.training.rl.credit import MARK  # noqa: E402
from unified_ranker.training.rl.prepare import Setting  # noqa: E402
from unified_ranker.training.rl.recipe import load_recipe, recipe_names  # noqa: E402

pytestmark = [pytest.mark.verl, pytest.mark.filterwarnings("ignore")]


def configuration(name: str, *overrides: str, **more: Any) -> Any:
    recipe = load_recipe(name, overrides)
    found = settings(recipe, run=Path("run"), model=str(embedded_path()), prompt_tokens=64, response_tokens=16, **more)
    return compose(found)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_fits_the_installed_schema(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # With LoRA verl asks for vLLM's version, which the CPU build has under another name.
    monkeypatch.setattr(importlib.metadata, "version", importlib.metadata.version)
    cpu_platform._answer_for_vllm()
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    recipe = load_recipe(name)
    # What names a model of the hub is looked up when it is read; a local one stands in.
    local = [f"verl.critic.model.path={embedded_path()}"] if "critic.model.path" in recipe.verl else []
    config = configuration(name, *local)
    validate_config(config, use_reference_policy=need_reference_policy(config), use_critic=need_critic(config))
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
    assert rollout.n == recipe.group
    assert config.trainer.total_training_steps == recipe.steps
    assert actor.optim.lr == recipe.verl["actor_rollout_ref.actor.optim.lr"]
    assert config.trainer.n_gpus_per_node == recipe.gpus
    assert config.reward.custom_reward_function.path == "pkg://unified_ranker.rewards.verl_entry"


def test_an_unknown_setting_of_verl_is_named() -> None:
    from unified_ranker.errors import RecipeError

    with pytest.raises(RecipeError, match="no_such_setting"):
        configuration("iranker-tiny", "verl.trainer.no_such_setting=1")


def test_a_ray_cluster_that_runs_is_joined() -> None:
    config = configuration("iranker-tiny", ray_address="auto")
    assert config.ray_kwargs.ray_init.address == "auto"
    assert "num_gpus" not in config.ray_kwargs.ray_init
    # Its processes do not inherit this one's environment.
    assert config.ray_kwargs.ray_init.runtime_env.env_vars.UNIFIED_RANKER_VERL_CPU == "1"


def test_the_plugin_makes_the_estimator_known() -> None:
    from verl.trainer.ppo.core_algos import get_adv_estimator_fn

    assert get_adv_estimator_fn("step_grpo").__module__ == "unified_ranker.training.rl.plugin"


@pytest.mark.parametrize("by", ["package", "path"])
def test_verls_reward_manager_calls_our_entry(by: str) -> None:
    import unified_ranker.rewards.verl_entry as entry
    from verl import DataProto
    from verl.trainer.ppo.reward import load_reward_manager
    from verl.utils import hf_tokenizer

    path = "pkg://unified_ranker.rewards.verl_entry" if by == "package" else entry.__file__
    config = configuration("iranker-tiny", f"verl.reward.custom_reward_function.path={path}")
    tokenizer = hf_tokenizer(str(embedded_path()))
    example = toy_list("x", [0, 1, 0])
    truth = entry.ground_truth(
        example, {f"<{n + 1}>": f"c{n}" for n in range(3)}, scorer=Scorer("binary"), reasoning=False, joined=True
    )

    async def scored(reply: str) -> dict[str, Any]:
        # Within a loop, since the manager looks for one when it is made.
        manager = load_reward_manager(config, tokenizer)
        ids = torch.tensor([tokenizer.encode(reply, add_special_tokens=False)])
        data = DataProto.from_dict(
            tensors={"responses": ids, "attention_mask": torch.ones(1, ids.shape[1] + 3, dtype=torch.long)},
            non_tensors={
                "data_source": np.array(["passage-5"], dtype=object),
                "reward_model": np.array([{"ground_truth": json.dumps(truth)}], dtype=object),
                "extra_info": np.array([{}], dtype=object),
            },
        )
        found: dict[str, Any] = await manager.run_single(data)
        return found

    right, wrong, none = (asyncio.run(scored(reply)) for reply in ("<1>", "<2>", "<9>"))
    assert (right["reward_score"], wrong["reward_score"], none["reward_score"]) == (1.0, 0.0, -0.75)
    assert right["reward_extra_info"]["choice"] == 1.0 and none["reward_extra_info"]["label"] == -0.5


class Engine:
    """Stands where verl's client of its vLLM servers is: writes what it is told to, and notes what it is asked."""

    def __init__(self, replies: Iterator[list[int]]) -> None:
        self.replies = replies
        self.asked: list[tuple[list[int], dict[str, Any]]] = []

    async def generate(self, *, request_id: str, prompt_ids: list[int], sampling_params: dict[str, Any]) -> Any:
        self.asked.append((prompt_ids, sampling_params))
        ids = next(self.replies)
        return SimpleNamespace(
            token_ids=ids,
            log_probs=[-0.5] * len(ids),
            stop_reason="completed",
            extra_fields={"global_steps": 3, "min_global_steps": 3, "max_global_steps": 3},
        )


def played(
    example: RankingExample, setting: Setting, replies: list[list[int]], *, session: int
) -> tuple[list[Any], Engine]:
    """Run our loop with verl's classes around it, as its worker does."""
    from verl.experimental.agent_loop.agent_loop import DictConfigWrap

    from unified_ranker.training.rl.agent_loop import RankingLoop

    config = configuration("iranker-tiny")
    engine = Engine(iter(replies))

    async def run() -> list[Any]:
        loop = RankingLoop(
            trainer_config=DictConfigWrap(config),
            server_manager=engine,
            tokenizer=setting.tokenizer,
            processor=None,
            dataset_cls=None,
            data_config=DictConfigWrap(config.data),
            spec=json.dumps(setting.spec()),
        )
        row = {"extra_info": {"example": json.dumps(example_to_dict(example))}, "session_id": session}
        found: list[Any] = await loop.run({"temperature": 1.0, "logprobs": True}, **row)
        return found

    return asyncio.run(run()), engine


def through_verl(outputs: list[list[Any]], *, estimator: str, gamma: float) -> Any:
    """Hand the outputs of a group to verl's worker, and what it stores to verl's advantages."""
    import verl.trainer.ppo.v1.agent_loop_tq as module
    from verl import DataProto
    from verl.trainer.config import AlgoConfig
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories

    stored: list[tuple[list[str], Any]] = []

    async def keep(*, keys: list[str], fields: Any, **_: Any) -> None:
        stored.append((keys, fields))

    worker_class = module.AgentLoopWorkerTQ.__ray_metadata__.modified_class
    worker = object.__new__(worker_class)
    worker.distillation_enabled, worker.processor, worker.reward_loop_worker_handles = False, None, None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.tq, "async_kv_batch_put", keep)
        for session, output in enumerate(outputs):
            asyncio.run(
                worker._agent_loop_postprocess(
                    output, False, uid="list", session_id=session, raw_prompt=[], global_steps=3
                )
            )
    keys = [key for found, _ in stored for key in found]
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in ("rm_scores", "response_mask", "responses")}
    for _, fields in stored:
        for name, values in rows.items():
            values += list(fields[name].unbind())
    padded = {name: torch.nn.utils.rnn.pad_sequence(values, batch_first=True) for name, values in rows.items()}
    data = DataProto.from_dict(
        tensors={**padded, "token_level_rewards": padded["rm_scores"]},
        non_tensors={"uid": np.array(["list"] * len(keys), dtype=object)},
    )
    return compute_advantage_for_multi_trajectories(
        data, keys, adv_estimator=estimator, gamma=gamma, config=AlgoConfig(gamma=gamma, adv_estimator=estimator)
    )


def label_ids(setting: Setting, names: list[str]) -> list[int]:
    return [setting.tools.spell(name, after="")[0] for name in names]


EXAMPLE = toy_list("x", [0, 1, 0, 0])
# Labels <1> … <4> stand for grades 0, 1, 0, 0. The first removes the best at its second step, the second never.
ROLLOUTS = (["<1>", "<2>", "<3>"], ["<3>", "<4>", "<1>"])
REWARDS = ([1.0, 0.0, 1.0], [1.0, 1.0, 1.0])


def group(layout: str) -> tuple[Setting, list[list[Any]], list[Engine]]:
    options = "{layout: append, permute: true}" if layout == "permute" else f"{{layout: {layout}}}"
    setting = Setting(load_recipe("iranker-tiny", ["reward=binary", f"options={options}"]))
    outputs, engines = [], []
    for session, names in enumerate(ROLLOUTS):
        ids = label_ids(setting, names)
        if layout == "rounds":
            # Each prompt shows what is left under new labels.
            standing, ids = list(range(1, 5)), []
            for name in names:
                place = int(name[1:-1])
                ids += label_ids(setting, [f"<{standing.index(place) + 1}>"])
                standing.remove(place)
        replies = [ids] if layout == "permute" else [[token] for token in ids]
        output, engine = played(EXAMPLE, setting, replies, session=session)
        outputs.append(output)
        engines.append(engine)
    return setting, outputs, engines


@pytest.mark.parametrize("layout", ["permute", "append"])
def test_step_rewards_reach_their_own_tokens(layout: str) -> None:
    _, outputs, _ = group(layout)
    data = through_verl(outputs, estimator="step_grpo", gamma=0.0)
    rewards, mask = data.batch["rm_scores"], data.batch["response_mask"]
    assert mask.tolist() == [[1, 1, 1, 0, 0]] * 2
    assert [[round(value, 6) for value in line] for line in rewards[:, :3].tolist()] == list(map(list, REWARDS))
    # A reward of 0 is marked, so that the end of its step is seen; no mark changes a sum.
    assert rewards[0, 1] == MARK and rewards.sum(dim=1).tolist() == [2.0, 3.0]
    # Only the second step set the two apart: √½ standard deviations of two values either way.
    expected = [[0.0, -(0.5**0.5), 0.0], [0.0, 0.5**0.5, 0.0]]
    assert torch.allclose(data.batch["advantages"][:, :3], torch.tensor(expected), atol=1e-4)
    assert not data.batch["advantages"][:, 3:].any()


def test_a_round_is_a_sequence_with_a_reward_of_its_own() -> None:
    _, outputs, engines = group("rounds")
    assert [len(output) for output in outputs] == [3, 3]
    for output, engine in zip(outputs, engines, strict=True):
        assert [sequence.prompt_ids for sequence in output] == [prompt for prompt, _ in engine.asked]
    data = through_verl(outputs, estimator="step_grpo", gamma=1.0)
    ends = data.batch["rm_scores"][:, 0]
    assert [round(float(value), 6) for value in ends] == [*REWARDS[0], *REWARDS[1]]
    # With all that follows: 2, 1, 1 against 3, 2, 1. The last steps are alike.
    returns = data.batch["returns"][:, 0].tolist()
    assert returns == [2.0, 1.0, 1.0, 3.0, 2.0, 1.0]
    expected = torch.tensor([-1.0, -1.0, 0.0, 1.0, 1.0, 0.0]) * 0.5**0.5
    assert torch.allclose(data.batch["advantages"][:, 0], expected, atol=1e-4)


def test_left_to_itself_verl_copies_the_last_reward() -> None:
    # What StepRewards is for: the same outputs as verl's own class.
    from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput

    _, outputs, _ = group("rounds")
    plain = [
        [
            AgentLoopOutput(
                prompt_ids=sequence.prompt_ids,
                response_ids=sequence.response_ids,
                response_mask=sequence.response_mask,
                reward_score=reward,
                num_turns=1,
                metrics=AgentLoopMetrics(),
                extra_fields={**sequence.extra_fields},
            )
            for sequence, reward in zip(output, rewards, strict=True)
        ]
        for output, rewards in zip(outputs, REWARDS, strict=True)
    ]
    data = through_verl(plain, estimator="grpo", gamma=1.0)
    assert data.batch["rm_scores"].sum(dim=1).tolist() == [1.0] * 6
    assert not data.batch["advantages"].any()


def test_the_engine_is_restricted_as_the_request_is() -> None:
    setting, _, engines = group("permute")
    ((_, asked),) = engines[0].asked
    names = [entry.label for entry in label(EXAMPLE.candidates, setting.tools, "")]
    assert asked["extra_args"] == {"unified_ranker_labels": label_ids(setting, names)}
    assert asked["max_tokens"] == 3 and asked["ignore_eos"] is True and asked["temperature"] == 1.0
    _, _, engines = group("append")
    assert [len(asked["allowed_token_ids"]) for _, asked in engines[0].asked] == [4, 3, 2]
    assert {asked["max_tokens"] for _, asked in engines[0].asked} == {1}


def test_the_report_names_every_part() -> None:
    _, outputs, _ = group("permute")
    report = outputs[0][0].extra_fields["reward_extra_info"]
    assert set(report) == {"choice", "label", "answer", "format", "step_reward", "well_formed", "rr", "ndcg"}
    assert report["rr"] == pytest.approx(1 / 3) and outputs[1][0].extra_fields["reward_extra_info"]["rr"] == 1.0


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what our engine and verl's make of one batch, in a process that is on the CPU platform."""
    script = Path(__file__).with_name("both_engines.py")
    done = subprocess.run(
        [sys.executable, str(script), str(embedded_path())],
        env={**os.environ, **cpu_platform.ENVIRONMENT, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path_factory.mktemp("engines"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_our_engine_gives_the_log_probabilities_of_verls(measured: dict[str, Any]) -> None:
    assert measured["engines"] == ["SharedPromptEngine", "FSDPEngineWithLMHead"]
    assert measured["responses"] == 6 and measured["log_probs"] < 1e-4
    assert measured["entropy"] < 1e-4


def test_its_gradients_are_those_of_verls(measured: dict[str, Any]) -> None:
    assert measured["gradient_norm"] > 0.01 and measured["gradient"] < 1e-4 * measured["gradient_norm"]


def test_restricted_to_labels_it_is_the_policy_that_is_sampled(measured: dict[str, Any]) -> None:
    # Against a softmax over the labels of the prompt that are not yet in the response, worked out on its own.
    assert measured["restricted"] < 1e-4
    assert measured["restricted_sum"] == pytest.approx(1.0, abs=1e-5)


def test_words_alone_learn_what_they_mean_alone(measured: dict[str, Any]) -> None:
    # The policy is the same; what learns of it is one block of one matrix.
    assert measured["alone"] < 1e-6
    assert measured["alone_learned"] == ["model.embed_tokens.weight"]
    assert measured["alone_norm"] > 0.01
    assert measured["alone_outside"] == 0
