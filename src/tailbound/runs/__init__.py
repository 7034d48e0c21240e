"""The durable record of all draws: append-only Parquet shards in the run folder.

    DIR/ledger.json                       what the draws are draws of: contract, judge, seed, run
    DIR/draws/part-000001.parquet         one row per draw; any tool reads them
    DIR/.lock                             held by the one process that writes

A shard appears in full or not at all, and is never changed afterwards: a process killed at any
moment loses at most the draws that it had not yet flushed, and reading never waits for writing.
Each shard is sealed (`tailbound.storage.parquet`) as one of this run: damaged and foreign ones are
refused.
"""

from tailbound.runs.draws import StreamRecord, StreamTotals, index, read, scan, totals
from tailbound.runs.ledger import Ledger
from tailbound.runs.notices import reply_notices
from tailbound.runs.rounds import first_round
from tailbound.runs.schema import SCHEMA_VERSION

__all__ = [
    "SCHEMA_VERSION",
    "Ledger",
    "StreamRecord",
    "StreamTotals",
    "first_round",
    "index",
    "read",
    "reply_notices",
    "scan",
    "totals",
]
