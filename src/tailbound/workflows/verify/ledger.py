"""Whether the record itself is whole: files, seals, identity, draws, prompts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tailbound.core.contract import SamplingContract
from tailbound.core.prompt import content_id
from tailbound.errors import LedgerError, UsageError
from tailbound.missing_verdicts import unsafe_or_missing
from tailbound.predictors.arrays import load_arrays
from tailbound.runs import layout
from tailbound.runs.draws import draw_store
from tailbound.runs.identity import Identity, read_identity
from tailbound.runs.layout import part_name
from tailbound.runs.prompts import kept_table
from tailbound.runs.schema import columns
from tailbound.runs.shards import numbers
from tailbound.steering.checks import NOTE_FILE, VECTOR_FILE
from tailbound.storage.documents import read_json
from tailbound.storage.parquet import read_sealed
from tailbound.storage.seal import is_sealed
from tailbound.workflows.verify.compare import differences
from tailbound.workflows.verify.findings import Findings
from tailbound.workflows.verify.result import Difference

if TYPE_CHECKING:
    import polars as pl

_CONTENT_ID = re.compile("[0-9a-f]{16}")
_SEALED = (
    *("*.json", layout.P_HAT, f"{layout.PLAN}/*.json", f"{layout.PLAN}/*/{layout.TRAINING}"),
    *(f"{layout.SPLITTING}/*.json", f"{layout.VERDICTS}/*/{layout.JUDGE}"),
    *(f"{layout.DIRECTION}*/direction.json", f"{layout.FINETUNED}/finetuned.json"),
    *(f"{layout.SCORES}/*.parquet", f"{layout.VERDICTS}/*/part-*.parquet"),
)
"""Sealed files that others are made from, besides `draws/`; results have lines of their own."""
_RESULTS = (layout.BOUND, layout.EVALUATION, layout.RISK, layout.SUMMARY, layout.SPEND)
_INDEX_LIMIT = 5


def check_record(findings: Findings, manifest: Mapping[str, Any]) -> None:
    """Everything that results rest on; `findings.sound` says whether they can be made again."""
    if not _check_identity(findings, manifest):
        findings.sound = False
        return
    _check_seals(findings)
    _check_files(findings)
    _check_arrays(findings)
    _check_draws(findings, manifest, read_identity(findings.folder))
    _check_prompts(findings)


def _check_identity(findings: Findings, manifest: Mapping[str, Any]) -> bool:
    """Contract, judge and seed are the same in `run.yaml` and `ledger.json`."""
    folder = findings.folder
    if not (folder / layout.LEDGER).is_file():
        findings.missing(layout.LEDGER, "it says what the draws are draws of: restore it")
        return False
    try:
        identity = read_identity(folder)
        document = read_json(folder / layout.LEDGER)
        contract = {k: v for k, v in manifest["contract"].items() if k != "digest"}
        digest = SamplingContract.from_dict(contract).digest
        held = SamplingContract.from_dict(identity.contract).digest
    except (LedgerError, KeyError, TypeError) as error:
        findings.differs(layout.LEDGER, _of_folder(error, folder))
        return False
    found = {
        "contract": identity.contract,
        "contract_digest": document.get("contract_digest"),
        "judge": identity.judge,
        "seed": identity.seed,
    }
    known = {
        "contract": contract,
        "contract_digest": held,
        "judge": manifest["judge_id"],
        "seed": manifest["options"].get("seed", 0),
    }
    wrong = list(differences(found, known, tolerance=0.0))
    if manifest["contract"].get("digest") != digest:
        place = f"{layout.MANIFEST}: contract.digest"
        recorded = manifest["contract"].get("digest")
        wrong.append(Difference(place=place, recorded=recorded, found=digest))
    findings.compare(layout.LEDGER, wrong, against=f"{layout.MANIFEST} (contract, judge, seed)")
    return not wrong


def _check_seals(findings: Findings) -> None:
    folder = findings.folder
    paths = [
        path
        for pattern in _SEALED
        for path in sorted(folder.glob(pattern))
        if path.name not in (*_RESULTS, layout.LEDGER) and not path.name.startswith(".")
    ]
    broken = [path for path in paths if not is_sealed(path.read_bytes())]
    for path in broken:
        findings.sound = False
        findings.differs(
            str(path.relative_to(folder)), "it was changed or damaged: its checksum does not match"
        )
    if len(paths) > len(broken):
        findings.matches("checksums", f"of other files that bear one: {len(paths) - len(broken)}")


def _check_files(findings: Findings) -> None:
    """Files of others' formats, whose SHA-256 a document of ours holds."""
    folder = findings.folder
    places = (
        *(f"{layout.PLAN}/*/{layout.TRAINING}", f"{layout.FINETUNED}/finetuned.json"),
        f"{layout.DIRECTION}*/{NOTE_FILE}",
    )
    for path in (path for place in places for path in sorted(folder.glob(place))):
        try:
            document = read_json(path)
            named = document.get("files", {VECTOR_FILE: document.get("sha256")}).items()
        except (LedgerError, AttributeError):
            continue  # its seal is reported
        wrong = [
            Difference(place=str(name), recorded=digest, found=_sha256(path.parent / name))
            for name, digest in named
            if _sha256(path.parent / name) != digest
        ]
        home = f"{path.parent.relative_to(folder)}/"
        findings.compare(home, wrong, against=f"the SHA-256 of its files in {path.name}")


