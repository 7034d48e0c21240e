"""The ledger of a run as files: what it holds, whether it is whole, and fewer, larger shards.

Names are looked up when they are asked for: options are declared here too, and reading them needs
none of the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tailbound.core.lazy import lazy

if TYPE_CHECKING:
    from tailbound.workflows.ledger.result import LedgerReport, ShardReport, StreamCount

__all__ = ["LedgerReport", "ShardReport", "StreamCount"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "result"))
