from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import SimpleNamespace

import pytest
from toy_tasks import toy_list
from unified_ranker.benchmarks.measures import per_query
from unified_ranker.benchmarks.speed import arms as named
from unified_ranker.benchmarks.speed import growth, measure
from unified_ranker.benchmarks.speed.arms import Arm, ranker_of, reference_arms, reset_of, strategy_arms
from unified_ranker.benchmarks.speed.measure import Timed, exponent, ratio, row_of, run_arms

from unified_ranker.backends import ScriptedBackend
from unified_ranker.errors import OptionError
from unified_ranker.exchange import Completion, Request
from unified_ranker.model_settings import ModelSettings
from unified_ranker.schema.types import Ranking, RankingExample, Usage, places_below


@dataclass
class Workshop:
    """Makes arms that take their time on a clock of their own, and notes what they were asked to do."""

    now: float = 0.0
    log: list[tuple[str, str, int]] = field(default_factory=list)
    rounds: int = 0

    def arm(self, name: str, seconds: Sequence[float], *, warm_up: float = 1000.0) -> Arm:
        waiting = iter((warm_up, *seconds))

        def work(examples: Sequence[RankingExample]) -> list[Ranking]:
            self.log.append((name, "work", len(examples)))
            self.now += next(waiting)
            self.rounds += 1
            return [ranked(example, calls=self.rounds) for example in examples]

        def reset() -> None:
            self.log.append((name, "reset", 0))
            self.now += 50_000.0

        return Arm(name, "fake", work, reset)


def ranked(example: RankingExample, order: Sequence[int] | None = None, **usage: float) -> Ranking:
    chosen = tuple(example.candidates[place] for place in order or range(len(example.candidates)))
    cost = Usage(**usage)  # type: ignore[arg-type]
    return Ranking(example_id=example.id, order=chosen, scores=places_below(len(chosen)), usage=cost)


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop()
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


EXAMPLES = [toy_list(f"q{n}", [1, 0, 0]) for n in range(5)]


def test_arms_run_in_turn_from_a_cold_cache_each_repeat_beginning_with_another(workshop: Workshop) -> None:
    arms = [workshop.arm(name, [1.0] * 4) for name in "abc"]
    run_arms(arms, EXAMPLES, repeats=4, warm_up=2, say=lambda _: None)
    warm_up = [(name, "work", 2) for name in "abc"]
    measured = [entry for name in "abcbcacababc" for entry in ((name, "reset", 0), (name, "work", 5))]
    assert workshop.log == warm_up + measured


@pytest.mark.parametrize("arms", [1, 2, 3, 4])
def test_over_as_many_repeats_as_there_are_arms_each_stands_once_in_each_place(workshop: Workshop, arms: int) -> None:
    names = "abcd"[:arms]
    run_arms([workshop.arm(name, [1.0] * arms) for name in names], EXAMPLES, repeats=arms, say=lambda _: None)
    order = [name for name, what, _ in workshop.log if what == "reset"]
    for place in range(arms):
        assert sorted(order[place::arms]) == sorted(names)


def test_only_the_work_of_each_repeat_counts(workshop: Workshop) -> None:
    arms = [workshop.arm("a", [1.0, 2.0, 4.0]), workshop.arm("b", [8.0, 16.0, 32.0])]
    found = run_arms(arms, EXAMPLES, repeats=3, say=lambda _: None)
    assert [entry.arm for entry in found] == arms
    # Neither the warm-up nor the time that a reset takes.
    assert [entry.seconds for entry in found] == [(1.0, 2.0, 4.0), (8.0, 16.0, 32.0)]
    assert [entry.queries for entry in found] == [5, 5]


def test_the_rankings_are_those_of_the_last_repeat(workshop: Workshop) -> None:
    first, second = run_arms(
        [workshop.arm("a", [1.0] * 2), workshop.arm("b", [1.0] * 2)], EXAMPLES, repeats=2, say=lambda _: None
    )
    # Work 1 and 2 warm up; then a, b; then b, a.
    assert {ranking.usage.calls for ranking in first.rankings} == {6}
    assert {ranking.usage.calls for ranking in second.rankings} == {5}
    assert [ranking.example_id for ranking in first.rankings] == [example.id for example in EXAMPLES]


def test_progress_names_repeat_arm_and_seconds(workshop: Workshop) -> None:
    lines: list[str] = []
    run_arms([workshop.arm("a", [1.5, 2.25])], EXAMPLES, repeats=2, say=lines.append)
    assert lines == ["repeat 1/2  fake: a  1.50 s", "repeat 2/2  fake: a  2.25 s"]


