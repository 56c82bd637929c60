"""What a run needs before verl starts: rows, loops, sizes and settings, and refusals while it is still cheap."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from tiny_models import save_model
from toy_tasks import build_toy
from unified_ranker.rewards.reward import Reward
from unified_ranker.rewards.verl_entry import compute_score

from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.errors import (
    BackendError,
    DataError,
    MissingExtraError,
    MissingSourceError,
    OptionError,
    PromptTooLongError,
    RecipeError,
)
from unified_ranker.exchange import Request
from unified_ranker.model_settings import ModelSettings, embedded_path, write_settings
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, Ranking, RankingExample
from unified_ranker.strategies.registry import make_strategy, method_named
from unified_ranker.training.rl import prepare as module
from unified_ranker.training.rl.credit import TRAILER
from unified_ranker.training.rl.play import Tokens, play
from unified_ranker.training.rl.prepare import (
    BASE_BYTES,
    BYTES_PER_PARAMETER,
    Prepared,
    Setting,
    check_machine,
    prepare,
    source_of,
    validation_lists,
)
from unified_ranker.training.rl.recipe import RLRecipe, load_recipe, parse_recipe

TASKS = {"movie": 1.0, "passage-5": 1.0, "router-cost": 1.0}
PERMUTED = {"layout": "append", "permute": True}
WORDS = ("river", "garden", "castle", "doctor", "music", "winter", "engine", "forest", "bridge", "silver", "market")


def recipe_of(**changes: Any) -> RLRecipe:
    record = {
        "name": "mine",
        "tasks": TASKS,
        "platform": "cpu",
        "options": PERMUTED,
        "steps": 4,
        "batch": 6,
        "validation_lists": 2,
        **changes,
    }
    return parse_recipe(record)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    splits = {
        "movie": [(1, 0, 0, 0), (0, 0, 1), (0, 1, 0, 0, 0)],
        "passage-5": [(0, 1, 0, 2, 0), (1, 1, 0, 0, 0)],
        "router-cost": [(3, 2, 1), (1, 2, 3, 0)],
        "game": [(1, 0)],
    }
    for task, lists in splits.items():
        build_toy(folder, task, train=lists, validation=lists if task != "game" else [], test=lists)
    return folder


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built lists of texts of very different length, some with a history."""
    folder = tmp_path_factory.mktemp("wordy")
    rng = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))

    for task, domain in (("movie", "recommendation"), ("passage-5", "passage")):
        (folder / task).mkdir()
        (folder / task / "card.json").write_text("{}", encoding="utf-8")
        for split, count in (("train", 8), ("validation", 3), ("test", 1)):
            lists = [
                RankingExample(
                    f"{split}{number}",
                    text(1, 12),
                    tuple(Candidate(f"c{place}", text(1, 40)) for place in range(rng.randint(2, 7))),
                    task=task,
                    domain=domain,
                    context=tuple(text(1, 6) for _ in range(rng.randint(0, 8))) if task == "movie" else (),
                    relevance={"c1": 1.0},
                    split=split,
                    group=f"{split}{number}",
                )
                for number in range(count)
            ]
            write_parquet(folder / task / f"{split}.parquet", lists)
    return folder


