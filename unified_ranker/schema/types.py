"""The frozen types that every part of the package speaks: a list goes in, a ranking comes out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unified_ranker.errors import DataError

DOMAINS = ("recommendation", "routing", "passage")
SPLITS = ("train", "validation", "test")

Outcome = Literal["ok", "repaired", "failed"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that can be ranked.

    Attributes:
        id: The candidate's identity. Texts may repeat, ids may not.
        text: What a reader needs to judge it: a passage, a genre list, a model's description.
        title: A short name, where there is one. Prompts show ``title: text``.
    """

    id: str
    text: str
    title: str = ""

    @property
    def called(self) -> str:
        """What it is called where one name has to do: its title, or its text where it has none."""
        return self.title or self.text


@dataclass(frozen=True, slots=True)
class RankingExample:
    """A query and the candidates to be ranked for it.

    Attributes:
        id: Identity of the example, unique within a file.
        query: What the candidates are ranked for.
        candidates: The list, in the order in which it was found (first-stage or shuffled).
        task: The data set it belongs to, such as ``"movie"``; empty for a user's own list.
        domain: One of :data:`DOMAINS`; decides which prompt is used.
        context: What is known besides the query, oldest first: a user's history, for example.
        relevance: Grade (≥ 0, higher is better) by candidate id. A candidate without an entry is unjudged and
            counts as 0. Empty where nothing is known.
        split: One of :data:`SPLITS`.
        group: What must never be split between training and test: the user, the question, the claim.
    """

    id: str
    query: str
    candidates: tuple[Candidate, ...]
    task: str = ""
    domain: str = "passage"
    context: tuple[str, ...] = ()
    relevance: Mapping[str, float] = field(default_factory=dict)
    split: str = "test"
    group: str = ""

    def grade(self, candidate_id: str) -> float:
        """Return the relevance of a candidate, 0 where it was not judged."""
        return float(self.relevance.get(candidate_id, 0.0))

    def with_candidates(self, candidates: tuple[Candidate, ...]) -> RankingExample:
        """Return the same example over another list; relevance is restricted to what is in it."""
        kept = {c.id for c in candidates}
        return replace(
            self,
            candidates=candidates,
            relevance={key: grade for key, grade in self.relevance.items() if key in kept},
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a ranking cost. Sums over all calls of one query.

    Attributes:
        calls: Requests that a backend answered.
        prompt_tokens: Tokens of all prompts, whether computed or reused.
        reused_tokens: Those of them that came from a key/value cache.
        generated_tokens: Tokens that the model wrote.
        repaired_steps: Steps whose reply had to be repaired.
        failed_steps: Steps whose reply could not be used at all.
        truncated_candidates: Candidate texts that were shown cut, counted in each prompt that was written.
        dropped_history: Oldest entries of the context that were left out, likewise.
        truncated_queries: Prompts whose query was cut.
        seconds: Wall time between the first request and the last reply of this query. Queries of one batch
            share it, so these times do not add up to the batch's.
    """

    calls: int = 0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    generated_tokens: int = 0
    repaired_steps: int = 0
    failed_steps: int = 0
    truncated_candidates: int = 0
    dropped_history: int = 0
    truncated_queries: int = 0
    seconds: float = 0.0

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that went through the model."""
        return self.prompt_tokens - self.reused_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            reused_tokens=self.reused_tokens + other.reused_tokens,
            generated_tokens=self.generated_tokens + other.generated_tokens,
            repaired_steps=self.repaired_steps + other.repaired_steps,
            failed_steps=self.failed_steps + other.failed_steps,
            truncated_candidates=self.truncated_candidates + other.truncated_candidates,
            dropped_history=self.dropped_history + other.dropped_history,
            truncated_queries=self.truncated_queries + other.truncated_queries,
            seconds=self.seconds + other.seconds,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One turn of the conversation that made a ranking.

    Attributes:
        index: Number of the step, from 0.
        reply: What the model wrote, word for word.
        outcome: ``ok``; ``repaired`` where part of the reply could be used; ``failed`` where none could.
        reason: Why it was repaired or failed; empty for ``ok``.
        chosen: Ids that this step settled: the candidate eliminated, or the whole order.
        in_play: How many candidates stood at the start of the step.
        reasoning: The model's thoughts, where it was asked for them.
        logprobs: Log-probability of each candidate id as this step's answer, where the backend gives it.
        attempts: Requests this step took (more than 1 only with ``on_error="retry"``).
        labels: Id of the candidate under each label in play, in the order of the list. Not written to files.
    """

    index: int
    reply: str
    outcome: Outcome
    reason: str = ""
    chosen: tuple[str, ...] = ()
    in_play: int = 0
    reasoning: str = ""
    logprobs: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankedCandidate:
    """A candidate in its place.

    Attributes:
        candidate: The candidate.
        rank: Its place, from 1.
        score: Higher is better, strictly decreasing with the rank; what it means depends on the strategy.
    """

    candidate: Candidate
    rank: int
    score: float

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.candidate.id

    @property
    def text(self) -> str:
        """The candidate's text."""
        return self.candidate.text


@dataclass(frozen=True, slots=True)
class Ranking:
    """A permutation of the candidates, best first, with the trace of how it came about.

    Iterating gives :class:`RankedCandidate`, best first. The order always holds each input candidate exactly
    once; ``top_k`` only limits what iterating, :meth:`to_dict` and :meth:`to_trec` show.

    Attributes:
        example_id: Id of the example that was ranked.
        order: All candidates, best first.
        scores: One score per candidate of ``order``, strictly decreasing.
        steps: The trace, in order of time.
        usage: What it cost.
        top_k: How many places are shown; None for all.
        method: Name of the strategy.
    """

    example_id: str
    order: tuple[Candidate, ...]
    scores: tuple[float, ...]
    steps: tuple[Step, ...] = ()
    usage: Usage = Usage()
    top_k: int | None = None
    method: str = ""

    def __post_init__(self) -> None:
        ids = [c.id for c in self.order]
        if len(set(ids)) != len(ids):
            raise DataError(f"ranking of {self.example_id!r}: order holds an id twice: {ids}")
        if len(self.scores) != len(ids):
            raise DataError(f"ranking of {self.example_id!r}: {len(ids)} candidates but {len(self.scores)} scores")
        # Not "a <= b": a comparison with NaN is false either way.
        rising = any(not a > b for a, b in zip(self.scores, self.scores[1:], strict=False))
        if rising or any(score != score for score in self.scores):
            raise DataError(f"ranking of {self.example_id!r}: scores must strictly decrease: {self.scores}")

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the places shown, best first."""
        return tuple(c.id for c in self.order[: self.top_k])

    def __iter__(self) -> Iterator[RankedCandidate]:
        for place, (candidate, score) in enumerate(zip(self.order, self.scores, strict=True), start=1):
            if self.top_k is not None and place > self.top_k:
                return
            yield RankedCandidate(candidate, place, score)

    def __len__(self) -> int:
        return len(self.order) if self.top_k is None else min(self.top_k, len(self.order))

    def __getitem__(self, index: int) -> RankedCandidate:
        return list(self)[index]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types, ready for ``json.dumps``."""
        from unified_ranker.schema.jsonl import ranking_to_dict

        return ranking_to_dict(self)

    def to_trec(self, *, tag: str = "unified-ranker") -> str:
        """Return lines of a TREC run, ``query Q0 document rank score tag``, each ending in a newline.

        Args:
            tag: Name of the run, without white space.

        Raises:
            DataError: an id is empty or holds white space, which a run file cannot express.
        """
        from unified_ranker.schema.trec import run_lines

        return run_lines(self, tag=tag)


def places_below(n: int) -> tuple[float, ...]:
    """Return the score of each place of a ranking of ``n``: how many candidates stand below it.

    The methods that only order have no finer score to give.

    Example:
        >>> places_below(3)
        (2.0, 1.0, 0.0)
    """
    return tuple(float(n - 1 - place) for place in range(n))
