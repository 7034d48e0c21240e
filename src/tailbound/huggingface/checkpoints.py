"""A model and its tokenizer, read in full or refused in one line.

transformers replaces weights that a checkpoint lacks by random ones, drops those that the model has
no place for, and says so in tables of its own. Here the first is an error, the second a notice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from tailbound.errors import MissingExtraError, UsageError
from tailbound.huggingface.fingerprint import checkpoint_revision
from tailbound.huggingface.hf_logging import quiet
from tailbound.huggingface.libraries import import_torch
from tailbound.huggingface.places import only_in_cache, reason


class _Sort(NamedTuple):
    auto: str
    """The Auto class of transformers."""
    meaning: str
    wanted: str
    """What to give where weights are missing."""
    other: str
    """What to do with a model that transformers cannot load so."""


_SERVE = "serve it and use an endpoint target"
_ANOTHER = "give one whose architecture transformers has"


class Kind(Enum):
    """What a checkpoint is read as."""

    CAUSAL = _Sort(
        "AutoModelForCausalLM",
        "a causal language model",
        "a checkpoint of a whole language model",
        _SERVE,
    )
    READER = _Sort(
        "AutoModelForCausalLM",
        "a language model that answers",
        "a checkpoint that was trained for this",
        _ANOTHER,
    )
    """As `CAUSAL`, and also the language model of one that reads images (Llama Guard 4)."""
    CLASSIFIER = _Sort(
        "AutoModelForSequenceClassification",
        "a sequence classifier",
        "a checkpoint that was trained for this",
        _ANOTHER,
    )
    ENCODER = _Sort(
        "AutoModelForSequenceClassification",
        "an encoder",
        "a checkpoint of a whole encoder",
        _ANOTHER,
    )
    """The body of a classifier, under a new random head of one output in 32 bits."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in evaluation mode on its device, its tokenizer, and lines that a person should see.

    `revision` is the commit on the hub, of a folder a hash of its files.
    """

    model: Any
    tokenizer: Any
    revision: str | None
    notices: tuple[str, ...] = ()


def load_checkpoint(
    source: Path | str,
    *,
    shown: str,
    kind: Kind = Kind.CAUSAL,
    needed_by: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: Any = "cpu",
    tokenizer: Path | None = None,
    gguf: str | None = None,
) -> Checkpoint:
    """The checkpoint in the folder `source`, or of that name on the hub; `shown` in messages.

    `tokenizer` is a folder of its own where it does not lie beside the model. `gguf` names a file
    in `source` that holds everything: weights, which are dequantized, configuration and tokenizer;
    its revision in a folder is a hash of that file. Raises `UsageError`
    for what cannot be loaded: no such model, no network, files that are damaged or belong to
    another architecture, weights that are missing, a tokenizer without a vocabulary, code of its
    own; and `MissingExtraError`, naming `needed_by`, without torch and transformers.
    """
    try:
        import_torch()
        import transformers
    except ImportError as error:
        raise MissingExtraError(needed_by, "hf") from error
    with quiet():
        cached = (
            None
            if isinstance(source, Path)
            else only_in_cache(source, shown, revision, file=gguf or "config.json")
        )
        place = source if cached is None else cached
        # False, not the default: that asks a question on the terminal and waits
        where: dict[str, Any] = {
            "revision": revision if cached is None else None,
            "trust_remote_code": False,
            **({} if gguf is None else {"gguf_file": gguf}),
        }
        try:
            config: Any = transformers.AutoConfig.from_pretrained(place, **where)
            words: Any = transformers.AutoTokenizer.from_pretrained(tokenizer or place, **where)
            loaded: Any = _class(transformers, kind, config).from_pretrained(
                place,
                **where,
                **({"num_labels": 1, "dtype": "float32"} if kind is Kind.ENCODER
                   else {"dtype": dtype}),
                **({} if gguf is None else _dequantized(transformers)),
                weights_only=True,
                ignore_mismatched_sizes=True,  # `_check_weights` says it in one line
                output_loading_info=True,
            )  # fmt: skip
            model, report = loaded
            if gguf is not None:
                _forget_quantization(model)
            model = model.to(device)
        except Exception as error:  # each of half a dozen libraries raises its own
            raise UsageError(_refusal(shown, kind, error)) from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UsageError(
            f"{shown} is an adapter, not a model: merge it into its base and save that, or use it "
            "as --proposal lora:FOLDER"
        )
    _check_weights(shown, kind, model, report)
    if len(words) <= len(words.all_special_ids):
        raise UsageError(
            f"{shown} has no tokenizer (no vocabulary was found): save the model's own beside it"
        )
    commit = getattr(model.config, "_commit_hash", None) if cached is None else cached.name
    if kind is Kind.READER:
        model = _language_model(model)
    if kind is not Kind.ENCODER:
        model.requires_grad_(False)
    return Checkpoint(
        model.eval(),
        words,
        checkpoint_revision(source, gguf) if isinstance(source, Path) else commit or revision,
        _unused(report),
    )


def _dequantized(transformers: Any) -> dict[str, Any]:
    """Ask for plain weights, where transformers could leave them in the file's blocks."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def _forget_quantization(model: Any) -> None:
    """Let a dequantized model be what it is now: one that can be copied, edited and saved."""
    model.hf_quantizer = None
    model.is_quantized = False
    for config in (model.config, model.config.get_text_config()):
        if hasattr(config, "quantization_config"):
            del config.quantization_config


