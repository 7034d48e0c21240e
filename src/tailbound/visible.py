"""Text of others on one line, with everything that a terminal would act upon in plain sight."""

from __future__ import annotations

import unicodedata


def visible(text: str, *, keep: str = "") -> str:
    """`text` with everything that a terminal would act upon or hide written as in Python source.

    That is line breaks, escape sequences and other control characters, characters that turn the
    direction of writing around or have no width, and halves of characters; but not those in `keep`.

    >>> visible("safe\\x1b[2J\\nor \\u202enot")
    'safe\\\\x1b[2J\\\\nor \\\\u202enot'
    """
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in keep or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )
