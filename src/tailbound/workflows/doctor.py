"""What this installation can do: versions, optional parts, devices, disk, keys and plugins."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points, version
from pathlib import Path
from typing import Any

from tailbound.core.outside import without_passwords
from tailbound.errors import TailboundError

_DEVELOPMENT = {"dev", "docs"}
_ENVIRONMENT = ("HF_HOME", "HF_HUB_OFFLINE", "OPENAI_BASE_URL")
_KEYS = ("OPENAI_API_KEY", "HF_TOKEN")


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One package that a part needs. `installed` is its version, None where it is absent.

    `wanted` is the range that tailbound admits, such as ">=2.0"; `fits` says whether the installed
    version lies in it.
    """

    package: str
    wanted: str
    installed: str | None
    fits: bool


@dataclass(frozen=True, kw_only=True)
class Part:
    """The core ("") or an optional part (extra) with what it needs."""

    extra: str
    requirements: tuple[Requirement, ...]

    @property
    def works(self) -> bool:
        """Whether everything that it needs is there."""
        return all(one.fits for one in self.requirements)

    @property
    def cure(self) -> str | None:
        """The command that installs what is missing, None where nothing is."""
        if self.works:
            return None
        return "pip install --upgrade " + (
            f"'tailbound[{self.extra}]'" if self.extra else "tailbound"
        )


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What `diagnose` found. Sizes are in bytes; `keys` are names of variables, never values."""

    tailbound: str
    python: str
    platform: str
    cores: int
    memory: int | None
    disk_free: int
    folder: str
    devices: tuple[str, ...]
    parts: tuple[Part, ...]
    environment: dict[str, str]
    keys: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether the core works; optional parts may be absent."""
        return self.parts[0].works and not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        parts = {
            part.extra or "core": {
                "works": part.works,
                "cure": part.cure,
                "requirements": [asdict(one) for one in part.requirements],
            }
            for part in self.parts
        }
        return {**asdict(self), "parts": parts, "works": self.works}


def diagnose(folder: Path = Path()) -> Diagnosis:
    """Look at this installation; `folder` is where runs would be written.

    >>> found = diagnose()
    >>> found.parts[0].extra, found.parts[0].works
    ('', True)
    """
    parts = _parts()
    return Diagnosis(
        tailbound=version("tailbound"),
        python=platform.python_version(),
        platform=platform.platform(),
        cores=_cores(),
        memory=_memory(),
        disk_free=shutil.disk_usage(folder).free,
        folder=str(folder.resolve()),
        devices=_devices(),
        parts=parts,
        environment={
            name: without_passwords(os.environ[name]) for name in _ENVIRONMENT if name in os.environ
        },
        keys=tuple(name for name in _KEYS if os.environ.get(name)),
        problems=tuple(_broken_plugins()),
    )


def _parts() -> tuple[Part, ...]:
    from packaging.requirements import Requirement as Specification

    package = distribution("tailbound")
    wanted: dict[str, list[Requirement]] = {"": []}
    extras = [
        name
        for name in package.metadata.get_all("Provides-Extra") or ()
        if name not in _DEVELOPMENT
    ]
    for line in package.requires or ():
        specification = Specification(line)
        for extra in ("", *extras):
            marker = specification.marker
            if marker is None:
                if extra:
                    continue
            elif not extra or "extra" not in str(marker) or not marker.evaluate({"extra": extra}):
                continue
            try:
                installed: str | None = version(specification.name)
            except PackageNotFoundError:
                installed = None
            wanted.setdefault(extra, []).append(
                Requirement(
                    package=specification.name,
                    wanted=str(specification.specifier),
                    installed=installed,
                    fits=installed is not None
                    and specification.specifier.contains(installed, prereleases=True),
                )
            )
    return tuple(Part(extra=extra, requirements=tuple(rows)) for extra, rows in wanted.items())


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # no such call outside Linux
        return os.cpu_count() or 1


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _devices() -> tuple[str, ...]:
    try:
        import torch
    except ImportError:
        return ()
    found = [
        f"cuda:{number} ({torch.cuda.get_device_name(number)})"
        for number in range(torch.cuda.device_count())
    ]
    if torch.backends.mps.is_available():
        found.append("mps")
    return (*found, "cpu")


def _broken_plugins() -> list[str]:
    """One line for each target or judge of another package that cannot be imported."""
    said = []
    for group in ("tailbound.targets", "tailbound.judges"):
        for point in entry_points(group=group):
            if point.value.startswith("tailbound."):
                continue
            try:
                point.load()
            except (ImportError, AttributeError, TailboundError) as error:
                reason = str(error).partition("\n")[0]
                said.append(f"{group} {point.name!r} ({point.value}) does not load: {reason}")
    return said
