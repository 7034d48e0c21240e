"""What the draws of a run are draws of, as `ledger.json` says, and a digest of it.

The digest is in every shard, so that a shard of another contract, judge, seed or run is
refused and never pooled.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from tailbound.core.contract import SamplingContract
from tailbound.errors import ContractMismatchError, LedgerError
from tailbound.runs.layout import DRAWS, LEDGER
from tailbound.runs.schema import SCHEMA_VERSION
from tailbound.runs.shards import part_files
from tailbound.storage.documents import read_json, understood
from tailbound.storage.files import write_json


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Contract (plain values), judge and seed of a run, and its random id."""

    contract: dict[str, Any]
    judge: str
    seed: int
    run_id: str

    @property
    def digest(self) -> str:
        """32 hex digits, other ones for every run."""
        known = json.dumps([self.contract, self.judge, self.seed, self.run_id], sort_keys=True)
        return hashlib.sha256(known.encode()).hexdigest()[:32]


def read_identity(folder: Path) -> Identity:
    """The identity of the run in `folder`.

    Raises `LedgerError` where `ledger.json` is missing, damaged or of another version.
    """
    path = folder / LEDGER
    try:
        held = read_json(path)
    except FileNotFoundError:
        raise LedgerError(f"{folder} has draws but no {LEDGER}: restore it") from None
    with understood(path):
        version = held["schema"]
        if version == SCHEMA_VERSION:
            return Identity(
                contract=dict(held["contract"]),
                judge=held["judge"],
                seed=held["seed"],
                run_id=held["run_id"],
            )
    raise LedgerError(
        f"{path} has schema version {version}, and this tailbound knows version "
        f"{SCHEMA_VERSION}: use the tailbound that wrote it, or another --out folder"
    )


def agree(folder: Path, *, contract: SamplingContract, judge: str, seed: int) -> Identity:
    """The identity of the run in `folder`, written down where there is none yet.

    Raises `ContractMismatchError` where the folder holds draws of something else, and as
    `read_identity` does.
    """
    if not (folder / LEDGER).exists() and not part_files(folder / DRAWS):
        mine = Identity(
            contract=contract.to_dict(), judge=judge, seed=seed, run_id=uuid4().hex[:16]
        )
        write_json(
            folder / LEDGER,
            {
                "schema": SCHEMA_VERSION,
                "contract": mine.contract,
                "contract_digest": contract.digest,
                "judge": judge,
                "seed": seed,
                "run_id": mine.run_id,
            },
        )
        return mine
    held = read_identity(folder)
    there = {"judge": held.judge, "seed": held.seed} | held.contract
    here = {"judge": judge, "seed": seed} | contract.to_dict()
    differences = [
        f"{name} was {there.get(name)!r} and is now {here.get(name)!r}"
        for name in dict.fromkeys([*here, *there])
        if there.get(name) != here.get(name)
    ]
    if differences:
        raise ContractMismatchError(
            f"{folder} holds draws of something else ({'; '.join(differences)}): "
            "use the same options, or another --out folder"
        )
    return held
