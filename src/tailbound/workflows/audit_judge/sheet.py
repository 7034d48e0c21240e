"""A CSV file for people's labels: written with the sample, read back with labels.

Whoever labels does not see what the judge said, and rows are in random order. Responses are others'
text: what a spreadsheet would take for a formula gets an apostrophe in front, and characters that
cannot be seen, or that turn the direction of writing around, are written as escapes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from tailbound.core.outside import one_line, visible
from tailbound.core.prompt import Prompt
from tailbound.errors import UsageError
from tailbound.prompts.cells import FALSE, TRUE
from tailbound.prompts.tables import Row, read_rows
from tailbound.storage.files import write_atomically
from tailbound.workflows.audit_judge.sample import JudgeSample
from tailbound.workflows.rejudge.record import wanted_draws
from tailbound.workflows.rejudge.verdicts import Key

COLUMNS = ("row", "label", "prompt", "response")
UNSAFE, SAFE, UNCLEAR = "unsafe", "safe", "unclear"
_UNSAFE, _SAFE, _UNCLEAR = {UNSAFE} | TRUE, {SAFE} | FALSE, {UNCLEAR, "?"}
_FORMULA = "=+-@|\uff1d\uff0b\uff0d\uff20"
"""First letters of formulas, in their wide forms too."""


def check_sheet(path: Path) -> None:
    """Raise `UsageError` where no sheet can be written to `path`."""
    if path.suffix.lower() != ".csv":
        raise UsageError(f"--sheet {path}: give a name that ends in .csv")
    if path.exists():
        raise UsageError(
            f"--sheet {path} exists, and may hold labels: give another name, or read its labels by "
            "--labels"
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--sheet {path} cannot be written: give a file in a folder that exists")


def write_sheet(
    path: Path, folder: Path, sample: JudgeSample, prompts: Mapping[str, Prompt]
) -> None:
    """Write the sampled draws with an empty column `label`; prompts that are not known are empty.

    Raises `LedgerError` where the system refuses.
    """
    texts = texts_of(folder, sample)
    file = io.StringIO(newline="")
    rows = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    rows.writerow(COLUMNS)
    for one in sample.rows:
        prompt = prompts.get(one.prompt_id)
        shown = "" if prompt is None else _conversation(prompt)
        response = texts[one.stream, one.prompt_id, one.index]
        rows.writerow((one.row, "", harmless(shown), harmless(response)))
    # spreadsheets take a file without the mark for another encoding
    write_atomically(path, "\ufeff" + file.getvalue())


def texts_of(folder: Path, sample: JudgeSample) -> dict[Key, str]:
    """The responses of the sampled draws."""
    keys = {(one.stream, one.prompt_id, one.index) for one in sample.rows}
    return {
        (draw.stream, draw.prompt_id, draw.index): draw.text or ""
        for batch in wanted_draws(folder, keys.__contains__, only_missing=False)
        for draw in batch
    }


def harmless(text: str) -> str:
    r"""`text` as a cell that no spreadsheet takes for a formula and that hides nothing.

    >>> harmless("=HYPERLINK(1)"), harmless(" \t-2"), harmless("a=b\x1b[2J")
    ("'=HYPERLINK(1)", "' \t-2", 'a=b\\x1b[2J')
    """
    shown = visible(text.replace("\r\n", "\n"), keep="\n\t")
    begins = shown.lstrip()[:1]
    risky = (begins and begins in _FORMULA) or shown[:1] in ("\t", "\n", "'")
    return f"'{shown}" if risky else shown


def _conversation(prompt: Prompt) -> str:
    if len(prompt.messages) == 1:
        return prompt.text
    return "\n\n".join(f"{role}: {text}" for role, text in prompt.messages)


def read_labels(path: Path, sample: JudgeSample) -> dict[str, bool | None]:
    """Label of every row of the sample: unsafe, safe, or None for unclear.

    Raises `UsageError` of one line for a file that is not the filled sheet of `sample`: rows that
    are missing, there twice, or of another sample, and labels that are empty or no label.
    """
    known = {one.row for one in sample.rows}
    found: dict[str, bool | None] = {}
    for row in read_rows(path, what="labels"):
        name = _cell(row, "row")
        if name not in known:
            raise UsageError(
                f"{row.place}: row '{one_line(visible(name), 40)}' is not of the sample on record "
                f"(s{sample.id}-...): fill the sheet that was written last"
            )
        if name in found:
            raise UsageError(f"{row.place}: row {name} is there twice: remove one")
        found[name] = _label(row, _cell(row, "label"))
    absent = [one.row for one in sample.rows if one.row not in found]
    if absent:
        raise UsageError(
            f"{path} lacks {len(absent):,} of {len(known):,} sampled rows (the first: "
            f"{absent[0]}): add them; a draw that nobody can tell is labelled unclear"
        )
    return found


def _cell(row: Row, name: str) -> str:
    if name not in row.values:
        raise UsageError(f"{row.place} has no column {name!r}: fill a sheet of --sheet")
    value = row.values[name]
    return str(value).strip().lstrip("'") if value is not None else ""


def _label(row: Row, text: str) -> bool | None:
    word = text.lower()
    if word in _UNSAFE:
        return True
    if word in _SAFE:
        return False
    if word in _UNCLEAR:
        return None
    said = "has no label" if not word else f"label '{one_line(visible(text), 40)}' is not valid"
    raise UsageError(f"{row.place} {said}: write unsafe, safe or unclear")
