"""How much memory there is for what need not be kept."""

from __future__ import annotations

from pathlib import Path

import torch

LEAST, MOST = 1 << 26, 1 << 32
"""Bounds of a prompt cache in bytes: 64 MiB and 4 GiB."""

SHARE = 8
"""A prompt cache may take one part in so many of the memory that is free when it is made."""

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def prompt_cache_bytes(device: torch.device) -> int:
    """The limit of a prompt cache on `device` where none is asked for; no draw depends on it."""
    return max(LEAST, min(MOST, free_bytes(device) // SHARE))


def free_bytes(device: torch.device) -> int:
    """Memory that is free on `device`; of the machine or the container, the lesser; else `MOST`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = []
    for line in _read(_MEMINFO).splitlines():
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            found.append(1024 * int(rest.split()[0]))
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.strip().isdigit() and used.strip().isdigit():
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=MOST)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
