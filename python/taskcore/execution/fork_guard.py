"""Processes that tasks fork: they are the user's own, and no workers.

A fork copies everything, so the copy of a pool process would take calls, answer the one that
forked it a second time, and treat the signals of its own life as its parent's. Here its signals
become those of any Python process, and a copy that comes back from user code ends as a program
does: SystemExit is its exit code, any other exception is printed.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn

_forks = 0
_handlers: dict[int, Any] = {}


def fork_count() -> int:
    """A number that differs from the one seen before when a fork lies in between."""
    return _forks


def reset_in_forks(handlers: dict[int, Any]) -> None:
    """Gives the processes that this one forks the system's handlers in place of these; a handler of
    the user's stays."""
    _handlers.update(handlers)


def exit_forked_process(raised: BaseException | None) -> NoReturn:
    """Ends a forked process that came back from user code."""
    code = 0
    try:
        if isinstance(raised, SystemExit):
            code = _exit_code(raised.code)
        elif raised is not None:
            sys.excepthook(type(raised), raised, raised.__traceback__)
            code = 1
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Not by the interpreter's end: its handlers belong to the process that was forked.
        os._exit(code)


def _exit_code(code: Any) -> int:
    if code is None or isinstance(code, int):
        return int(code or 0) & 0xFF
    print(code, file=sys.stderr)
    return 1


def _after_fork() -> None:
    global _forks
    _forks += 1
    for number, handler in _handlers.items():
        if signal.getsignal(number) is handler:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)
    _handlers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
