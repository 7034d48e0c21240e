"""Documents and lines on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any


def json_document(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, indent=2, allow_nan=False) + "\n")
