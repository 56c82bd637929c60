"""A verl checkpoint becomes a plain transformers folder that ``Ranker.from_pretrained``, vLLM and others load."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from unified_ranker.errors import DataError, missing_extra, unknown_choice
from unified_ranker.model_settings import ModelSettings, write_settings
from unified_ranker.training.data_note import read_note, write_note
from unified_ranker.training.rl.shared_prompt import ANSWERS, FROZEN, LABELS, WORDS_ALONE

DTYPES = ("float32", "bfloat16")
#: Where verl notes the last step whose checkpoint is whole.
LATEST = "latest_checkpointed_iteration.txt"


def latest_step(checkpoints: Path) -> int | None:
    """Return the last step whose checkpoint is whole; None where there is none."""
    note = checkpoints / LATEST
    if not note.is_file():
        return None
    text = note.read_text(encoding="utf-8").strip()
    return int(text) if text.isdigit() else None


def checkpoint_at(checkpoints: Path, step: int | None = None) -> Path:
    """Return the folder of a step's checkpoint, of the last one by default.

    Raises:
        DataError: there is no such checkpoint.
    """
    found = latest_step(checkpoints) if step is None else step
    folder = checkpoints / f"global_step_{found}" / "actor"
    if found is None or not folder.is_dir():
        steps = [path.name.removeprefix("global_step_") for path in checkpoints.glob("global_step_*")]
        there = sorted((step for step in steps if step.isdigit()), key=int)
        raise DataError(
            f"{str(checkpoints)!r} has no checkpoint of step {step if step is not None else '(last)'}; "
            f"there are: {', '.join(there) or 'none'}"
        )
    return folder


def export_run(run: Path, folder: Path, *, step: int | None = None, dtype: str | None = None) -> Path:
    """Write the model of a step of a run; see :func:`export`.

    Raises:
        DataError: the folder holds no run, or no such checkpoint.
        OptionError: the dtype is not known.
    """
    import yaml

    from unified_ranker.training.rl.prepare import Setting
    from unified_ranker.training.rl.recipe import parse_recipe

    if dtype not in (None, *DTYPES):
        raise unknown_choice("dtype", dtype, DTYPES)
    note = run / "recipe.yaml"
    if not note.is_file():
        raise DataError(f"{str(run)!r} holds no run of 'train rl': recipe.yaml is missing")
    recipe = parse_recipe(yaml.safe_load(note.read_text(encoding="utf-8")))
    checkpoint = checkpoint_at(run / "checkpoints", step)
    written = export(checkpoint, folder, settings=Setting(recipe).ranker, dtype=dtype)
    write_note(read_note(run), written)
    return written


def export(checkpoint: Path, folder: Path, *, settings: ModelSettings, dtype: str | None = None) -> Path:
    """Write the model of a checkpoint.

    Where the checkpoint holds a whole model (``actor.checkpoint.save_contents`` with ``hf_model``) its weights are
    taken as they are; else verl's merger joins the shards, in bfloat16. A LoRA adapter is merged into its base.

    Args:
        checkpoint: Folder ``global_step_N/actor`` of verl.
        folder: Where to write.
        settings: How the model wants to be asked; becomes ``ranker.json``.
        dtype: ``"float32"`` or ``"bfloat16"``; None for that of the weights.

    Raises:
        DataError: the checkpoint is not whole.
        MissingExtraError: joining shards needs verl.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from unified_ranker.backends.tokenizer import load_tokenizer

    whole = checkpoint / "huggingface"
    if not (whole / "config.json").is_file():
        raise DataError(f"{str(checkpoint)!r} holds no checkpoint of verl: huggingface/config.json is missing")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        source = whole if any(whole.glob("*.safetensors")) else _merge(checkpoint, Path(scratch))
        # Not "auto", which is what the start was saved in: small updates of float32 weights would be lost in bfloat16.
        model = AutoModelForCausalLM.from_pretrained(source, dtype=_dtype_of(source))
        adapter = source / "lora_adapter"
        if adapter.is_dir():
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        if dtype is not None:
            model = model.to(getattr(torch, dtype))
        # Settings of the run, not of the model.
        for name in (LABELS, FROZEN, ANSWERS, WORDS_ALONE):
            if hasattr(model.config, name):
                delattr(model.config, name)
        model.save_pretrained(folder)
    load_tokenizer(str(whole)).save_pretrained(folder)
    # The weights are written for their owner alone, which a package cannot use.
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)
    write_settings(folder, settings)
    return folder


def _dtype_of(folder: Path) -> Any:
    """Return the precision that the weights of a folder are stored in."""
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise DataError(f"{str(folder)!r} holds no weights (*.safetensors)")
    with safe_open(files[0], framework="pt") as tensors:
        return tensors.get_tensor(next(iter(tensors.keys()))).dtype


def _merge(checkpoint: Path, folder: Path) -> Path:
    try:
        from verl.model_merger.base_model_merger import ModelMergerConfig
        from verl.model_merger.fsdp_model_merger import FSDPModelMerger
    except ImportError as error:
        raise missing_extra("rl", package="verl", purpose="joining the shards of a checkpoint") from error
    target = folder / "merged"
    target.mkdir()
    config: Any = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(checkpoint),
        hf_model_config_path=str(checkpoint / "huggingface"),
        target_dir=str(target),
        hf_upload_path=None,
        private=False,
        test_hf_dir=None,
        tie_word_embedding=False,
        trust_remote_code=False,
        is_value_model=False,
        use_cpu_initialization=False,
    )
    FSDPModelMerger(config).merge_and_save()
    return target


def remove_unfinished(checkpoints: Path, *, after: int) -> None:
    """Remove what a killed run left of checkpoints beyond the last whole one, which would be in the way of the next."""
    for path in checkpoints.glob("global_step_*"):
        step = path.name.removeprefix("global_step_")
        if step.isdigit() and int(step) > after:
            shutil.rmtree(path)
