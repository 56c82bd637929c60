from __future__ import annotations

from pathlib import Path

import pytest
from toy_runs import build_task, graded, write_cell
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.report.load import by_task, load_results, measures_of, named
from unified_ranker.benchmarks.runner.cell import Cell
from unified_ranker.tasks.beside import LLMOutcome

from unified_ranker.errors import DataError, MissingSourceError, OptionError
from unified_ranker.schema.types import Step, Usage

GRADES = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0}
ORDERS = {"q0": "abcd", "q1": "bacd", "q2": "dcba"}
RR = [1.0, 1 / 2, 1 / 4]


def passages(data: Path, *, count: int = 3, edition: str = "open", task: str = "passage-5") -> BuiltTask:
    lists = [graded(f"q{n}", GRADES, task=task) for n in range(count)]
    lists += [graded(f"v{n}", GRADES, task=task, split="validation") for n in range(count)]
    return build_task(data, task, lists, edition=edition)


@pytest.fixture
def task(tmp_path: Path) -> BuiltTask:
    return passages(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_results_stand_between_random_order_and_the_oracle(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, ORDERS)
    random, found, oracle = load_results([run])
    assert [each.name for each in (random, found, oracle)] == ["random", "toy/one", "oracle"]
    assert [each.computed for each in (random, found, oracle)] == [True, False, True]
    assert random.values["RR"] == pytest.approx([(1 + 1 / 2 + 1 / 3 + 1 / 4) / 4] * 3)
    assert found.values["RR"] == pytest.approx(RR)
    assert oracle.values["RR"] == [1.0] * 3
    assert found.figures["RR"].mean == pytest.approx(7 / 12)
    assert (found.model, found.method, found.split, len(found.examples)) == ("toy", "one", "test", 3)
    assert (random.missing, random.failed_share, random.usage("calls"), random.seconds_per_query) == (0, 0.0, 0.0, 0.0)


def test_language_models_come_before_baselines_in_the_order_of_their_registry(task: BuiltTask, run: Path) -> None:
    for name in ("zzz", "knn-router", "first-stage", "bm25"):
        write_cell(run, task, ORDERS, model=name, method=name)
    for model, method in (("tiny", "iranker"), ("large", "iranker"), ("large", "dranker")):
        write_cell(run, task, ORDERS, model=model, method=method)
    assert [result.name for result in load_results([run])] == [
        "random", "large/dranker", "large/iranker", "tiny/iranker", "bm25", "first-stage", "knn-router", "zzz",
        "oracle",
    ]  # fmt: skip


def test_tasks_come_in_the_order_of_the_registry_and_editions_apart(tmp_path: Path, run: Path) -> None:
    for edition in ("paper", "open"):
        for name in ("trec-dl-2019", "passage-5", "movie"):
            task = passages(tmp_path / edition, edition=edition, task=name)
            write_cell(run / edition, task, ORDERS)
    results = load_results([run / "paper", run / "open"])
    expected = [(edition, name) for edition in ("open", "paper") for name in ("movie", "passage-5", "trec-dl-2019")]
    assert list(by_task(results)) == expected
    assert [len(found) for found in by_task(results).values()] == [3] * 6
    assert [result.task.edition for result in results] == ["open"] * 9 + ["paper"] * 9


def test_several_runs_are_read_as_one(task: BuiltTask, tmp_path: Path) -> None:
    write_cell(tmp_path / "one", task, ORDERS, model="first")
    write_cell(tmp_path / "two", task, ORDERS, model="second")
    results = load_results([tmp_path / "two", tmp_path / "one"])
    assert [result.name for result in results] == ["random", "first/one", "second/one", "oracle"]


def test_the_same_cell_in_two_runs_is_refused(task: BuiltTask, tmp_path: Path) -> None:
    first, second = (write_cell(tmp_path / name, task, ORDERS) for name in ("one", "two"))
    with pytest.raises(DataError, match="same model, method and task; leave one out") as error:
        load_results([tmp_path / "one", tmp_path / "two"])
    assert str(first.path) in str(error.value) and str(second.path) in str(error.value)


def test_a_folder_without_results_is_refused(run: Path) -> None:
    with pytest.raises(DataError, match="holds no results; make some with: unified-ranker bench run --out"):
        load_results([run])


def test_facts_that_are_no_json_are_refused(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, ORDERS).facts_path.write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"passage-5\.json: not JSON"):
        load_results([run])


