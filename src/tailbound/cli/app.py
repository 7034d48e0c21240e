"""The application: its commands, and how errors reach the user."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from typing import NoReturn

import typer

from tailbound.cli.commands import Root
from tailbound.cli.help import HELP
from tailbound.core.interrupts import keeps_nothing, kept_in
from tailbound.core.outside import visible
from tailbound.terminal.console import guard

INTERRUPTED = 130

app = typer.Typer(
    name="tailbound",
    help="Measures how rarely a language model misbehaves.",
    cls=Root,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
_OF_NAMES = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP)
"""What the system has against a name that was given, rather than a mistake of ours."""


def _show_version(asked: bool) -> None:
    if asked:
        from tailbound import __version__

        typer.echo(f"tailbound {__version__}")
        raise typer.Exit


@app.callback(context_settings=HELP)
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; errors raised on purpose are one line on stderr and an exit code."""
    from tailbound.errors import TailboundError

    guard()

    # Threads that wait by spinning bring a machine with busy cores to a crawl.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    _end_gently()
    keeps_nothing()
    try:
        code = app(standalone_mode=False)
    except TailboundError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_NAMES:
            raise
        _fail(f"{str(error.filename)[:300]}: {error.strerror}: name another file or folder", 2)
    except Exception as error:
        # mistakes on the command line; typer brings its own classes for them, in some versions
        if not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            sys.exit(2)
        where = getattr(getattr(error, "ctx", None), "command_path", "tailbound")
        said = " ".join(error.format_message().split())
        _fail(f"{said} (see {where} --help)", getattr(error, "exit_code", 2))
    if code == INTERRUPTED:
        print(visible(f"tailbound: {_interrupted()}"), file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _interrupted() -> str:
    folder = kept_in()
    if folder is None:
        return "interrupted; nothing was kept"
    return f"interrupted; what is finished is kept in {folder}: repeat the command to resume"


def _fail(said: str, code: int) -> NoReturn:
    print(visible(f"tailbound: error: {said}"), file=sys.stderr)
    sys.exit(code)


def _end_gently() -> None:
    """Let a process that gets SIGTERM keep its finished draws, as an interrupted one does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
