"""Tasks that are no ranking (GSM8K, IFEval, MathQA, …), to see what training to rank did to the rest of a model.

lm-evaluation-harness does all of it; this is the one command that runs it on several models and sets them side by side.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from unified_ranker.benchmarks.runner.arms import EMBEDDED, model_hash

from unified_ranker.errors import BackendError, DataError, OptionError, missing_extra
from unified_ranker.files import write_whole
from unified_ranker.model_settings import embedded_path

#: The tasks of R1-Ranker's out-of-domain table (arXiv 2506.21638), by the harness's names.
PUBLISHED = ("gsm8k", "ifeval", "mathqa", "mmlu", "mbpp", "humaneval", "openbookqa", "hellaswag")


def run_generic(
    models: Sequence[str | None],
    tasks: Sequence[str],
    *,
    out: Path,
    limit: int | None = None,
    batch_size: int = 8,
    device: str | None = None,
    include: Path | None = None,
    run_code: bool = False,
) -> list[dict[str, Any]]:
    """Evaluate models, and return one row for each model, task and measure.

    What a model reached on a task is kept in ``OUT/MODEL-HASH.json``, and not computed again.

    Args:
        models: Folders or hub names; None for the embedded model.
        tasks: Names that the harness knows; see ``lm_eval ls tasks``.
        out: Folder of the results.
        limit: Only the first so many questions of a task: for trying things out, not for reporting.
        batch_size: Questions that are computed at once.
        device: Such as ``"cpu"`` or ``"cuda:0"``.
        include: Folder of further tasks, in the harness's YAML format.
        run_code: Let tasks run code that the model wrote (``mbpp``, ``humaneval``), on this machine.

    Raises:
        MissingExtraError: the harness is not installed.
        OptionError: a task is not known, or none is given.
        DataError: a task's data cannot be loaded.
        BackendError: a model cannot be loaded.
    """
    try:
        import lm_eval
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise missing_extra("generic", package="lm_eval", purpose="evaluating generic tasks") from error
    if not tasks or not models:
        raise OptionError("give at least one model and one task")
    for option, value in (("limit", limit), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise OptionError(f"{option}={value} must be ≥ 1")
    manager = TaskManager(include_path=str(include) if include else None)
    for task in tasks:
        if task not in manager.all_tasks:
            near = get_close_matches(task, manager.all_tasks, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "."
            raise OptionError(f"task={task!r} is not known{hint} All {len(manager.all_tasks)}: lm_eval ls tasks")
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in models:
        source = model or str(embedded_path())
        name = model or EMBEDDED
        kept = out / f"{Path(name).name}-{model_hash(source)}.json"
        known = _kept(kept)
        for task in tasks:
            key = f"{task}, limit {limit}"
            if key not in known:
                known[key] = _evaluate(
                    lm_eval, manager, source, task, limit=limit, batch_size=batch_size, device=device, run_code=run_code
                )
                write_whole(kept, json.dumps(known, indent=1) + "\n")
            rows += [{"model": name, **measured} for measured in known[key]]
    return rows


def _kept(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is no JSON: {error}; remove it, and its tasks are evaluated again") from error
    return found


def _evaluate(
    harness: Any,
    manager: Any,
    source: str,
    task: str,
    *,
    limit: int | None,
    batch_size: int,
    device: str | None,
    run_code: bool,
) -> list[dict[str, Any]]:
    try:
        from lm_eval.models.huggingface import HFLM
    except ImportError as error:
        raise missing_extra("generic", package=error.name or "lm_eval[hf]", purpose="running a model") from error
    try:
        model = HFLM(pretrained=source, batch_size=batch_size, **({"device": device} if device else {}))
    except (OSError, ValueError) as error:
        raise BackendError(f"the model {source!r} cannot be loaded: {error}") from error
    try:
        found = harness.simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=manager,
            limit=limit,
            log_samples=False,
            confirm_run_unsafe_code=run_code,
        )
    except ImportError as error:
        raise missing_extra("generic", package=error.name or "lm_eval", purpose=f"the task {task!r}") from error
    except ValueError as error:
        if "unsafe" not in str(error):
            raise DataError(f"the task {task!r} cannot be evaluated: {error}") from error
        raise OptionError(
            f"the task {task!r} is marked as unsafe, since it runs code that the model wrote; allow it with --run-code"
        ) from error
    except (OSError, ConnectionError) as error:
        raise DataError(f"the data of the task {task!r} cannot be loaded ({error}); it needs a network once") from error
    # A group or a tag is evaluated as its tasks, each of which has results of its own.
    return [{"task": name, **row} for name, results in found["results"].items() for row in _measures(results)]


def _measures(results: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield measure, value and standard error; the harness writes them as ``acc,none`` and ``acc_stderr,none``."""
    for key, value in sorted(results.items()):
        name, _, kind = key.partition(",")
        if not kind or name.endswith("_stderr") or isinstance(value, str):
            continue
        error = results.get(f"{name}_stderr,{kind}")
        yield {
            "measure": name if kind == "none" else f"{name} ({kind})",
            "value": float(value),
            "standard_error": float(error) if isinstance(error, (int, float)) else None,
        }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a table: a line a task and measure, a column a model."""
    models = list(dict.fromkeys(row["model"] for row in rows))
    keys = list(dict.fromkeys((row["task"], row["measure"]) for row in rows))
    lines = [f"| task | measure | {' | '.join(models)} |", "|---|---|" + "--:|" * len(models)]
    for task, measure in keys:
        cells = []
        for model in models:
            match = [r for r in rows if (r["model"], r["task"], r["measure"]) == (model, task, measure)]
            error = match[0]["standard_error"] if match else None
            cells.append(
                (f"{match[0]['value']:.3f}" + (f" ± {error:.3f}" if error is not None else "")) if match else ""
            )
        lines.append(f"| {task} | {measure} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
