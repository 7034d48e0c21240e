"""Checksums inside files: a file of ours that was changed or damaged is found when it is read.

A sealed file holds, after the word `checksum`, the first 32 hex digits of the SHA-256 of all its
bytes, those digits being counted as zeros:

    JSON       the last key, "checksum"
    YAML       the last line, checksum: "..."
    Parquet    the entry `tailbound.checksum` of the metadata

So any tool reads the file as before, it can be renamed, and every flipped bit is found. The seal
finds accidents; it is no signature.
"""

from __future__ import annotations

import hashlib

DIGITS = 32
BLANK = "0" * DIGITS
_PLACES = (b'checksum": "', b'checksum: "', b"checksum\x18" + bytes([DIGITS]))
"""What comes before the digits in JSON, in YAML, and in the footer of Parquet (Thrift)."""


def seal(data: bytes) -> bytes:
    """`data` with its blank checksum filled in; raises `ValueError` where there is none."""
    start = _start(data)
    if start is None or data[start : start + DIGITS] != BLANK.encode():
        raise ValueError("there is no blank checksum to fill in")
    return data[:start] + _digest(data, start) + data[start + DIGITS :]


def is_sealed(data: bytes) -> bool:
    """Whether `data` holds its own checksum: it is, byte for byte, what was sealed."""
    start = _start(data)
    return start is not None and data[start : start + DIGITS] == _digest(data, start)


def _start(data: bytes) -> int | None:
    """Where the digits of the last checksum begin."""
    found = [place + len(word) for word in _PLACES if (place := data.rfind(word)) >= 0]
    return max(found, default=None)


def _digest(data: bytes, start: int) -> bytes:
    view = memoryview(data)
    hashed = hashlib.sha256(view[:start])
    hashed.update(BLANK.encode())
    hashed.update(view[start + DIGITS :])
    return hashed.hexdigest()[:DIGITS].encode()
