"""Opening a page in the browser of the person at the terminal, where there is one."""

from __future__ import annotations

import os
import sys
import threading


def open_browser(url: str) -> None:
    """Open `url`, without waiting; nothing happens where no graphical browser can be expected.

    A text browser would take over the terminal, and on a machine that is reached by ssh a browser
    would open where nobody looks.
    """
    remote = any(name in os.environ for name in ("SSH_CONNECTION", "SSH_TTY"))
    screen = any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if remote or not (screen or sys.platform in ("darwin", "win32")):
        return
    import webbrowser

    threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
