"""Recipes: everything that decides a training run, in one YAML file that is checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from unified_ranker.errors import OptionError, RecipeError
from unified_ranker.strategies.registry import TRAINED
from unified_ranker.tasks.registry import task_named
from unified_ranker.training.recipe_file import build, names_in, read_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPart:
    """Where the model starts.

    Attributes:
        source: Folder or hub name of a checkpoint to go on from, or ``"embedded"`` for the model of the package; empty
            to start a small model.
        architecture: Fields of :class:`~unified_ranker.training.architecture.Architecture`, for a model that starts
            here.
        embeddings: ``"minilm"`` or ``"random"`` word embeddings, for a model that starts here.
        dtype: Precision of training: ``"float32"`` or ``"bfloat16"``.
    """

    source: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    embeddings: str = "minilm"
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptPart:
    """How lists are shown; the trained model carries it along in ``ranker.json``."""

    style: str = "natural"
    token_budget: int = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherPart:
    """Who teaches the warm-up in place of measured grades; see :mod:`~unified_ranker.training.teachers`.

    Attributes:
        of: Baselines, each with its options, such as ``[{"logistic-router": {}}]``; the mean of their scores teaches.
        odds: The scores are probabilities, and the distribution over the candidates is the softmax of their log odds
            and not of themselves.
        temperature: Of that softmax, in units of the scores, or in nats of log odds.
    """

    of: Sequence[Mapping[str, Mapping[str, Any]]] = field(default_factory=list)
    odds: bool = False
    temperature: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WordsPart:
    """The words of a model that starts here, and warming them up; see :mod:`~unified_ranker.training.words`.

    Attributes:
        further: Most words of the training lists that MiniLM's vocabulary breaks into pieces, names above all, and that
            become tokens of their own; 0 for none.
        names: Most names of candidates, whole titles above all, that become tokens of their own, see
            :mod:`~unified_ranker.names`; 0 for none.
        least: How often such a word or name has to come.
        together: Whether names start near those that the same training users chose, see
            :mod:`~unified_ranker.training.together`; else, and where no lists are drawn anew from histories
            (``fresh``), they start as the mean of their words.
        window: How near two choices have to stand in a history to count as chosen together, the nearer the more; 0 for
            anywhere in it.
        power: Of the singular values in such a start: the more, the more it is of what tells most.
        lists: How many lists the warm-up draws, as the run does; 0 for no warm-up.
        runs: How many warm-ups there are, each from the same start and of so many lists; the words are their mean
            (Wortsman et al., "Model soups", arXiv 2203.05482). One that is longer learns its lists by heart instead.
        learning_rate: Of Adam, on unit vectors.
        teachers: Who teaches the warm-up, by task; not for recommendation.
    """

    further: int = 0
    names: int = 0
    least: int = 3
    together: bool = False
    window: int = 0
    power: float = 0.75
    lists: int = 0
    runs: int = 1
    learning_rate: float = 0.003
    teachers: Mapping[str, TeacherPart] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionsPart:
    """Passage lists of the warm-up that MiniLM teaches, see :mod:`~unified_ranker.training.questions`.

    Attributes:
        share: Share of the warm-up's passage lists that ask a question which stands in a passage.
        tasks: The tasks whose passages they are: those of training lists, or of test lists where there are no others.
        temperature: At which MiniLM's cosines become a distribution over the candidates.
    """

    share: float = 0.0
    tasks: Sequence[str] = field(default_factory=list)
    temperature: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerPart:
    """AdamW.

    Attributes:
        learning_rate: Peak.
        last_layer_factor: The last layer learns at this share of it.
        last_layer_from: Share of the run before which the last layer does not learn at all: a laid-out pointer would
            be lost while the relevance that it looks at is still noise.
        words_factor: Word embeddings learn at this share of it. Adam moves every word a full step at each update,
            however rarely it comes; names that were learned in the warm-up would be lost.
        frozen_labels: Keep the embeddings of labels as they are. They stand in every list, so that Adam would move
            them far within minutes.
        weight_decay: Of matrices.
        beta1: Decay of the mean.
        beta2: Decay of the square.
        clip: Largest norm of the gradient.
        warmup: Share of the run in which the rate rises.
        final: Share of the peak at which a cosine ends.
    """

    learning_rate: float = 5e-4
    last_layer_factor: float = 1.0
    last_layer_from: float = 0.0
    words_factor: float = 1.0
    frozen_labels: bool = False
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    warmup: float = 0.02
    final: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """Weights of the parts of the loss; that of the labels is 1.

    Attributes:
        readout: Listwise softmax on one dimension of the residual stream, at each candidate's label and before the
            last layer: the dimension that the pointer of :mod:`~unified_ranker.training.start` looks at. Only for
            models that start here.
        vocabulary: Whole-vocabulary softmax at one random step of each list and at separators and ends, so that a
            reply without restrictions stays within the form.
        frozen_output: Let no gradient reach the embeddings through the output softmax. Tied to the input, it would
            pull a small model's every word a full step of Adam at each update.
        distil: Temperature at which scores of LLMs become soft targets of routing tasks (Zooter); 0 for hard ones.
        sharpness: Grades become targets of the readout as ``exp(sharpness · grade / best grade) - 1``, normalised.
    """

    readout: float = 0.0
    vocabulary: float = 1.0
    frozen_output: bool = False
    distil: float = 0.0
    sharpness: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A supervised training run.

    Attributes:
        name: Its name.
        tasks: Weight of each task in the mixture.
        methods: Weight of each method.
        subsets: Share of lists that are shown as a case, a random part of the list with one of its best candidates, as
            later rounds of an elimination, sets and blocks show them.
        fresh: Share of recommendation lists that are drawn anew from the histories of training users, see
            :mod:`~unified_ranker.training.fresh`.
        cloze: Share of passage lists whose query is a stretch of one of their passages, see
            :mod:`~unified_ranker.training.cloze`.
        top_grade: Highest grade of ``"pointwise"``; the best candidates of a list have it.
        model: Where the model starts.
        prompts: How lists are shown.
        words: Warming up word embeddings.
        questions: What they are taught about questions that stand in passages.
        optimizer: How it learns.
        loss: What it learns from.
        tokens: Length of the run, in tokens without padding.
        batch_tokens: Most tokens of a batch, with padding.
        average: Decay of the running average of weights that is saved; 0 for the last weights.
        checkpoint_every: Tokens between checkpoints.
        validate_every: Tokens between validations.
        validate_lists: Lists of each task in a validation.
        seed: Seed.
    """

    name: str
    tasks: Mapping[str, float]
    methods: Mapping[str, float] = field(default_factory=lambda: {"iranker": 1.0})
    subsets: float = 0.0
    fresh: float = 0.0
    cloze: float = 0.0
    top_grade: int = 4
    model: ModelPart = ModelPart()
    prompts: PromptPart = PromptPart()
    words: WordsPart = WordsPart()
    questions: QuestionsPart = QuestionsPart()
    optimizer: OptimizerPart = OptimizerPart()
    loss: LossPart = LossPart()
    tokens: int = 1_000_000
    batch_tokens: int = 2048
    average: float = 0.0
    checkpoint_every: int = 500_000
    validate_every: int = 1_000_000
    validate_lists: int = 32
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)


