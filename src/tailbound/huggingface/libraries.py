"""Importing the large libraries."""

from __future__ import annotations

from tailbound.core.interrupts import uninterrupted


def import_torch() -> None:
    """Import torch in full before anything else does; raises `ImportError` where it is not there.

    Its import runs C++ that cannot bear an exception of Python's, such as an interrupt: the process
    would be aborted with pages of text. So signals wait here, for a second or two.
    """
    with uninterrupted():
        import torch  # noqa: F401
