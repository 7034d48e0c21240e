"""The checks of a verification as they are made."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from tailbound.errors import LedgerError, TailboundError
from tailbound.storage.parquet import parse_parquet
from tailbound.storage.seal import is_sealed
from tailbound.workflows.verify.compare import differences, table_differences
from tailbound.workflows.verify.recorded import MissingDrawsError
from tailbound.workflows.verify.result import Check, Difference

SHOWN = 10
"""Differences of one file that are reported each; the others are counted."""
_MALFORMED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What Python raises for content that is not as it should be."""
BROKEN_SEAL = Difference(place="checksum", recorded="of other bytes", found="does not match")


@dataclass
class Findings:
    """What was found in `folder` so far; `tolerance` is that of numbers.

    `sound` turns false where the record itself is damaged: nothing is recomputed from it then.
    """

    folder: Path
    tolerance: float
    checks: list[Check] = field(default_factory=list)
    sound: bool = True

    def matches(self, name: str, detail: str) -> None:
        """It is what it should be; `detail` says what it was compared with."""
        self.checks.append(Check(name=name, outcome="matches", detail=detail))

    def missing(self, name: str, detail: str) -> None:
        """It should be there and is not."""
        self.checks.append(Check(name=name, outcome="missing", detail=detail))

    def not_recomputed(self, name: str, why: str) -> None:
        """Nothing is said of it, for a reason."""
        self.checks.append(Check(name=name, outcome="not recomputed", detail=why))

    def differs(self, name: str, detail: str, found: Iterable[Difference] = ()) -> None:
        """Something else was found than is recorded."""
        every = tuple(found)
        self.checks.append(
            Check(
                name=name,
                outcome="differs",
                detail=detail,
                differences=every[:SHOWN],
                differing=len(every),
            )
        )

    def compare(self, name: str, found: Iterable[Difference], *, against: str) -> None:
        """It matches where there is no difference; `against` says what it was compared with."""
        every = tuple(found)
        if every:
            values = "1 value does" if len(every) == 1 else f"{len(every):,} values do"
            self.differs(name, f"{values} not agree with {against}", every)
        else:
            self.matches(name, f"agrees with {against}")

    def document(
        self,
        name: str,
        again: Path,
        *,
        against: str,
        without: Sequence[str] = (),
        only: Sequence[str] | None = None,
    ) -> None:
        """Compare a JSON file of the run with the same made again in the folder `again`.

        Keys in `without` are left out, and all but `only` where that is given.
        """
        made = self._json(again / name)

        def keep(document: dict[str, Any]) -> dict[str, Any]:
            return {
                key: value
                for key, value in document.items()
                if key not in (*without, "checksum") and (only is None or key in only)
            }

        def find(path: Path) -> Iterator[Difference]:
            recorded = self._json(path)
            yield from differences(keep(recorded), keep(made), tolerance=self.tolerance)

        self._file(name, find, against=against)

    def table(self, name: str, again: Path, *, against: str) -> None:
        """The same for a Parquet file."""
        made = parse_parquet((again / name).read_bytes())

        def find(path: Path) -> Iterator[Difference]:
            recorded = parse_parquet(path.read_bytes())
            yield from table_differences(recorded, made, tolerance=self.tolerance)

        self._file(name, find, against=against)

    def lines(self, name: str, again: Path, *, against: str) -> None:
        """The same for a file with one JSON object a line, which bears no checksum."""
        made = _rows(again / name)

        def find(path: Path) -> Iterator[Difference]:
            yield from differences(_rows(path), made, tolerance=self.tolerance, place="rows")

        self._file(name, find, against=against, sealed=False)

    def _file(
        self,
        name: str,
        find: Callable[[Path], Iterator[Difference]],
        *,
        against: str,
        sealed: bool = True,
    ) -> None:
        path = self.folder / name
        if not path.is_file():
            self.missing(name, "the run has no such file: it was removed, or never finished")
            return
        try:
            whole = not sealed or is_sealed(path.read_bytes())
            found = list(find(path))
        except (LedgerError, *_MALFORMED) as error:
            reason = f"{error}".partition("\n")[0][:200] or type(error).__name__
            self.differs(name, f"cannot be read: {reason}")
            return
        self.compare(name, found if whole else chain([BROKEN_SEAL], found), against=against)

    @staticmethod
    def _json(path: Path) -> dict[str, Any]:
        document = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document, dict):
            raise ValueError("it holds no object")
        return document

    @contextmanager
    def recomputing(self, again: Path, *names: str) -> Iterator[None]:
        """Report what keeps the files `names` from being made again in the folder `again`."""
        from polars.exceptions import PolarsError

        try:
            yield
        except MissingDrawsError as error:
            self.missing("draws/", str(error))
            self._give_up(names, "draws that they rest on are missing")
        except (TailboundError, PolarsError, *_MALFORMED) as error:
            said = f"{error}".partition("\n")[0][:300].replace(f"{again}/", "")
            self.differs(names[0], f"it does not follow from the record: {said}")
            self._give_up(names[1:], f"{names[0]} could not be made again")

    def _give_up(self, names: Iterable[str], why: str) -> None:
        for name in names:
            self.not_recomputed(name, why)


def _rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
