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
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
_SEPARATOR = re.compile(r"[\s>,;]+")
# Labels that are English words, too: in a sentence they are read as such, unless they end it.
_WORDS = frozenset({"A", "I"})
_WRAPPING = "[](){}\"'`*.,:;!?"


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
        well_formed: Whether the reply had the form that was asked for, whatever labels it named.
        tagged: Whether it had exactly the tags that were asked for, with nothing around them.
    """

    outcome: Outcome
    order: tuple[str, ...]
    named: int
    missing: int = 0
    repeated: int = 0
    unknown: int = 0
    reason: str = ""
    reasoning: str = ""
    well_formed: bool = True
    tagged: bool = True


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
    # Tags within what they enclose were repeated, or left open.
    nested = whole and re.search(r"</?(?:think|answer)>", whole["think"] + whole["answer"])
    if whole and not nested:
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


@dataclass(frozen=True, slots=True)
class _Entries:
    """What may be labels, in order, and whether other words stood around them."""

    found: list[str]
    prose: bool = False


def _words(text: str) -> list[str]:
    return [word for entry in _SEPARATOR.split(text) if (word := entry.strip(_WRAPPING))]


def _entries(text: str, labels: Sequence[str], *, joined: bool = False) -> _Entries:
    """Find what may be labels.

    Labels that carry their own brackets (``<3>``), or that are written without a separator (``joined``), are found
    wherever they stand; what is left of the text counts as unknown entries. Of plain labels, those in square brackets
    where there are any; else all words.
    """
    if joined or not all(label.isalnum() for label in labels):
        pattern = re.compile("|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True)))
        return _Entries([*pattern.findall(text), *_words(pattern.sub(" ", text))])
    bracketed = [word for group in _BRACKETED.findall(text) for word in _words(group)]
    if bracketed:
        return _Entries(bracketed, prose=bool(_words(_BRACKETED.sub(" ", text))))
    return _Entries(_words(text))


def leading_label(reply: str, labels: Sequence[str]) -> str:
    """Return the label that a reply begins with, where labels are written without a separator; else the reply.

    Example:
        >>> leading_label("<2><1><3>", ["<1>", "<2>", "<3>"])
        '<2>'
    """
    text = reply.lstrip()
    return next((label for label in sorted(labels, key=len, reverse=True) if text.startswith(label)), reply)


def opening(reply: str, labels: Sequence[str], *, joined: bool) -> str:
    r"""Return the beginning of a reply that answers one step, where the model may have run on into the next ones.

    Args:
        reply: What the model wrote.
        labels: The labels in play.
        joined: Whether labels are written without a separator; else a step ends with its line.

    Example:
        >>> opening("B\nA", ["A", "B"], joined=False)
        'B'
    """
    return leading_label(reply, labels) if joined else reply.lstrip().split("\n", 1)[0]


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
    # Among other words only an exact spelling counts: "a" in a sentence is no label. "A" and "I" are, where they end
    # it.
    words = _entries(text, labels).found
    found = list(dict.fromkeys(word for word in words if word in labels))
    if len(found) == 1 and found[0] in _WORDS and words[-1] != found[0] and "[" not in text:
        found = []
    if len(found) == 1:
        return ParsedLabel("repaired", found[0], answer.complaint or "more than the bare label", answer.reasoning)
    if found:
        return ParsedLabel("failed", None, f"{len(found)} labels where one was asked for", answer.reasoning)
    return ParsedLabel("failed", None, f"no label in play in {text[:60]!r}", answer.reasoning)


def parse_order(reply: str, labels: Sequence[str], *, reasoning: bool = False, joined: bool = False) -> ParsedOrder:
    """Read a whole order; the result is a permutation of ``labels`` for any reply whatever.

    Args:
        reply: What the model wrote, without the prompt.
        labels: The labels in play, in the order in which they were listed.
        reasoning: Whether ``<think>…</think><answer>…</answer>`` was asked for.
        joined: Whether labels were to be written without a separator.

    Example:
        >>> parse_order("B > A > B", ["A", "B", "C"]).order
        ('B', 'A', 'C')
    """
    answer = _find_answer(reply, reasoning=reasoning)
    known = _fold(labels)
    named: list[str] = []
    repeated = unknown = recased = 0
    entries = _entries(answer.text, labels, joined=joined)
    for entry in entries.found:
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
    flaws += ["words around the labels"] if entries.prose else []
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
        well_formed=not (answer.complaint or entries.prose or recased),
        tagged=not answer.complaint and (reasoning or not re.search(r"</?think>", reply)),
    )
