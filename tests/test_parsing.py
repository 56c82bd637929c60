from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unified_ranker.parsing import parse_label, parse_order

LABELS = ("A", "B", "C")
MORE = "more than the bare label"
TWO = "2 labels where one was asked for"
NONE = "no label in play"

PLAIN_LABELS: list[tuple[str, str, str | None, str]] = [
    ("A", "ok", "A", ""),
    ("C", "ok", "C", ""),
    (" B", "ok", "B", ""),
    ("B\n", "ok", "B", ""),
    ("\t\r\nB \u00a0\n", "ok", "B", ""),
    ("b", "repaired", "B", "wrong case"),
    (" c \n", "repaired", "C", "wrong case"),
    ("B.", "repaired", "B", MORE),
    ("[B]", "repaired", "B", MORE),
    ("[b]", "repaired", "B", MORE),
    ("[ B ]", "repaired", "B", MORE),
    ("[[B]]", "repaired", "B", MORE),
    ("(B)", "repaired", "B", MORE),
    ("{B}", "repaired", "B", MORE),
    ("**B**", "repaired", "B", MORE),
    ("`B`", "repaired", "B", MORE),
    ('"B"', "repaired", "B", MORE),
    ("'B',", "repaired", "B", MORE),
    ("B:", "repaired", "B", MORE),
    ("B;", "repaired", "B", MORE),
    (".B", "repaired", "B", MORE),
    ("B...", "repaired", "B", MORE),
    ("Label: B", "repaired", "B", MORE),
    ("The label is [B].", "repaired", "B", MORE),
    ("I pick B", "repaired", "B", MORE),
    ("B because it is off topic", "repaired", "B", MORE),
    ("B\n\nExplanation: it is off topic.", "repaired", "B", MORE),
    ("B, B, B", "repaired", "B", MORE),
    ("[B] [B]", "repaired", "B", MORE),
    ("[Z] or [B]", "repaired", "B", MORE),
    ("> B", "repaired", "B", MORE),
    ("not a chance: **B**!? B.", "repaired", "B", MORE),
    ("<answer>B</answer>", "repaired", "B", "answer tags that were not asked for"),
    ("<answer>B", "repaired", "B", "answer tags that were not asked for"),
    ("so <answer>[B]</answer> it is", "repaired", "B", "answer tags that were not asked for"),
    ("<answer>A</answer><answer>B</answer>", "repaired", "B", "answer tags that were not asked for"),
    ("", "failed", None, "empty answer"),
    (" \n\t ", "failed", None, "empty answer"),
    ("\u2028", "failed", None, "empty answer"),
    ("<answer></answer>", "failed", None, "empty answer"),
    ("<answer>", "failed", None, "empty answer"),
    ("D", "failed", None, f"{NONE} in 'D'"),
    ("[D]", "failed", None, f"{NONE} in '[D]'"),
    ("1", "failed", None, NONE),
    ("ABC", "failed", None, NONE),
    ("AB", "failed", None, NONE),
    ("A1", "failed", None, NONE),
    ("A-B", "failed", None, NONE),
    ("[]", "failed", None, NONE),
    (".", "failed", None, NONE),
    ("none of them", "failed", None, NONE),
    ("a passage that helps least", "failed", None, NONE),
    ("</answer>", "failed", None, NONE),
    ("\x00", "failed", None, NONE),
    ("\ud800", "failed", None, NONE),
    ("Ｂ", "failed", None, NONE),
    ("А", "failed", None, NONE),
    ("A or B", "failed", None, TWO),
    ("A B", "failed", None, TWO),
    ("A > B", "failed", None, TWO),
    ("[A][B]", "failed", None, TWO),
    ("A, B", "failed", None, TWO),
    ("A\nB\nC", "failed", None, "3 labels where one was asked for"),
]

