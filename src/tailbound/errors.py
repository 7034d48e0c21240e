"""The errors that tailbound raises on purpose, as one tree.

    TailboundError                  exit code 1: something failed while running
    ├── UsageError                  exit code 2: bad input, found before anything is spent
    │   ├── MissingExtraError       an optional dependency is not installed
    │   ├── NoChatTemplateError     a chat was asked of a model without a chat template
    │   ├── RunLockedError          another process is writing to the run folder
    │   └── ContractMismatchError   the run folder holds draws of something else
    ├── TargetError                 the model under audit, or its server, failed
    ├── JudgeError                  the judge failed, and retrying did not help
    ├── LedgerError                 the record of draws cannot be read or written
    └── UnreachableError            exit code 3: a stated bound cannot be reached

Every message is one line: what is wrong, with the offending value, and how to fix it.
"""

from tailbound.visible import visible

LONGEST = 2_000
"""Characters of a message; of a longer one the middle is left out."""
_END = 500


class TailboundError(Exception):
    """Base class of every error raised on purpose.

    Messages hold names and values that others chose: line breaks, escape sequences and other
    characters that a terminal acts upon are written as in Python source.

    >>> str(TailboundError("no file a\\nb"))
    'no file a\\\\nb'
    """

    exit_code = 1

    def __init__(self, message: object = "") -> None:
        line = visible(str(message))
        if len(line) > LONGEST:
            line = f"{line[: LONGEST - _END - 5]} ... {line[-_END:]}"
        super().__init__(line)


class UsageError(TailboundError, ValueError):
    """The input is wrong; nothing has been spent."""

    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs an optional dependency: pip install 'tailbound[{extra}]'"
        )
        self.extra = extra


class NoChatTemplateError(UsageError):
    """A chat was asked of a model that has no chat template."""


class RunLockedError(UsageError):
    """Another process is writing to the run folder."""


class ContractMismatchError(UsageError):
    """The run folder holds draws made under other options; they are never pooled."""


class TargetError(TailboundError):
    """The model under audit, or its server, failed; finished draws are kept."""


class JudgeError(TailboundError):
    """The judge failed, and retrying did not help; finished draws are kept."""


class LedgerError(TailboundError):
    """The record of draws is damaged, of another version, or cannot be written."""


class UnreachableError(TailboundError):
    """A stated bound or guarantee cannot be reached with the data at hand."""

    exit_code = 3
