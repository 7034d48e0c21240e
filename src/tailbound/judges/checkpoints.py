"""Finding and loading the Hugging Face models that judge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailbound.errors import MissingExtraError, UsageError

DTYPES = ("auto", "float32", "bfloat16", "float16", "float64")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model ready to judge, its tokenizer, and what names it: the last two enter the id."""

    model: Any
    tokenizer: Any
    name: str
    revision: str


def load_checkpoint(
    provider: str,
    name: str,
    *,
    kind: str,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
) -> Loaded:
    """The model `name`, a hub id or a folder, with its tokenizer.

    `kind` is the Auto class, for instance `AutoModelForSequenceClassification`; where the
    checkpoint's own class can generate, that goes before `AutoModelForCausalLM` (multimodal
    guards). A folder's revision is a hash of its files, a hub model's the commit. Raises
    `MissingExtraError` without torch and transformers and `UsageError` for what cannot be loaded,
    for a checkpoint without all weights of its class (those would be random: a classifier's head,
    say, where none was trained) and for a tokenizer without a vocabulary.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError(f"the judge {provider}:", "hf") from error
    from tailbound.targets.decoding.identity import folder_revision

    folder = _folder(provider, name)
    if folder is not None and revision is not None:
        raise UsageError(f"{provider} judge: {name} is a folder, which has no revisions")
    source: Path | str = name if folder is None else folder
    shown = name if folder is None else folder.resolve().name
    place = _device(torch, provider, device)
    try:
        with _silent():
            config = transformers.AutoConfig.from_pretrained(source, revision=revision)
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
            model, report = _class(transformers, kind, config).from_pretrained(
                source,
                revision=revision,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # `_check_weights` says it in one line
                output_loading_info=True,
            )
            model = model.to(place)
    except Exception as error:  # each of half a dozen libraries raises its own
        raise UsageError(
            f"{provider} judge: cannot load {name} ({_reason(error)}): "
            + ("check the name, the network and HF_TOKEN, or give a folder" if folder is None
               else "save model and tokenizer there again, or name another device or dtype")
        ) from error  # fmt: skip
    _check_weights(provider, name, type(model).__name__, report)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UsageError(
            f"{provider} judge: {name} has no tokenizer (no vocabulary was found): save the "
            "model's own beside it"
        )
    commit = getattr(model.config, "_commit_hash", None) or revision or "unknown"
    return Loaded(
        _language_model(model).eval().requires_grad_(False),
        tokenizer,
        shown,
        commit if folder is None else folder_revision(folder),
    )


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


@contextmanager
def _silent() -> Iterator[None]:
    """No progress bar and no report of transformers' in the block: we say what is wrong."""
    from transformers.utils import logging as hf_logging

    from tailbound.targets.decoding.quiet import no_progress_bars

    logging: Any = hf_logging
    level = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with no_progress_bars():
            yield
    finally:
        logging.set_verbosity(level)


def _check_weights(provider: str, name: str, kind: str, report: dict[str, Any]) -> None:
    """Refuse a model part of which was not in the checkpoint: it would judge at random."""
    # a mismatched key comes with both shapes
    wrong = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    random = sorted({*report["missing_keys"], *wrong})
    if random:
        others = f" and {len(random) - 1} more" if len(random) > 1 else ""
        raise UsageError(
            f"{provider} judge: {name} has no weights for {random[0]}{others} of {kind}, which "
            "would be random: give a checkpoint that was trained for this"
        )


def _reason(error: Exception) -> str:
    """The error in one line of moderate length."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return line if len(line) <= 200 else f"{line[:197]}..."


def _class(transformers: Any, kind: str, config: Any) -> Any:
    if kind == "AutoModelForCausalLM":
        for architecture in getattr(config, "architectures", None) or ():
            own = getattr(transformers, architecture, None)
            if own is not None and hasattr(own, "generate"):
                return own
    return getattr(transformers, kind)


def _language_model(model: Any) -> Any:
    """The whole language model inside a wrapper that reads images as well, else `model` itself.

    Judges show text alone, and some wrappers (Llama 4 in transformers 5.24) fail without an image.
    """
    inner = getattr(model, "language_model", None)
    if not hasattr(inner, "generate") or inner.get_output_embeddings() is None:
        return model
    inner.generation_config = model.generation_config
    return inner


def _folder(provider: str, name: str) -> Path | None:
    if not name:
        raise UsageError(f"{provider}: needs a model: {provider}:org/name or {provider}:./folder")
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise UsageError(
                f"{provider} judge: {name} has no config.json: give the folder of a saved model"
            )
        return path
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise UsageError(f"{provider} judge: no such folder: {name}")
    return None


def _device(torch: Any, provider: str, device: str) -> Any:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageError(
            f"{provider} judge: unknown device {device!r}: use cpu, cuda or cuda:N"
        ) from error
    if place.type == "meta":  # it holds shapes and no numbers
        raise UsageError(f"{provider} judge: device 'meta' computes nothing: use cpu or cuda")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"{provider} judge: device {device!r} is not available here: use cpu")
    return place
