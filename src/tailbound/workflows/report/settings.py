"""What the user can choose about a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tailbound.core.options import check_choices, option

Format = Literal["html", "md"]


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """The options of `tailbound report` besides the run folders."""

    out: Path | None = option(
        "File to write (default: report.html in the run folder; with several runs, in the working "
        "directory).",
        default=None,
        short="-o",
    )
    format: Format = option(
        "html: one file that needs nothing else. md: Markdown, with its figures as SVG files in a "
        "folder beside it.",
        default="html",
    )
    show_unsafe: bool = option(
        "Include examples of unsafe responses, each behind a click.", default=False
    )

    def __post_init__(self) -> None:
        check_choices(self)
