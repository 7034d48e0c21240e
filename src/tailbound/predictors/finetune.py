"""An encoder fine-tuned end to end on the unsafe counts, cross-fitted.

With eta(x) = c + f(x), c the log-odds of the pooled rate and f the encoder with one output, the
loss is the binomial one of `tailbound.predictors.likelihood`: k events in n draws.

The training prompts are dealt into folds, and one encoder is tuned without each of them. The
feature of a training prompt is the eta of the encoder that has not seen it, that of any other
prompt the mean over the encoders. So what is fitted on top, and what is reported of it, is not
deceived by an encoder that knows its training prompts by heart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, UsageError
from tailbound.huggingface.hf_logging import quiet
from tailbound.huggingface.saving import save_pretrained
from tailbound.predictors.likelihood import log_odds, pooled_rate
from tailbound.predictors.prompt_texts import texts
from tailbound.predictors.registry import FeatureProvider
from tailbound.runs.layout import FINETUNED
from tailbound.storage.documents import read_json
from tailbound.storage.files import write_json

SCHEMA_VERSION = 1
STATE = "finetuned.json"

FOLDS = 3
EPOCHS = 8
LEAST_STEPS = 200
"""Fewer training prompts are read more often, until there are so many steps."""
BATCH = 16
LEARNING_RATE = 5e-5
WEIGHT_DECAY = 0.01
MAX_TOKENS = 512


class FinetunedFeatures:
    """A `FeatureSource` of one feature, eta, that must `learn` from training draws first."""

    def __init__(
        self, model: str, *, epochs: int | None = None, learning_rate: float | None = None
    ) -> None:
        """Find the encoder `model`, a name on the hub or a folder.

        Raises `MissingExtraError` without transformers, and `UsageError` where it cannot be loaded.
        """
        self.model = model
        self._epochs = EPOCHS if epochs is None else epochs
        self._learning_rate = LEARNING_RATE if learning_rate is None else learning_rate
        self._encoders: list[Any] = []
        self._base = 0.0
        self._fold_of: dict[str, int] = {}
        self._tokenizer, _ = _load(model)

    def learn(
        self,
        prompts: Sequence[Prompt],
        unsafe: ArrayLike,
        draws: ArrayLike,
        *,
        folder: Path,
        seed: int = 0,
    ) -> None:
        """Tune the encoders on `unsafe` of `draws` draws with a verdict, both (prompts,).

        They are kept in `folder`; where those there learnt from the same draws, nothing is tuned
        again. Wordings of one query share a fold.
        """
        k = np.asarray(unsafe, dtype=np.float64)
        n = np.asarray(draws, dtype=np.float64)
        digest = self._digest(prompts, k, n, seed)
        if (folder / STATE).is_file() and _state(folder).get("digest") == digest:
            self._restore(folder)
            return
        units, unit = np.unique([prompt.unit for prompt in prompts], return_inverse=True)
        folds = min(FOLDS, len(units))
        if folds < 2:
            raise UsageError("fine-tuning needs at least 2 training prompts of different queries")
        dealt = np.random.default_rng([seed, 0]).permutation(np.arange(len(units)) % folds)[unit]
        self._base = log_odds(pooled_rate(k, n))
        self._fold_of = {p.id: int(f) for p, f in zip(prompts, dealt, strict=True)}
        written = texts(prompts)
        self._encoders = []
        for fold in range(folds):
            seen = np.flatnonzero(dealt != fold)
            encoder = self._tune([written[i] for i in seen], k[seen], n[seen], [seed, 1 + fold])
            with quiet():
                save_pretrained(encoder, folder / f"fold-{fold}")
            self._encoders.append(encoder)
        save_pretrained(self._tokenizer, folder / "tokenizer")
        write_json(
            folder / STATE,
            {
                "files": _digests(folder),
                "schema": SCHEMA_VERSION,
                "model": self.model,
                "digest": digest,
                "base": self._base,
                "folds": self._fold_of,
            },
        )

    def features(self, prompts: Sequence[Prompt]) -> NDArray[np.float32]:
        """eta of each prompt, shape (len(prompts), 1)."""
        if not self._encoders:
            raise UsageError("the encoder has not learnt yet: call learn() first")
        if not prompts:
            return np.empty((0, 1), np.float32)
        written = texts(prompts)
        all_eta = np.array([self._eta(encoder, written) for encoder in self._encoders])
        eta = all_eta.mean(axis=0)
        for position, prompt in enumerate(prompts):
            fold = self._fold_of.get(prompt.id)
            if fold is not None:
                eta[position] = all_eta[fold, position]
        return np.asarray(eta[:, None], dtype=np.float32)

    @classmethod
    def load(cls, folder: Path) -> FinetunedFeatures:
        """What `learn` kept in `folder`; raises `UsageError` where that is missing or damaged."""
        made = cls.__new__(cls)
        made.model = str(_state(folder)["model"])
        made._epochs, made._learning_rate = EPOCHS, LEARNING_RATE
        made._restore(folder)
        return made

    def _restore(self, folder: Path) -> None:
        state = _state(folder)
        if state["files"] != _digests(folder):
            raise LedgerError(
                f"the fine-tuned encoders in {folder} are damaged: restore the folder, or remove "
                "it and run `tailbound bound` again"
            )
        self._base = float(state["base"])
        self._fold_of = {str(name): int(fold) for name, fold in state["folds"].items()}
        self._encoders = []
        for fold in range(1 + max(self._fold_of.values())):
            self._tokenizer, encoder = _load(folder / f"fold-{fold}", folder / "tokenizer")
            self._encoders.append(encoder.eval().to(_device()))

    def _digest(
        self, prompts: Sequence[Prompt], k: NDArray[np.float64], n: NDArray[np.float64], seed: int
    ) -> str:
        made_of = [
            [self.model, self._epochs, self._learning_rate, seed],
            [[prompt.id, prompt.unit, prompt.messages] for prompt in prompts],
            [k.tolist(), n.tolist()],
        ]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]

    def _tune(
        self,
        written: Sequence[str],
        k: NDArray[np.float64],
        n: NDArray[np.float64],
        seed: Sequence[int],
    ) -> Any:
        """One encoder, tuned on these prompts alone; the same for the same seed on a CPU."""
        import torch
        from torch.nn.functional import logsigmoid

        rng = np.random.default_rng(seed)
        device = _device()
        each = -(-len(written) // BATCH)
        epochs = max(self._epochs, -(-LEAST_STEPS // each))
        batches = epochs * each
        warm_up = max(1, batches // 10)
        scale = max(float(n.mean()), 1.0)
        with torch.random.fork_rng():
            torch.manual_seed(int(rng.integers(2**31)))
            _, encoder = _load(self.model)
            encoder.to(device).train()
            optimizer = torch.optim.AdamW(
                encoder.parameters(), lr=self._learning_rate, weight_decay=WEIGHT_DECAY
            )
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimizer,
                lambda step: min((step + 1) / warm_up, (batches - step) / batches),
            )
            for _ in range(epochs):
                order = rng.permutation(len(written))
                for start in range(0, len(order), BATCH):
                    chosen = order[start : start + BATCH]
                    eta = self._base + self._output(encoder, [written[i] for i in chosen])
                    events = torch.tensor(k[chosen], dtype=eta.dtype, device=device)
                    misses = torch.tensor(n[chosen] - k[chosen], dtype=eta.dtype, device=device)
                    inside = events * logsigmoid(eta) + misses * logsigmoid(-eta)
                    loss = -inside.mean() / scale
                    optimizer.zero_grad()
                    loss.backward()  # type: ignore[no-untyped-call]
                    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
                    optimizer.step()
                    schedule.step()
        return encoder.eval()

    def _eta(self, encoder: Any, written: Sequence[str]) -> NDArray[np.float64]:
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(written), 64):
                eta = self._base + self._output(encoder, written[start : start + 64])
                found.append(eta.double().cpu().numpy())
        return np.concatenate(found)

    def _output(self, encoder: Any, written: Sequence[str]) -> Any:
        """f of each text, a tensor of shape (len(written),)."""
        longest = min(self._tokenizer.model_max_length, MAX_TOKENS)
        tokens = self._tokenizer(
            list(written), padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        return encoder(**tokens.to(encoder.device)).logits[:, 0].float()


def _state(folder: Path) -> dict[str, Any]:
    try:
        state = read_json(folder / STATE)
    except FileNotFoundError:
        state = {}
    if state.get("schema") == SCHEMA_VERSION:
        return state
    raise UsageError(f"{folder} holds no fine-tuned encoders of this version: restore it")


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of encoders and tokenizer, by its path in `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != STATE and not path.name.startswith("."):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _load(model: str | Path, tokenizer: Path | None = None) -> tuple[Any, Any]:
    """(tokenizer, encoder): with a new output, or with a tokenizer beside it the one it has."""
    from tailbound.huggingface.checkpoints import Kind, load_checkpoint
    from tailbound.huggingface.places import find_model

    source = model if isinstance(model, Path) else find_model(model, who="finetune: ") or model
    read = load_checkpoint(
        source,
        shown=f"the encoder {model}",
        kind=Kind.ENCODER if tokenizer is None else Kind.CLASSIFIER,
        needed_by="--features finetune",
        tokenizer=tokenizer,
    )
    return read.tokenizer, read.model


def _check(name: str) -> str:
    from tailbound.huggingface.places import find_model

    if not name:
        raise UsageError("--features finetune needs an encoder: finetune:MODEL")
    find_model(name, who="--features: ")
    return name


provider = FeatureProvider(
    load=FinetunedFeatures,
    restore=lambda name, folder: FinetunedFeatures.load(folder),
    check=_check,
    extra="hf",
    files=FINETUNED,
    description="finetune:MODEL: an encoder tuned end to end on the training draws",
)