def _check_arrays(findings: Findings) -> None:
    """Arrays, which have the checksums of the zip format."""
    for path in sorted(findings.folder.glob("*.npz")):
        try:
            load_arrays(path, 1, "a file")
        except LedgerError:
            findings.sound = findings.sound and path.name != layout.PREDICTOR
            findings.differs(path.name, "it is damaged: its checksums do not match")
        except UsageError:
            continue  # of another version: whoever reads it says so


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "(absent)"


def _check_draws(findings: Findings, manifest: Mapping[str, Any], identity: Identity) -> None:
    """Shards are readable and none is gone, each draw is there once, and rows are of this run."""
    import polars as pl

    folder, name = findings.folder, f"{layout.DRAWS}/"
    try:
        paths = draw_store(folder).paths()
    except LedgerError as error:
        findings.differs(name, _of_folder(error, folder))
        findings.sound = False
        return
    if not paths:
        findings.missing(name, "there are no draws: they were removed, or the run never began")
        findings.sound = False
        return
    held = {number for path in paths for number in range(numbers(path)[0], numbers(path)[1] + 1)}
    aside = {path.name for path in (folder / layout.DAMAGED).glob("part-*.parquet")}
    gone = [
        number
        for number in sorted(set(range(1, max(held) + 1)) - held)
        if part_name(number) not in aside
    ]
    for number in gone[:_INDEX_LIMIT]:
        findings.missing(f"{name}{part_name(number)}", "later shards are there: it was removed")
    frames = []
    for path in paths:
        try:
            frame = read_sealed(path, of=identity.digest, cure="restore it")
            if dict(frame.schema) != columns():
                raise LedgerError("its columns are not those of this version of tailbound")
        except LedgerError as error:
            findings.differs(f"{name}{path.name}", _of_folder(error, folder))
            findings.sound = False
            continue
        frames.append(frame.drop("text", "token_ids"))
    if not findings.sound or not frames:
        return
    draws = pl.concat(frames)
    wrong = list(_wrong_rows(draws, manifest, identity))
    if wrong:
        findings.sound = False
        findings.differs(name, "rows are not what the run records", wrong)
    absent = list(_gaps(draws, float(manifest["threshold"])))
    if absent:
        some = "; ".join(absent[:_INDEX_LIMIT])
        more = f"; and {len(absent) - _INDEX_LIMIT} more" if len(absent) > _INDEX_LIMIT else ""
        findings.missing(name, f"draws before later ones are not on record: {some}{more}")
    if not (wrong or absent or gone):
        findings.matches(
            name,
            f"{draws.height:,} draws: readable, of this run, each once, without gaps",
        )


