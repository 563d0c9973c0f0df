"""Whether a task may wait for another: not unless who wrote it says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from taskcore import context

_may_join: ContextVar[bool | None] = ContextVar("taskcore_may_join", default=None)
"""None: not inside a task."""


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Allows waiting for results inside a task, for who knows that it cannot deadlock."""
    token = _may_join.set(True)
    try:
        yield
    finally:
        _may_join.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Forbids waiting for results, as inside a task."""
    token = _may_join.set(False)
    try:
        yield
    finally:
        _may_join.reset(token)


def assert_will_not_block() -> None:
    """Refuses to wait inside a task.

    Raises:
        RuntimeError: a task runs here: all slots of the workers may be waiting for one another.
    """
    allowed = _may_join.get()
    if allowed is None:
        allowed = context.get_request() is None
    if not allowed:
        raise RuntimeError(
            "never call result.get() within a task: the workers may all wait for one another; "
            "use link=, or allow_join_result() if you know better"
        )