def test_other_lists_than_were_ranked_are_refused(task: BuiltTask, run: Path, tmp_path: Path) -> None:
    write_cell(run, task, ORDERS)
    passages(tmp_path / "other", count=4)
    with pytest.raises(DataError, match=r"ranked other lists than .*other.*--data DIR"):
        load_results([run], data=tmp_path / "other")


def test_data_that_were_moved_are_found_where_they_are_said_to_be(task: BuiltTask, run: Path, tmp_path: Path) -> None:
    write_cell(run, task, ORDERS)
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(MissingSourceError, match="no built task"):
        load_results([run])
    assert named(load_results([run], data=tmp_path / "moved"), "toy/one")[0].values["RR"] == pytest.approx(RR)


def test_lists_that_were_not_ranked_count_as_worst_and_as_one_failed_step(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, {"q1": "bacd"})
    found = named(load_results([run]), "toy/one")[0]
    assert found.values["RR"] == pytest.approx([0.0, 1 / 2, 0.0])
    assert found.missing == 2
    assert found.failed_share == pytest.approx(2 / 3)
    assert found.figures["RR"].queries == 3


def test_a_cell_without_any_ranking_is_worst_everywhere(task: BuiltTask, run: Path) -> None:
    cell = write_cell(run, task, {})
    cell.path.unlink()
    found = named(load_results([run]), "toy/one")[0]
    assert found.values["RR"] == [0.0, 0.0, 0.0]
    assert (found.missing, found.failed_share, found.repaired_share, found.usage("calls")) == (3, 1.0, 0.0, 0.0)
    assert found.seconds_per_query == 0.0


def test_a_last_line_that_was_cut_off_is_a_missing_ranking(task: BuiltTask, run: Path) -> None:
    path = write_cell(run, task, ORDERS).path
    path.write_bytes(path.read_bytes()[:-20])
    found = named(load_results([run]), "toy/one")[0]
    assert found.values["RR"] == pytest.approx([1.0, 1 / 2, 0.0])
    assert found.missing == 1


def test_only_the_lists_that_were_to_be_ranked_count(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, {"q0": "bacd", "q1": "abcd"}, queries=2)
    random, found, oracle = load_results([run])
    assert [len(each.examples) for each in (random, found, oracle)] == [2, 2, 2]
    assert (found.values["RR"], found.missing) == ([0.5, 1.0], 0)


def test_bounds_are_those_of_the_most_lists_that_any_was_to_rank(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, {"q0": "abcd"}, model="few", queries=1)
    write_cell(run, task, ORDERS, model="many")
    assert [len(each.examples) for each in load_results([run])] == [3, 1, 3, 3]


def test_another_split_is_read_as_such(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, {"v0": "abcd", "v1": "bacd", "v2": "bcad"}, split="validation")
    found = named(load_results([run]), "toy/one")[0]
    assert found.split == "validation"
    assert [example.id for example in found.examples] == ["v0", "v1", "v2"]
    assert found.values["RR"] == pytest.approx([1.0, 1 / 2, 1 / 3])


def test_results_on_different_splits_are_not_one_table(task: BuiltTask, tmp_path: Path) -> None:
    write_cell(tmp_path / "one", task, ORDERS, model="first")
    write_cell(tmp_path / "two", task, {f"v{n}": "abcd" for n in range(3)}, model="second", split="validation")
    with pytest.raises(DataError, match="split is 'validation', but first/one ranked 'test' of the same task"):
        load_results([tmp_path / "one", tmp_path / "two"])


