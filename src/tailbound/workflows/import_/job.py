"""From a source to a run folder: checked in full before anything is written."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tailbound.core.contract import Draw, FinishReason, SamplingContract, Verdict
from tailbound.core.options import make
from tailbound.core.outside import clean_text
from tailbound.core.steps import notice, step
from tailbound.errors import UsageError
from tailbound.prompts.chat import Messages
from tailbound.runs import Ledger, manifest, read
from tailbound.runs.layout import PROMPTS
from tailbound.runs.prompts import keep_table, kept_table
from tailbound.storage.places import check_place
from tailbound.storage.plain import finite, from_plain
from tailbound.workflows.import_.base import UNSCORED, ImportedDraw, Source
from tailbound.workflows.import_.formats import read_source
from tailbound.workflows.import_.settings import ImportOptions
from tailbound.workflows.result import Result
from tailbound.workflows.settings import RecordOptions

if TYPE_CHECKING:
    import polars as pl

STREAM, STOPPING = "import", "fixed"
THRESHOLD = 0.5


@dataclass(frozen=True, kw_only=True, repr=False)
class ImportResult(Result):
    """What was imported; `draws`, `unsafe` and `missing` are counts over the whole source.

    `outputs` is how many the source holds, those that could not become draws among them; the
    notices say why. `added` draws are new in the ledger, `there` stood in it already.
    """

    folder: str
    format: str
    judge: str
    threshold: float
    prompts: int
    outputs: int
    draws: int
    added: int
    there: int
    unsafe: int
    missing: int
    notices: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> ImportResult:
        """Inverse of `to_dict`."""
        found: ImportResult = from_plain(cls, dict(document))
        return found

    def facts(self) -> dict[str, object]:
        """Where from, and how many draws."""
        return {
            "format": self.format,
            "judge": self.judge,
            "prompts": self.prompts,
            "draws": self.draws,
            "added": self.added,
            "unsafe": self.unsafe,
            "missing": self.missing,
        }

    def frame(self) -> pl.DataFrame:
        """One row of counts."""
        import polars as pl

        return pl.DataFrame([{k: v for k, v in self.to_dict().items() if k != "notices"}])


def import_run(
    path: Path,
    folder: Path,
    *,
    format: str | None = None,
    judge: str | None = None,
    threshold: float | None = None,
    invert: bool = False,
    store_text: bool = True,
) -> ImportResult:
    """Record every draw of the source `path` in the ledger of `folder`, in a stream `import`.

    `judge` chooses among the scorers, metrics or detectors of the source, `threshold` (default
    .5) says from which score on a draw is unsafe, and with `invert` scores say how *safe* a draw
    is: 1 - score is recorded. Token ids and log-probabilities are not known; neither is whatever
    of the sampling contract the source does not tell (null in `run.yaml`). A draw that is on
    record already is not added again.

    Raises `UsageError`, before anything is written, for draws that occur twice, prompts with two
    texts, scores outside [0, 1] and draws on record with another score or text, and
    `ContractMismatchError` where the folder holds draws of something else.
    """
    level = THRESHOLD if threshold is None else threshold
    if not 0 < level <= 1:
        raise UsageError(f"--threshold must lie in (0, 1], not {level:g}: unsafe is score >= it")
    source = read_source(path, format, judge)
    draws = map(_whole, map(_inverted, source.draws) if invert else source.draws)
    model = None if source.model is None else clean_text(source.model)
    source = replace(source, draws=tuple(draws), model=model, judge=clean_text(source.judge))
    prompts = _check(source.draws, path)
    contract = _contract(source)
    judge_id = f"import:{source.format}:{source.judge}" + (":inverted" if invert else "")
    notices = (*source.notices, *_notices(source, contract))
    texts = store_text and any(draw.text is not None for draw in source.draws)
    if source.judge == UNSCORED and not texts:
        raise UsageError(
            f"{path} has no scores, and without responses there is nothing to judge: "
            + ("leave --no-text out" if not store_text else "there is nothing to import")
        )
    document = manifest.full_manifest(
        command="import",
        contract=contract,
        target=contract.target,
        engine={},
        judge=source.judge,
        judge_id=judge_id,
        threshold=level,
        options={
            "source": str(path),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "format": source.format,
            "judge_name": judge,
            "invert": invert,
        },
        notices=notices,
    )
    added = _record(folder, source, prompts, document, contract, texts=texts)
    return ImportResult(
        folder=str(folder),
        format=source.format,
        judge=judge_id,
        threshold=level,
        prompts=len(prompts),
        outputs=source.outputs,
        draws=len(source.draws),
        added=added,
        there=len(source.draws) - added,
        unsafe=sum(draw.score is not None and draw.score >= level for draw in source.draws),
        missing=sum(draw.score is None for draw in source.draws),
        notices=notices,
    )


def _record(
    folder: Path,
    source: Source,
    prompts: dict[str, tuple[Messages | None, str | None]],
    document: Mapping[str, Any],
    contract: SamplingContract,
    *,
    texts: bool,
) -> int:
    """Put what is not on record yet into the ledger; how many draws that were."""
    with Ledger.open(
        folder,
        run=folder.name,
        contract=contract,
        judge_id=document["judge_id"],
        seed=0,
        store_text=texts,
    ) as ledger:
        new = _new(source.draws, folder)
        table = _prompt_table(prompts, folder)
        manifest.write_manifest(folder, document)
        keep_table(folder, table)
        for draw in new:
            ledger.append(_draw(draw, texts=texts), Verdict(draw.score, draw.reason), STOPPING)
    return len(new)


def import_command(source: Path, out: Path, given: Mapping[str, Any]) -> ImportResult:
    """Everything that `tailbound import` does; `given` are options by name.

    They are those of `ImportOptions` and `RecordOptions`.
    """
    asked, record = make(ImportOptions, given), make(RecordOptions, given)
    check_place(out)
    with step(f"reading {source}"):
        result = import_run(
            source,
            out,
            format=asked.format,
            judge=asked.judge_name,
            threshold=asked.threshold,
            invert=asked.invert,
            store_text=not record.no_text,
        )
    for line in result.notices:
        notice(line)
    return result


def _inverted(draw: ImportedDraw) -> ImportedDraw:
    """1 - score in decimals, so that .9 becomes .1 and not the number just below it."""
    if draw.score is None:
        return draw
    return replace(draw, score=float(1 - Decimal(str(draw.score))))


def _whole(draw: ImportedDraw) -> ImportedDraw:
    """Text that can be written as UTF-8."""
    text, reason = draw.text, draw.reason
    if (text is None or text.isascii()) and (reason is None or reason.isascii()):
        return draw
    return replace(
        draw,
        text=None if text is None else clean_text(text),
        reason=None if reason is None else clean_text(reason),
    )


def _check(
    draws: Sequence[ImportedDraw], path: Path
) -> dict[str, tuple[Messages | None, str | None]]:
    """(messages, group) of each prompt, by its id, where nothing contradicts itself."""
    if not draws:
        raise UsageError(f"{path} has no draws: there is nothing to import")
    seen: dict[tuple[str, int], str] = {}
    prompts: dict[str, tuple[Messages | None, str | None]] = {}
    for draw in draws:
        key = (draw.prompt_id, draw.index)
        if key in seen:
            raise UsageError(
                f"{draw.place} repeats draw {draw.index} of prompt {draw.prompt_id!r} "
                f"({seen[key]}): remove one, or number the draws apart"
            )
        seen[key] = draw.place
        if draw.index < 1:
            raise UsageError(f"{draw.place}: draws count from 1 on, not {draw.index}")
        messages, group = prompts.get(draw.prompt_id, (None, None))
        if messages is not None and draw.messages is not None and messages != draw.messages:
            raise UsageError(
                f"{draw.place}: prompt {draw.prompt_id!r} has another text than before: "
                "one id names one prompt"
            )
        if group is not None and draw.group is not None and group != draw.group:
            raise UsageError(
                f"{draw.place}: prompt {draw.prompt_id!r} is in the group {draw.group!r} and was "
                f"in {group!r} before: a prompt has one group"
            )
        prompts[draw.prompt_id] = (messages or draw.messages, group or draw.group)
    return prompts


def _contract(source: Source) -> SamplingContract:
    """What the source tells; None stands for what it does not."""
    names = ("temperature", "top_p", "top_k", "max_new_tokens", "system")
    model = f":{source.model}" if source.model else ""
    return SamplingContract.from_dict(
        {
            "target": f"import:{source.format}{model}",
            "revision": None,
            "template": None,
            **{name: source.contract.get(name) for name in names},
            "stop_ids": (),
            "stop": source.contract.get("stop", ()),
            "precision": "unknown",
        }
    )


def _notices(source: Source, contract: SamplingContract) -> list[str]:
    lines = []
    if source.judge == UNSCORED:
        lines.append(
            f"nothing in the source is scored: its {len(source.draws)} responses were imported "
            "without a verdict, for `tailbound rejudge`"
        )
    by_prompt: dict[str, list[str]] = {}
    untold = 0
    for draw in source.draws:
        if draw.text is None:
            untold += 1
        else:
            by_prompt.setdefault(draw.prompt_id, []).append(draw.text)
    repeated = [texts for texts in by_prompt.values() if len(texts) > 1]
    greedy = contract.temperature is not None and contract.temperature == 0
    if greedy or (repeated and all(len(set(texts)) == 1 for texts in repeated)):
        why = "temperature 0" if greedy else "all draws of each prompt are the same text"
        lines.append(
            f"{why}: these draws repeat one another, and intervals that count them as independent "
            "do not hold"
        )
    lines += _endings(source.draws)
    if by_prompt and untold:
        lines.append(
            f"{untold} draws have no response in the source: no other judge can judge them"
        )
    return [*lines, *_numbering(source.draws)]


def _endings(draws: Sequence[ImportedDraw]) -> Iterator[str]:
    """How many responses are missing for the way in which they ended, by what the source says."""
    reasons = Counter(
        d.reason for d in draws if d.finish_reason in ("content_filter", "incomplete")
    )
    for reason, count in reasons.most_common():
        yield f"{count} of {len(draws)} draws are missing, whatever their score: {reason}"


def _numbering(draws: Sequence[ImportedDraw]) -> Iterator[str]:
    """What numbers of draws tell: some were left out, or prompts were not treated alike."""
    counts, last = Counter[str](), Counter[str]()
    for draw in draws:
        counts[draw.prompt_id] += 1
        last[draw.prompt_id] = max(last[draw.prompt_id], draw.index)
    gaps = [name for name, count in counts.items() if last[name] > count]
    fewest, most = min(counts.values()), max(counts.values())
    if gaps:
        yield (
            f"numbers of draws are left out in {len(gaps)} of {len(counts)} prompts (first: "
            f"{gaps[0]!r}, {counts[gaps[0]]} draws up to number {last[gaps[0]]}): where they "
            "failed, add them with an empty score; intervals hold only if nobody chose which to "
            "keep"
        )
    elif fewest < most:
        yield (
            f"prompts have {fewest} to {most} draws: intervals hold where no prompt was stopped "
            "because of what it said"
        )


def _new(draws: Sequence[ImportedDraw], folder: Path) -> list[ImportedDraw]:
    """The draws that are not on record; raises where one is there with another verdict or text."""
    frame = read(folder, stream=STREAM).select("prompt_id", "index", "score", "text")
    held = {(name, number): (score, text) for name, number, score, text in frame.iter_rows()}
    new = []
    for draw in draws:
        key = (draw.prompt_id, draw.index)
        if key not in held:
            new.append(draw)
            continue
        score, text = held[key]
        if score != draw.score or (text and draw.text and text != draw.text):
            what = "another response" if score == draw.score else f"the score {score}"
            raise UsageError(
                f"{draw.place}: draw {draw.index} of prompt {draw.prompt_id!r} is on record in "
                f"{folder} with {what}: import another source into another --out folder"
            )
    return new


def _prompt_table(
    prompts: dict[str, tuple[Messages | None, str | None]], folder: Path
) -> pl.DataFrame:
    """`prompts.parquet`: id, part, group, messages as JSON (null where unknown)."""
    import polars as pl

    schema = {"id": pl.String, "part": pl.String, "group": pl.String, "messages": pl.String}
    rows = {
        name: (name, STREAM, group, None if messages is None else json.dumps(messages))
        for name, (messages, group) in prompts.items()
    }
    path = folder / PROMPTS
    before = kept_table(folder).rows()
    for row in before:
        now = rows.setdefault(row[0], row)
        for what, old, new in (("text", row[3], now[3]), ("group", row[2], now[2])):
            if old is not None and new is not None and old != new:
                raise UsageError(
                    f"prompt {row[0]!r} has another {what} in {path}: one id names one prompt, "
                    "so use another --out folder"
                )
        rows[row[0]] = (now[0], now[1], now[2] or row[2], now[3] or row[3])
    order = dict.fromkeys([*(row[0] for row in before), *rows])
    return pl.DataFrame([rows[name] for name in order], schema=schema, orient="row")


def _draw(draw: ImportedDraw, *, texts: bool) -> Draw:
    """The draw for the ledger. Where others have texts, one without is nothing to judge again."""
    untold = texts and draw.text is None
    return Draw(
        prompt_id=draw.prompt_id,
        stream=STREAM,
        index=draw.index,
        token_ids=(),
        text=draw.text or "",
        finish_reason=cast(FinishReason, "incomplete" if untold else draw.finish_reason),
        log_prob=math.nan,
    )
