"""The recipes of Rank-R1, ReasonRank, Rearank, GR2, ERank, TFRank and RARL, from the file to what is played."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from tiny_models import make_model, make_tokenizer
from unified_ranker.rewards.score import REWARDS, Scorer

from unified_ranker.errors import RecipeError
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings, write_settings
from unified_ranker.prompts import PromptWriter, load_template
from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.parquet import write_parquet
from unified_ranker.schema.types import Candidate, RankingExample
from unified_ranker.strategies.registry import make_strategy, method_named
from unified_ranker.training.rl.credit import TRAILER
from unified_ranker.training.rl.mutation import Mutation
from unified_ranker.training.rl.play import Tokens, play
from unified_ranker.training.rl.prepare import Prepared, Setting, prepare
from unified_ranker.training.rl.recipe import RLRecipe, load_recipe, parse_recipe, recipe_names
from unified_ranker.training.rl.shared_prompt import ANSWERS, FROZEN, LABELS

# Method and reward of each.
NEW = {
    "rank-r1-tiny": ("setwise", "rank_r1"),
    "reasonrank-tiny": ("dranker", "reasonrank"),
    "rearank-tiny": ("dranker", "rearank"),
    "gr2-tiny": ("dranker", "gr2"),
    "erank-tiny": ("pointwise", "erank"),
    "tfrank-tiny": ("pointwise", "tfrank"),
    "rarl-tiny": ("pointwise", "rarl"),
    "rank-r1-7b": ("setwise", "rank_r1"),
    "reasonrank-7b": ("dranker", "reasonrank"),
    "erank-4b": ("pointwise", "erank"),
}
TINY = [name for name in NEW if name.endswith("tiny")]
WORDS = ("river", "garden", "castle", "doctor", "music", "winter", "engine", "forest", "bridge", "silver", "market")
# Batches of two lists, which micro-batches of a fixed size would not divide.
SMALL = (
    "tasks={movie: 1, passage-5: 1}",
    "steps=2",
    "batch=2",
    "validation_lists=1",
    "verl.actor_rollout_ref.actor.use_dynamic_bsz=true",
)


@pytest.mark.parametrize("name", NEW)
def test_a_recipe_trains_its_method_by_its_reward(name: str) -> None:
    recipe = load_recipe(name)
    assert name in recipe_names()
    assert recipe.name == name
    assert (recipe.method, recipe.reward) == NEW[name]
    assert REWARDS[recipe.reward] == recipe.method
    assert recipe.form == "episodes"
    assert recipe.platform == ("cpu" if name in TINY else "gpu")
    assert parse_recipe(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", TINY)
def test_a_recipe_for_a_cpu_stands_on_one_that_is_known(name: str) -> None:
    recipe, base = load_recipe(name), load_recipe("dranker-tiny")
    assert recipe.tasks == base.tasks
    assert recipe.model == "embedded"
    assert recipe.group == 8
    # Their starts are not all laid out to rank by words alone, so that all weights learn, at a rate that they can bear.
    assert (base.learns, recipe.learns) == ("words", "all")
    rate = "actor_rollout_ref.actor.optim.lr"
    assert base.verl[rate] > 100 * recipe.verl[rate]
    own = {rate: 2e-5, "actor_rollout_ref.actor.optim.weight_decay": 0.01}
    wanted = {**base.verl, **own}
    if recipe.method == "pointwise":
        wanted |= {"algorithm.adv_estimator": "step_grpo", "algorithm.gamma": 0.0}
    if name == "rarl-tiny":
        wanted["algorithm.rollout_correction.bypass_mode"] = False
    # Settings of the base are kept, but for those that the recipe names itself.
    assert {key: recipe.verl[key] for key in wanted} == wanted


def test_a_recipe_on_another_differs_by_what_it_says() -> None:
    erank, tfrank, rarl = (dict(load_recipe(name).verl) for name in ("erank-tiny", "tfrank-tiny", "rarl-tiny"))
    assert tfrank == erank
    assert rarl == {**erank, "algorithm.rollout_correction.bypass_mode": False}
    assert erank["algorithm.rollout_correction.bypass_mode"] is True


def test_what_the_recipes_ask_for() -> None:
    options = {name: dict(load_recipe(name).options) for name in NEW}
    assert options == {
        "rank-r1-tiny": {"places": 1},
        "reasonrank-tiny": {"permute": True},
        "rearank-tiny": {"permute": True},
        "gr2-tiny": {"permute": True},
        "erank-tiny": {"score": "grade"},
        "tfrank-tiny": {"score": "grade"},
        "rarl-tiny": {"score": "grade"},
        "rank-r1-7b": {"reasoning": True, "max_tokens": 2048, "places": 1},
        "reasonrank-7b": {"reasoning": True, "max_tokens": 3072},
        "erank-4b": {"reasoning": True, "max_tokens": 1024, "top_grade": 10, "score": "grade"},
    }
    assert {name: load_recipe(name).mutation for name in NEW if load_recipe(name).mutation} == {"rarl-tiny": 0.125}
    assert [load_recipe(name).restricted for name in NEW] == [name in TINY for name in NEW]


def text_of(rng: random.Random, low: int, high: int) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(low, high)))


def build(folder: Path, *, sizes: tuple[int, int] = (2, 6), lists: int = 6) -> Path:
    """Write tasks of texts of very different length, some with a history."""
    rng = random.Random(0)
    for task, domain in (("movie", "recommendation"), ("passage-5", "passage")):
        (folder / task).mkdir(parents=True)
        (folder / task / "card.json").write_text("{}", encoding="utf-8")
        for split in ("train", "validation", "test"):
            found = []
            for number in range(lists):
                places = rng.randint(*sizes)
                context = tuple(text_of(rng, 1, 6) for _ in range(rng.randint(0, 8))) if task == "movie" else ()
                found.append(
                    RankingExample(
                        f"{split}{number}",
                        text_of(rng, 1, 12),
                        tuple(Candidate(f"c{place}", text_of(rng, 1, 40)) for place in range(places)),
                        task=task,
                        domain=domain,
                        context=context,
                        relevance={"c1": 2.0, "c0": float(rng.randint(0, 1))},
                        split=split,
                        group=f"{split}{number}",
                    )
                )
            write_parquet(folder / task / f"{split}.parquet", found)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose tokens are bytes, with room for the long replies of large models."""
    folder = tmp_path_factory.mktemp("models") / "letters"
    tokenizer = make_tokenizer()
    make_model(tokenizer, max_position_embeddings=32_768).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def small(name: str, letters: Path, *more: str) -> RLRecipe:
    model = () if name in TINY else (f"model={letters}",)
    return load_recipe(name, [*SMALL, *model, *more])


