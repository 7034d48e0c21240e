"""What the predictor reads of a prompt: hidden states, words, embeddings, features of a plugin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailbound.audit import FixedCounts
from tailbound.core.extras import require
from tailbound.core.prompt import Prompt
from tailbound.core.steps import step
from tailbound.errors import UsageError
from tailbound.predictors.registry import HIDDEN, Learner, feature_provider, find_features
from tailbound.runs import layout
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.targets import FeatureSource, Target

SCHEMA = 1
FEATURE_BATCH = 1024
"""Prompts whose features are read between two reports."""
WORDS = "tfidf"
"""What is read where nothing was asked for and hidden states are out of reach."""


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
            "the prompts bring p_hat, so that nothing is predicted: remove --features, or the "
            "column p_hat"
        )
    _full_name(asked, endpoint=endpoint)
    check_installed(asked)


def check_head(head: str, *, supplied: bool) -> None:
    """Find mistakes in --head before anything is spent; raises `UsageError`."""
    if supplied and head != "auto":
        raise UsageError(
            "the prompts bring p_hat, so that nothing is predicted: remove --head, or the column "
            "p_hat"
        )
    if head == "boosting":
        require("--head boosting", "tfidf")


def check_installed(chosen: str) -> None:
    """Raise `UsageError` where the plugin or the extra that `chosen` features need is missing."""
    kind = chosen.partition(":")[0]
    if kind != HIDDEN:
        extra = feature_provider(kind).extra
        if extra is not None:
            require(f"--features {kind}", extra)


def _full_name(asked: str, *, endpoint: bool) -> str:
    """`asked` in full; raises `UsageError` for features that do not exist or are out of reach."""
    if asked == HIDDEN:
        if endpoint:
            raise UsageError(
                "a target behind an endpoint shows no hidden states: use --features tfidf or "
                "embeddings, or give the prompts a column p_hat"
            )
        return asked
    _, name = find_features(asked)
    kind = asked.partition(":")[0]
    return f"{kind}:{name}" if name else kind


def choose_features(asked: str | None, target: Target) -> tuple[str, tuple[str, ...]]:
    """What will be read (`hidden`, `tfidf`, `embeddings:MODEL`, ...), and notices.

    By default hidden states, and words where the target keeps its hidden states to itself. Raises
    `UsageError` for another name, and for hidden states that are out of reach.
    """
    open_ = isinstance(target, FeatureSource)
    if asked is None:
        if open_:
            return HIDDEN, ()
        return WORDS, (
            f"{target.contract.target} shows no hidden states: p_hat is predicted from the words "
            "of the prompts (--features embeddings may do better, --features tfidf says that "
            "this is meant)",
        )
    return _full_name(asked, endpoint=not open_), ()


def feature_source(chosen: str, target: Target | None, train: Sequence[Prompt]) -> FeatureSource:
    """The source of what `choose_features` chose, fitted on training prompts where it must be."""
    kind, _, name = chosen.partition(":")
    return _hidden(target) if kind == HIDDEN else feature_provider(kind).make(name, train)


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
    chosen: str,
    source: FeatureSource,
    train: Sequence[Prompt],
    counts: FixedCounts,
    *,
    folder: Path,
    seed: int,
) -> None:
    """Let a source that learns from training draws do so; what it learns is kept in `folder`."""
    if isinstance(source, Learner):
        own = folder / feature_provider(chosen.partition(":")[0]).files
        make_folder(own)
        source.learn(
            train,
            counts.unsafe,
            counts.draws - counts.missing,
            folder=own,
            seed=seed,
        )


def store_features(folder: Path, chosen: str, source: FeatureSource) -> None:
    """Write down what was read, for prompts to come."""
    kind = chosen.partition(":")[0]
    if kind != HIDDEN:
        feature_provider(kind).keep(source, folder)
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
    kind, _, name = chosen_features(folder).partition(":")
    return _hidden(target) if kind == HIDDEN else feature_provider(kind).read(name, folder)


def _hidden(target: object) -> FeatureSource:
    if not isinstance(target, FeatureSource):
        raise UsageError(
            "the predictor reads hidden states, and the target shows none: use --features tfidf "
            "or embeddings, or give the prompts a column p_hat"
        )
    return target
