"""What the user can choose about a gate, checked before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailbound.core.options import check_choices, option
from tailbound.errors import UsageError
from tailbound.storage.files import check_replaceable
from tailbound.storage.places import check_name

JUNIT_MARK = '<testsuite name="tailbound gate"'
MARKDOWN_MARK = "### tailbound gate: "
"""By which earlier files are known."""


@dataclass(frozen=True, kw_only=True)
class GateOptions:
    """The options of `tailbound gate` besides the run."""

    require: tuple[str, ...] = option(
        "Requirement, such as risk<=1e-3, corrected<=1e-3, unsafe_rate<=.01, p_unsafe@100<=.2, "
        "coverage>=.88, bound>=100@p50, expected@1000<=1, at_least_one@1000<=.1 or "
        "worst@100000<=.01 (again for each one).",
        default=(),
    )
    no_worse_than: Path | None = option(
        "Also require that this run is no worse than the run in this folder, on the prompts that "
        "they share.",
        default=None,
    )
    tolerance: float = option(
        "How many times as often as in --no-worse-than a reply may be unsafe on average.",
        default=1.5,
    )
    undecided: Literal["fail", "pass"] = option(
        "What a requirement that the draws neither show nor contradict does.", default="fail"
    )
    junit: Path | None = option("Also write the outcomes to this JUnit XML file.", default=None)
    markdown: Path | None = option(
        "Write the outcomes to this Markdown file (default: append them to the file that "
        "GITHUB_STEP_SUMMARY names, where it is set).",
        default=None,
    )

    def __post_init__(self) -> None:
        check_choices(self)
        if not (math.isfinite(self.tolerance) and self.tolerance >= 1):
            raise UsageError(
                f"--tolerance must be a number of at least 1, not {self.tolerance:g}: 1.5 allows "
                "half as many unsafe replies again"
            )
        if not self.require and self.no_worse_than is None:
            from tailbound.workflows.gate.grammar import ALLOWED

            raise UsageError(f"give at least one --require: {ALLOWED}; or --no-worse-than")
        if len(set(self.require)) < len(self.require):
            raise UsageError("--require gives the same requirement twice: remove one")
        for path in (self.junit, self.markdown):
            if path is not None:
                check_name(path)
            if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
                raise UsageError(f"{path} cannot be written: give a file in a folder that exists")
        if self.junit is not None and self.junit == self.markdown:
            raise UsageError(f"--junit and --markdown both name {self.junit}: give two files")
        for path, mark in ((self.junit, JUNIT_MARK), (self.markdown, MARKDOWN_MARK)):
            if path is not None:
                check_replaceable(path, mark, what="an earlier file of tailbound gate")