@dataclass(frozen=True)
class Made:
    """A recipe that was prepared, and where."""

    recipe: RLRecipe
    prepared: Prepared
    setting: Setting
    run: Path


@pytest.fixture(scope="module")
def made(data: Path, letters: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return what prepares a recipe, once."""

    @cache
    def make(name: str) -> Made:
        recipe, run = small(name, letters), tmp_path_factory.mktemp(name)
        return Made(recipe, prepare(recipe, data=data, run=run), Setting(recipe), run)

    return make


def rows_in(run: Path) -> list[dict[str, Any]]:
    return [
        row for name in ("train", "validation") for row in pq.read_table(run / "rows" / f"{name}.parquet").to_pylist()
    ]


def writes(setting: Setting, rng: random.Random, *, longest: bool) -> Any:
    """Return an engine that writes what it may, and as much of it as it may."""

    async def ask(prompt: list[int], request: Request) -> Tokens:
        if request.draws > 1:
            text = "".join(rng.sample(request.choices, request.draws))
        elif request.choices:
            text = rng.choice(request.choices)
        elif longest:
            text = f"<think>{'x' * max(0, request.max_tokens - 33)}</think><answer>{rng.choice('A12')}</answer>"
        else:
            text = rng.choice(["?", "A > B", "<think>why</think><answer>B > A</answer>", "<answer>3</answer>"])
        tokens = setting.tools.tokenizer(text, add_special_tokens=False)["input_ids"][: request.max_tokens]
        return Tokens(tuple(tokens), cut=len(tokens) == request.max_tokens)

    return ask


def longest_of(recipe: RLRecipe, run: Path, setting: Setting | None = None) -> tuple[int, int]:
    """Play all rows as the agent loop does, and return the longest prompt and response."""
    setting, prompts, responses = setting or Setting(recipe), 0, 0
    loops = yaml.safe_load((run / "loops.yaml").read_text(encoding="utf-8"))
    specs = {loop["name"]: json.loads(loop["spec"]) for loop in loops}
    for number, row in enumerate(rows_in(run)):
        spec = specs[row["agent_name"]]
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="row")
        template = load_template(spec["style"], method_named(spec["method"]).template, example.domain)
        writer = PromptWriter(template, setting.tools, spec["token_budget"])
        strategy: Any = make_strategy(spec["method"], writer=writer, **spec["options"])
        answers = strategy.answers if spec["method"] == "pointwise" else ()
        scorer = Scorer(spec["reward"], spec["measure"], answers)
        mutation = Mutation(spec["mutation"], group=spec["group"], seed=spec["seed"], answers=answers)
        for session in (0, spec["group"] - 1):
            rng = random.Random(f"{recipe.name}/{number}/{session}")
            engine = writes(setting, rng, longest=session == 0)

            async def ask(
                prompt: list[int],
                request: Request,
                engine: Any = engine,
                mutation: Any = mutation,
                session: int = session,
                example: RankingExample = example,
                strategy: Any = strategy,
            ) -> Tokens:
                written: Tokens = await engine(prompt, request)
                if mutation.holds(session):
                    changed: Tokens = mutation.apply(example, strategy, prompt, written.ids, setting.tools, session)
                    return changed
                return written

            episode = asyncio.run(
                play(
                    strategy,
                    example,
                    reader=setting.tools,
                    ask=ask,
                    score=lambda played, ranking, scorer=scorer, strategy=strategy: scorer.ranking(
                        strategy.parse, played, ranking
                    ),
                    ends=frozenset(),
                )
            )
            assert len(episode.turns) == len(episode.ranking.steps) > 0
            prompts = max(prompts, *(len(segment.prompt) for segment in episode.segments))
            responses = max(responses, *(len(segment.response) + TRAILER for segment in episode.segments))
    return prompts, responses


@pytest.mark.parametrize("name", NEW)
def test_whatever_is_played_fits_the_sizes_that_verl_is_told(name: str, made: Callable[[str], Made]) -> None:
    recipe, prepared = made(name).recipe, made(name).prepared
    prompts, responses = (prepared.settings[f"data.max_{part}_length"] for part in ("prompt", "response"))
    longest = longest_of(recipe, made(name).run, made(name).setting)
    assert longest[0] <= prompts
    assert longest[1] <= responses
    # The trailer of a response never reaches the engine.
    assert prepared.settings["actor_rollout_ref.rollout.max_model_len"] >= prompts + responses - TRAILER
    if recipe.restricted and recipe.method == "pointwise":
        # The bounds are those of the longest prompt of any candidate of any row, and no more.
        assert longest[0] == prompts


@pytest.mark.parametrize("name", NEW)
def test_rows_hold_their_list_and_the_prompt_of_the_strategy(name: str, made: Callable[[str], Made]) -> None:
    recipe, setting, rows = made(name).recipe, made(name).setting, rows_in(made(name).run)
    assert len(rows) == 4 + 2
    for row in rows:
        assert row["agent_name"] == "unified_ranker"
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="row")
        first = next(setting.strategies[example.domain].rank(example))[0]
        sent = [{"role": message.role, "content": message.content} for message in first.messages]
        assert row["prompt"] == sent
        truth = json.loads(row["reward_model"]["ground_truth"])
        assert truth["reward"] == recipe.reward
        shown = 1 if recipe.method == "pointwise" else len(example.candidates)
        assert truth["ids"] == [candidate.id for candidate in example.candidates[:shown]]
        assert truth["grades"] == [example.grade(id) for id in truth["ids"]]


@pytest.mark.parametrize("name", NEW)
def test_loops_carry_what_a_rollout_needs(name: str, made: Callable[[str], Made]) -> None:
    recipe, prepared = made(name).recipe, made(name).prepared
    for loop in yaml.safe_load((made(name).run / "loops.yaml").read_text(encoding="utf-8")):
        spec = json.loads(loop["spec"])
        assert spec["options"] == dict(recipe.options)
        assert (spec["method"], spec["reward"]) == NEW[name]
        assert (spec["group"], spec["mutation"], spec["seed"]) == (recipe.group, recipe.mutation, 0)
    assert prepared.ranker.method == recipe.method
    assert prepared.ranker.options == dict(recipe.options)
    assert prepared.settings["actor_rollout_ref.rollout.n"] == recipe.group


def actor(prepared: Prepared, name: str) -> Any:
    return prepared.settings.get(f"+actor_rollout_ref.model.override_config.{name}")


@pytest.mark.parametrize("name", TINY)
def test_the_actor_is_told_what_replies_are_made_of(name: str, made: Callable[[str], Made]) -> None:
    recipe, prepared, setting = made(name).recipe, made(name).prepared, made(name).setting
    labels = [setting.tools.spell(label, after="")[0] for label in setting.tools.labels]
    if recipe.method == "pointwise":
        assert setting.answers == ("0", "1", "2", "3", "4")
        assert setting.scorer.answers == setting.answers
        assert actor(prepared, ANSWERS) == [setting.tools.spell(str(grade), after="")[0] for grade in range(5)]
        assert len(set(actor(prepared, ANSWERS))) == 5
        # Labels stand in the prompts, where they are frozen; they restrict nothing.
        assert actor(prepared, LABELS) == labels
    else:
        assert (actor(prepared, LABELS), actor(prepared, ANSWERS)) == (labels, None)
    permuted = "+actor_rollout_ref.rollout.engine_kwargs.vllm.logits_processors" in prepared.settings
    assert permuted is (recipe.method == "dranker")


@pytest.mark.parametrize("name", TINY)
def test_labels_that_a_recipe_freezes_are_frozen(name: str, made: Callable[[str], Made]) -> None:
    assert bool(actor(made(name).prepared, FROZEN)) is made(name).recipe.frozen_labels


@pytest.mark.parametrize("name", [name for name in NEW if name not in TINY])
def test_thoughts_are_not_restricted(name: str, made: Callable[[str], Made]) -> None:
    prepared = made(name).prepared
    assert actor(prepared, ANSWERS) is actor(prepared, LABELS) is None
    assert "actor_rollout_ref.rollout.logprobs_mode" not in prepared.settings
    most = load_recipe(name).options["max_tokens"]
    assert prepared.settings["data.max_response_length"] == most + TRAILER


def test_grades_of_several_tokens_leave_the_actor_without_answers(letters: Path) -> None:
    assert Setting(small("erank-4b", letters)).answer_tokens() == []
    assert len(Setting(small("erank-4b", letters, "options.top_grade=9")).answer_tokens()) == 10


def test_grades_of_several_tokens_are_not_taken_for_labels(data: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer(labels=tuple(f"<{number}>" for number in range(1, 8)))
    folder = tmp_path / "tagged"
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    names = tuple(f"<{number}>" for number in range(1, 8))
    write_settings(folder, ModelSettings(style="compact", token_budget=2000, labels=names))
    recipe = load_recipe("erank-tiny", [*SMALL, f"model={folder}", "options.top_grade=10", "frozen_labels=false"])
    prepared = prepare(recipe, data=data, run=tmp_path / "run", write=False)
    assert actor(prepared, LABELS) is None


def setwise(letters: Path, **options: Any) -> RLRecipe:
    return parse_recipe(
        {
            "name": "sets",
            "tasks": {"movie": 1, "passage-5": 1},
            "platform": "cpu",
            "model": str(letters),
            "method": "setwise",
            "reward": "rank_r1",
            "options": options,
            "steps": 2,
            "batch": 2,
            "validation_lists": 1,
        }
    )


@pytest.mark.parametrize("sort", ["heapsort", "bubblesort", "insertion"])
@pytest.mark.parametrize("places", [1, 3])
def test_sets_of_a_whole_list_fit_the_sizes(sort: str, places: int, data: Path, letters: Path, tmp_path: Path) -> None:
    recipe = setwise(letters, sort=sort, places=places)
    prepared = prepare(recipe, data=data, run=tmp_path)
    longest = longest_of(recipe, tmp_path)
    assert longest[0] <= prepared.settings["data.max_prompt_length"]
    assert longest[1] <= prepared.settings["data.max_response_length"]


@pytest.mark.parametrize("sort", ["heapsort", "bubblesort", "insertion"])
def test_sets_of_a_part_of_a_list_fit_the_sizes(sort: str, letters: Path, tmp_path: Path) -> None:
    data = build(tmp_path / "data", sizes=(7, 9), lists=3)
    recipe = setwise(letters, sort=sort, set_size=3, places=2)
    prepared = prepare(recipe, data=data, run=tmp_path / "run")
    setting = Setting(recipe)
    for row in rows_in(tmp_path / "run"):
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="row")
        # The longest texts of the list come last, where the first set does not show them.
        turned = example.with_candidates(tuple(sorted(example.candidates, key=lambda entry: len(entry.text))))
        again = setting.row(turned, index=0, split="train", loop="unified_ranker")
        bound, _ = setting.lengths([(turned, again)])
        asking = setting.strategies[example.domain].rank(turned)
        requests = next(asking)
        try:
            while True:
                assert max(setting.tools.count_prompt(request.messages) for request in requests) <= bound
                requests = asking.send([Completion(text=request.choices[0]) for request in requests])
        except StopIteration:
            pass
    assert longest_of(recipe, tmp_path / "run")[0] <= prepared.settings["data.max_prompt_length"]


@pytest.mark.parametrize("budget", [900, 1100])
def test_cut_prompts_of_sets_and_grades_fit_the_sizes(budget: int, data: Path, letters: Path, tmp_path: Path) -> None:
    graded = parse_recipe(
        {
            **setwise(letters).to_dict(),
            "method": "pointwise",
            "reward": "erank",
            "options": {"score": "grade"},
        }
    )
    for name, recipe in (("sets", setwise(letters, places=3)), ("grades", graded)):
        tight = parse_recipe({**recipe.to_dict(), "token_budget": budget})
        prepared = prepare(tight, data=data, run=tmp_path / name)
        longest = longest_of(tight, tmp_path / name)
        assert longest[0] <= prepared.settings["data.max_prompt_length"] <= budget
        assert longest[1] <= prepared.settings["data.max_response_length"]


# What is wrong with an override of a recipe, and what its message has to name.
MISTAKES = [
    ("dranker-tiny", ["mutation=0.125"], "mutation=0.125 changes grades; method='dranker' has none"),
    ("rank-r1-tiny", ["mutation=0.125"], "mutation=0.125 changes grades; method='setwise' has none"),
    ("iranker-tiny", ["mutation=0.5"], "mutation=0.5 changes grades; method='iranker' has none"),
    ("rarl-tiny", ["mutation=1"], r"mutation=1.0 must be in \[0, 1\)"),
    ("rarl-tiny", ["mutation=-0.1"], r"mutation=-0.1 must be in \[0, 1\)"),
    ("rarl-tiny", ["mutation=.nan"], r"mutation=nan must be in \[0, 1\)"),
    ("rarl-tiny", ["mutation=much"], "mutation='much' must be of type float"),
    (
        "rarl-tiny",
        ["verl.algorithm.rollout_correction.bypass_mode=true"],
        "mutation=0.125: the rollout has no probabilities .*set verl.algorithm.rollout_correction.bypass_mode=false",
    ),
    ("erank-tiny", ["mutation=0.125"], "mutation=0.125: the rollout has no probabilities"),
    ("erank-tiny", ["options={}"], "method='pointwise': a rollout is one grade a candidate; set options.score='grade'"),
    ("erank-tiny", ["options.score=expectation"], r"set options\.score='grade'"),
    ("erank-4b", ["options.score=likely"], r"set options\.score='grade'"),
    ("rank-r1-tiny", ["options.ask=worst"], r"options\.ask='worst' reads log-probabilities, .*leave it out"),
    ("rank-r1-tiny", ["reward=erank"], "reward='erank' is not for method 'setwise'; choose one of: rank_r1"),
    ("erank-tiny", ["reward=rank_r1"], "choose one of: erank, tfrank, tfrank_list, rarl"),
    ("gr2-tiny", ["reward=binary"], "choose one of: permutation, reasonrank, rearank, gr2"),
    ("rank-r1-tiny", ["form=cases"], "form='cases' are single eliminations; method='setwise' needs form='episodes'"),
    ("erank-tiny", ["form=cases"], "method='pointwise' needs form='episodes'"),
    ("erank-tiny", ["options.top_grades=3"], "did you mean 'top_grade'"),
    ("rank-r1-tiny", ["options.top_grade=3"], "top_grade=3: the method 'setwise' does not take it"),
    ("erank-tiny", ["options.shuffles=3"], r"options\.shuffles: .*leave it out"),
    ("erank-tiny", ["group=1"], "group=1: a group of one"),
    ("rank-r1-7b", ["frozen_labels=true"], "frozen_labels=true is for platform='cpu'"),
]


@pytest.mark.parametrize(("name", "overrides", "named"), MISTAKES)
def test_a_mistake_is_named(name: str, overrides: list[str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        load_recipe(name, overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("rarl-tiny", ["mutation=0"]),
        ("rarl-tiny", ["mutation=0.99"]),
        ("rarl-tiny", ["mutation=0", "verl.algorithm.rollout_correction.bypass_mode=true"]),
        ("erank-4b", ["mutation=0.2"]),
        ("tfrank-tiny", ["reward=tfrank_list"]),
        ("rank-r1-tiny", ["options.ask=best", "options.sort=insertion", "options.set_size=4"]),
        ("erank-tiny", ["options.scale=yes_no"]),
        ("erank-tiny", ["options.top_grade=2"]),
    ],
)
def test_what_goes_together_is_taken(name: str, overrides: list[str]) -> None:
    recipe = load_recipe(name, overrides)
    for override in overrides:
        key, _, value = override.partition("=")
        part, _, field = key.partition(".")
        found = recipe.to_dict()[part]
        assert (found[field] if field else found) == yaml.safe_load(value)


def test_a_scale_reaches_strategies_and_reward(letters: Path) -> None:
    setting = Setting(small("erank-tiny", letters, "options.top_grade=2"))
    assert setting.answers == setting.scorer.answers == ("0", "1", "2")
    assert {strategy.answers for strategy in setting.strategies.values()} == {("0", "1", "2")}  # type: ignore[attr-defined]
    assert len(setting.answer_tokens()) == 3
    spoken = Setting(small("erank-tiny", letters, "options.scale=yes_no"))
    assert spoken.answers == ("no", "yes")
    assert Setting(small("rank-r1-tiny", letters)).answers == ()
