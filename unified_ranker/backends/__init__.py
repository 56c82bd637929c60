"""Language models behind one seam: each backend answers a list of requests with a list of completions."""

from __future__ import annotations

from unified_ranker.backends.registry import BACKENDS, load_backend
from unified_ranker.backends.scripted import ScriptedBackend, WordTools

__all__ = ["BACKENDS", "ScriptedBackend", "WordTools", "load_backend"]