def _wrong_rows(
    draws: pl.DataFrame, manifest: Mapping[str, Any], identity: Identity
) -> Iterator[Difference]:
    import polars as pl

    known = {
        "contract": manifest["contract"].get("digest"),
        "judge": identity.judge,
        "seed": identity.seed,
    }
    for column, value in known.items():
        for other in draws[column].unique().to_list():
            if other != value:
                yield Difference(place=column, recorded=other, found=value)
    key = ["stream", "prompt_id", "index"]
    twice = draws.filter(draws.select(key).is_duplicated())
    for stream, prompt_id, index in twice.select(key).unique(maintain_order=True).iter_rows():
        yield Difference(
            place=f"{stream}, prompt {prompt_id!r}, draw {index}", recorded="twice", found="once"
        )
    score, missing = pl.col("score"), pl.col("verdict") == "missing"
    odd = draws.filter(
        (score.is_null() != missing) | (score.is_not_null() & ~score.is_between(0, 1))
    )
    for stream, prompt_id, index, value, said in odd.select(*key, "score", "verdict").iter_rows():
        place = f"{stream}, prompt {prompt_id!r}, draw {index}"
        yield Difference(place=place, recorded=f"{said}, score {value}", found="a contradiction")


def _gaps(draws: pl.DataFrame, threshold: float) -> Iterator[str]:
    """Draws that should have come before those on record, in words.

    In streams that stop at the first event, only those before it: later ones may not have ended.
    Imported draws are numbered by others.
    """
    import polars as pl

    ordered = draws.filter(pl.col("stream") != "import").sort("stream", "prompt_id", "index")
    event = pl.Series("event", unsafe_or_missing(ordered["score"].to_numpy(), threshold))
    stops = pl.col("stopping") == "first-event"
    first = pl.col("index").filter(pl.col("event")).min()
    last = (
        pl.when(stops.first() & pl.col("event").any()).then(first).otherwise(pl.col("index").max())
    )
    table = (
        ordered.with_columns(event)
        .group_by("stream", "prompt_id", maintain_order=True)
        .agg(last.alias("last"), pl.col("index").alias("held"))
    )
    for stream, prompt_id, end, held in table.iter_rows():
        absent = sorted(set(range(1, end + 1)) - set(held))
        if absent:
            yield (
                f"{len(absent)} of {end} of prompt {prompt_id!r} in stream {stream!r} (the first: "
                f"{absent[0]})"
            )


def _check_prompts(findings: Findings) -> None:
    """Every draw is of a prompt on file, and ids that are hashes of texts are those hashes."""
    import polars as pl

    from tailbound.runs import scan

    folder, name = findings.folder, layout.PROMPTS
    if not (folder / name).is_file():
        findings.missing(name, "the texts of the prompts: restore it")
        findings.sound = False
        return
    try:
        table = kept_table(folder)
        held = [
            (key, None if text is None else tuple((role, said) for role, said in json.loads(text)))
            for key, text in table.select("id", "messages").iter_rows()
        ]
        drawn: list[str] = []
        if findings.sound:
            ids = scan(folder).select(pl.col("prompt_id").unique().sort()).collect()
            drawn = ids["prompt_id"].to_list()
    except (LedgerError, ValueError, TypeError) as error:
        findings.differs(name, _of_folder(error, folder))
        findings.sound = False
        return
    known = {key for key, _ in held}
    wrong = [
        Difference(place=f"prompt {key!r}", recorded="has draws", found="is not on file")
        for key in drawn
        if key not in known
    ]
    hashes = {key: content_id(messages) for key, messages in held if messages is not None}
    equal = sum(key == own for key, own in hashes.items())
    if 2 * equal > len(hashes):  # their ids were made of the texts
        wrong += [
            Difference(place=f"prompt {key!r}", recorded=key, found=own)
            for key, own in hashes.items()
            if key != own and _CONTENT_ID.fullmatch(key)
        ]
    if wrong:
        findings.differs(name, "the prompts on file are not those of the draws", wrong)
        return
    words = f"{len(held):,} prompts; every draw is of one of them"
    if equal:
        words += f", and {equal:,} ids are the hashes of their texts"
    findings.matches(name, words)


def _of_folder(error: Exception, folder: Path) -> str:
    """The error in one line, with paths from the run folder on."""
    return f"{error}".partition("\n")[0].replace(f"{folder}/", "")
