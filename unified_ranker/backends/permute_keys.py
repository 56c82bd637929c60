"""The name under which a request tells vLLM's engine its labels; apart, since its reader may not have vLLM."""

from __future__ import annotations

LABELS_KEY = "unified_ranker_labels"
