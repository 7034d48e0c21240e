"""Prompt sets: reading, naming, grouping and splitting the prompts of an audit."""

from tailbound.core.prompt import Prompt, content_id
from tailbound.prompts.columns import KNOWN_FIELDS
from tailbound.prompts.given import PromptSource, prompt_set
from tailbound.prompts.reading import PromptSet, read_prompts
from tailbound.prompts.splits import Split, least_units, one_per_group, split

__all__ = [
    "KNOWN_FIELDS",
    "Prompt",
    "PromptSet",
    "PromptSource",
    "Split",
    "content_id",
    "least_units",
    "one_per_group",
    "prompt_set",
    "read_prompts",
    "split",
]
