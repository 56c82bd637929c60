from __future__ import annotations

from itertools import permutations
from math import log2
from random import Random
from statistics import correlation
from typing import Any

import pytest
from unified_ranker.benchmarks.measures import per_query
from unified_ranker.rewards import Order, Reward, permutation
from unified_ranker.rewards.gain import Measure

from unified_ranker.errors import DataError, OptionError
from unified_ranker.parsing import ParsedOrder, parse_order
from unified_ranker.schema import Candidate, Ranking, RankingExample

LABELS = ("A", "B", "C")
TAGGED = ("<1>", "<2>", "<3>")
NAMES = ("best", "bad", "worse")
GRADES = {"best": 3.0, "bad": 1.0}

# The measures of what a reply named, by hand, with the labels A (3), B (1) and C (0).
L = 1 / log2(3)
IDEAL = 3 + L
NDCG = {
    "": 0.0,
    "A": 3 / IDEAL,
    "B": 1 / IDEAL,
    "C": 0.0,
    "AB": 1.0,
    "AC": 3 / IDEAL,
    "BA": (1 + 3 * L) / IDEAL,
    "CA": 3 * L / IDEAL,
    "ABC": 1.0,
    "ACB": 3.5 / IDEAL,
    "BAC": (1 + 3 * L) / IDEAL,
    "BCA": 2.5 / IDEAL,
    "CAB": (3 * L + 0.5) / IDEAL,
    "CBA": (L + 1.5) / IDEAL,
}
RR = {name: 1 / (1 + name.index("A")) if "A" in name else 0.0 for name in NDCG}

# Reply, the labels that it names, and the parts besides the measure: composition, answer, format.
Row = tuple[str, str, float, float, float]

