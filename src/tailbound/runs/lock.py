"""One writer at a time: a lock that the operating system lets go when its holder dies."""

from __future__ import annotations

import os
from pathlib import Path

from tailbound.errors import RunLockedError, UsageError
from tailbound.runs.layout import LOCK, LOCK_HOLDER
from tailbound.storage.files import refusals


class FolderLock:
    """Exclusive hold of a run folder, by a lock of the operating system on `DIR/.lock`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock, or raise `RunLockedError` with the pid of the process that has it.

        Raises `LedgerError` where the system refuses to write to the folder.
        """
        from filelock import FileLock, Timeout

        # not bound to the thread that takes it: a run may end in another
        self._lock = FileLock(folder / LOCK, thread_local=False)
        with refusals(folder / LOCK):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:  # an OSError too
                raise RunLockedError(
                    f"{folder} is in use by another process{_holder(folder)}: wait for it to end, "
                    "or take another --out folder"
                ) from None
            except NotImplementedError as error:
                raise UsageError(
                    f"{folder} cannot be locked ({error}): put the run folder on a file system "
                    "with file locks"
                ) from error
        try:
            # the lock itself cannot be read on every system
            with refusals(folder / LOCK_HOLDER):
                (folder / LOCK_HOLDER).write_text(f"{os.getpid()}\n")
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let go; a second call does nothing."""
        self._lock.release()


def _holder(folder: Path) -> str:
    try:
        pid = (folder / LOCK_HOLDER).read_bytes()[:32].decode(errors="replace").strip()
    except OSError:
        return ""
    return f" (pid {pid})" if pid.isascii() and pid.isdecimal() else ""
