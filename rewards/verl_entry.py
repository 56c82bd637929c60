"""The one entry for verl's reward managers: ``compute_score``.

Named in a verl configuration by package,
``reward.custom_reward_function.path=pkg://unified_ranker.rewards.verl_entry``, or by the path of this file;
``reward.custom_reward_function.name=compute_score`` in either case. It needs nothing but the row:
``reward_model.ground_truth`` holds what :func:`ground_truth` wrote.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from unified_ranker.rewards.reward import Reward
from unified_ranker.rewards.score import REWARDS, Scorer

from unified_ranker.errors import DataError, OptionError
from unified_ranker.parsing import opening, parse_label, parse_order
from unified_ranker.schema.types import Candidate, RankingExample, Step

_FIELDS = ("reward", "measure", "reasoning", "joined", "runs_on", "labels", "ids", "grades")


def ground_truth(
    example: RankingExample,
    labels: Mapping[str, str],
    *,
    scorer: Scorer,
    reasoning: bool,
    joined: bool,
    runs_on: bool = False,
) -> dict[str, Any]:
    """Return what a row has to carry so that a reply to it can be scored.

    Args:
        example: The list as it is shown.
        labels: Id of the candidate under each label, in the order in which they are listed.
        scorer: The reward.
        reasoning: Whether thoughts and answer tags are asked for.
        joined: Whether labels are written without a separator.
        runs_on: Whether a reply may run on into steps to come, of which the first alone counts.
    """
    return {
        "reward": scorer.reward,
        "measure": scorer.measure,
        "reasoning": reasoning,
        "joined": joined,
        "runs_on": runs_on,
        "labels": list(labels),
        "ids": list(labels.values()),
        "grades": [float(example.grade(id)) for id in labels.values()],
    }


def compute_score(
    data_source: Any = None,
    solution_str: Any = None,
    ground_truth: Any = None,
    extra_info: Any = None,
    **_: Any,
) -> Any:
    """Score one response, or many.

    Args:
        data_source: Name of the task; the reward does not depend on it.
        solution_str: The response, without the prompt; or a list or array of responses.
        ground_truth: What :func:`ground_truth` returned, as a mapping (of lists or of arrays) or as JSON; as many as
            there are responses.
        extra_info: Not used.
        **_: What else verl hands over.

    Returns:
        ``{"score": total, …}`` with each part under its name; a list of such where ``solution_str`` is one.

    Raises:
        DataError: the ground truth is malformed.
        OptionError: it names a reward or a measure that is not known.

    Example:
        >>> truth = {"reward": "binary", "measure": "ndcg", "reasoning": False, "joined": False, "runs_on": False,
        ...          "labels": ["A", "B"], "ids": ["x", "y"], "grades": [1.0, 0.0]}
        >>> compute_score("movie", "B", truth)["score"]
        1.0
    """
    if not isinstance(solution_str, str):
        if solution_str is None or ground_truth is None:
            raise DataError("fields 'solution_str' and 'ground_truth' are needed: a response and its truth, or lists")
        replies, truths = list(solution_str), list(ground_truth)
        if len(replies) != len(truths):
            raise DataError(f"{len(replies)} responses for {len(truths)} ground truths; give one for each")
        return [compute_score(None, str(reply), truth) for reply, truth in zip(replies, truths, strict=True)]
    reward = _score(solution_str, _read(ground_truth))
    return {"score": reward.total, **reward.parts}


def _read(given: Any) -> dict[str, Any]:
    if isinstance(given, (str, bytes)):
        try:
            given = json.loads(given)
        except ValueError as error:
            raise DataError(f"field 'ground_truth' is not JSON: {error}") from error
    if not isinstance(given, Mapping):
        raise DataError(f"field 'ground_truth' is {given!r}; it must be a mapping")
    for name in _FIELDS:
        if name not in given:
            raise DataError(f"field 'ground_truth.{name}' is missing")
    labels = _list(given["labels"], "labels", str)
    ids = _list(given["ids"], "ids", str)
    grades = _list(given["grades"], "grades", (int, float))
    if not all(math.isfinite(grade) for grade in grades):
        raise DataError(f"field 'ground_truth.grades' is {grades!r}; grades must be finite")
    if not labels or not len(labels) == len(ids) == len(grades) == len(set(labels)) == len(set(ids)):
        raise DataError(
            f"field 'ground_truth' has {len(labels)} labels, {len(ids)} ids and {len(grades)} grades; "
            "give each candidate one label, one id and one grade"
        )
    return {**given, "labels": labels, "ids": ids, "grades": grades}


def _list(value: Any, name: str, kind: type | tuple[type, ...]) -> list[Any]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise DataError(f"field 'ground_truth.{name}' is {value!r}; it must be a list")
    # Arrays hold numbers and strings of their own kinds.
    found = [entry.item() if hasattr(entry, "item") else entry for entry in value]
    for entry in found:
        if not isinstance(entry, kind) or isinstance(entry, bool):
            raise DataError(f"field 'ground_truth.{name}' holds {entry!r}, which it cannot hold")
    return found


def _score(reply: str, truth: Mapping[str, Any]) -> Reward:
    labels: Sequence[str] = [str(label) for label in truth["labels"]]
    ids = [str(id) for id in truth["ids"]]
    example = RankingExample(
        id="row",
        query="",
        candidates=tuple(Candidate(id, id) for id in ids),
        relevance={id: float(grade) for id, grade in zip(ids, truth["grades"], strict=True)},
    )
    scorer = Scorer(str(truth["reward"]), truth["measure"])
    step = Step(index=0, reply=reply, outcome="ok", labels=dict(zip(labels, ids, strict=True)))
    if REWARDS[scorer.reward] == "pointwise":
        raise OptionError(
            f"reward={scorer.reward!r} judges a grade by those of the whole list, which verl's own loop does not know; "
            "rows of the agent loop of this package carry it"
        )
    if REWARDS[scorer.reward] == "dranker":
        order = parse_order(reply, labels, reasoning=bool(truth["reasoning"]), joined=bool(truth["joined"]))
        return scorer.step(example, step, order)
    text = opening(reply, labels, joined=bool(truth["joined"])) if truth["runs_on"] else reply
    return scorer.step(example, step, parse_label(text, labels, reasoning=bool(truth["reasoning"])))
