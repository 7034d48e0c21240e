"""The outcomes as JUnit XML and as Markdown; text of others cannot leave its place in either."""

from __future__ import annotations

import re
from xml.sax.saxutils import escape, quoteattr

from tailbound.core.outside import visible
from tailbound.workflows.gate.result import GateResult
from tailbound.workflows.gate.settings import JUNIT_MARK, MARKDOWN_MARK

_MARKS = {"met": "✅", "failed": "❌", "cannot tell": "❔"}
_SPECIAL = re.compile(r"[&<>\\`*_{}\[\]#!|~@]|:(?=//)|(?<=www)\.")


def junit(result: GateResult) -> str:
    """One test case per requirement; what closes the gate is a failure, undecided that does not
    is skipped.
    """
    cases = []
    for one in result.assessments:
        name = f"<testcase classname={_attribute(result.folder)} name={_attribute(one.requirement)}"
        said = f"{one.words}: {one.detail}" + (f" ({one.basis})" if one.basis else "")
        if one.outcome == "met":
            cases.append(f"{name}><system-out>{_text(said)}</system-out></testcase>")
            continue
        kind = "failure" if result.stops(one) else "skipped"
        of = f' type="{one.outcome}"' if kind == "failure" else ""
        message = f"<{kind}{of} message={_attribute(one.words)}"
        inside = f">{_text(said)}</{kind}>" if kind == "failure" else "/>"
        cases.append(f"{name}>{message}{inside}</testcase>")
    stopped = [one for one in result.assessments if result.stops(one)]
    skipped = [one for one in result.assessments if one.outcome != "met" and one not in stopped]
    counts = f'tests="{len(cases)}" failures="{len(stopped)}" errors="0" skipped="{len(skipped)}"'
    body = "\n".join(f"    {case}" for case in cases)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites {counts}>\n"
        f"  {JUNIT_MARK} {counts}>\n{body}\n  </testsuite>\n</testsuites>\n"
    )


def markdown(result: GateResult) -> str:
    """A heading, and a table with a row for each requirement."""
    verdict = "passed" if result.passed else "not passed"
    rows = "\n".join(
        f"| {_MARKS[one.outcome]} | {_code(one.requirement)} | {_plain(one.words)} | "
        f"{_plain(one.detail)} | {_plain(one.basis)} |"
        for one in result.assessments
    )
    return (
        f"{MARKDOWN_MARK}{verdict}\n\n"
        f"Run {_plain(result.folder)}, target {_plain(result.target)}, judge "
        f"{_plain(result.judge)}. A requirement is met only where the draws show it; undecided: "
        f"{result.undecided}.\n\n"
        "| | requirement | outcome | found | interval |\n| --- | --- | --- | --- | --- |\n"
        f"{rows}\n\n"
    )


def _attribute(text: str) -> str:
    return quoteattr(visible(text))


def _text(text: str) -> str:
    return escape(visible(text))


def _plain(text: str) -> str:
    """Text that Markdown, and the HTML in it, takes as it stands; nobody is mentioned."""
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", visible(text))


def _code(text: str) -> str:
    return f"`{visible(text).replace('`', ' ').replace('|', ' ')}`"
