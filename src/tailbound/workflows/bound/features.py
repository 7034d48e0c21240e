"""What the predictor reads of a prompt: hidden states, words, or embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import FixedCounts
from tailbound.errors import UsageError
from tailbound.extras import require
from tailbound.huggingface.places import find_model
from tailbound.predictors import (
    DEFAULT_EMBEDDINGS,
    EmbeddingFeatures,
    FinetunedFeatures,
    TfidfFeatures,
)
from tailbound.prompt import Prompt
from tailbound.runs import layout
from tailbound.steps import step
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json
from tailbound.targets import FeatureSource, Target

SCHEMA = 1
FEATURE_BATCH = 1024
"""Prompts whose features are read between two reports."""
HIDDEN, TFIDF, EMBEDDINGS, FINETUNE = "hidden", "tfidf", "embeddings", "finetune"
_EXTRAS = {TFIDF: "tfidf", EMBEDDINGS: "embeddings", FINETUNE: "hf"}


def check_features(asked: str | None, *, supplied: bool, endpoint: bool) -> None:
    """Find mistakes in --features before anything is spent; raises `UsageError`.

    `supplied`: the prompts bring p_hat. `endpoint`: the target keeps its hidden states to itself.
    An extra that is not installed is found as well.
    """
    if asked is None:
        if endpoint and not supplied:
            require("a target behind an endpoint without --features embeddings or p_hat", "tfidf")
        return
    if supplied:
        raise UsageError(
            "the prompts bring p_hat, so that nothing is predicted: drop --features, or the "
            "column p_hat"
        )
    _check_name(asked, endpoint=endpoint)
    check_installed(asked)
    model = asked.partition(":")[2]
    if model:
        find_model(model, who="--features: ")


def check_installed(chosen: str) -> None:
    """Raise `MissingExtraError` where the extra that `chosen` features need is not installed."""
    kind = chosen.partition(":")[0]
    if kind in _EXTRAS:
        require(f"--features {kind}", _EXTRAS[kind])


def _check_name(asked: str, *, endpoint: bool) -> None:
    """Raise `UsageError` for features that do not exist, or that an endpoint does not have."""
    kind, colon, model = asked.partition(":")
    known = (kind in (HIDDEN, TFIDF) and not colon) or (kind == EMBEDDINGS and (model or not colon))
    if not known and not (kind == FINETUNE and model):
        raise UsageError(
            "--features must be hidden, tfidf, embeddings, embeddings:MODEL or finetune:MODEL, "
            f"not {asked!r}"
        )
    if endpoint and kind == HIDDEN:
        raise UsageError(
            "a target behind an endpoint shows no hidden states: use --features tfidf or "
            "embeddings, or give the prompts a column p_hat"
        )


def choose_features(asked: str | None, target: Target) -> tuple[str, tuple[str, ...]]:
    """What will be read (`hidden`, `tfidf`, `embeddings:MODEL`, `finetune:MODEL`), and notices.

    By default hidden states, and words where the target keeps its hidden states to itself. Raises
    `UsageError` for another name, and for hidden states that are out of reach.
    """
    open_ = isinstance(target, FeatureSource)
    if asked is None:
        if open_:
            return HIDDEN, ()
        return TFIDF, (
            f"{target.contract.target} shows no hidden states: p_hat is predicted from the words "
            "of the prompts (--features embeddings may do better, --features tfidf says that "
            "this is meant)",
        )
    _check_name(asked, endpoint=not open_)
    kind, _, model = asked.partition(":")
    if kind == EMBEDDINGS:
        return f"{EMBEDDINGS}:{model or DEFAULT_EMBEDDINGS}", ()
    return asked, ()


def feature_source(chosen: str, target: Target | None, train: Sequence[Prompt]) -> FeatureSource:
    """The source of what `choose_features` chose, fitted on training prompts where it must be."""
    if chosen == TFIDF:
        return TfidfFeatures.fit(train)
    if chosen.startswith(f"{EMBEDDINGS}:"):
        return EmbeddingFeatures(chosen.partition(":")[2])
    if chosen.startswith(f"{FINETUNE}:"):
        return FinetunedFeatures(chosen.partition(":")[2])
    return _hidden(target)


def read_features(
    source: FeatureSource, prompts: Sequence[Prompt], part: str
) -> NDArray[np.float32]:
    """The features of the prompts of one part, `FEATURE_BATCH` at a time, with progress."""
    name = f"features of the {part} prompts"
    with step(name, total=len(prompts), stage="features") as now:
        rows: list[NDArray[np.float32]] = []
        # one empty batch where there are no prompts: it has the right number of columns
        for start in range(0, max(len(prompts), 1), FEATURE_BATCH):
            batch = prompts[start : start + FEATURE_BATCH]
            rows.append(source.features(batch))
            now.advance(len(batch))
        return np.concatenate(rows)


def learn_features(
    source: FeatureSource, train: Sequence[Prompt], counts: FixedCounts, *, folder: Path, seed: int
) -> None:
    """Let a source that learns from training draws do so; what it learns is kept in `folder`."""
    if isinstance(source, FinetunedFeatures):
        source.learn(
            train,
            counts.unsafe,
            counts.draws - counts.missing,
            folder=folder / layout.FINETUNED,
            seed=seed,
        )


def store_features(folder: Path, chosen: str, source: FeatureSource) -> None:
    """Write down what was read, for prompts to come."""
    if isinstance(source, TfidfFeatures):
        source.save(folder / layout.TFIDF)
    write_json(folder / layout.FEATURES, {"schema": SCHEMA, "features": chosen})


def chosen_features(folder: Path) -> str:
    """What the predictor of a run reads; hidden states where the run does not say."""
    path = folder / layout.FEATURES
    if not path.is_file():
        return HIDDEN
    document = read_json(path)
    with understood(path):
        return str(document["features"])


def stored_features(folder: Path, target: Target | None) -> FeatureSource:
    """The source that the run in `folder` used; `target` is needed for hidden states alone."""
    chosen = chosen_features(folder)
    if chosen == TFIDF:
        return TfidfFeatures.load(folder / layout.TFIDF)
    if chosen.startswith(f"{FINETUNE}:"):
        return FinetunedFeatures.load(folder / layout.FINETUNED)
    return feature_source(chosen, target, ())


def _hidden(target: object) -> FeatureSource:
    if not isinstance(target, FeatureSource):
        raise UsageError(
            "the predictor reads hidden states, and the target shows none: use --features tfidf "
            "or embeddings, or give the prompts a column p_hat"
        )
    return target
