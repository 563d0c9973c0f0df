"""What is raised in a running call from outside: a soft time limit, or the end of the worker.

In a plain function it is raised wherever its thread is. A coroutine that waits is not on the stack
of its thread, so what is raised there would end its loop and not the coroutine: `coroutines`
enters each running one here, and raises at its await. This module imports nothing, because every
process that runs tasks has it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Interruptible(Protocol):
    """A running coroutine."""

    def interrupt(self, what: type[BaseException]) -> type[BaseException] | None: ...


running: dict[int, Interruptible] = {}
"""The coroutine that a thread runs, by the number of the thread. Written by `coroutines`."""


asked: Callable[[], object] | None = None
"""In a child whose calls overlap: what looks which of them the parent means. Written by `event_loop`."""


def interrupt(ident: int, what: type[BaseException]) -> type[BaseException] | None:
    """The class to raise at once in the thread `ident`, where `what` is due; None when a coroutine
    waits there, which has been told and raises it at its await."""
    coroutine = running.get(ident)
    return what if coroutine is None else coroutine.interrupt(what)