def rows_in(run: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(run / "rows" / f"{name}.parquet").to_pylist()
    return found


def loops_in(run: Path) -> dict[str, dict[str, Any]]:
    found = yaml.safe_load((run / "loops.yaml").read_text(encoding="utf-8"))
    assert {loop["_target_"] for loop in found} == {"unified_ranker.training.rl.agent_loop.RankingLoop"}
    return {loop["name"]: json.loads(loop["spec"]) for loop in found}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_rows_of_a_run_are_written(data: Path, tmp_path: Path) -> None:
    prepared = prepare(recipe_of(), data=data, run=tmp_path / "run")
    run = tmp_path / "run"
    train, validation = rows_in(run, "train"), rows_in(run, "validation")
    assert [len(train), len(validation)] == [24, 6]
    assert {row["data_source"] for row in train} == set(TASKS)
    assert [row["data_source"] for row in validation] == [task for task in TASKS for _ in range(2)]
    assert {row["agent_name"] for row in [*train, *validation]} == {"unified_ranker"}
    assert [row["extra_info"]["index"] for row in train] == list(range(24))
    assert {row["extra_info"]["split"] for row in train} == {"train"}
    assert {row["extra_info"]["split"] for row in validation} == {"validation"}
    assert prepared.settings["data.train_files"] == str(run.resolve() / "rows" / "train.parquet")
    assert prepared.settings["data.val_files"] == str(run.resolve() / "rows" / "validation.parquet")
    for row in train:
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="row")
        best = max(range(len(example.candidates)), key=lambda i: example.grade(example.candidates[i].id))
        truth = json.loads(row["reward_model"]["ground_truth"])
        assert truth["ids"] == [candidate.id for candidate in example.candidates]
        assert compute_score("", truth["labels"][best], truth)["score"] == 0.0


def test_the_loops_of_a_run_are_written(data: Path, tmp_path: Path) -> None:
    prepared = prepare(recipe_of(measure="rr", reward="graded"), data=data, run=tmp_path / "run")
    own = json.loads((embedded_path() / "ranker.json").read_text(encoding="utf-8"))
    loops = loops_in(tmp_path / "run")
    assert set(loops) == {"unified_ranker", "unified_ranker_case"}
    spec = loops["unified_ranker"]
    assert spec["options"] == PERMUTED
    assert loops["unified_ranker_case"] == {**spec, "options": {**PERMUTED, "max_steps": 1}}
    assert (spec["method"], spec["style"], spec["reward"], spec["measure"]) == ("iranker", "compact", "graded", "rr")
    assert (spec["token_budget"], spec["labels"]) == (own["token_budget"], own["labels"])
    assert prepared.ranker == ModelSettings("iranker", "compact", own["token_budget"], tuple(own["labels"]), PERMUTED)
    assert prepared.model == str(embedded_path())