def context_length(model: Any, tokenizer: Any) -> int | None:
    """Most tokens that the model reads at once, None where nothing says so."""
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and _offset_positions(str(getattr(config, "model_type", ""))):
        positions -= (config.pad_token_id or 0) + 1
    limits = [
        limit
        for limit in (positions, tokenizer.model_max_length)
        # tokenizers without a limit name one of about 1e30
        if limit is not None and 0 < limit < 10**9
    ]
    return min(limits) if limits else None


def _offset_positions(model_type: str) -> bool:
    """The RoBERTa family numbers its positions from behind the padding id."""
    return "roberta" in model_type or model_type in ("camembert", "longformer", "mpnet")


def _class(transformers: Any, kind: Kind, config: Any) -> Any:
    """The Auto class, or the checkpoint's own class where that reads images and answers."""
    if kind is Kind.READER:
        for architecture in getattr(config, "architectures", None) or ():
            own = getattr(transformers, architecture, None)
            if own is not None and hasattr(own, "generate"):
                return own
    return getattr(transformers, kind.value.auto)


def _language_model(model: Any) -> Any:
    """The whole language model inside a wrapper that reads images as well, else `model` itself.

    Judges show text alone, and some wrappers (Llama 4 in transformers 5.24) fail without an image.
    """
    inner: Any = getattr(model, "language_model", None)
    if not hasattr(inner, "generate") or inner.get_output_embeddings() is None:
        return model
    inner.generation_config = model.generation_config
    return inner


def _refusal(shown: str, kind: Kind, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return f"{shown} comes with code of its own, which is not run here: {kind.value.other}"
    if "Unrecognized configuration class" in str(error):
        return (
            f"{shown} is not a model that transformers loads as {kind.value.meaning}: "
            f"{kind.value.other}"
        )
    if re.search(r"GGUF model with architecture|Unknown gguf model_type", str(error)):
        return (
            f"{shown} is not a GGUF file that transformers reads ({reason(error)}): give the "
            f"model's safetensors, or {_SERVE}"
        )
    return f"cannot load {shown}: {reason(error)}"


def _check_weights(shown: str, kind: Kind, model: Any, report: Any) -> None:
    """Refuse a model part of which was not in the checkpoint: it would be random."""
    # a mismatched key comes with both shapes
    wrong = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    random = sorted({*report["missing_keys"], *wrong})
    if kind is Kind.ENCODER:  # the head is meant to be new, and a pooler is part of it
        body = f"{model.base_model_prefix}."
        random = [key for key in random if key.startswith(body) and ".pooler." not in key]
    if random:
        others = f" and {len(random) - 1} more" if len(random) > 1 else ""
        raise UsageError(
            f"{shown} has no weights for {random[0]}{others} of {type(model).__name__}, which "
            f"would be random: give {kind.value.wanted}"
        )


def _unused(report: Any) -> tuple[str, ...]:
    """A line if the checkpoint holds weights that the model has no place for."""
    unused = sorted(report["unexpected_keys"])
    if not unused:
        return ()
    others = f" and {len(unused) - 1} more" if len(unused) > 1 else ""
    return (
        f"the checkpoint has weights that its config.json has no place for ({unused[0]}{others}), "
        "which are left out",
    )
