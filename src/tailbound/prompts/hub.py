"""Prompt sets by name: Hugging Face datasets, and recipes for well-known ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from os.path import exists
from pathlib import Path
from typing import Any

from tailbound.errors import MissingExtraError, UsageError
from tailbound.prompts.datasets import RECIPES, find_recipe
from tailbound.prompts.tables import Row

PREFIX = "hf-dataset:"

_NAME = re.compile(
    r"(?P<dataset>[^@#]+)(@(?P<revision>[^@#]+))?(#((?P<config>[^/#]+)/)?(?P<split>[^/#]+))?"
)
_COMMIT = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetName:
    """`hf-dataset:ORG/NAME[@REVISION][#[CONFIG/]SPLIT]`, taken apart.

    `field` is the column that a recipe names, `origin` where its authors publish the set, `recipe`
    its short name.
    """

    dataset: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None
    field: str | None = None
    origin: str | None = None
    recipe: str | None = None

    def __str__(self) -> str:
        part = "/".join(one for one in (self.config, self.split) if one)
        return (
            f"{PREFIX}{self.dataset}"
            + (f"@{self.revision}" if self.revision else "")
            + (f"#{part}" if part else "")
        )


def parse_name(text: str) -> DatasetName | None:
    """The dataset that `text` names; None where it is a path: files come before recipes.

    Raises `UsageError` where the prefix is followed by no name.
    """
    if text.startswith(PREFIX):
        match = _NAME.fullmatch(text.removeprefix(PREFIX))
        if match is None:
            raise UsageError(
                f"{text!r} is not a dataset: write {PREFIX}ORG/NAME, with @REVISION and #SPLIT "
                "(or #CONFIG/SPLIT) where they are needed"
            )
        return DatasetName(
            dataset=match["dataset"],
            revision=match["revision"],
            config=match["config"],
            split=match["split"],
        )
    recipe = find_recipe(text)
    if recipe is None or exists(text):
        return None
    return DatasetName(
        dataset=recipe.dataset,
        config=recipe.config,
        split=recipe.split,
        field=recipe.field,
        origin=recipe.origin,
        recipe=next(key for key, value in RECIPES.items() if value is recipe),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedRows:
    """The rows of a dataset; `source` names it with the revision that was read, where known."""

    rows: list[Row]
    source: str
    notices: tuple[str, ...]


def read_named(name: DatasetName) -> NamedRows:
    """All rows of the dataset, downloaded or from the cache.

    Without a split, the only one is read, or `train`. Raises `MissingExtraError` without
    `datasets`, and `UsageError` where the dataset is out of reach, asks for a login, or has no
    such revision, config or split.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"the prompt set {name}", "data") from error
    if name.revision is not None and Path(name.dataset).exists():
        raise UsageError(f"{name} is a local folder, which has no revisions: leave @REVISION out")
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(
            name.dataset, name.config, revision=name.revision, split=name.split
        )
    except Exception as error:  # whatever the hub, YAML, Arrow or a missing decoder raise
        raise _explained(name, error) from error
    if isinstance(loaded, datasets.DatasetDict):
        splits = list(loaded)
        if len(splits) > 1 and "train" not in splits:
            raise UsageError(
                f"{name} has the splits {', '.join(splits)}: choose one with #{splits[0]}"
            )
        split = splits[0] if len(splits) == 1 else "train"
        loaded = loaded[split]
        name = DatasetName(
            dataset=name.dataset,
            revision=name.revision,
            config=name.config,
            split=split,
            field=name.field,
            origin=name.origin,
            recipe=name.recipe,
        )
    source, notices = _provenance(name, loaded)
    # pictures and sounds would be decoded, row by row, for nothing
    features = getattr(loaded, "features", None) or {}
    media = [column for column, kind in features.items() if hasattr(kind, "decode_example")]
    try:
        rows = [
            Row(f"{source} row {number}", dict(values))
            for number, values in enumerate(
                loaded.remove_columns(media) if media else loaded, start=1
            )
        ]
    except Exception as error:
        raise _explained(name, error) from error
    return NamedRows(rows=rows, source=source, notices=notices)


def _provenance(name: DatasetName, loaded: Any) -> tuple[str, tuple[str, ...]]:
    """The name with the commit that was read, and a notice where it is not known."""
    commit = next(
        (
            found[1]
            for address in (loaded.info.download_checksums or {})
            if (found := _COMMIT.search(str(address)))
        ),
        None,
    )
    revision = commit or name.revision
    source = str(
        DatasetName(dataset=name.dataset, revision=revision, config=name.config, split=name.split)
    )
    if revision is None and not Path(name.dataset).exists():
        return source, (
            f"{source} has no fixed revision: pin one with @REVISION, so that a later run reads "
            "the same prompts",
        )
    return source, ()


def _explained(name: DatasetName, error: Exception) -> UsageError:
    kind = type(error).__name__
    cause = error
    if kind == "DatasetGenerationError" and isinstance(error.__cause__, Exception):
        cause = error.__cause__  # the error itself says only that there was one
    line = " ".join(str(cause).split())[:200] or type(cause).__name__
    by_hand = (
        f", or download it by hand from {name.origin} and give {name.recipe}:FILE"
        if name.origin
        else ""
    )
    if isinstance(error, ConnectionError) or "offline" in line.lower():
        return UsageError(
            f"{name} is neither reachable nor in the cache ({line}): go online once{by_hand}"
        )
    if "gated" in line.lower():
        return UsageError(
            f"{name} asks for a login: accept its terms on huggingface.co and run "
            f"`hf auth login`{by_hand}"
        )
    if kind == "DatasetNotFoundError":
        return UsageError(f"{name} is not on the hub, or private ({line}): check the name{by_hand}")
    return UsageError(f"{name} cannot be read ({line}): check revision, config and split{by_hand}")
