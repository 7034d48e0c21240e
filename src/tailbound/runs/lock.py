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


def writer(folder: Path) -> int | None:
    """The id of the process that is writing to `folder`, found out without taking the lock.

    Taking it, be it for a moment, would turn away a run that begins meanwhile. Linux lists all
    locks; elsewhere the process that last had the lock counts while it lives. None where no such
    process is seen: there is none, or it is one of another machine or container, or of a system
    that does not tell (Windows).
    """
    try:
        listed = Path("/proc/locks").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        pid = _pid(folder)
        return pid if pid is not None and os.name == "posix" and _lives(pid) else None
    try:
        file = (folder / LOCK).stat().st_ino
    except OSError:
        return None
    for line in listed:  # 1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF
        words = line.split()
        # the device is another one on some file systems
        if len(words) >= 6 and words[5].rpartition(":")[2] == str(file) and words[4].isdecimal():
            return int(words[4])
    return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _pid(folder: Path) -> int | None:
    try:
        pid = (folder / LOCK_HOLDER).read_bytes()[:32].decode(errors="replace").strip()
    except OSError:
        return None
    return int(pid) if pid.isascii() and pid.isdecimal() and int(pid) > 0 else None


def _holder(folder: Path) -> str:
    pid = _pid(folder)
    return "" if pid is None else f" (pid {pid})"
