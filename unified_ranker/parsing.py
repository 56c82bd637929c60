"""A reply becomes ``ok``, ``repaired`` or ``failed``, with the reason: never a silent guess.

``ok`` is the form that was asked for. ``repaired`` means that the meaning is beyond doubt but the form is not, or
that only part of it could be used. ``failed`` means that nothing could be used; what to do then is the strategy's
affair.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from unified_ranker.schema.types import Outcome

_REASONED = re.compile(r"\A\s*<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>\s*\Z", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.DOTALL)
_THINK = re.compile(r"<think>(.*?)(?:</think>|(?=<answer>)|\Z)", re.DOTALL)
_BRACKETED = re.compile(r"\[\s*([^\[\]\s]{1,16})\s*\]")
_SEPARATOR = re.compile(r"[\s>,;]+")
_WRAPPING = "[](){}\"'`*.,:;"


@dataclass(frozen=True, slots=True)
class ParsedLabel:
    """One label read from a reply; ``label`` is None exactly where the outcome is ``failed``."""

    outcome: Outcome
    label: str | None
    reason: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class ParsedOrder:
    """A whole order read from a reply.

    Attributes:
        outcome: ``failed`` where no label at all could be used.
        order: Always a permutation of the labels in play: those that were named, in the order of their first mention,
            then the rest in the order in which they were listed.
        named: How many labels of ``order`` the reply named itself.
        missing: Labels in play that the reply did not name.
        repeated: Mentions beyond a label's first.
        unknown: Entries that are no label in play.
        reason: What was wrong, in words; empty for ``ok``.
        reasoning: The thoughts, where there are some.
    """

    outcome: Outcome
    order: tuple[str, ...]
    named: int
    missing: int = 0
    repeated: int = 0
    unknown: int = 0
    reason: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    complaint: str
    reasoning: str
    missing: bool = False


def _find_answer(reply: str, *, reasoning: bool) -> _Answer:
    """Find where the answer stands in a reply, and say what is wrong with its form."""
    if not reasoning:
        answers = _ANSWER.findall(reply)
        if answers:
            return _Answer(answers[-1], "answer tags that were not asked for", "")
        return _Answer(reply, "", "")
    whole = _REASONED.match(reply)
    if whole and "<answer>" not in whole["answer"] and "<think>" not in whole["think"]:
        return _Answer(whole["answer"], "", whole["think"].strip())
    thought = _THINK.search(reply)
    thinking = thought.group(1).strip() if thought else ""
    answers = _ANSWER.findall(reply)
    if answers:
        closed = "</answer>" in reply
        flaw = (
            "several answers; the last one counts"
            if len(answers) > 1
            else "text around the tags"
            if closed
            else "no </answer>"
        )
        if thought is None or "</think>" not in reply:
            flaw = "no <think> </think>"
        return _Answer(answers[-1], flaw, thinking)
    if "</think>" in reply:
        return _Answer(reply.rsplit("</think>", 1)[1], "no <answer> </answer>", thinking)
    return _Answer("", "no <answer> </answer>", thinking, missing=True)


def _entries(text: str) -> list[str]:
    """Split an answer into what may be labels: the bracketed entries where there are some, else all words."""
    bracketed = _BRACKETED.findall(text)
    if bracketed:
        return bracketed
    return [entry.strip(_WRAPPING) for entry in _SEPARATOR.split(text.strip()) if entry.strip(_WRAPPING)]


def _fold(labels: Sequence[str]) -> dict[str, str]:
    return {label.casefold(): label for label in labels}


def parse_label(reply: str, labels: Sequence[str], *, reasoning: bool = False) -> ParsedLabel:
    """Read the one label that a reply names.

    Args:
        reply: What the model wrote, without the prompt.
        labels: The labels in play.
        reasoning: Whether ``<think>…</think><answer>…</answer>`` was asked for.

    Example:
        >>> parse_label("[B].", ["A", "B"])
        ParsedLabel(outcome='repaired', label='B', reason='more than the bare label', reasoning='')
    """
    answer = _find_answer(reply, reasoning=reasoning)
    if answer.missing:
        return ParsedLabel("failed", None, answer.complaint, answer.reasoning)
    text = answer.text.strip()
    if not text:
        return ParsedLabel("failed", None, "empty answer", answer.reasoning)
    if text in labels:
        return ParsedLabel("repaired" if answer.complaint else "ok", text, answer.complaint, answer.reasoning)
    known = _fold(labels)
    stripped = text.strip(_WRAPPING + " ")
    if stripped.casefold() in known:
        complaint = answer.complaint or ("more than the bare label" if stripped != text else "wrong case")
        return ParsedLabel("repaired", known[stripped.casefold()], complaint, answer.reasoning)
    # Among other words only an exact spelling counts: "a" in a sentence is no label.
    exact = set(labels)
    found = list(dict.fromkeys(entry for entry in _entries(text) if entry in exact))
    if len(found) == 1:
        return ParsedLabel("repaired", found[0], answer.complaint or "more than the bare label", answer.reasoning)
    if found:
        return ParsedLabel("failed", None, f"{len(found)} labels where one was asked for", answer.reasoning)
    return ParsedLabel("failed", None, f"no label in play in {text[:60]!r}", answer.reasoning)


def parse_order(reply: str, labels: Sequence[str], *, reasoning: bool = False) -> ParsedOrder:
    """Read a whole order; the result is a permutation of ``labels`` for any reply whatever.

    Args:
        reply: What the model wrote, without the prompt.
        labels: The labels in play, in the order in which they were listed.
        reasoning: Whether ``<think>…</think><answer>…</answer>`` was asked for.

    Example:
        >>> parse_order("B > A > B", ["A", "B", "C"]).order
        ('B', 'A', 'C')
    """
    answer = _find_answer(reply, reasoning=reasoning)
    known = _fold(labels)
    named: list[str] = []
    repeated = unknown = recased = 0
    for entry in _entries(answer.text):
        label = known.get(entry.casefold())
        if label is None:
            unknown += 1
        elif label in named:
            repeated += 1
        else:
            recased += entry != label
            named.append(label)
    rest = [label for label in labels if label not in named]
    flaws = [answer.complaint] if answer.complaint else []
    flaws += [
        f"{count} {what}"
        for count, what in (
            (len(rest), "missing"),
            (repeated, "repeated"),
            (unknown, "unknown"),
            (recased, "in the wrong case"),
        )
        if count
    ]
    outcome: Outcome = "ok" if not flaws else "repaired" if named else "failed"
    return ParsedOrder(
        outcome=outcome,
        order=(*named, *rest),
        named=len(named),
        missing=len(rest),
        repeated=repeated,
        unknown=unknown,
        reason="; ".join(flaws),
        reasoning=answer.reasoning,
    )
