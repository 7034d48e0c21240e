"""The command line: one file per command, thin; what a command does stands elsewhere."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line; an interrupt is one line even while its parts are being imported."""
    try:
        from tailbound.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("tailbound: interrupted", file=sys.stderr)
        sys.exit(130)
