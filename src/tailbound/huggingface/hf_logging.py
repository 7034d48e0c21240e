"""Loading and saving models without what the libraries print, which would break our output."""

from __future__ import annotations

import importlib
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

LIBRARIES = ("huggingface_hub", "sentence_transformers", "peft")

# `from_pretrained` replaces functions of torch and transformers while it runs, and levels and
# warnings are those of the process: of two threads, the one that ends last would put back what
# the other had set, and every later model with tied weights would come without them
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def quiet() -> Iterator[None]:
    """Switch off progress bars, warnings and logs of the Hugging Face libraries inside the block.

    For where everything that matters is said in our own words. Every model is loaded in here,
    one thread at a time.
    """
    with _ONE_AT_A_TIME, _silenced():
        yield


@contextmanager
def _silenced() -> Iterator[None]:
    from transformers.utils import logging as hf_logging

    logs: Any = hf_logging
    others = [logging.getLogger(name) for name in LIBRARIES]
    levels = [log.level for log in others]
    gguf, bar = _gguf_bar()
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity(logging.CRITICAL)
    logs.disable_progress_bar()
    for log in others:
        log.setLevel(logging.CRITICAL)
    if bar is not None:
        gguf.tqdm = partial(bar, disable=True)
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
        if bar is not None:
            gguf.tqdm = bar


def _gguf_bar() -> tuple[Any, Any]:
    """The module that reads GGUF files, and its bar, which no setting of transformers concerns."""
    try:
        module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    except ImportError:  # another version of transformers
        return None, None
    return module, getattr(module, "tqdm", None)
