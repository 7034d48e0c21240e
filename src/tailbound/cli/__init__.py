"""The command line: one file per command, thin; what a command does stands elsewhere."""

from tailbound.cli.app import main

__all__ = ["main"]
