"""The process behind `limited_regex`: a pattern and a limit, then texts; one line of JSON each.

It runs alone (`python -I`), and imports nothing of tailbound. The timer counts this process's
computing, so that a busy machine changes no answer; Python's engine looks for signals as it goes.
"""

import json
import re
import signal
import sys
import warnings


class TooLong(Exception):  # noqa: N818
    """The limit is over."""


def too_long(*_: object) -> None:
    """The timer's call."""
    raise TooLong


def main() -> None:
    """Answer true, false or, where the limit was over, null, until there is no more to read."""
    for name in ("SIGINT", "SIGTERM"):  # meant for the process that asks: it ends us
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    warnings.simplefilter("ignore")
    pattern, limit = json.loads(sys.stdin.readline())
    search = re.compile(pattern).search
    timed = hasattr(signal, "setitimer")
    if timed:
        signal.signal(signal.SIGVTALRM, too_long)
    answer("ready")
    for line in sys.stdin:
        text = json.loads(line)
        try:
            if timed:
                signal.setitimer(signal.ITIMER_VIRTUAL, limit)
            found = search(text) is not None
            if timed:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except TooLong:
            answer(None)
        else:
            answer(found)


def answer(value: object) -> None:
    """Say it at once."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