REASONED_LABELS: list[tuple[str, str, str | None, str, str]] = [
    ("<think>hm</think><answer>B</answer>", "ok", "B", "", "hm"),
    (" <think>\n hm \n</think>\n\n<answer>\nB\n</answer>\n", "ok", "B", "", "hm"),
    ("<think></think><answer>B</answer>", "ok", "B", "", ""),
    ("<think>A? no, [C]!</think><answer>B</answer>", "ok", "B", "", "A? no, [C]!"),
    ("<think>hm</think><answer>b</answer>", "repaired", "B", "wrong case", "hm"),
    ("<think>hm</think><answer>[B]</answer>", "repaired", "B", MORE, "hm"),
    ("<think>hm</think><answer>it is B</answer>", "repaired", "B", MORE, "hm"),
    ("<think>hm</think><answer>B", "repaired", "B", "no </answer>", "hm"),
    ("<think>hm</think>B", "repaired", "B", "no <answer> </answer>", "hm"),
    ("<think>hm</think> so: <answer>B</answer>", "repaired", "B", "text around the tags", "hm"),
    ("<think>hm</think><answer>B</answer> done", "repaired", "B", "text around the tags", "hm"),
    ("<think>hm</think><answer>A</answer><answer>B</answer>", "repaired", "B", "several answers", "hm"),
    ("<answer>B</answer>", "repaired", "B", "no <think> </think>", ""),
    ("<think>hm<answer>B</answer>", "repaired", "B", "no <think> </think>", "hm"),
    ("<think>hm</think><answer>A B</answer>", "failed", None, TWO, "hm"),
    ("<think>hm</think><answer>D</answer>", "failed", None, NONE, "hm"),
    ("<think>hm</think><answer></answer>", "failed", None, "empty answer", "hm"),
    ("<think>hm</think><answer>", "failed", None, "empty answer", "hm"),
    ("<think>hm</think>", "failed", None, "empty answer", "hm"),
    ("<think>I would say B", "failed", None, "no <answer> </answer>", "I would say B"),
    ("B", "failed", None, "no <answer> </answer>", ""),
    ("", "failed", None, "no <answer> </answer>", ""),
]

ORDERS: list[tuple[str, str, str, str]] = [
    ("C > A > B", "ok", "CAB", ""),
    ("C>A>B", "ok", "CAB", ""),
    ("C >A> B\n", "ok", "CAB", ""),
    ("C A B", "ok", "CAB", ""),
    ("C\nA\nB", "ok", "CAB", ""),
    ("C, A, B", "ok", "CAB", ""),
    ("C; A; B", "ok", "CAB", ""),
    ("C, A, B.", "ok", "CAB", ""),
    ("[C] > [A] > [B]", "ok", "CAB", ""),
    ("[C][A][B]", "ok", "CAB", ""),
    ("[ C ] [ A ] [ B ]", "ok", "CAB", ""),
    ("c > a > b", "repaired", "CAB", "3 in the wrong case"),
    ("C > a > B", "repaired", "CAB", "1 in the wrong case"),
    ("C > A", "repaired", "CAB", "1 missing"),
    ("C", "repaired", "CAB", "2 missing"),
    ("B > C > B > A > C", "repaired", "BCA", "2 repeated"),
    ("B > B", "repaired", "BAC", "2 missing; 1 repeated"),
    ("C > D > A > B", "repaired", "CAB", "1 unknown"),
    ("C > A > E > F", "repaired", "CAB", "1 missing; 2 unknown"),
    ("[C] > [Z] > [A] > [B]", "repaired", "CAB", "1 unknown"),
    ("[C] > [A]", "repaired", "CAB", "1 missing"),
    ("1. C\n2. A\n3. B", "repaired", "CAB", "3 unknown"),
    ("Ranking: C > A > B", "repaired", "CAB", "1 unknown"),
    ("C > A > B because C fits", "repaired", "CAB", "1 repeated; 2 unknown"),
    ("<answer>C > A > B</answer>", "repaired", "CAB", "answer tags that were not asked for"),
    ("<answer>C > A", "repaired", "CAB", "answer tags that were not asked for; 1 missing"),
    ("c > C > D", "repaired", "CAB", "2 missing; 1 repeated; 1 unknown; 1 in the wrong case"),
    ("", "failed", "ABC", "3 missing"),
    (" \n ", "failed", "ABC", "3 missing"),
    (" > > ", "failed", "ABC", "3 missing"),
    ("[]", "failed", "ABC", "3 missing"),
    ("CAB", "failed", "ABC", "3 missing; 1 unknown"),
    ("D > E", "failed", "ABC", "3 missing; 2 unknown"),
    ("[D] [E]", "failed", "ABC", "3 missing; 2 unknown"),
    ("none fits", "failed", "ABC", "3 missing; 2 unknown"),
    ("1 > 2 > 3", "failed", "ABC", "3 missing; 3 unknown"),
    ("<answer></answer>", "failed", "ABC", "answer tags that were not asked for; 3 missing"),
    ("\ud800\x00", "failed", "ABC", "3 missing; 1 unknown"),
]

