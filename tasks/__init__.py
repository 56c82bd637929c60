"""The data sets: adapters from raw files to lists of examples, and the registry of what can be built."""

from __future__ import annotations

from unified_ranker.tasks.base import BuildOptions, Built, Source, Task
from unified_ranker.tasks.registry import ALL_TASKS, NINE, TASKS, task_named

__all__ = ["ALL_TASKS", "NINE", "TASKS", "BuildOptions", "Built", "Source", "Task", "task_named"]