def test_a_single_step_is_no_option_of_whole_orders(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(method="dranker", reward="permutation", options={"permute": True})
    prepare(recipe, data=data, run=tmp_path / "run")
    assert {json.dumps(spec["options"]) for spec in loops_in(tmp_path / "run").values()} == {'{"permute": true}'}


def test_the_same_recipe_prepares_the_same_files(data: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("other", 3), ("third", 4)):
        prepare(recipe_of(seed=seed), data=data, run=tmp_path / name)
    one, other, third = (files_of(tmp_path / name) for name in ("one", "other", "third"))
    assert set(one) == {"rows/train.parquet", "rows/validation.parquet", "loops.yaml"}
    assert one == other
    # The loops carry the seed, which decides whose replies are mutated.
    assert {name for name in one if one[name] != third[name]} == {"rows/train.parquet", "loops.yaml"}
    first, last = (loops_in(tmp_path / name) for name in ("one", "third"))
    assert {name: {**spec, "seed": 4} for name, spec in first.items()} == last


def test_settings_come_back_without_writing(data: Path, tmp_path: Path) -> None:
    written = prepare(recipe_of(), data=data, run=tmp_path / "run")
    before = files_of(tmp_path)
    assert prepare(recipe_of(), data=data, run=tmp_path / "run", write=False) == written
    assert files_of(tmp_path) == before
    prepare(recipe_of(), data=data, run=tmp_path / "never", write=False)
    assert not (tmp_path / "never").exists()


def test_a_cluster_reaches_the_settings(data: Path, tmp_path: Path) -> None:
    prepared = prepare(recipe_of(), data=data, run=tmp_path, ray_address="ray:1", write=False)
    assert prepared.settings["+ray_kwargs.ray_init.address"] == "ray:1"


@pytest.mark.parametrize(
    ("options", "loop"),
    [
        ({"layout": "append"}, "unified_ranker_case"),
        ({"layout": "rounds"}, "unified_ranker_case"),
        ({"layout": "rounds", "unguided": True}, "single_turn_agent"),
    ],
)
def test_cases_are_trained_on_and_whole_lists_validated_on(
    data: Path, tmp_path: Path, options: dict[str, Any], loop: str
) -> None:
    prepare(recipe_of(form="cases", options=options), data=data, run=tmp_path)
    train, validation = rows_in(tmp_path, "train"), rows_in(tmp_path, "validation")
    assert len(train) == 24
    assert {row["agent_name"] for row in train} == {loop}
    assert {row["agent_name"] for row in validation} == {"unified_ranker"}
    names = [json.loads(row["extra_info"]["example"])["id"] for row in train]
    assert all("#case-" in name for name in names)
    assert not [row for row in validation if "#case" in row["extra_info"]["example"]]


def test_a_task_without_weight_needs_no_lists(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tasks={"movie": 1, "game": 0, "music": 0})
    prepare(recipe, data=data, run=tmp_path)
    assert {row["data_source"] for name in ("train", "validation") for row in rows_in(tmp_path, name)} == {"movie"}


def test_rows_keep_the_shares_of_tasks(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tasks={"movie": 3, "passage-5": 1}, steps=100, batch=4, order="sequence")
    prepare(recipe, data=data, run=tmp_path)
    assert Counter(row["data_source"] for row in rows_in(tmp_path, "train")) == {"movie": 300, "passage-5": 100}


def test_validation_lists_are_the_first_ones_in_an_order_that_no_seed_changes(data: Path, tmp_path: Path) -> None:
    found = validation_lists(data, TASKS, 2)
    assert [(e.task, e.id) for e in found] == [(task, f"validation{n}") for task in TASKS for n in range(2)]
    assert found == validation_lists(data, TASKS, 2)
    assert validation_lists(data, {"movie": 1.0}, 99) == validation_lists(data, {"movie": 1.0}, 3)
    orders = {tuple(candidate.id for candidate in example.candidates) for example in validation_lists(data, TASKS, 3)}
    assert any(list(order) != sorted(order) for order in orders)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose tokens are bytes, and which says nothing of how it wants to be asked."""
    return save_model(tmp_path_factory.mktemp("models") / "letters")


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model with labels and a style of its own, but fewer labels than some lists need."""
    folder = save_model(tmp_path_factory.mktemp("models") / "tagged")
    write_settings(folder, ModelSettings(style="compact", token_budget=700, labels=("<1>", "<2>", "<3>", "<4>")))
    return folder


def test_a_model_says_how_it_wants_to_be_asked_unless_the_recipe_does(tagged: Path) -> None:
    own = Setting(recipe_of(model=str(tagged))).ranker
    assert (own.style, own.token_budget, own.labels) == ("compact", 700, ("<1>", "<2>", "<3>", "<4>"))
    told = Setting(recipe_of(model=str(tagged), style="natural", token_budget=600, options={})).ranker
    assert (told.style, told.token_budget) == ("natural", 600)


def test_a_model_that_says_nothing_has_its_context_for_a_budget(letters: Path) -> None:
    own = Setting(recipe_of(model=str(letters), options={})).ranker
    assert (own.style, own.token_budget, own.labels) == ("natural", 4096, ())


# Every way to ask that a run may have: the model, what the recipe says, and how many tokens a reply is drawn with.
ASKED: dict[str, dict[str, Any]] = {
    "embedded, permute": {"model": "embedded", "options": PERMUTED},
    "embedded, append": {"model": "embedded", "options": {}},
    "embedded, rounds": {"model": "embedded", "options": {"layout": "rounds"}},
    "embedded, unguided": {"model": "embedded", "options": {"unguided": True}},
    "embedded, a few steps": {"model": "embedded", "options": {**PERMUTED, "max_steps": 2}},
    "embedded, dranker": {"model": "embedded", "method": "dranker", "reward": "permutation", "options": {}},
    "embedded, dranker, permute": {
        "model": "embedded",
        "method": "dranker",
        "reward": "permutation",
        "options": {"permute": True},
    },
    "embedded, cases": {"model": "embedded", "form": "cases", "options": {}},
    "embedded, a tight budget": {"model": "embedded", "options": {}, "token_budget": 120},
    "append": {"options": {}},
    "append, unguided": {"options": {"unguided": True}},
    "append, a tight budget": {"options": {}, "token_budget": 1100},
    "append, unguided, a tight budget": {"options": {"unguided": True}, "token_budget": 1100},
    "append, one token a step": {"options": {"max_tokens": 1}},
    "append, reasoning": {"options": {"reasoning": True, "max_tokens": 90}},
    "append, reasoning, short": {"options": {"reasoning": True, "max_tokens": 24}},
    "rounds": {"options": {"layout": "rounds"}},
    "rounds, reasoning": {"options": {"layout": "rounds", "reasoning": True, "max_tokens": 90}},
    "rounds, a tight budget": {"options": {"layout": "rounds"}, "token_budget": 1100},
    "rounds, reasoning, a tight budget": {
        "options": {"layout": "rounds", "reasoning": True, "max_tokens": 90},
        "token_budget": 1200,
    },
    "cases": {"form": "cases", "options": {}},
    "cases, a tight budget": {"form": "cases", "options": {}, "token_budget": 1100},
    "cases, rounds, a tight budget": {"form": "cases", "options": {"layout": "rounds"}, "token_budget": 1100},
    "dranker": {"method": "dranker", "reward": "permutation", "options": {}},
    "dranker, reasoning": {
        "method": "dranker",
        "reward": "permutation",
        "options": {"reasoning": True, "max_tokens": 90},
        "token_budget": 1200,
    },
}


def writes(tools: TokenizerTools, rng: random.Random) -> Any:
    """Return an engine that writes labels where it has to and anything else where it may, as long as it may."""

    async def ask(prompt: list[int], request: Request) -> Tokens:
        if request.draws > 1:
            text = "".join(rng.sample(request.choices, request.draws))
        elif request.choices:
            text = rng.choice(request.choices)
        else:
            text = rng.choice(
                [
                    rng.choice("ABCDEFG"),
                    "A B C D E F G" * 20,
                    "<think>" + "why " * 40 + f"</think><answer>{rng.choice('ABC')}</answer>",
                    f"<think>{'x' * max(0, request.max_tokens - 33)}</think><answer>{rng.choice('ABC')}</answer>",
                    "<think>" + "why " * 400,
                    "?",
                ]
            )
        tokens = tools.tokenizer(text, add_special_tokens=False)["input_ids"][: request.max_tokens]
        return Tokens(tuple(tokens), cut=len(tokens) == request.max_tokens)

    return ask


@pytest.mark.parametrize("name", ASKED)
def test_whatever_is_played_fits_the_sizes_that_verl_is_told(
    name: str, wordy: Path, letters: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(
        **{"model": str(letters), "tasks": {"movie": 1, "passage-5": 1}, "steps": 8, "batch": 2, **ASKED[name]}
    )
    prepared = prepare(recipe, data=wordy, run=tmp_path)
    setting, loops = Setting(recipe), loops_in(tmp_path)
    prompts, responses = (prepared.settings[f"data.max_{part}_length"] for part in ("prompt", "response"))
    # The trailer of a response never reaches the engine.
    assert prepared.settings["actor_rollout_ref.rollout.max_model_len"] >= prompts + responses - TRAILER
    longest = [0, 0]
    for number, row in enumerate([*rows_in(tmp_path, "train"), *rows_in(tmp_path, "validation")]):
        spec = loops[row["agent_name"]]
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="row")
        template = load_template(spec["style"], method_named(spec["method"]).template, example.domain)
        strategy: Any = make_strategy(
            spec["method"], writer=PromptWriter(template, setting.tools, spec["token_budget"]), **spec["options"]
        )
        for seed in range(2):
            episode = asyncio.run(
                play(
                    strategy,
                    example,
                    reader=setting.tools,
                    ask=writes(setting.tools, random.Random(f"{name}/{number}/{seed}")),
                    score=lambda played, ranking, strategy=strategy: setting.scorer.ranking(
                        strategy.parse, played, ranking
                    ),
                    ends=frozenset(),
                )
            )
            for segment in episode.segments:
                longest[0] = max(longest[0], len(segment.prompt))
                longest[1] = max(longest[1], len(segment.response) + TRAILER)
    assert longest[0] <= prompts, "a prompt is longer than data.max_prompt_length"
    assert longest[1] <= responses, "a response is longer than data.max_response_length"


# Texts that cannot be cut, and a history that has to give way once a list takes a little more room.
LONG = RankingExample(
    "list",
    "query",
    tuple(Candidate(f"c{place}", "film") for place in range(3)),
    task="movie",
    domain="recommendation",
    context=("a" * 80, "b" * 80),
    relevance={"c0": 1.0},
    group="list",
)


@pytest.fixture
def one_list(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "movie"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text("{}", encoding="utf-8")
    for split in ("train", "validation", "test"):
        write_parquet(folder / f"{split}.parquet", [LONG])
    return tmp_path / "data"


def prompts_of(recipe: RLRecipe, **more: Any) -> list[int]:
    """Return how long each prompt is when the list is played; ``more`` are options of a loop of its own."""
    setting, found = Setting(recipe), list[int]()
    engine = writes(setting.tools, random.Random(0))

    async def ask(prompt: list[int], request: Request) -> Tokens:
        found.append(len(prompt))
        tokens: Tokens = await engine(prompt, request)
        return tokens

    writer = setting.strategies[LONG.domain].writer
    strategy: Any = make_strategy(recipe.method, writer=writer, **{**recipe.options, **more})

    def score(played: RankingExample, ranking: Ranking) -> list[Reward]:
        return setting.scorer.ranking(strategy.parse, played, ranking)

    asyncio.run(play(strategy, LONG, reader=setting.tools, ask=ask, score=score, ends=frozenset()))
    return found


def test_a_later_round_may_have_the_longest_prompt(letters: Path, one_list: Path, tmp_path: Path) -> None:
    changes = {"model": str(letters), "tasks": {"movie": 1}, "options": {"layout": "rounds"}}
    free = prompts_of(recipe_of(**changes))
    assert free[0] > free[1]
    # Room for the whole history beside two candidates, but not beside three.
    room = Setting(recipe_of(**changes)).strategies[LONG.domain].room(LONG)
    tight = recipe_of(**changes, token_budget=free[1] + room)
    assert prompts_of(tight)[1] == free[1] > prompts_of(tight)[0]
    prepared = prepare(tight, data=one_list, run=tmp_path / "run")
    assert max(prompts_of(tight)) <= prepared.settings["data.max_prompt_length"]


def test_a_single_step_may_have_a_longer_prompt_than_the_row_of_its_case(
    letters: Path, one_list: Path, tmp_path: Path
) -> None:
    changes = {"model": str(letters), "tasks": {"movie": 1}, "form": "cases", "options": {}}
    (free,) = prompts_of(recipe_of(**changes), max_steps=1)
    # Room for the whole history and one reply, but not for as many replies as the list has steps.
    steps = len(LONG.candidates) - 1
    room = Setting(recipe_of(**changes)).strategies[LONG.domain].room(LONG)
    tight = recipe_of(**changes, token_budget=free + room // steps)
    assert prompts_of(tight, max_steps=1) == [free]
    assert prompts_of(tight)[0] < free
    prepared = prepare(tight, data=one_list, run=tmp_path / "run")
    assert {row["agent_name"] for row in rows_in(tmp_path / "run", "train")} == {"unified_ranker_case"}
    assert free <= prepared.settings["data.max_prompt_length"]


def test_sizes_are_those_of_the_longest_row(data: Path, tmp_path: Path) -> None:
    recipe = recipe_of()
    prepared = prepare(recipe, data=data, run=tmp_path)
    setting = Setting(recipe)
    sizes = [
        (
            len(
                setting.tokenizer.apply_chat_template(
                    row["prompt"], tokenize=True, add_generation_prompt=True, return_dict=True
                )["input_ids"]
            ),
            len(json.loads(row["extra_info"]["example"])["candidates"]) - 1,
        )
        for name in ("train", "validation")
        for row in rows_in(tmp_path, name)
    ]
    assert prepared.settings["data.max_prompt_length"] == max(prompt for prompt, _ in sizes)
    # One token for each elimination, and the trailer.
    assert prepared.settings["data.max_response_length"] == max(steps for _, steps in sizes) + TRAILER


def test_a_task_that_is_not_built_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingSourceError, match="data build music"):
        prepare(recipe_of(tasks={"movie": 1, "music": 1}), data=data, run=tmp_path)


def test_a_task_without_validation_lists_is_named_with_the_mend(data: Path, tmp_path: Path) -> None:
    with pytest.raises(
        (RecipeError, DataError), match=r"task 'game' has no validation lists in .*leave it out of tasks"
    ):
        prepare(recipe_of(tasks={"movie": 1, "game": 1}), data=data, run=tmp_path)


def test_a_task_without_training_lists_is_named_with_the_mend(tmp_path: Path) -> None:
    data = build_toy(tmp_path / "data", "movie", train=[(0, 0)], validation=[(1, 0)])
    with pytest.raises(DataError, match="task 'movie' has no training lists"):
        prepare(recipe_of(tasks={"movie": 1}), data=data, run=tmp_path)


def test_a_list_that_does_not_fit_the_budget_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(PromptTooLongError, match="raise token_budget"):
        prepare(recipe_of(token_budget=20), data=data, run=tmp_path)


def test_a_list_with_more_candidates_than_the_model_has_labels_is_refused(
    data: Path, tmp_path: Path, tagged: Path
) -> None:
    with pytest.raises(OptionError, match="trained with 4 labels"):
        prepare(recipe_of(model=str(tagged), options=PERMUTED), data=data, run=tmp_path)


def test_a_permutation_of_separated_labels_is_refused(data: Path, tmp_path: Path, letters: Path) -> None:
    with pytest.raises(OptionError, match="permute=True writes labels one after the other"):
        prepare(recipe_of(model=str(letters)), data=data, run=tmp_path)


@pytest.mark.parametrize("model", ["./none", "/none/such", "~/none/such", "../none"])
def test_a_model_folder_that_does_not_exist_is_named(model: str) -> None:
    with pytest.raises(BackendError, match=f"model folder '{model}' does not exist"):
        source_of(recipe_of(model=model))


def test_a_model_is_the_embedded_one_a_folder_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert source_of(recipe_of()) == str(embedded_path())
    assert source_of(recipe_of(model=str(tmp_path))) == str(tmp_path)
    assert source_of(recipe_of(model="some/name")) == "some/name"
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    assert source_of(recipe_of(model="~/mine")) == str(tmp_path / "mine")


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="cannot load the model"):
        Setting(recipe_of(model=str(tmp_path)))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all packages seem to be there."""
    monkeypatch.setattr(module, "find_spec", lambda name: object())


def machine(monkeypatch: pytest.MonkeyPatch, *, accelerators: int = 0, memory: int | None = None) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: accelerators)
    if memory is not None:
        sizes = {"SC_PHYS_PAGES": memory // 4096, "SC_PAGE_SIZE": 4096}
        monkeypatch.setattr(os, "sysconf", lambda name: sizes[name])


@pytest.mark.parametrize(("platform", "extra"), [("gpu", "rl"), ("cpu", "rl-cpu")])
@pytest.mark.parametrize("missing", ["verl", "ray", "vllm", "transfer_queue"])
def test_a_package_that_is_missing_is_named_with_its_extra(
    missing: str, platform: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(MissingExtraError, match=rf"'{missing}'.*pip install 'unified-ranker\[{extra}\]'"):
        check_machine(recipe_of(platform=platform))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("there", [0, 3])
def test_too_few_accelerators_are_named_with_the_mend(there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, accelerators=there)
    with pytest.raises(RecipeError, match=rf"gpus=4: this machine has {there} accelerators.*Lower gpus.*iranker-tiny"):
        check_machine(recipe_of(platform="gpu", gpus=4))


def test_words_learn_alone_only_where_a_model_says_which_they_are(data: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "plain")
    with pytest.raises(RecipeError, match=r"learns='words': the model '.*plain' does not say.*or learns=all"):
        prepare(recipe_of(learns="words", model=str(tmp_path / "plain")), data=data, run=tmp_path / "run")
    found = prepare(recipe_of(learns="words", model="embedded"), data=data, run=tmp_path / "run").settings
    assert found["+actor_rollout_ref.model.override_config.ranking_words_alone"] is True


@pytest.mark.usefixtures("installed")
def test_the_recipe_that_is_proposed_is_one_for_a_cpu() -> None:
    assert load_recipe("iranker-tiny").platform == "cpu"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("there", [2, 3])
def test_enough_accelerators_are_enough(there: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, accelerators=there)
    check_machine(recipe_of(platform="gpu", gpus=2))


@pytest.mark.usefixtures("installed")
def test_several_nodes_need_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, accelerators=8)
    with pytest.raises(RecipeError, match=r"nodes=2 needs a Ray cluster.*--ray-address"):
        check_machine(recipe_of(platform="gpu", nodes=2))
    check_machine(recipe_of(platform="gpu", nodes=2), ray_address="ray:1")


@pytest.mark.usefixtures("installed")
def test_the_accelerators_of_a_cluster_are_not_looked_for_here(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, accelerators=0)
    check_machine(recipe_of(platform="gpu", gpus=8), ray_address="ray:1")


@pytest.mark.usefixtures("installed")
def test_a_cpu_run_beside_an_accelerator_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, accelerators=1)
    with pytest.raises(RecipeError, match="platform='cpu': this machine has 1 accelerators; take platform=gpu"):
        check_machine(recipe_of())


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("weights", [None, 1_000_000_000])
def test_too_little_memory_is_named_with_what_is_needed(
    weights: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if weights is None:
        recipe, size = recipe_of(), (embedded_path() / "model.safetensors").stat().st_size
    else:
        recipe, size = recipe_of(model=str(tmp_path)), weights
        with (tmp_path / "model.safetensors").open("wb") as file:
            file.truncate(weights)
    needed = BASE_BYTES + BYTES_PER_PARAMETER * (size // 2)
    machine(monkeypatch, memory=needed + 4096)
    check_machine(recipe)
    machine(monkeypatch, memory=needed - 4096)
    with pytest.raises(RecipeError, match=rf"needs about {needed / 1e9:.0f} GB.*has .* GB; take a smaller model"):
        check_machine(recipe)
    # A cluster has memory of its own.
    check_machine(recipe, ray_address="ray:1")


@pytest.mark.usefixtures("installed")
def test_a_model_that_is_missing_is_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, memory=10**12)
    with pytest.raises(BackendError, match=r"model folder '\./none' does not exist"):
        check_machine(recipe_of(model="./none"))


def test_what_prepared_holds() -> None:
    assert Prepared("m", ModelSettings(), {}) == Prepared(model="m", ranker=ModelSettings(), settings={})