REASONED_ORDERS: list[tuple[str, str, str, str, str]] = [
    ("<think>hm</think><answer>C > A > B</answer>", "ok", "CAB", "", "hm"),
    ("<think>A > B</think>\n<answer>[C] [A] [B]</answer>", "ok", "CAB", "", "A > B"),
    ("<think>hm</think><answer>C > A > B", "repaired", "CAB", "no </answer>", "hm"),
    ("<think>hm</think>C > A > B", "repaired", "CAB", "no <answer> </answer>", "hm"),
    ("<answer>C > A > B</answer>", "repaired", "CAB", "no <think> </think>", ""),
    ("<think>hm</think><answer>C</answer>", "repaired", "CAB", "2 missing", "hm"),
    ("<think>C > A > B", "failed", "ABC", "no <answer> </answer>; 3 missing", "C > A > B"),
    ("C > A > B", "failed", "ABC", "no <answer> </answer>; 3 missing", ""),
]


@pytest.mark.parametrize(("reply", "outcome", "label", "reason"), PLAIN_LABELS)
def test_a_reply_is_read_as_one_label(reply: str, outcome: str, label: str | None, reason: str) -> None:
    found = parse_label(reply, LABELS)
    assert (found.outcome, found.label, found.reasoning) == (outcome, label, "")
    assert found.reason.startswith(reason)
    assert bool(found.reason) == (outcome != "ok")


@pytest.mark.parametrize(("reply", "outcome", "label", "reason", "reasoning"), REASONED_LABELS)
def test_a_reasoned_reply_is_read_as_one_label(
    reply: str, outcome: str, label: str | None, reason: str, reasoning: str
) -> None:
    found = parse_label(reply, LABELS, reasoning=True)
    assert (found.outcome, found.label, found.reasoning) == (outcome, label, reasoning)
    assert found.reason.startswith(reason)
    assert bool(found.reason) == (outcome != "ok")


@pytest.mark.parametrize(("reply", "outcome", "order", "reason"), ORDERS)
def test_a_reply_is_read_as_an_order(reply: str, outcome: str, order: str, reason: str) -> None:
    found = parse_order(reply, LABELS)
    assert (found.outcome, "".join(found.order), found.reason) == (outcome, order, reason)


@pytest.mark.parametrize(("reply", "outcome", "order", "reason", "reasoning"), REASONED_ORDERS)
def test_a_reasoned_reply_is_read_as_an_order(
    reply: str, outcome: str, order: str, reason: str, reasoning: str
) -> None:
    found = parse_order(reply, LABELS, reasoning=True)
    assert (found.outcome, "".join(found.order), found.reason) == (outcome, order, reason)
    assert found.reasoning == reasoning


@pytest.mark.parametrize(
    "reply",
    [
        "[A] is worse than [B] and [C]",
        "I would not put [A] before [B] or [C].",
        "A [A] [B] [C]",
        "[A] [B] [C] D",
    ],
)
def test_an_order_among_other_words_is_never_ok(reply: str) -> None:
    assert parse_order(reply, LABELS).outcome != "ok"


@pytest.mark.parametrize("reply", ["[C,A,B]", "[C>A>B]", "[C, A, B]", '["C","A","B"]', '["C", "A", "B"]', "[C;A;B]"])
def test_an_order_in_one_pair_of_brackets_is_read_with_or_without_blanks(reply: str) -> None:
    found = parse_order(reply, LABELS)
    assert (found.order, found.named) == (("C", "A", "B"), 3)


@pytest.mark.parametrize(
    "reply", ["<3><1><2>", "<3> <1> <2>", " <3>  <1>  <2> ", "<3> > <1> > <2>", "[<3>] [<1>] [<2>]"]
)
def test_labels_in_angle_brackets_make_an_order(reply: str) -> None:
    found = parse_order(reply, ("<1>", "<2>", "<3>"))
    assert (found.order, found.named) == (("<3>", "<1>", "<2>"), 3)


@pytest.mark.parametrize("reply", ["<2>", " <2>\n", "<2>.", "[<2>]", "<2> is worst", "Label: <2>"])
def test_a_label_in_angle_brackets_is_read(reply: str) -> None:
    assert parse_label(reply, ("<1>", "<2>", "<3>")).label == "<2>"


