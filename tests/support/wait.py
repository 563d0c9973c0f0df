"""Waiting for an event that another process brings about.

Where the event can be received (a line of a log, a result, an exit code) it is received; where it
can only be looked for, `until` looks again at short intervals. Both end with an error that says
what was awaited.
"""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE = 30.0
INTERVAL = 0.02


def until(look: Callable[[], T], what: str, timeout: float = DEADLINE) -> T:
    """Calls `look` until it answers something true, and returns that."""
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"still waiting for {what} after {timeout} s; last seen: {seen!r}")
        time.sleep(INTERVAL)