def test_results_on_different_lists_of_a_task_are_refused(tmp_path: Path) -> None:
    write_cell(tmp_path / "one", passages(tmp_path / "here"), ORDERS, model="first")
    others = [graded(f"other{n}", GRADES) for n in range(3)]
    there = build_task(tmp_path / "there", "passage-5", others)
    write_cell(tmp_path / "two", there, {other.id: "abcd" for other in others}, model="second")
    with pytest.raises(DataError, match=r"data_hash is '.*', but first/one ranked '.*' of the same task"):
        load_results([tmp_path / "one", tmp_path / "two"])


def test_shares_are_of_steps_and_costs_of_lists(task: BuiltTask, run: Path) -> None:
    steps = (Step(0, "1", "ok"), Step(1, "2?", "repaired"), Step(2, "no", "failed"), Step(3, "3", "ok"))
    usage = Usage(calls=4, prompt_tokens=100, reused_tokens=60, generated_tokens=8)
    walls = {"q0": 0.25, "q1": 0.5}
    write_cell(run, task, {"q0": "abcd", "q1": "abcd"}, steps=steps, usage=usage, walls=walls)
    found = named(load_results([run]), "toy/one")[0]
    assert found.failed_share == pytest.approx((2 + 1) / (8 + 1))
    assert found.repaired_share == pytest.approx(2 / 8)
    assert [found.usage(name) for name in ("calls", "prompt_tokens", "reused_tokens")] == [4, 100, 60]
    assert found.usage("generated_tokens") == 8
    assert found.seconds_per_query == pytest.approx(0.375)


def test_a_baseline_has_one_name_and_no_step_that_could_fail(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, ORDERS, model="bm25", method="bm25", steps=(), usage=Usage())
    (found,) = named(load_results([run]), "bm25")
    assert (found.failed_share, found.repaired_share, found.usage("calls"), found.missing) == (0.0, 0.0, 0.0, 0)


def test_names_that_no_folder_can_have_are_kept_in_the_facts(task: BuiltTask, run: Path) -> None:
    cell = write_cell(run, task, ORDERS, model="some/model: new", method="iranker")
    assert cell.path.parent.name == "some_model__new--iranker"
    assert load_results([run])[1].name == "some/model: new/iranker"


def test_an_unknown_name_is_told_with_the_nearest(task: BuiltTask, run: Path) -> None:
    write_cell(run, task, ORDERS)
    with pytest.raises(OptionError, match="did you mean 'toy/one'"):
        named(load_results([run]), "toy/on")


def test_routing_reads_what_stands_beside_the_lists(run: Path, tmp_path: Path) -> None:
    grades = {"a": 80.0, "b": 20.0}
    outcomes = {"q0": {"a": LLMOutcome(0.8, 4.0), "b": LLMOutcome(0.2, 1.0)}}
    example = graded("q0", grades, task="router-performance")
    task = build_task(tmp_path / "data", "router-performance", [example], outcomes=outcomes)
    write_cell(run, task, {"q0": "ba"})
    results = load_results([run])
    assert measures_of(results)[-4:] == ("performance", "cost", "reward", "regret")
    values = {result.name: [result.values[name][0] for name in measures_of(results)[-4:]] for result in results}
    assert values["random"] == pytest.approx([0.5, 0.5, 0.5, 0.3])
    assert values["toy/one"] == pytest.approx([0.2, 0.0, 0.2, 0.6])
    assert values["oracle"] == pytest.approx([0.8, 1.0, 0.8, 0.0])


def test_routing_without_what_stands_beside_it_says_what_to_build(run: Path, tmp_path: Path) -> None:
    example = graded("q0", {"a": 80.0, "b": 20.0}, task="router-cost")
    write_cell(run, build_task(tmp_path / "data", "router-cost", [example]), {"q0": "ba"})
    with pytest.raises(MissingSourceError, match="unified-ranker data build router-cost"):
        load_results([run])


def test_nothing_is_written_while_results_are_read(task: BuiltTask, run: Path, tmp_path: Path) -> None:
    write_cell(run, task, ORDERS)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    load_results([run])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [cell.path.name for cell in Cell.all(run)] == ["passage-5.jsonl"]
