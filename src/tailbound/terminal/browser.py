"""Saying where a page is served, and opening it in a browser where there is one."""

from __future__ import annotations

import os
import sys
import threading

from tailbound.terminal.console import say


def announce(url: str, browser: bool) -> None:
    """Say where a page is served, and open it where that is wanted."""
    say(f"report: {url}")
    say("Only this machine can reach it, and only by this address. Ctrl-C ends it.")
    sys.stdout.flush()
    if browser:
        open_browser(url)


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
