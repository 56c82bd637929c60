"""Run by a test in a process of its own: log-probabilities and gradients of our engine and of verl's for one batch."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

os.environ.update(
    RANK="0",
    WORLD_SIZE="1",
    LOCAL_RANK="0",
    LOCAL_WORLD_SIZE="1",
    RAY_LOCAL_WORLD_SIZE="1",
    MASTER_ADDR="127.0.0.1",
    MASTER_PORT=str(random.randint(20000, 40000)),
)

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from unified_ranker.training.rl.config import compose, settings
from unified_ranker.training.rl.recipe import load_recipe

MODEL = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(MODEL)
labels = tokenizer.convert_tokens_to_ids([f"<{number}>" for number in range(1, 101)])
pad = tokenizer.pad_token_id

TEXTS = ["red fruit<|list|> cherry <1> lime <2> sky <3> <|worst|>", "bees<|list|> honey <1> stone <2> <|worst|>"]
prompts = [
    tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, tokenize=False)
    for text in TEXTS
]
prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
P = [prompts[which] for which in (0, 1, 0, 0, 1, 0)]
R = [[labels[place] for place in places] for places in ((2, 1), (1,), (1, 2), (0, 2), (0,), (2, 0))]


def nested(rows: list[list[int]]) -> torch.Tensor:
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def batch() -> Any:
    responses = [[*row, pad, pad] for row in R]
    sequences = [prompt + response for prompt, response in zip(P, responses, strict=True)]
    mask = nested([[1] * len(row) + [0, 0] for row in R])
    return tu.get_tensordict(
        {
            "prompts": nested(P),
            "responses": nested(responses),
            "input_ids": nested(sequences),
            "position_ids": nested([list(range(len(row))) for row in sequences]),
            "response_mask": mask,
            "loss_mask": mask,
        },
        {"temperature": 1.0, "use_remove_padding": False, "pad_token_id": pad, "calculate_entropy": True},
    )


def engine_of(kind: Any, tokens: list[int], *, learns: str = "all") -> Any:
    config = compose(
        settings(
            load_recipe("iranker-tiny", [f"learns={learns}"]),
            run=Path("run"),
            model=MODEL,
            prompt_tokens=64,
            response_tokens=16,
            label_tokens=tokens,
        )
    )
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.optim.total_training_steps = 10
    made = kind(
        model_config=omega_conf_to_dataclass(config.actor_rollout_ref.model),
        engine_config=actor.engine,
        optimizer_config=actor.optim,
        checkpoint_config=actor.checkpoint,
    )
    made.initialize()
    return made


def answered(engine: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return what verl reads of the responses, and the gradients of a sum of their log-probabilities."""
    data = batch()
    with engine.train_mode():
        inputs, args = engine.prepare_model_inputs(data)
        output = engine.module(**inputs, use_cache=False)
        found = engine.prepare_model_outputs(output, args, data, None)
        wanted = {}
        for name, values in found.items():
            rows = values.unbind()
            wanted[name] = torch.cat(
                [row[len(p) - 1 : len(p) - 1 + len(r)] for row, p, r in zip(rows, P, R, strict=True)]
            )
        (wanted["log_probs"] * torch.linspace(1, 2, len(wanted["log_probs"]))).sum().backward()
        gradients = {
            name: getattr(parameter.grad, "full_tensor", lambda g=parameter.grad: g)()
            for name, parameter in engine.module.named_parameters()
            if parameter.grad is not None
        }
    return {name: value.detach() for name, value in wanted.items()}, gradients


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients.values()])


def by_hand() -> torch.Tensor:
    """Return the log-probability of each label among those that are free, one pass a sequence."""
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    found = []
    with torch.no_grad():
        for prompt, response in zip(P, R, strict=True):
            logits = model(input_ids=torch.tensor([prompt + response])).logits[0]
            for place, token in enumerate(response):
                free = [label for label in labels if label in prompt and label not in response[:place]]
                line = logits[len(prompt) - 1 + place]
                found.append(line[token] - torch.logsumexp(line[free], 0))
    return torch.stack(found)


initialize_global_process_group_ray()
registered = EngineRegistry.get_engine_cls("language_model", "fsdp2")
ours, verls = engine_of(registered, []), engine_of(FSDPEngineWithLMHead, [])
(found, gradients), (other, other_gradients) = answered(ours), answered(verls)
gradient, other_gradient = flat(gradients), flat(other_gradients)
restricted, _ = answered(engine_of(registered, labels))
of_words = engine_of(registered, labels, learns="words")
alone, learned = answered(of_words)
words, dimensions = of_words.module.config.ranking_meanings
(of_embeddings,) = learned.values()
# The two responses of one label to the second prompt name one of its two labels each.
single = [sum(len(row) for row in R[:place]) for place in (1, 4)]
sys.stdout.write(
    json.dumps(
        {
            "engines": [registered.__name__, type(verls).__name__],
            "responses": len(R),
            "log_probs": float((found["log_probs"] - other["log_probs"]).abs().max()),
            "entropy": float((found["entropy"] - other["entropy"]).abs().max()),
            "gradient": float((gradient - other_gradient).abs().max()),
            "gradient_norm": float(other_gradient.norm()),
            "restricted": float((restricted["log_probs"] - by_hand()).abs().max()),
            "alone": float((alone["log_probs"] - restricted["log_probs"]).abs().max()),
            "alone_learned": list(learned),
            "alone_norm": float(of_embeddings[:words, :dimensions].norm()),
            "alone_outside": float(of_embeddings[words:].norm() + of_embeddings[:, dimensions:].norm()),
            "restricted_sum": float(restricted["log_probs"][single].exp().sum()),
        }
    )
)
