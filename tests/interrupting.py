"""A run that ends at some call, as if its process had been killed there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


class KilledError(Exception):
    """Stands for the moment at which a process is killed."""


def killed_at(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, calls: int, run: Callable[[], Any]
) -> None:
    """Do `run`, which must come to call number `calls` of `owner.name` and end there."""
    original, left = getattr(owner, name), calls

    def interrupted(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise KilledError
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KilledError):
            run()
