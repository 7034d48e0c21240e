"""A causal language model and its tokenizer, read in full or refused in one line.

transformers replaces weights that a checkpoint lacks by random ones, drops those that the model has
no place for, and says so in tables of its own. Here the first is an error, the second a notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tailbound.errors import UsageError
from tailbound.targets.decoding.quiet import quiet

REACH_SECONDS = 10.0
"""How long the hub may take to answer at all."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model in evaluation mode on its device, its tokenizer, and lines that a person should see.

    `commit` is the hub's, None for a folder.
    """

    model: Any
    tokenizer: Any
    commit: str | None
    notices: tuple[str, ...]


def read_checkpoint(
    source: Path | str, *, shown: str, revision: str | None, dtype: str, device: Any
) -> Checkpoint:
    """The checkpoint in the folder `source`, or of that name on the hub; `shown` in messages.

    Raises `UsageError` for what cannot be loaded: no such model, no network, files that are damaged
    or belong to another architecture, weights that are missing, a tokenizer without a vocabulary,
    code of its own. transformers must be installed.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with quiet():
        cached = None if isinstance(source, Path) else _only_in_cache(source, shown, revision)
        place = source if cached is None else cached
        try:
            # False, not the default: that asks a question on the terminal and waits
            where: dict[str, Any] = {
                "revision": revision if cached is None else None,
                "trust_remote_code": False,
            }
            tokenizer = AutoTokenizer.from_pretrained(place, **where)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                place,
                dtype=dtype,
                ignore_mismatched_sizes=True,  # `_check_weights` says it in one line
                output_loading_info=True,
                **where,
            )
            model, report = loaded
            model = model.to(device)
        except Exception as error:  # each of half a dozen libraries raises its own
            if "trust_remote_code" in str(error):
                raise UsageError(
                    f"{shown} comes with code of its own, which is not run here: serve it and use "
                    "an endpoint target"
                ) from error
            if "Unrecognized configuration class" in str(error):
                raise UsageError(
                    f"{shown} is no model that transformers loads as a causal language model: "
                    "serve it and use an endpoint target"
                ) from error
            raise UsageError(f"cannot load {shown}: {_reason(error)}") from error
    if getattr(model, "_hf_peft_config_loaded", False):
        raise UsageError(
            f"{shown} is an adapter, not a model: merge it into its base and save that, or use it "
            "as --proposal lora:FOLDER"
        )
    _check_weights(shown, type(model).__name__, report)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UsageError(
            f"{shown} has no tokenizer (no vocabulary was found): save the model's own beside it"
        )
    return Checkpoint(
        model.eval().requires_grad_(False),
        tokenizer,
        getattr(model.config, "_commit_hash", None) if cached is None else cached.name,
        _unused(report),
    )


def _only_in_cache(name: str, shown: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache (named by the commit) where the hub cannot be reached.

    Asked once and first, because a load asks for file after file, each several times.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        held = try_to_load_from_cache(name, "config.json", revision=revision)
    except HFValidationError as error:
        raise UsageError(f"{shown} is no name of a model on the hub: {_reason(error)}") from error
    folder = Path(held).parent if isinstance(held, str) else None
    missing = "and no copy of it is in the cache: check the name, or give a folder"
    if constants.HF_HUB_OFFLINE:
        if folder is None:
            raise UsageError(f"cannot load {shown}: HF_HUB_OFFLINE is set, {missing}")
        return folder
    try:
        HfApi().model_info(name, revision=revision, timeout=REACH_SECONDS)
    except RevisionNotFoundError as error:
        raise UsageError(f"cannot load {shown}: it has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"cannot load {shown}: the hub has no such model, or it is private: check the name, or "
            "set HF_TOKEN"
        ) from error
    except HfHubHTTPError:
        pass  # it answers; what it refuses is said when a file is asked for
    except Exception as error:  # of the HTTP library, which is not ours to know
        if folder is None:
            raise UsageError(
                f"cannot load {shown}: {constants.ENDPOINT} cannot be reached, {missing}"
            ) from error
        return folder
    return None


def _check_weights(shown: str, kind: str, report: Any) -> None:
    """Refuse a model part of which was not in the checkpoint: it would be random."""
    # a mismatched key comes with both shapes
    wrong = {key if isinstance(key, str) else key[0] for key in report["mismatched_keys"]}
    random = sorted({*report["missing_keys"], *wrong})
    if random:
        others = f" and {len(random) - 1} more" if len(random) > 1 else ""
        raise UsageError(
            f"{shown} has no weights for {random[0]}{others} of {kind}, which would be random: "
            "give a checkpoint of a whole language model"
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


def _reason(error: Exception) -> str:
    """The error in one line of moderate length: its first sentence, or two lines of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    line = " ".join(lines[: 2 if lines and lines[0].endswith(":") else 1])
    if not line or not isinstance(error, OSError | ValueError | ImportError):
        line = f"{type(error).__name__} {line}".strip()
    return line if len(line) <= 200 else f"{line[:197]}..."
