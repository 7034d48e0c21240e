"""The adapters that rounds learn from the unsafe replies of all complete batches before them.

    DIR/plan/adapter-0002/    for round 2: a peft adapter, and `training.json`, written last: what
                              it was trained on, with digests of the files; or that there was
                              nothing to learn from, and no adapter

A round is planned when its adapter is on the disk, and a resumed run speaks with that one. It
depends on complete batches alone, so weights and bounds of its round are those of any proposal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tailbound.core.prompt import Prompt
from tailbound.errors import LedgerError, UsageError
from tailbound.importance_sampling import choose_replies, training_shares
from tailbound.runs.layout import PLAN, TRAINING, adapter_name
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import make_folder, write_json
from tailbound.targets.capabilities import Extensible, ProposalEngine, WhiteBox
from tailbound.workflows.risk.checks import check_learned
from tailbound.workflows.risk.lessons import Material
from tailbound.workflows.risk.proposal_mixture import ADAPTER

if TYPE_CHECKING:
    from tailbound.steering.adapter import Example
    from tailbound.targets.decoding.variant import ModelVariant

SCHEMA = 1
CURE = "restore it, or use another --out"
LIBRARIES = ("torch", "transformers", "peft")
NOTHING = "no unsafe reply in earlier batches"
DIVERGED = "the loss was not finite"


class Adapters:
    """The adapters of a run, in its folder and in its engine."""

    def __init__(
        self,
        folder: Path,
        target: WhiteBox,
        engine: ProposalEngine,
        prompts: Sequence[Prompt],
        *,
        seed: int,
    ) -> None:
        """`prompts` are those on which a new adapter is checked in `engine`, an `Extensible`."""
        self._folder = folder / PLAN
        self._target = target
        self._engine = engine
        self._prompts = prompts
        self._seed = seed
        self._numbers: dict[int, dict[str, int]] = {}
        self._last: ModelVariant | None = None

    def learn(self, number: int, material: Sequence[Material]) -> list[str]:
        """Train the adapter of round `number`; `[ADAPTER]` if it may speak there, else `[]`.

        `material` is as for `Lessons.learn`. The adapter of an earlier round is trained further.
        Where the one on record was trained on the same, it stays.
        """
        from tailbound.steering.adapter import steps_for, train_adapter

        examples = _examples(material)
        start = self._before(number)
        steps = steps_for(len(examples), new=start is None)
        digest = _digest(self._seed, number, steps, start, examples)
        folder = self._folder / adapter_name(number)
        if self._is_of(folder, digest):
            return list(self.recall(number))
        make_folder(folder)
        (folder / TRAINING).unlink(missing_ok=True)
        trained = None
        if examples:
            trained = train_adapter(
                self._target,
                examples,
                folder=folder,
                steps=steps,
                seed=[self._seed, number],
                start=start,
            )
        speaks = trained is not None and trained.finite
        replies: dict[str, int] = {}
        for example in examples:
            replies[example.prompt.id] = replies.get(example.prompt.id, 0) + 1
        document = {
            "schema": SCHEMA,
            "trained": speaks,
            "reason": None if speaks else NOTHING if trained is None else DIVERGED,
            "replies": replies,
            "starts_from": None if start is None else start.name,
            "steps": steps if trained else 0,
            "tokens": trained.tokens if trained else 0,
            "losses": list(trained.losses) if trained and speaks else [],
            "seed": self._seed,
            "versions": {name: version(name) for name in LIBRARIES},
            "digest": digest,
            "files": _files(folder) if speaks else {},
        }
        write_json(folder / TRAINING, document)
        return list(self.recall(number))

    def recall(self, number: int) -> dict[str, int]:
        """The adapter of round `number` in the engine, by name; none where none was trained.

        Raises `LedgerError` where its files are missing or damaged.
        """
        if number not in self._numbers:
            self._numbers[number] = self._load(number)
        return self._numbers[number]

    def _load(self, number: int) -> dict[str, int]:
        from tailbound.steering.adapter import load_adapted

        folder = self._folder / adapter_name(number)
        if not _record(folder)["trained"]:
            return {}
        try:
            variant = load_adapted(self._target, folder, name=f"{ADAPTER} {number}")
        except UsageError as error:
            raise LedgerError(f"{folder} cannot be read ({error}): {CURE}") from error
        if self._last is not None:
            self._last.prefixes.clear()  # it hardly speaks again
        self._last = variant
        assert isinstance(self._engine, Extensible)
        place = self._engine.add_variant(variant)
        check_learned(self._engine, place, self._prompts, seed=self._seed)
        return {ADAPTER: place}

    def _before(self, number: int) -> Path | None:
        """The folder of the latest adapter of earlier rounds."""
        for earlier in range(number - 1, 1, -1):
            folder = self._folder / adapter_name(earlier)
            if _record(folder)["trained"]:
                return folder
        return None

    def _is_of(self, folder: Path, digest: str) -> bool:
        """Whether what `folder` holds was trained on what has this digest."""
        return (folder / TRAINING).is_file() and _record(folder)["digest"] == digest


def _examples(material: Sequence[Material]) -> list[Example]:
    """Distinct unsafe replies of all prompts; the shares of each prompt's sum to 1."""
    from tailbound.steering.adapter import Example

    found = []
    for prompt, replies, log_weights, harm in material:
        lesson = choose_replies(log_weights, harm)
        if lesson is None:
            continue
        terms: dict[tuple[int, ...], float] = {}
        for place, weight in zip(lesson.places, lesson.weights.tolist(), strict=True):
            if weight > 0:  # it may underflow
                reply = tuple(replies[place])
                terms[reply] = terms.get(reply, 0.0) + weight
        shares = training_shares(np.log(list(terms.values())))
        found += [
            Example(prompt=prompt, reply=reply, weight=share)
            for reply, share in zip(terms, shares.tolist(), strict=True)
        ]
    return found


def _record(folder: Path) -> dict[str, Any]:
    """The `training.json` in `folder`, whose files are those that it names; or `LedgerError`."""
    path = folder / TRAINING
    if not path.is_file():
        raise LedgerError(f"{path} is missing: {CURE}")
    document = read_json(path, cure=CURE)
    with understood(path, cure=CURE):
        document["digest"]
        if document["trained"]:
            expected: dict[str, str] = document["files"]
            missing = [name for name in expected if not (folder / name).is_file()]
            if missing:
                raise LedgerError(f"{folder / missing[0]} is missing: {CURE}")
            held = _files(folder)
            wrong = [name for name in expected if held[name] != expected[name]]
            if wrong:
                raise LedgerError(f"{folder / wrong[0]} is damaged: {CURE}")
    return document


def _files(folder: Path) -> dict[str, str]:
    """SHA-256 of the adapter's files."""
    from tailbound.huggingface.adapters import CONFIG, SAFE_WEIGHTS

    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in (CONFIG, SAFE_WEIGHTS)
    }


def _digest(
    seed: int, number: int, steps: int, start: Path | None, examples: Sequence[Example]
) -> str:
    """Of everything that an adapter is a function of on one machine."""
    made_of = [
        [seed, number, steps, None if start is None else _files(start)],
        [[one.prompt.id, one.prompt.messages, one.reply, one.weight] for one in examples],
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]
