"""Supervised fine-tuning: the same loop for the embedded model and for larger ones; the recipe alone differs."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from unified_ranker.backends.tokenizer import TokenizerTools, load_tokenizer
from unified_ranker.errors import RecipeError
from unified_ranker.files import write_whole
from unified_ranker.model_settings import EMBEDDED, ModelSettings, embedded_path, read_settings, write_settings
from unified_ranker.prompts import PromptWriter, choose_labels, load_template
from unified_ranker.schema.types import DOMAINS, RankingExample
from unified_ranker.strategies.pointwise import Pointwise
from unified_ranker.strategies.registry import method_named
from unified_ranker.tasks.build import read_split
from unified_ranker.training.alike import first_look
from unified_ranker.training.architecture import Architecture
from unified_ranker.training.bags import BagMaker
from unified_ranker.training.data_note import Note, note_of, parts_of, to_go_on, write_note
from unified_ranker.training.encode import Encoded, encode, encode_grade
from unified_ranker.training.kept import Kept, save_whole
from unified_ranker.training.lists import balanced, random_case
from unified_ranker.training.losses import label_loss, readout_loss, vocabulary_loss
from unified_ranker.training.mixture import Mixture
from unified_ranker.training.recipe import Recipe
from unified_ranker.training.start import NOTED, Words, make_model
from unified_ranker.training.tokenizer import label_names
from unified_ranker.training.vocabulary import Vocabulary, vocabulary_of
from unified_ranker.training.warming import kept_as, warmed_words

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Sequences that are encoded together and sorted by length before batches are cut, so that little is padding.
POOL = 96


class Trainer:
    """One supervised run.

    Args:
        recipe: What to do.
        data: Folder of built tasks.
        out: Folder of the run: ``data.yaml`` (hashes of what it reads), ``log.jsonl``, ``checkpoint/`` and, at the end,
            ``model/``.
        device: Where to train; an accelerator by default, where there is one.
        on_log: Called with each record of the log.

    Raises:
        MissingSourceError: a task of the recipe is not built in ``data``.
        DataError: a task has no training lists, or ``out`` holds warm-ups on other data.
        RecipeError: the recipe's model cannot be made, or ``out`` holds warm-ups of another recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        data: Path,
        out: Path,
        device: str | None = None,
        on_log: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self._checkpoint = out / "checkpoint" / "state.pt"
        self.on_log = on_log
        self.tokens = self.step = 0
        self.seconds = 0.0
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.out.mkdir(parents=True, exist_ok=True)
        self.rng = random.Random(recipe.seed)
        self.mixture = Mixture(recipe, data, self.rng)
        self._note: Note | None = note_of(data, parts_of(recipe, self.mixture.built))
        run = {"recipe": recipe.to_dict(), "data": self._note}
        self._kept = Kept(self._checkpoint.parent, run, self._check_same)
        self.architecture = None if recipe.model.source else _architecture(recipe)
        self.vocabulary = Vocabulary()
        self.tokenizer, self.labels, context = self._read()
        self.tools = TokenizerTools(self.tokenizer, context_tokens=context, labels=self.labels)
        self.label_rows = self.tokenizer.convert_tokens_to_ids(list(self.labels))
        main = max(recipe.methods, key=lambda name: recipe.methods[name])
        self.settings = ModelSettings(
            method=main,
            style=recipe.prompts.style,
            token_budget=recipe.prompts.token_budget,
            labels=self.labels,
            options=_options(recipe, main),
        )
        self.writers = {
            (method, domain): PromptWriter(
                load_template(recipe.prompts.style, method_named(method).template, domain),
                self.tools,
                recipe.prompts.token_budget,
            )
            for method in recipe.methods
            for domain in DOMAINS
        }
        self.model = self._start().to(self.device, DTYPES[recipe.model.dtype]).train()
        self.optimizer = self._optimizer()
        self.average: dict[str, torch.Tensor] = {}
        self._pending: list[list[Encoded]] = []

    def _read(self) -> tuple[Any, tuple[str, ...], int]:
        """Return the tokenizer, the labels of its own, and the most tokens of prompt and reply."""
        if self.architecture is not None:
            labels = self.architecture.labels
            self.vocabulary = vocabulary_of(self.mixture.built, self.mixture.chosen(), self.recipe.words)
            tokenizer = self.vocabulary.tokenizer(labels)
            return tokenizer, label_names(labels), self.architecture.context
        from transformers import AutoConfig

        source = self._source
        context = int(AutoConfig.from_pretrained(source).max_position_embeddings)
        return load_tokenizer(source), read_settings(source).labels, context

    @property
    def _source(self) -> str:
        source = self.recipe.model.source
        return str(embedded_path()) if source == EMBEDDED else source

    def _start(self) -> Any:
        if self.architecture is None:
            from transformers import AutoModelForCausalLM

            return AutoModelForCausalLM.from_pretrained(self._source, dtype=torch.float32)
        # A run that goes on takes all weights from its checkpoint.
        fresh = not self._checkpoint.is_file()
        words = None
        if fresh and self.recipe.model.embeddings == "minilm":
            words = self._words(self.architecture)
        return make_model(self.architecture, self.tokenizer, seed=self.recipe.seed, words=words)

    def _words(self, architecture: Architecture) -> Words:
        """Return what is known of words before the model starts."""
        histories = self.mixture.histories() if self.recipe.words.together else {}
        part = self.recipe.words
        vectors = self.vocabulary.vectors(architecture.content, histories, window=part.window, power=part.power)
        # Names are not compared one by one: they stand for what was chosen together, words for what they mean.
        plain = vectors[: len(vectors) - len(self.vocabulary.names)]
        words = Words(vectors=vectors, look=first_look(plain, len(architecture.alike)))
        if not self.recipe.words.lists:
            return words
        # Bags hold what stands in a list, whatever is asked about it; a grade shows one candidate and has none.
        method = next((name for name in self.recipe.methods if name != "pointwise"), "")
        if not method:
            raise RecipeError("words.lists needs a method that shows whole lists; set words.lists=0")
        writers = {domain: self.writers[method, domain] for domain in DOMAINS}
        maker = BagMaker(writers, self.tools, sharpness=self.recipe.loss.sharpness)
        told = self._cut_log(lambda record: kept_as(record, self.recipe) in self._kept)
        self.seconds = told[-1]["seconds"] if told else 0.0
        before, began = self.seconds, time.perf_counter()

        def log(record: dict[str, Any]) -> None:
            self.seconds = before + time.perf_counter() - began
            self._log(record)

        return warmed_words(
            self.recipe,
            self.mixture,
            words,
            maker,
            architecture,
            data=self.data,
            scratch=self.out / "teachers",
            kept=self._kept,
            on_log=log,
        )

    def _encode(self, example: RankingExample, method: str) -> Encoded:
        if method == "pointwise":
            return encode_grade(
                example,
                balanced(example, self.rng),
                strategy=Pointwise(writer=self.writers[method, example.domain], top_grade=self.recipe.top_grade),
                tools=self.tools,
                labels=self.labels or ("A",),
                rng=self.rng,
                end=self.tokenizer.eos_token_id,
            )
        return encode(
            example,
            method=method,
            writer=self.writers[method, example.domain],
            tools=self.tools,
            labels=self.labels or choose_labels(len(example.candidates), self.tools, after=("",)),
            rng=self.rng,
            end=self.tokenizer.eos_token_id,
            distil=self.recipe.loss.distil,
        )

    def _optimizer(self) -> torch.optim.AdamW:
        part = self.recipe.optimizer
        slow_last = part.last_layer_factor != 1 or part.last_layer_from > 0
        last = {id(p) for p in self.model.model.layers[-1].parameters()} if slow_last else set()
        words = self.model.get_input_embeddings().weight
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in self.model.parameters():
            if parameter is not words:
                groups.setdefault((id(parameter) in last, parameter.ndim >= 2), []).append(parameter)
        peak = part.learning_rate
        return torch.optim.AdamW(
            [
                {"params": [words], "peak": peak * part.words_factor, "from": 0.0, "weight_decay": 0.0},
                *(
                    {
                        "params": parameters,
                        "peak": peak * (part.last_layer_factor if slow else 1.0),
                        "from": part.last_layer_from if slow else 0.0,
                        "weight_decay": part.weight_decay if matrix else 0.0,
                    }
                    for (slow, matrix), parameters in groups.items()
                ),
            ],
            lr=part.learning_rate,
            betas=(part.beta1, part.beta2),
        )

    def rate(self, done: float) -> float:
        """Return the learning rate, as a share of the peak, after a share of the run: a linear rise, then a cosine."""
        part = self.recipe.optimizer
        if done < part.warmup:
            return (done + 1e-9) / part.warmup
        falling = (done - part.warmup) / max(1e-9, 1 - part.warmup)
        return part.final + (1 - part.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, falling)))

    def _next_batch(self) -> list[Encoded]:
        if not self._pending:
            pool = sorted((self._draw() for _ in range(POOL)), key=lambda entry: len(entry.tokens))
            batches: list[list[Encoded]] = [[]]
            for entry in pool:
                if batches[-1] and (len(batches[-1]) + 1) * len(entry.tokens) > self.recipe.batch_tokens:
                    batches.append([])
                batches[-1].append(entry)
            self.rng.shuffle(batches)
            self._pending = batches
        return self._pending.pop()

    def _draw(self) -> Encoded:
        methods = self.recipe.methods
        task = self.mixture.task()
        method = self.rng.choices(list(methods), list(methods.values()))[0]
        example = self.mixture.example(task)
        # A grade's list has no size; and runs without subsets draw the same numbers as ever.
        if self.recipe.subsets and method != "pointwise" and self.rng.random() < self.recipe.subsets:
            example = random_case(example, self.rng)
        return self._encode(example, method)

    def loss(self, batch: list[Encoded]) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of a batch and its parts.

        Parts: ``labels`` (cross-entropy of the labels in play against those that are right, in nats above the best
        attainable), ``vocabulary``, ``readout`` and ``readout_top`` (share of lists whose best candidate the readout
        puts first).
        """
        weights = self.recipe.loss
        width = max(len(entry.tokens) for entry in batch)
        pad = self.tools.pad_id
        ids = torch.tensor(
            [[*entry.tokens, *[pad] * (width - len(entry.tokens))] for entry in batch], device=self.device
        )
        # Padding stands at the end, where a causal model's other tokens cannot see it; no mask is needed.
        out = self.model.model(input_ids=ids, output_hidden_states=bool(weights.readout))
        head = self.model.get_output_embeddings().weight
        if weights.frozen_output:
            head = head.detach()
        parts: dict[str, float] = {}

        labels = label_loss(batch, out.last_hidden_state, head)
        parts["labels"] = float(labels.detach())
        total = labels
        if weights.vocabulary:
            vocabulary = vocabulary_loss(batch, out.last_hidden_state, head, self.rng)
            parts["vocabulary"] = float(vocabulary.detach())
            total = total + weights.vocabulary * vocabulary
        if weights.readout:
            assert self.architecture is not None
            before_last = out.hidden_states[-2]
            scale = before_last.float().pow(2).mean(-1).add(1e-6).rsqrt()
            relevance = before_last[..., self.architecture.relevance].float() * scale / NOTED
            readout, parts["readout_top"] = readout_loss(batch, relevance, weights.sharpness)
            parts["readout"] = float(readout.detach())
            total = total + weights.readout * readout
        return total, parts

    def run(self) -> Path:
        """Train to the end, going on from the last checkpoint of ``out`` where there is one.

        Returns:
            The folder of the trained model.

        Raises:
            RecipeError: ``out`` holds a run of another recipe.
            DataError: it holds one that was started with other data.
        """
        self._resume()
        write_note(self._note, self.out)
        recipe, window, began = self.recipe, list[dict[str, float]](), time.perf_counter()
        before = self.seconds
        while self.tokens < recipe.tokens:
            batch = self._next_batch()
            share = self.rate(self.tokens / recipe.tokens)
            for group in self.optimizer.param_groups:
                group["lr"] = group["peak"] * share if self.tokens >= group["from"] * recipe.tokens else 0.0
            total, parts = self.loss(batch)
            self.optimizer.zero_grad(set_to_none=True)
            total.backward()  # type: ignore[no-untyped-call]
            if recipe.optimizer.frozen_labels:
                self._keep_labels()
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.optimizer.clip)
            self.optimizer.step()
            self._update_average()
            earlier, self.step = self.tokens, self.step + 1
            self.tokens += sum(len(entry.tokens) for entry in batch)
            self.seconds = before + time.perf_counter() - began
            window.append({**parts, "gradient": float(norm)})
            done = self.tokens >= recipe.tokens
            if self.step % 50 == 0 or done:
                means = {key: sum(entry[key] for entry in window) / len(window) for key in window[0]}
                self._log({"kind": "train", **means, "rate": share})
                window = []
            if _passed(earlier, self.tokens, recipe.validate_every) or done:
                self._log({"kind": "validation", **self.validate()})
            if _passed(earlier, self.tokens, recipe.checkpoint_every) or done:
                self._save()
        return self.export(self.out / "model")

    def _keep_labels(self) -> None:
        """Let the labels, and the dimensions that carry their identity to the last layer, stay as they are."""
        words = self.model.get_input_embeddings().weight.grad
        words[self.label_rows] = 0
        if self.architecture is None:
            return
        words[:, self.architecture.content :] = 0
        for layer in self.model.model.layers[:-1]:
            layer.self_attn.o_proj.weight.grad[self.architecture.identity] = 0
            layer.self_attn.o_proj.bias.grad[self.architecture.identity] = 0
            layer.mlp.down_proj.weight.grad[self.architecture.identity] = 0

    def _update_average(self) -> None:
        if not self.recipe.average:
            return
        # Early on a long average would still hold the start; its length grows with the run.
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if name not in self.average:
                self.average[name] = value.detach().clone()
            else:
                self.average[name].lerp_(value, 1 - decay)

    def _log(self, record: Mapping[str, Any]) -> None:
        line = {"step": self.step, "tokens": self.tokens, "seconds": round(self.seconds, 1), **_rounded(record)}
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.on_log is not None:
            self.on_log(line)

    def _weights(self) -> dict[str, torch.Tensor]:
        return self.average if self.average else self.model.state_dict()

    def validate(self) -> dict[str, float]:
        """Return the MRR of each task, and their mean as ``macro``, on the first validation lists.

        Ranks through the very path that serves.
        """
        from unified_ranker.backends.transformers import TransformersBackend
        from unified_ranker.ranker import Ranker
        from unified_ranker.training.mrr import reciprocal_ranks, with_macro

        current = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self._weights())
        backend = TransformersBackend(self.model, self.tokenizer, labels=self.labels)
        ranker = Ranker(backend, settings=self.settings)
        lists = {
            task: list(read_split(self.data, task, "validation"))[: self.recipe.validate_lists]
            for task in self.mixture.built
        }
        found = with_macro(reciprocal_ranks(ranker, lists))
        self.model.load_state_dict(current)
        self.model.train()
        return found

    def _save(self) -> None:
        self._checkpoint.parent.mkdir(exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "rng": self.rng.getstate(),
            "torch": torch.get_rng_state(),
            "pending": self._pending,
            "step": self.step,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "recipe": self.recipe.to_dict(),
            "data": self._note,
        }
        save_whole(self._checkpoint, state)
        # The checkpoint holds what came of it.
        self._kept.clear()

    def _check_same(self, run: Mapping[str, Any]) -> None:
        """Check that what lies in the folder is of this very run, and take up its note of the data."""
        if run["recipe"] != self.recipe.to_dict():
            raise RecipeError(
                f"{str(self.out)!r} holds a run of another recipe; choose another --out, or the recipe it was "
                "started with"
            )
        assert self._note is not None
        self._note = to_go_on(self._note, run.get("data"), self.out)

    def _resume(self) -> None:
        path = self._checkpoint
        if not path.is_file():
            # What came before the first step is at hand.
            self._cut_log(lambda record: record["step"] == 0)
            return
        # Our own file, which holds Python objects besides tensors.
        state = torch.load(path, map_location=self.device, weights_only=False)
        self._check_same(state)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average, self._pending = state["average"], state["pending"]
        self.rng.setstate(state["rng"])
        torch.set_rng_state(state["torch"].cpu())
        self.step, self.tokens, self.seconds = state["step"], state["tokens"], state["seconds"]
        self._cut_log(lambda record: record["step"] <= self.step)

    def _cut_log(self, done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """Drop what was logged of what is not done: the run goes through it again. Return what is left."""
        log = self.out / "log.jsonl"
        if not log.is_file():
            return []
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        left = [line for line in lines if line.endswith("\n") and done(json.loads(line))]
        write_whole(log, "".join(left))
        return [json.loads(line) for line in left]

    def export(self, folder: Path) -> Path:
        """Write a plain transformers folder, in bfloat16, with ``ranker.json``, the recipe and the hashes of the data.

        What is written loads with ``AutoModelForCausalLM`` and in vLLM as it is.
        """
        import yaml

        current = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self._weights())
        self.model.to(torch.bfloat16).save_pretrained(folder)
        # The weights are written for their owner alone, which a package cannot use.
        for file in folder.glob("*.safetensors"):
            file.chmod(0o644)
        self.model.to(DTYPES[self.recipe.model.dtype]).load_state_dict(current)
        self.tokenizer.save_pretrained(folder)
        write_settings(folder, self.settings)
        (folder / "recipe.yaml").write_text(yaml.safe_dump(self.recipe.to_dict(), sort_keys=False), encoding="utf-8")
        write_note(self._note, folder)
        return folder


def _options(recipe: Recipe, main: str) -> dict[str, Any]:
    return {"pointwise": {"top_grade": recipe.top_grade}, "setwise": {}}.get(main, {"layout": "append"})


def _architecture(recipe: Recipe) -> Architecture:
    try:
        return Architecture(**recipe.model.architecture)
    except TypeError as error:
        raise RecipeError(f"model.architecture: {error}") from error


def _passed(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _rounded(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 5) if isinstance(value, float) else value for key, value in record.items()}