#: The parts of a recipe, by name.
PARTS: dict[str, type] = {entry.name: type(entry.default) for entry in fields(Recipe) if is_dataclass(entry.default)}


def recipe_names() -> list[str]:
    """Return the recipes of the package for the plain trainer; those that say ``trainer: verl`` are not among them."""
    package = "unified_ranker.training"
    return [name for name in names_in(package) if "trainer" not in read_recipe(name, package=package)]


def load_recipe(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe of the package, or a file.

    Args:
        name: A name of :func:`recipe_names`, or the path of a ``.yaml`` file.
        overrides: ``key=value`` with dots for parts, such as ``optimizer.learning_rate=1e-4``.

    Raises:
        OptionError: there is no such recipe.
        RecipeError: a field is unknown or has a value that cannot be used.
    """
    return parse_recipe(read_recipe(name, overrides, package="unified_ranker.training"))


def parse_recipe(record: Mapping[str, Any]) -> Recipe:
    """Check a recipe.

    Raises:
        RecipeError: naming the field, the value and what would do.
    """
    if "trainer" in record:
        raise RecipeError(f"trainer={record['trainer']!r}: this recipe is for 'train sft' with verl's trainer")
    values = dict(record)
    for part, kind in PARTS.items():
        if part in values:
            values[part] = build(kind, values[part], where=f"{part}.")
    if "words" in values:
        values["words"] = replace(values["words"], teachers=_teachers(values["words"].teachers))
    recipe: Recipe = build(Recipe, values, where="")
    if not recipe.tasks:
        raise RecipeError("tasks is empty; name at least one task with its weight")
    asked = recipe.questions.tasks
    if isinstance(asked, str) or not all(isinstance(name, str) for name in asked):
        raise RecipeError(f"questions.tasks={asked!r} must be a list of tasks, such as [trec-dl-2019]")
    if recipe.questions.share and not asked:
        raise RecipeError(f"questions.share={recipe.questions.share}, but questions.tasks is empty; name the tasks")
    for where, named in (
        ("tasks", recipe.tasks),
        ("words.teachers", recipe.words.teachers),
        ("questions.tasks", asked),
    ):
        for name in named:
            try:
                task_named(name)
            except OptionError as error:
                raise RecipeError(f"{where}: {error}") from error
    for name in recipe.methods:
        if name not in TRAINED:
            raise RecipeError(f"methods: {name!r} is not known; choose among {', '.join(TRAINED)}")
    for where, weights in (("tasks", recipe.tasks), ("methods", recipe.methods)):
        if not all(isinstance(w, (int, float)) and w >= 0 for w in weights.values()) or not sum(weights.values()) > 0:
            raise RecipeError(f"{where}={dict(weights)} must hold weights ≥ 0, not all of them 0")
    for where, value, least in (
        ("tokens", recipe.tokens, 1),
        ("batch_tokens", recipe.batch_tokens, 1),
        ("checkpoint_every", recipe.checkpoint_every, 1),
        ("validate_every", recipe.validate_every, 1),
        ("validate_lists", recipe.validate_lists, 0),
        ("prompts.token_budget", recipe.prompts.token_budget, 1),
        ("words.further", recipe.words.further, 0),
        ("words.names", recipe.words.names, 0),
        ("words.least", recipe.words.least, 1),
        ("words.lists", recipe.words.lists, 0),
        ("words.runs", recipe.words.runs, 1),
        ("top_grade", recipe.top_grade, 1),
    ):
        if value < least:
            raise RecipeError(f"{where}={value} must be ≥ {least}")
    for where, rate in (
        ("optimizer.learning_rate", recipe.optimizer.learning_rate),
        ("optimizer.clip", recipe.optimizer.clip),
        ("words.learning_rate", recipe.words.learning_rate),
        ("words.power", recipe.words.power),
        *((f"words.teachers.{name}.temperature", part.temperature) for name, part in recipe.words.teachers.items()),
        ("questions.temperature", recipe.questions.temperature),
    ):
        if not 0 < rate < math.inf:
            raise RecipeError(f"{where}={rate} must be > 0 and finite")
    if recipe.words.window < 0 or recipe.words.window == 1:
        # In a window of one, nothing stands beside anything.
        raise RecipeError(f"words.window={recipe.words.window} must be ≥ 2, or 0 for pairs from anywhere in a history")
    if recipe.model.dtype not in ("float32", "bfloat16"):
        raise RecipeError(f"model.dtype={recipe.model.dtype!r} must be 'float32' or 'bfloat16'")
    if not 0 <= recipe.loss.distil < math.inf:
        raise RecipeError(f"loss.distil={recipe.loss.distil} must be ≥ 0 and finite")
    if not 0 <= recipe.optimizer.words_factor < math.inf:
        raise RecipeError(f"optimizer.words_factor={recipe.optimizer.words_factor} must be ≥ 0 and finite")
    for where, share in (
        ("subsets", recipe.subsets),
        ("fresh", recipe.fresh),
        ("cloze", recipe.cloze),
        ("questions.share", recipe.questions.share),
    ):
        if not 0 <= share <= 1:
            raise RecipeError(f"{where}={share} must be in [0, 1]")
    if not 0 <= recipe.average < 1:
        raise RecipeError(f"average={recipe.average} must be in [0, 1)")
    if recipe.model.embeddings not in ("minilm", "random"):
        raise RecipeError(f"model.embeddings={recipe.model.embeddings!r} must be 'minilm' or 'random'")
    if recipe.model.source and (recipe.model.architecture or recipe.loss.readout):
        raise RecipeError(
            "model.source excludes model.architecture and loss.readout: a given checkpoint has no readout dimension"
        )
    return recipe


def _teachers(record: Mapping[str, Any]) -> dict[str, TeacherPart]:
    parts = {name: build(TeacherPart, part, where=f"words.teachers.{name}.") for name, part in record.items()}
    for name, part in parts.items():
        listed = isinstance(part.of, (list, tuple)) and part.of
        if not listed or not all(
            isinstance(teacher, Mapping) and [isinstance(options, Mapping) for options in teacher.values()] == [True]
            for teacher in part.of
        ):
            raise RecipeError(
                f"words.teachers.{name}.of={part.of!r} must list baselines, each with its options, such as "
                "[{logistic-router: {}}]"
            )
    return parts
