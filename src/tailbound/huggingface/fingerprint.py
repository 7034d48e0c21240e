"""Which model this is: a revision that is the same wherever the same weights lie."""

from __future__ import annotations

import hashlib
from pathlib import Path

WHOLE_FILE = 1 << 30
"""Files up to this size are hashed whole, larger ones by size, head and tail."""

SAMPLE = 1 << 24

_SETTINGS = {
    "config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
}
_WEIGHTS = {".safetensors", ".bin", ".model", ".tiktoken"}


def folder_revision(folder: Path) -> str:
    """`sha256:` and 16 hex digits over the files that define the model's distribution.

    Weights, configuration and tokenizer, by name and content; files above 1 GiB by their size and
    their first and last 16 MiB. Paths and times do not enter.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir(), key=lambda path: path.name):
        if file.name in _SETTINGS or file.suffix in _WEIGHTS:
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            _add(digest, file)
    return f"sha256:{digest.hexdigest()[:16]}"


def file_revision(file: Path) -> str:
    """`sha256:` and 16 hex digits over one file that holds a whole model, by its content alone.

    A file above 1 GiB by its size and its first and last 16 MiB. Its name does not enter.
    """
    digest = hashlib.sha256(f"{file.stat().st_size}\0".encode())
    _add(digest, file)
    return f"sha256:{digest.hexdigest()[:16]}"


def checkpoint_revision(folder: Path, gguf: str | None) -> str:
    """The revision of the model in `folder`, or of the GGUF file of that name in it."""
    return folder_revision(folder) if gguf is None else file_revision(folder / gguf)


def _add(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= WHOLE_FILE:
            while block := stream.read(1 << 20):
                digest.update(block)
        else:
            digest.update(stream.read(SAMPLE))
            stream.seek(size - SAMPLE)
            digest.update(stream.read(SAMPLE))
