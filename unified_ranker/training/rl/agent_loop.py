"""verl's agent loop for ranking: plays a list with the strategy that serves, and pays each step its own reward.

verl starts one loop for each rollout, from the YAML file that
``actor_rollout_ref.rollout.agent.agent_loop_config_path`` names; :mod:`~unified_ranker.training.rl.launch` writes it.
What it gives back are the sequences of :mod:`~unified_ranker.training.rl.play`, with the rewards laid out by
:mod:`~unified_ranker.training.rl.credit`.

verl 0.9.1 would put one reward at the last token of each sequence, and copy the last sequence's over all earlier ones
of the same rollout. :class:`StepRewards` overrides the one method through which rewards become tensors, so that
neither happens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput

from unified_ranker.backends.permute_keys import LABELS_KEY
from unified_ranker.backends.tokenizer import TokenizerTools, check_draws
from unified_ranker.errors import BackendError, OptionError
from unified_ranker.exchange import Request
from unified_ranker.rewards.gain import worth
from unified_ranker.rewards.score import Scorer
from unified_ranker.schema.jsonl import example_from_dict
from unified_ranker.schema.types import RankingExample
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.training.rl.credit import TRAILER, reward_tensor
from unified_ranker.training.rl.mutation import Mutation
from unified_ranker.training.rl.play import Episode, Segment, Tokens, play
from unified_ranker.training.rl.trainable import strategies_by_domain


class StepRewards(AgentLoopOutput):  # type: ignore[misc]  # verl carries no types
    """A sequence whose rewards stand at the ends of its steps.

    ``extra_fields["step_rewards"]`` holds ``[first step, session, [[index of last token, reward], …]]``.
    """

    def as_dict(self) -> dict[str, Any]:
        """Return verl's fields, with ``rm_scores`` of our own."""
        fields: dict[str, Any] = super().as_dict()
        first, session, ends = self.extra_fields["step_rewards"]
        fields["rm_scores"] = reward_tensor(
            len(self.response_ids),
            [(int(place), float(reward)) for place, reward in ends],
            first_step=first,
            session=session,
        )
        return fields


@dataclass(frozen=True)
class _Setting:
    """What all rollouts of a process share."""

    tools: TokenizerTools
    strategies: Mapping[str, Any]
    mutation: Mutation
    scorer: Scorer
    ends: frozenset[int]
    pad: int


@lru_cache(maxsize=4)
def _setting(tokenizer: Any, spec: str) -> _Setting:
    """Build strategies and reward; once a process, since verl makes a loop for every rollout."""
    given = json.loads(spec)
    labels = tuple(given["labels"])
    tools = TokenizerTools(tokenizer, context_tokens=given["context_tokens"], labels=labels)
    strategies = strategies_by_domain(
        given["method"],
        style=given["style"],
        tools=tools,
        token_budget=given["token_budget"],
        options=given["options"],
    )
    eos = tokenizer.eos_token_id
    first = next(iter(strategies.values()))
    answers = first.answers if isinstance(first, Pointwise) else ()
    mutation = Mutation(given["mutation"], group=given["group"], seed=given["seed"], answers=answers)
    return _Setting(
        tools,
        strategies,
        mutation,
        Scorer(given["reward"], given["measure"], answers),
        frozenset() if eos is None else frozenset({int(eos)}),
        tools.pad_id,
    )


