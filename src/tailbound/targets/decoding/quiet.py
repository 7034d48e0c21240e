"""Loading and saving models without what transformers prints, which would break our output."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Switch transformers' progress bars off inside the block."""
    from transformers.utils import logging as hf_logging

    logs: Any = hf_logging
    shown = logs.is_progress_bar_enabled()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logs.enable_progress_bar()


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off progress bars, warnings and logs of transformers and the hub inside the block.

    For where everything that matters is said in our own words.
    """
    from transformers.utils import logging as hf_logging

    logs: Any = hf_logging
    hub = logging.getLogger("huggingface_hub")
    levels = logs.get_verbosity(), hub.level
    logs.set_verbosity(logging.CRITICAL)
    hub.setLevel(logging.CRITICAL)
    try:
        with no_progress_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logs.set_verbosity(levels[0])
        hub.setLevel(levels[1])
