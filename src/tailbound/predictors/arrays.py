"""Arrays and a JSON document in one `.npz` file, checked when they are read."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tailbound.errors import LedgerError, UsageError
from tailbound.storage.files import write_atomically

_NAMES = "arrays"


def save_arrays(path: Path, document: dict[str, Any], **arrays: NDArray[Any]) -> None:
    """Write arrays and a JSON document as one `.npz` file, atomically; nothing is pickled.

    The document names the arrays: where the directory of the file is damaged, one that it lost is
    missed.
    """
    named = {**document, _NAMES: sorted(arrays)}
    text = np.frombuffer(json.dumps(named, allow_nan=False).encode(), dtype=np.uint8)
    buffer = BytesIO()
    np.savez(buffer, allow_pickle=False, document=text, **arrays)
    write_atomically(path, buffer.getvalue())


def load_arrays(
    path: Path, schema: int, kind: str
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The document and the arrays of `save_arrays`.

    Raises `UsageError` where there is no such file or it is of another version, and `LedgerError`
    where it is damaged: the checksums of the zip format are compared before anything is parsed.
    """
    try:
        data = BytesIO(path.read_bytes())
        with zipfile.ZipFile(data) as held:
            if held.testzip() is not None:
                raise zipfile.BadZipFile
        data.seek(0)
        with np.load(data, allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
        document = json.loads(arrays.pop("document").tobytes())
        version = document["schema"]
        if document.pop(_NAMES, sorted(arrays)) != sorted(arrays):
            raise ValueError("arrays are missing, or are too many")
    except FileNotFoundError as error:
        raise UsageError(f"no file {path}: run `tailbound bound` first") from error
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        NotImplementedError,  # of the zip format, as are the next ones
        RuntimeError,
        struct.error,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise LedgerError(
            f"{path} is damaged, or is not {kind} of tailbound: restore it, or run the same "
            "command again"
        ) from error
    if version != schema:
        raise UsageError(
            f"{path} has schema version {version}, and this tailbound reads version {schema}: "
            "use the tailbound that wrote it"
        )
    return document, arrays