def test_arms_of_one_name_on_two_backends_are_kept_apart(workshop: Workshop) -> None:
    one = workshop.arm("same", [1.0])
    other = workshop.arm("same", [2.0])
    other = Arm(other.name, "another", other.work, other.reset)
    found = run_arms([one, other], EXAMPLES, repeats=1, say=lambda _: None)
    assert [entry.seconds for entry in found] == [(1.0,), (2.0,)]


def arm(*, ranks: bool = True, reference: bool = False) -> Arm:
    return Arm("an arm", "fake", lambda _: [], lambda: None, reference=reference, ranks=ranks)


def test_a_row_holds_the_median_and_both_ends_of_speed() -> None:
    timed = Timed(arm(ranks=False, reference=True), (2.0, 1.0, 4.0), (), 8)
    assert row_of(timed, EXAMPLES) == {
        "backend": "fake",
        "arm": "an arm",
        "reference": True,
        "rankings_per_second": 4.0,
        "rankings_per_second_low": 2.0,
        "rankings_per_second_high": 8.0,
        "seconds": [2.0, 1.0, 4.0],
    }


def test_a_row_holds_cost_and_time_of_one_query() -> None:
    rankings = tuple(
        ranked(
            example,
            calls=n,
            prompt_tokens=100 * n,
            reused_tokens=10 * n,
            generated_tokens=2 * n,
            seconds=float(n),
        )
        for n, example in enumerate(EXAMPLES, start=1)
    )
    row = row_of(Timed(arm(), (1.0,), rankings, 5), EXAMPLES)
    assert row["reference"] is False
    assert (row["calls"], row["generated_tokens"]) == (3.0, 6.0)
    assert (row["prompt_tokens_computed"], row["prompt_tokens_reused"]) == (270.0, 30.0)
    # 1, 2, 3, 4, 5: between the last two, four fifths of the way.
    assert (row["seconds_p50"], row["seconds_p95"]) == pytest.approx((3.0, 4.8))


@pytest.mark.parametrize("task", ["passage-5", "router-balance", "trec-dl-2019"])
def test_effectiveness_is_that_of_the_measures(task: str) -> None:
    grades = [[3, 0, 1], [0, 2, 2], [0, 0, 1], [1, 1, 0]]
    examples = [toy_list(f"q{n}", given, task=task) for n, given in enumerate(grades)]
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)]
    rankings = tuple(ranked(example, order) for example, order in zip(examples, orders, strict=True))
    row = row_of(Timed(arm(), (1.0,), rankings, 4), examples)
    binary = {"passage-5": "positive", "router-balance": "top", "trec-dl-2019": "2"}[task]
    values = per_query(examples, {ranking.example_id: ranking for ranking in rankings}, binary=binary)
    assert row["RR"] == pytest.approx(fmean(values["RR"]))
    assert row["nDCG@10"] == pytest.approx(fmean(values["nDCG@10"]))
    by_hand = {
        "passage-5": (1 + 1 / 2 + 1 / 3 + 1 / 2) / 4,
        "router-balance": (1 + 1 / 2 + 1 / 3 + 1 / 2) / 4,
        "trec-dl-2019": (1 + 1 / 2 + 0 + 0) / 4,
    }
    assert row["RR"] == pytest.approx(by_hand[task])


def test_a_ratio_is_taken_within_each_repeat() -> None:
    slow, quick = Timed(arm(), (2.0, 6.0, 4.0), (), 1), Timed(arm(), (1.0, 2.0, 4.0), (), 1)
    assert ratio(slow, quick) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert ratio(quick, slow) == {"median": 1 / 2, "low": 1 / 3, "high": 1.0}


def test_a_ratio_of_different_numbers_of_repeats_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio(Timed(arm(), (2.0, 6.0), (), 1), Timed(arm(), (1.0,), (), 1))


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 1.9, 2.0, 3.0])
@pytest.mark.parametrize("sizes", [(5, 10), (5, 10, 20, 50, 100, 200), (2, 3, 100)])
def test_the_exponent_of_a_power_law_is_found_exactly(power: float, sizes: Sequence[int]) -> None:
    assert exponent(sizes, [7.0 * size**power for size in sizes]) == pytest.approx(power, abs=1e-9)


def test_the_exponent_is_the_slope_of_least_squares() -> None:
    # log2: places 0, 1, 2; values 0, 3, 3. Slope: (-1 * 0 + 0 * 3 + 1 * 3) / 2.
    assert exponent([1, 2, 4], [1.0, 8.0, 8.0]) == pytest.approx(1.5)


