"""Loading and saving models without what the libraries print, which would break our output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARIES = ("huggingface_hub", "sentence_transformers", "peft")


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off progress bars, warnings and logs of the Hugging Face libraries inside the block.

    For where everything that matters is said in our own words.
    """
    from transformers.utils import logging as hf_logging

    logs: Any = hf_logging
    others = [logging.getLogger(name) for name in LIBRARIES]
    levels = [log.level for log in others]
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity(logging.CRITICAL)
    logs.disable_progress_bar()
    for log in others:
        log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, before in zip(others, levels, strict=True):
            log.setLevel(before)
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()
