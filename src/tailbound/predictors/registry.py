"""Features by name, `--features kind:name`, found through the entry points `tailbound.predictors`.

`hidden` is not a plugin: these features are the target's own (`FeatureSource`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike

from tailbound.core.plugins import Registry
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.runs.layout import PLUGIN_FEATURES
from tailbound.storage.files import make_folder
from tailbound.targets.capabilities import FeatureSource

GROUP = "tailbound.predictors"
HIDDEN = "hidden"

BUILT_IN = {
    "embeddings": "tailbound.predictors.embeddings:provider",
    "finetune": "tailbound.predictors.finetune:provider",
    "tfidf": "tailbound.predictors.tfidf:provider",
}
"""Found even where the package's entry points are not installed (a bare checkout)."""

_REGISTRY = Registry(GROUP, "--features", BUILT_IN, reserved=(HIDDEN,))


@runtime_checkable
class Learner(Protocol):
    """A source of features that learns from the training draws before its features are read."""

    def learn(
        self,
        prompts: Sequence[Prompt],
        unsafe: ArrayLike,
        draws: ArrayLike,
        *,
        folder: Path,
        seed: int,
    ) -> None:
        """Learn from `unsafe` of `draws` draws with a verdict, both of shape (prompts,).

        The same arguments must give the same features: a resumed run calls this again. What is
        needed to read features of new prompts goes to `folder`, the source's own.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class FeatureProvider:
    """How one kind of features is made, kept and read back.

    `load(name)` gives the source of `kind:name`. Where it has to see the training prompts,
    `fit(name, prompts)` is called in its place. A source that cannot be made again from its name
    has `store(source, folder)` and `restore(name, folder)`, for `tailbound predict`.
    `check(name)` raises `UsageError` for a name that cannot be and gives the full name, and loads
    nothing. `extra` is the optional part of tailbound that it needs. Files are kept in the folder
    `files` of the run.
    """

    load: Callable[[str], FeatureSource]
    fit: Callable[[str, Sequence[Prompt]], FeatureSource] | None = None
    store: Callable[[Any, Path], None] | None = None
    restore: Callable[[str, Path], FeatureSource] | None = None
    check: Callable[[str], str] | None = None
    extra: str | None = None
    files: str = PLUGIN_FEATURES
    description: str = ""

    def make(self, name: str, train: Sequence[Prompt]) -> FeatureSource:
        """The source, fitted on training prompts where it must be."""
        return self.load(name) if self.fit is None else self.fit(name, train)

    def read(self, name: str, run: Path) -> FeatureSource:
        """The source that the run in the folder `run` used."""
        if self.restore is None:
            return self.load(name)
        return self.restore(name, run / self.files)

    def keep(self, source: FeatureSource, run: Path) -> None:
        """Write down what `read` needs."""
        if self.store is not None:
            make_folder(run / self.files)
            self.store(source, run / self.files)


def list_predictors() -> dict[str, str]:
    """Kind of features to the `module:object` that declares it, sorted by kind.

    >>> list_predictors()["tfidf"]
    'tailbound.predictors.tfidf:provider'
    """
    return _REGISTRY.places()


def feature_provider(kind: str) -> FeatureProvider:
    """What declares this kind of features; raises `UsageError` where none or two plugins do."""
    return _REGISTRY.declared(kind, FeatureProvider, function="load")


def find_features(asked: str) -> tuple[FeatureProvider, str]:
    """The provider of `kind` or `kind:name` (not of `hidden`), and the full name.

    Raises `UsageError` for an unknown kind, and for a name that the provider refuses.
    """
    kind, colon, name = asked.partition(":")
    found = feature_provider(kind)
    if colon and not name:
        raise UsageError(f"--features {asked!r} ends with a colon: add a name, or remove it")
    return found, name if found.check is None else found.check(name)