def test_growth_takes_computed_tokens_and_the_median_second_of_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [arm(), Arm("other", "fake", lambda _: [], lambda: None)]
    lists = {size: [toy_list(f"q{n}", [0] * size) for n in range(2)] for size in (4, 8)}
    asked: list[tuple[object, ...]] = []

    def run(given: Sequence[Arm], examples: Sequence[RankingExample], **options: object) -> list[Timed]:
        size = len(examples[0].candidates)
        asked.append((given, examples, options["repeats"], options["warm_up"]))

        def timed(one: Arm, power: int) -> Timed:
            tokens = (3 * size**power, 5 * size**power)
            rankings = tuple(
                ranked(e, prompt_tokens=t + 9, reused_tokens=9) for e, t in zip(examples, tokens, strict=True)
            )
            return Timed(one, (8.0 * size, 2.0 * size, 99.0), rankings, 2)

        return [timed(one, power) for power, one in enumerate(given, start=1)]

    monkeypatch.setattr(growth, "run_arms", run)
    lines: list[str] = []
    found = growth.grow(arms, lists, repeats=3, say=lines.append)
    common = {"backend": "fake", "sizes": [4, 8], "seconds": [16.0, 32.0]}
    assert [{key: entry[key] for key in (*common, "arm", "prompt_tokens")} for entry in found] == [
        {**common, "arm": "an arm", "prompt_tokens": [16.0, 32.0]},
        {**common, "arm": "other", "prompt_tokens": [64.0, 256.0]},
    ]
    assert [entry["prompt_token_exponent"] for entry in found] == pytest.approx([1.0, 2.0])
    assert [entry["time_exponent"] for entry in found] == pytest.approx([1.0, 1.0])
    assert asked == [(arms, lists[4], 3, 1), (arms, lists[8], 3, 1)]
    assert lines == ["lists of 4 candidates", "lists of 8 candidates"]


class Cached(ScriptedBackend):
    resets = 0

    def reset_cache(self) -> None:
        self.resets += 1


def test_an_arm_forgets_by_the_reset_of_its_backend_where_it_has_one() -> None:
    backend = Cached([])
    reset_of(backend)()
    assert backend.resets == 1
    assert reset_of(ScriptedBackend([]))() is None  # type: ignore[func-returns-value]


def test_a_ranker_of_an_arm_eliminates_with_the_settings_of_the_model() -> None:
    settings = ModelSettings(method="dranker", style="compact", token_budget=77)
    ranker = ranker_of(ScriptedBackend([]), settings, layout="rounds")
    assert (ranker.method, ranker.style, ranker.token_budget) == ("iranker", "compact", 77)
    assert ranker.options["layout"] == "rounds"
    assert ranker_of(ScriptedBackend([]), settings, method="dranker").method == "dranker"


def test_names_choose_the_strategies_and_their_order() -> None:
    settings = ModelSettings(style="compact")
    everything = strategy_arms("fake", ScriptedBackend([]), settings)
    assert [one.name for one in everything] == list(named.STRATEGIES)
    some = strategy_arms("fake", ScriptedBackend([]), settings, only=(named.STEPS, named.APPEND))
    assert [one.key for one in some] == [f"fake: {named.STEPS}", f"fake: {named.APPEND}"]
    assert not any(one.reference for one in everything)
    assert all(one.ranks for one in everything)


def test_a_model_whose_prompts_hold_separators_cannot_be_asked_for_whole_orders() -> None:
    with pytest.raises(OptionError, match="permute"):
        strategy_arms("fake", ScriptedBackend([]), ModelSettings(style="natural"))


def worst(request: Request) -> Completion:
    return Completion(request.choices[0], {label: float(-n) for n, label in enumerate(request.choices)})


def test_without_a_cache_the_only_reference_is_lock_step() -> None:
    backend = ScriptedBackend(worst)
    alone = reference_arms("fake", backend, ModelSettings(), cached=False)
    both = reference_arms("fake", backend, ModelSettings(), cached=True)
    assert [one.name for one in alone] == [named.LOCK_STEP]
    assert [one.name for one in both] == [named.LOCK_STEP_CACHED, named.HEAPSORT]
    assert all(one.reference and one.ranks for one in (*alone, *both))


def test_in_lock_step_nobody_has_a_ranking_before_all_have(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(request: Request) -> Completion:
        now[0] += 1.0
        return worst(request)

    monkeypatch.setattr(named, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    backend = ScriptedBackend(slow)
    examples = [toy_list(f"q{n}", [0] * n) for n in (2, 4, 3)]
    (rounds,) = reference_arms("fake", backend, ModelSettings(), cached=False)
    # One, three and two requests, all of which everybody waits for.
    assert [ranking.usage.seconds for ranking in rounds.work(examples)] == [6.0, 6.0, 6.0]
    _, sort = reference_arms("fake", backend, ModelSettings(), cached=True)
    found = sort.work(examples)
    assert [ranking.example_id for ranking in found] == ["q2", "q4", "q3"]
    # Each begins when it is its turn: one comparison builds the heap, and one more while two are left.
    assert [ranking.usage.seconds for ranking in found] == [1.0, 3.0, 2.0]
    assert [ranking.usage.calls for ranking in found] == [1, 3, 2]
