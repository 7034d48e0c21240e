"""The text of a file or of standard input: compression, byte order marks, encodings, size."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tailbound.errors import MissingExtraError, UsageError

STANDARD_INPUT = Path("-")

MOST_BYTES = 2**30
"""What compressed data and standard input may hold: a few kB can unpack to more than a disk."""

COMPRESSED = (".gz", ".zst")


def suffix_of(path: Path) -> str:
    """The ending that names the format, without that of the compression: `.csv` of `a.csv.gz`."""
    whole = path.suffix.lower()
    return Path(path.stem).suffix.lower() if whole in COMPRESSED else whole


def read_bytes(path: Path) -> bytes:
    """The content of the file (`-`: of standard input), unpacked where it is `.gz` or `.zst`.

    Raises `UsageError` where it is damaged or unpacks to more than `MOST_BYTES`, and
    `MissingExtraError` for `.zst` without `zstandard`.
    """
    if path == STANDARD_INPUT:
        return _limited(iter(lambda: sys.stdin.buffer.read(2**20), b""), "standard input")
    ending = path.suffix.lower()
    if ending not in COMPRESSED:
        return path.read_bytes()
    try:
        return _limited(_gzip(path) if ending == ".gz" else _zstandard(path), str(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(
            f"{path} cannot be unpacked ({error}): it is damaged or cut off, or not {ending}"
        ) from error


def decode(data: bytes, source: str) -> str:
    """The text of `data`: UTF-8, or UTF-16 where a byte order mark says so; the mark is dropped.

    Raises `UsageError` with the line of the first bytes that are not UTF-8.
    """
    wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if wide:
            raise UsageError(
                f"{source} begins as UTF-16 and is not ({error.reason} at byte {error.start}): "
                "save it as UTF-8"
            ) from error
        # a mark of three bytes is not counted in the position that the error gives
        start = error.start + (3 if data.startswith(b"\xef\xbb\xbf") else 0)
        line = data.count(b"\n", 0, start) + 1
        raise UsageError(
            f"{source} line {line} is not UTF-8 text (byte {start} of the file): save the whole "
            "file as UTF-8"
        ) from error


def _gzip(path: Path) -> Iterator[bytes]:
    with gzip.open(path) as file:
        yield from iter(lambda: file.read(2**20), b"")


def _zstandard(path: Path) -> Iterator[bytes]:
    """What the frames of the file unpack to, raising EOFError where the last one is cut off."""
    try:
        import zstandard
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "data") from error
    unpacker = zstandard.ZstdDecompressor()
    frame = unpacker.decompressobj()
    with path.open("rb") as file:
        # few at a time: four bytes can stand for 128 kB
        for chunk in iter(lambda: file.read(2**10), b""):
            left = chunk
            while left:
                if frame.eof:
                    frame = unpacker.decompressobj()
                try:
                    yield frame.decompress(left)
                except zstandard.ZstdError as error:
                    raise EOFError(str(error)) from error
                left = frame.unused_data if frame.eof else b""
    if not frame.eof:
        raise EOFError("the last frame is not complete")


def _limited(chunks: Iterator[bytes], source: str) -> bytes:
    held = io.BytesIO()
    for chunk in chunks:
        if held.tell() + len(chunk) > MOST_BYTES:
            raise UsageError(
                f"{source} holds more than {MOST_BYTES / 2**30:g} GiB unpacked: unpack it to a "
                "file if it is meant to, or split it"
            )
        held.write(chunk)
    return held.getvalue()