@pytest.mark.parametrize(
    ("reply", "label", "outcome"),
    [("02", "02", "ok"), ("[02]", "02", "repaired"), ("2", None, "failed"), ("002", None, "failed")],
)
def test_numbers_are_labels_only_in_their_full_width(reply: str, label: str | None, outcome: str) -> None:
    found = parse_label(reply, ("01", "02", "10"))
    assert (found.label, found.outcome) == (label, outcome)


def test_a_lower_case_article_is_no_label_among_other_words() -> None:
    assert parse_label("a good choice is B", LABELS).label == "B"


def test_the_counts_of_an_order_say_what_was_wrong() -> None:
    found = parse_order("B > x > B > y > y", LABELS)
    assert (found.named, found.missing, found.repeated, found.unknown) == (1, 2, 1, 3)


def test_a_long_reply_without_a_label_is_quoted_in_part() -> None:
    assert len(parse_label("x" * 10_000, LABELS).reason) < 100


ALPHABETS = st.sampled_from(
    [("A", "B", "C"), ("A",), tuple("ABCDEFGHIJ"), ("AA", "AB", "BA"), ("01", "02", "03", "10"), ("<1>", "<2>", "<3>")]
)
PIECES = ["A", "B", "C", "a", "AA", "01", "<1>", "[", "]", " ", " > ", ", ", "\n", ".", "**", "[A]", "[B]", "[C]", "D"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>", "hm"]
REPLIES = st.one_of(
    st.text(st.characters(), max_size=40),
    st.lists(st.sampled_from(PIECES), max_size=10).map("".join),
    st.lists(st.sampled_from([*PIECES, *TAGS, *TAGS]), max_size=12).map("".join),
    st.builds(str.join, st.sampled_from([" > ", " ", "\n", "] [", ", "]), st.permutations(LABELS)),
)
CHECKED = settings(deadline=None, derandomize=True, max_examples=400)


@CHECKED
@given(REPLIES, ALPHABETS, st.booleans())
def test_any_reply_gives_an_order_that_is_a_permutation(reply: str, labels: tuple[str, ...], reasoning: bool) -> None:
    found = parse_order(reply, labels, reasoning=reasoning)
    assert sorted(found.order) == sorted(labels)
    assert found.named + found.missing == len(labels)
    assert (found.outcome == "failed") == (found.named == 0)
    assert bool(found.reason) == (found.outcome != "ok")
    assert found.order[found.named :] == tuple(x for x in labels if x not in found.order[: found.named])


@CHECKED
@given(REPLIES)
def test_an_order_is_ok_only_if_each_label_stands_once_and_no_other_word(reply: str) -> None:
    found = parse_order(reply, LABELS)
    if found.outcome == "ok":
        assert tuple(re.findall(r"\w+", reply)) == found.order
        assert (found.missing, found.repeated, found.unknown) == (0, 0, 0)


@CHECKED
@given(st.permutations(LABELS), st.sampled_from([" > ", ">", " ", "\n", ", "]), st.booleans())
def test_every_order_in_the_form_asked_for_is_ok(order: list[str], separator: str, reasoning: bool) -> None:
    reply = separator.join(order)
    reply = f"<think>hm</think><answer>{reply}</answer>" if reasoning else reply
    found = parse_order(reply, LABELS, reasoning=reasoning)
    assert (found.outcome, found.order) == ("ok", tuple(order))


@CHECKED
@given(REPLIES, ALPHABETS, st.booleans())
def test_any_reply_gives_a_label_in_play_or_fails(reply: str, labels: tuple[str, ...], reasoning: bool) -> None:
    found = parse_label(reply, labels, reasoning=reasoning)
    assert found.label is None or found.label in labels
    assert (found.label is None) == (found.outcome == "failed")
    assert bool(found.reason) == (found.outcome != "ok")


@CHECKED
@given(REPLIES, ALPHABETS)
def test_a_label_is_ok_only_if_it_is_the_whole_reply(reply: str, labels: tuple[str, ...]) -> None:
    found = parse_label(reply, labels)
    assert (found.outcome == "ok") == (reply.strip() in labels)


@CHECKED
@given(REPLIES, st.sampled_from(LABELS))
def test_what_is_thought_never_becomes_the_answer(thought: str, label: str) -> None:
    quiet = re.sub(r"</?(think|answer)>", "", thought)
    found = parse_label(f"<think>{quiet}</think><answer>{label}</answer>", LABELS, reasoning=True)
    assert (found.outcome, found.label) == ("ok", label)
