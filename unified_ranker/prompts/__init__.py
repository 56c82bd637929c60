"""What is said to the model: templates, labels, neutralised data, and the token budget."""

from __future__ import annotations

from unified_ranker.prompts.labels import choose_labels
from unified_ranker.prompts.neutralise import neutralise
from unified_ranker.prompts.template import Template, load_template, template_names
from unified_ranker.prompts.writer import Listed, PromptWriter, Written

__all__ = [
    "Listed",
    "PromptWriter",
    "Template",
    "Written",
    "choose_labels",
    "load_template",
    "neutralise",
    "template_names",
]
