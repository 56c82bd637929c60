"""One list at a time: whose turn it is, what is counted, and what is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from toy_arms import LogArm, ToyTask
from unified_ranker.benchmarks.built import BuiltTask
from unified_ranker.benchmarks.runner import RankedList
from unified_ranker.benchmarks.speed.latency import Waited, latency_table, measure_latency, ratios, spread

from unified_ranker.errors import OptionError
from unified_ranker.schema.types import RankingExample

TASK = ToyTask("passage-5", test=[[1, 0], [0, 1], [1, 0], [0, 1]])


class Worker(LogArm):
    """Takes as many seconds a list as it is given, and more for each that it has not forgotten; notes its threads."""

    remembered = 0
    threads = 0

    def rank(self, task: BuiltTask, examples: Sequence[RankingExample]) -> Iterator[RankedList]:
        self.threads = torch.get_num_threads()
        for found in super().rank(task, examples):
            yield RankedList(found.ranking, float(self.given["seconds"]) + 100 * self.remembered)
            self.remembered += 1

    def forget(self) -> None:
        self.remembered = 0
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{self.model}:\n")


@pytest.fixture
def workers(tmp_path: Path) -> list[Worker]:
    seconds = {"quick": 1.0, "slow": 4.0, "slower": 5.0}
    return [Worker(tmp_path / "log", model=name, given={"seconds": each}) for name, each in seconds.items()]


def measured(workers: list[Worker], *, warm_up: int = 1, threads: int | None = None) -> list[Waited]:
    return measure_latency(workers, TASK, TASK.lists("test"), warm_up=warm_up, threads=threads)


def test_all_arms_rank_a_list_before_the_next_and_forget_before_each(workers: list[Worker], tmp_path: Path) -> None:
    measured(workers)
    words = (tmp_path / "log").read_text(encoding="utf-8").split()
    turns = list(zip(words[::2], words[1::2], strict=True))
    assert [id for _, id in turns] == [f"test{n}" for n in range(4) for _ in workers]
    orders = [tuple(name for name, id in turns if id == f"test{n}") for n in range(4)]
    assert {tuple(sorted(order)) for order in orders} == {("quick:", "slow:", "slower:")}
    # Who follows whom changes.
    assert len({order[1:] for order in orders}) > 1


def test_the_order_is_the_same_each_time(workers: list[Worker], tmp_path: Path) -> None:
    logs = []
    for _ in range(2):
        measured(workers)
        logs.append((tmp_path / "log").read_text(encoding="utf-8"))
        (tmp_path / "log").unlink()
    assert logs[0] == logs[1]


@pytest.mark.parametrize("warm_up", [0, 1, 3])
def test_the_seconds_are_those_that_an_arm_counts_without_the_warm_up(workers: list[Worker], warm_up: int) -> None:
    assert measured(workers, warm_up=warm_up) == [
        Waited("quick by as-listed", (1.0,) * (4 - warm_up)),
        Waited("slow by as-listed", (4.0,) * (4 - warm_up)),
        Waited("slower by as-listed", (5.0,) * (4 - warm_up)),
    ]


def test_every_arm_is_opened_once(workers: list[Worker]) -> None:
    measured(workers)
    assert [worker.opened for worker in workers] == [["passage-5"]] * 3


def test_threads_are_set_for_the_measurement_and_set_back(workers: list[Worker]) -> None:
    before = torch.get_num_threads()
    measured(workers, threads=before + 1)
    assert workers[0].threads == before + 1
    assert torch.get_num_threads() == before


def test_threads_are_set_back_after_an_error(workers: list[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()

    def failing(task: BuiltTask) -> None:
        raise KeyError(torch.get_num_threads())

    monkeypatch.setattr(workers[1], "open", failing)
    with pytest.raises(KeyError) as raised:
        measured(workers, threads=before + 1)
    assert raised.value.args == (before + 1,)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"warm_up": 4}, "warm_up=4 must be ≥ 0 and less than the number of lists, 4"),
        ({"warm_up": -1}, "warm_up=-1 must be ≥ 0"),
        ({"threads": 0}, "threads=0 must be ≥ 1"),
    ],
)
def test_numbers_out_of_range_are_told_before_anything_is_opened(
    workers: list[Worker], given: dict[str, int], said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        measured(workers, **given)
    assert workers[0].opened == []


def test_an_arm_that_does_not_rank_the_task_is_told(workers: list[Worker]) -> None:
    workers[1].refusal = "it knows films alone"
    with pytest.raises(OptionError, match="slow does not rank 'passage-5': it knows films alone"):
        measured(workers)
    assert workers[0].opened == []


def test_an_arm_that_is_named_twice_is_told(workers: list[Worker]) -> None:
    with pytest.raises(OptionError, match="'quick by as-listed' is there 2 times; name each"):
        measured([*workers, workers[0]])


def test_nothing_to_time_is_told() -> None:
    with pytest.raises(OptionError, match="arms is empty: there is nothing to time"):
        measure_latency([], TASK, TASK.lists("test"))


def test_a_ratio_is_taken_within_a_list() -> None:
    assert ratios(Waited("a", (1.0, 4.0)), Waited("b", (2.0, 1.0))) == (0.5, 4.0)


def test_the_spread_is_the_median_and_a_tenth_on_either_side() -> None:
    found = spread([float(value) for value in range(101)])
    assert (found.low, found.median, found.high) == (10.0, 50.0, 90.0)


def test_the_table_has_milliseconds_and_ratios_to_the_reference() -> None:
    ours, theirs = Waited("ours", (0.1, 0.1, 0.3)), Waited("theirs", (0.2, 0.4, 0.2))
    assert latency_table([ours, theirs], reference=theirs).splitlines() == [
        "| | ms, median (10% – 90%) | times as long as theirs |",
        "|---|--:|--:|",
        "| ours | 100.0 (100.0 – 260.0) | 0.50 (0.30 – 1.30) |",
        "| theirs | 200.0 (200.0 – 360.0) | |",
    ]


def test_without_a_reference_there_are_no_ratios() -> None:
    assert latency_table([Waited("ours", (0.1,))], reference=None).splitlines() == [
        "| | ms, median (10% – 90%) |",
        "|---|--:|",
        "| ours | 100.0 (100.0 – 100.0) |",
    ]
