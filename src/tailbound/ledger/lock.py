"""One writer at a time: a lock that the operating system lets go when its holder dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from tailbound.errors import RunLockedError, UsageError


class FolderLock:
    """Exclusive hold of a run folder, by `flock` on `DIR/.lock`, which names the holder's pid."""

    def __init__(self, folder: Path) -> None:
        """Take the lock, or raise `RunLockedError` with the pid of the process that has it."""
        path = folder / ".lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise RunLockedError(
                f"{folder} is in use by another process{f' (pid {holder})' if holder else ''}: "
                "wait for it to end, or take another --out folder"
            ) from None
        except OSError as error:
            os.close(descriptor)
            raise UsageError(
                f"{folder} cannot be locked ({error.strerror}): put the run folder on a file "
                "system with file locks"
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