WELL_FORMED: list[Row] = [
    ("A > B > C", "ABC", 0.0, 0.0, 0.0),
    ("A > C > B", "ACB", 0.0, 0.0, 0.0),
    ("B>A>C", "BAC", 0.0, 0.0, 0.0),
    ("B > C > A\n", "BCA", 0.0, 0.0, 0.0),
    ("C, A, B", "CAB", 0.0, 0.0, 0.0),
    ("C B A", "CBA", 0.0, 0.0, 0.0),
    ("[C] > [A] > [B]", "CAB", 0.0, 0.0, 0.0),
    ("[C,A,B]", "CAB", 0.0, 0.0, 0.0),
]
MALFORMED: list[Row] = [
    # Left out.
    ("A", "A", -2 / 3, 0.0, 0.0),
    ("C", "C", -2 / 3, 0.0, 0.0),
    ("A > B", "AB", -1 / 3, 0.0, 0.0),
    ("C > A", "CA", -1 / 3, 0.0, 0.0),
    ("[C] > [A]", "CA", -1 / 3, 0.0, 0.0),
    ("B > A > ?", "BA", -1 / 3, 0.0, 0.0),
    # Said twice.
    ("A > A", "A", -3 / 4, 0.0, 0.0),
    ("B > B > B > B", "B", -5 / 6, 0.0, 0.0),
    ("B > C > B > A > C", "BCA", -2 / 5, 0.0, 0.0),
    ("[C, A, A, B]", "CAB", -1 / 4, 0.0, 0.0),
    ("A > B > C > A > B > C", "ABC", -1 / 2, 0.0, 0.0),
    # Never listed.
    ("C > D > A > B", "CAB", -1 / 4, 0.0, 0.0),
    ("C > A > E > F", "CA", -3 / 5, 0.0, 0.0),
    ("[C] > [Z] > [A] > [B]", "CAB", -1 / 4, 0.0, 0.0),
    ("1. C\n2. A\n3. B", "CAB", -1 / 2, 0.0, 0.0),
    ("A, B and C", "ABC", -1 / 4, 0.0, 0.0),
    ("A = B = C", "ABC", -2 / 5, 0.0, 0.0),
    ("Ranking: C > A > B", "CAB", -1 / 4, 0.0, 0.0),
    ("C > A > B because C fits", "CAB", -1 / 2, 0.0, 0.0),
    ("AB > C", "C", -3 / 4, 0.0, 0.0),
    # Another form.
    ("c > a > b", "CAB", 0.0, 0.0, -0.25),
    ("A > b > C", "ABC", 0.0, 0.0, -0.25),
    ("[a] [b]", "AB", -1 / 3, 0.0, -0.25),
    ("c > C > D", "C", -4 / 5, 0.0, -0.25),
    ("[A] is worse than [B] and [C]", "ABC", 0.0, 0.0, -0.25),
    ("I would not put [A] before [B].", "AB", -1 / 3, 0.0, -0.25),
    ("A [A] [B] [C]", "ABC", 0.0, 0.0, -0.25),
    ("[B] [A] [C] D", "BAC", 0.0, 0.0, -0.25),
    ("<answer>C > A > B</answer>", "CAB", 0.0, 0.0, -0.25),
    ("<answer>C > A", "CA", -1 / 3, 0.0, -0.25),
    ("A > B > C <answer>C > A > A</answer>", "CA", -1 / 2, 0.0, -0.25),
    # Nothing.
    ("", "", -1.0, -1.0, -0.25),
    (" \n ", "", -1.0, -1.0, -0.25),
    (" > > ", "", -1.0, -1.0, -0.25),
    ("[]", "", -1.0, -1.0, -0.25),
    ("ABC", "", -1.0, -1.0, -0.25),
    ("D > E", "", -1.0, -1.0, -0.25),
    ("[D] [E] A", "", -1.0, -1.0, -0.25),
    ("none fits", "", -1.0, -1.0, -0.25),
    ("1 > 2 > 3", "", -1.0, -1.0, -0.25),
    ("<answer></answer>", "", -1.0, -1.0, -0.25),
    ("A > B > C <answer></answer>", "", -1.0, -1.0, -0.25),
    ("\ud800\x00", "", -1.0, -1.0, -0.25),
]
REASONED: list[Row] = [
    ("<think>hm</think><answer>A > B > C</answer>", "ABC", 0.0, 0.0, 0.0),
    (" <think>A > B > C</think>\n<answer>\n[C] [B] [A]\n</answer>\n", "CBA", 0.0, 0.0, 0.0),
    ("<think>hm</think><answer>A</answer>", "A", -2 / 3, 0.0, 0.0),
    ("<think>hm</think><answer>A > A > B > X</answer>", "AB", -3 / 5, 0.0, 0.0),
    ("<think>hm</think><answer>a > b > c</answer>", "ABC", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>best [A], then [B] [C]</answer>", "ABC", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>A > B > C", "ABC", 0.0, 0.0, -0.25),
    ("<think>hm</think>C > A > B", "CAB", 0.0, 0.0, -0.25),
    ("<think>hm<answer>C > A > B</answer>", "CAB", 0.0, 0.0, -0.25),
    ("<answer>C > A > B</answer>", "CAB", 0.0, 0.0, -0.25),
    ("<think>hm</think>so <answer>B > C > A</answer>", "BCA", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>B > C > A</answer>.", "BCA", 0.0, 0.0, -0.25),
    ("<think>hm</think><answer>A > B > C</answer><answer>C</answer>", "C", -2 / 3, 0.0, -0.25),
    ("<answer>C > A", "CA", -1 / 3, 0.0, -0.25),
    ("A > B > C", "", -1.0, -1.0, -0.25),
    ("<think>A > B > C", "", -1.0, -1.0, -0.25),
    ("<think>A > B > C</think>", "", -1.0, -1.0, -0.25),
    ("<think>A > B > C</think><answer>none</answer>", "", -1.0, -1.0, -0.25),
    ("<think>hm</think><answer></answer>", "", -1.0, -1.0, -0.25),
    ("", "", -1.0, -1.0, -0.25),
]
# Labels with brackets of their own, asked for without a separator; named by the letters in their place.
JOINED: list[Row] = [
    ("<1><2><3>", "ABC", 0.0, 0.0, 0.0),
    ("<3><1><2>\n", "CAB", 0.0, 0.0, 0.0),
    ("<3><1>", "CA", -1 / 3, 0.0, 0.0),
    ("<2>", "B", -2 / 3, 0.0, 0.0),
    ("<2><2><2>", "B", -4 / 5, 0.0, 0.0),
    ("<3><1><2><3><1><2>", "CAB", -1 / 2, 0.0, 0.0),
    ("<4><1><2><3>", "ABC", -1 / 4, 0.0, 0.0),
    ("<1><9>", "A", -3 / 4, 0.0, 0.0),
    ("best<1><2><3>", "ABC", -1 / 4, 0.0, 0.0),
    ("<answer><1><2><3></answer>", "ABC", 0.0, 0.0, -0.25),
    ("123", "", -1.0, -1.0, -0.25),
    ("<4><5>", "", -1.0, -1.0, -0.25),
    ("", "", -1.0, -1.0, -0.25),
]
TABLES = [
    *((row, LABELS, {}) for row in (*WELL_FORMED, *MALFORMED)),
    *((row, LABELS, {"reasoning": True}) for row in REASONED),
    *((row, TAGGED, {"joined": True}) for row in JOINED),
]
MEASURES: dict[Measure, dict[str, float]] = {"rr": RR, "ndcg": NDCG}
EACH_MEASURE = pytest.mark.parametrize("measure", list(MEASURES))


def example(grades: dict[str, float], names: tuple[str, ...] = NAMES, *, id: str = "list") -> RankingExample:
    return RankingExample(id, "query", tuple(Candidate(name, name) for name in names), relevance=grades)


def read(reply: str, labels: tuple[str, ...], names: tuple[str, ...], **options: Any) -> tuple[Order, ParsedOrder]:
    parsed = parse_order(reply, labels, **options)
    ids = dict(zip(labels, names, strict=True))
    return Order(tuple(ids[label] for label in parsed.order[: parsed.named])), parsed


def reward(reply: str, measure: Measure, labels: tuple[str, ...] = LABELS, **options: Any) -> Reward:
    step, parsed = read(reply, labels, NAMES, **options)
    return permutation(example(GRADES), step, parsed, measure=measure)


@EACH_MEASURE
@pytest.mark.parametrize(
    ("row", "labels", "options"), TABLES, ids=lambda value: repr(value[0]) if len(value) == 5 else ""
)
def test_each_reply_has_exactly_these_parts(
    row: Row, labels: tuple[str, ...], options: dict[str, bool], measure: Measure
) -> None:
    reply, named, composition, answer, form = row
    value = MEASURES[measure][named]
    found = reward(reply, measure, labels, **options)
    expected = {"ranking": value, "composition": composition, "answer": answer, "format": form}
    assert found.parts == pytest.approx(expected, rel=0, abs=1e-12)
    assert found.total == pytest.approx(value + composition + answer + form, rel=0, abs=1e-12)


def test_there_are_enough_malformed_replies() -> None:
    assert len({row[0] for row in MALFORMED}) == len(MALFORMED) >= 30


def test_the_default_measure_is_rr_as_published() -> None:
    step, parsed = read("C > A > B", LABELS, NAMES)
    assert permutation(example(GRADES), step, parsed).parts["ranking"] == 1 / 2


@pytest.mark.parametrize(
    ("grades", "order", "rr", "ndcg"),
    [
        ("1000", "abcd", 1, 1),
        ("1000", "dcba", 1 / 4, 1 / log2(5)),
        ("1100", "cdab", 1 / 3, (1 / log2(4) + 1 / log2(5)) / (1 + 1 / log2(3))),
        ("3200", "bacd", 1 / 2, (2 + 3 / log2(3)) / (3 + 2 / log2(3))),
        ("3320", "bcad", 1, (3 + 2 / log2(3) + 3 / log2(4)) / (3 + 3 / log2(3) + 2 / log2(4))),
        ("0123", "abcd", 1 / 4, (1 / log2(3) + 2 / log2(4) + 3 / log2(5)) / (3 + 2 / log2(3) + 1 / log2(4))),
        ("2222", "dbca", 1, 1),
        ("0000", "dbca", 1, 1),
    ],
)
def test_a_whole_order_is_worth_its_measure(grades: str, order: str, rr: float, ndcg: float) -> None:
    graded = example({name: float(grade) for name, grade in zip("abcd", grades, strict=True)}, tuple("abcd"))
    for measure, expected in (("rr", rr), ("ndcg", ndcg)):
        found = permutation(graded, Order(tuple(order)), ParsedOrder("ok", tuple(order), 4), measure=measure)
        assert found.total == found.parts["ranking"] == pytest.approx(expected, rel=0, abs=1e-12)


def test_over_random_permutations_the_reward_is_the_ndcg_of_ir_measures() -> None:
    rng = Random(20)
    labels = tuple("ABCDEFGHIJKLMNOPQRST")
    names = tuple(f"d{number}" for number in range(20))
    grades = {name: float(rng.choice((0, 0, 0, 1, 2, 3))) for name in names}
    assert len(set(grades.values())) == 4
    examples, rankings, rewards = [], {}, []
    for number in range(400):
        asked = example(grades, names, id=f"q{number}")
        reply = " > ".join(rng.sample(labels, len(labels)))
        step, parsed = read(reply, labels, names)
        rewards.append(permutation(asked, step, parsed, measure="ndcg").total)
        examples.append(asked)
        order = tuple(Candidate(name, name) for name in step.named)
        rankings[asked.id] = Ranking(asked.id, order, tuple(float(-place) for place in range(20)))
    values = per_query(examples, rankings, binary="positive", measures=("nDCG",))["nDCG"]
    assert len(set(values)) > 300
    assert correlation(rewards, values) == pytest.approx(1, rel=0, abs=1e-9)
    assert rewards == pytest.approx(values, rel=0, abs=1e-9)


@EACH_MEASURE
@pytest.mark.parametrize("grades", [(3, 1, 0, 1), (1, 0, 0, 0), (2, 2, 2, 0), (0, 0, 0, 0)])
def test_to_name_some_labels_never_earns_as_much_as_to_complete_them_in_the_worst_way(
    grades: tuple[int, ...], measure: Measure
) -> None:
    labels, names = tuple("ABCD"), tuple("abcd")
    graded = example({name: float(grade) for name, grade in zip(names, grades, strict=True)}, names)

    def total(order: tuple[str, ...]) -> float:
        step, parsed = read(" > ".join(order), labels, names)
        return permutation(graded, step, parsed, measure=measure).total

    whole = {order: total(order) for order in permutations(labels)}
    for named in range(4):
        for order in permutations(labels, named):
            worst = min(value for other, value in whole.items() if other[:named] == order)
            # Each label that is left out costs at least its share of the list.
            assert total(order) <= worst - (4 - named) / 4 + 1e-12


@EACH_MEASURE
def test_a_label_that_was_left_out_earns_nothing_wherever_a_repair_puts_it(measure: Measure) -> None:
    # The list's own order is the best one, and a repair keeps it.
    step, parsed = read("nothing", LABELS, NAMES)
    assert parsed.order == LABELS
    assert permutation(example(GRADES), step, parsed, measure=measure).parts["ranking"] == 0
    step, parsed = read("C", LABELS, NAMES)
    assert permutation(example(GRADES), step, parsed, measure=measure).parts["ranking"] == 0


@EACH_MEASURE
@pytest.mark.parametrize("more", [" > A", " > D", " > A > A", " > x y z"])
def test_to_say_more_than_the_labels_never_pays(more: str, measure: Measure) -> None:
    for order in permutations(LABELS):
        reply = " > ".join(order)
        assert reward(reply + more, measure).total < reward(reply, measure).total


@pytest.mark.parametrize("named", [("best", "best"), ("best", "bad", "worse", "bad"), ("stranger",), ("best", "")])
def test_what_is_not_an_order_of_candidates_is_refused(named: tuple[str, ...]) -> None:
    parsed = ParsedOrder("ok", LABELS, len(named))
    with pytest.raises(DataError, match=r"example 'list': .* must be different candidates of the list"):
        permutation(example(GRADES), Order(named), parsed)


@pytest.mark.parametrize("reply", ["A > B > C", "A", ""])
def test_an_unknown_measure_is_refused_with_the_nearest_name(reply: str) -> None:
    measure: Any = "mrr"
    step, parsed = read(reply, LABELS, NAMES)
    with pytest.raises(OptionError, match="measure='mrr' is not known; did you mean 'rr'"):
        permutation(example(GRADES), step, parsed, measure=measure)