class RankingLoop(AgentLoopBase):  # type: ignore[misc]  # verl carries no types
    """Plays one list.

    Args:
        *args: What verl gives every agent loop.
        spec: JSON of the setting: method, options, style, token_budget, context_tokens, labels, reward,
            measure.
        **kwargs: What verl gives every agent loop.
    """

    def __init__(self, *args: Any, spec: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._setting = _setting(self.tokenizer, spec)

    async def run(self, sampling_params: dict[str, Any], **row: Any) -> list[AgentLoopOutput]:
        """Play the row's list; ``sampling_params`` are verl's, those of validation among them.

        Raises:
            OptionError: a prompt or a reply is longer than verl's configuration allows.
        """
        setting = self._setting
        example = example_from_dict(json.loads(row["extra_info"]["example"]), where="verl row")
        strategy = setting.strategies[example.domain]
        spans: list[dict[str, Any]] = []
        session = int(row.get("session_id", 0))
        mutated = setting.mutation.holds(session)

        async def ask(prompt: list[int], request: Request) -> Tokens:
            out = await self.server_manager.generate(
                request_id=uuid4().hex,
                prompt_ids=prompt,
                sampling_params={**sampling_params, **self._restrict(request)},
            )
            spans.append(out.extra_fields)
            if not out.token_ids:
                raise BackendError(f"example {example.id!r}: the engine gave nothing back ({out.stop_reason})")
            if mutated:
                return setting.mutation.apply(example, strategy, prompt, tuple(out.token_ids), setting.tools, session)
            return Tokens(tuple(out.token_ids), tuple(out.log_probs or ()), cut=out.stop_reason == "length")

        episode = await play(
            strategy,
            example,
            reader=setting.tools,
            ask=ask,
            score=lambda played, ranking: setting.scorer.ranking(strategy.parse, played, ranking),
            ends=setting.ends,
        )
        extra = dict(spans[-1])
        for name, pick in (("min_global_steps", min), ("max_global_steps", max)):
            steps = [span[name] for span in spans if span.get(name) is not None]
            if steps:
                extra[name] = pick(steps)
        report = report_of(example, episode)
        total = sum(turn.reward.total for turn in episode.turns)
        return [self._output(segment, extra, report, total, session) for segment in episode.segments]

    def _output(
        self, segment: Segment, extra: dict[str, Any], report: dict[str, float], total: float, session: int
    ) -> AgentLoopOutput:
        if len(segment.prompt) > self.rollout_config.prompt_length:
            raise OptionError(
                f"a prompt has {len(segment.prompt)} tokens, data.max_prompt_length is "
                f"{self.rollout_config.prompt_length}"
            )
        length = len(segment.response) + TRAILER
        if length > self.rollout_config.response_length:
            raise OptionError(
                f"a response has {length} tokens, data.max_response_length is {self.rollout_config.response_length}"
            )
        ends = [[turn.end - 1, turn.reward.total] for turn in segment.turns]
        return StepRewards(
            prompt_ids=segment.prompt,
            response_ids=[*segment.response, *[self._setting.pad] * TRAILER],
            response_mask=[*segment.mask, *[0] * TRAILER],
            response_logprobs=[*segment.logprobs, *[0.0] * TRAILER],
            # Not None, so that verl does not ask for a reward of its own; the tensor is made in StepRewards.
            reward_score=total,
            num_turns=len(segment.turns),
            metrics=AgentLoopMetrics(),
            extra_fields={
                **extra,
                "step_rewards": [segment.turns[0].step, session, ends],
                "reward_extra_info": report,
                "turn_scores": [turn.reward.total for turn in segment.turns],
                "tool_rewards": [],
            },
        )

    def _restrict(self, request: Request) -> dict[str, Any]:
        """Return the engine's options that a request asks for."""
        options: dict[str, Any] = {"max_tokens": request.max_tokens}
        if request.stop:
            options |= {"stop": list(request.stop), "include_stop_str_in_output": True}
        if not request.choices:
            return options
        tools = self._setting.tools
        if request.draws > 1:
            check_draws(request, tools)
        if not tools.spells_longer(request):
            tokens = [tools.spell(choice, after=request.reply_prefix)[0] for choice in request.choices]
            if request.draws > 1:
                return {"max_tokens": request.draws, "ignore_eos": True, "extra_args": {LABELS_KEY: tokens}}
            return {"max_tokens": 1, "allowed_token_ids": tokens}
        from vllm.sampling_params import StructuredOutputsParams

        return {**options, "structured_outputs": StructuredOutputsParams(choice=list(request.choices))}


def report_of(example: RankingExample, episode: Episode) -> dict[str, float]:
    """Return what verl logs of a rollout: the parts of its rewards (mean over its steps), its form and its measures."""
    turns = episode.turns
    if not turns:
        return {}
    names = turns[0].reward.parts
    report = {name: sum(turn.reward.parts[name] for turn in turns) / len(turns) for name in names}
    outcomes = [step.outcome for step in episode.ranking.steps]
    among = [example.grade(candidate.id) for candidate in example.candidates]
    grades = [example.grade(candidate.id) for candidate in episode.ranking.order]
    return {
        **report,
        "step_reward": sum(turn.reward.total for turn in turns) / len(turns),
        "well_formed": outcomes.count("ok") / len(outcomes),
        "rr": worth(grades, among=among, measure="rr"),
        "ndcg": worth(grades, among=among, measure="ndcg"),
    }
