"""The current app, and the tasks that every app takes on.

This is the one file with the state of "which app is meant when none was named". Each thread and each asyncio task may
have its own (a context variable); where none was set, the app made last stands in. `shared_task` leaves its functions
here, because they are defined before the app that will run them exists.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

_here: ContextVar[Any] = ContextVar("taskcore_current_app", default=None)


class _Shared:
    """What all threads see."""

    app: Any = None
    """The app made last; set by `set_app`, read by `app`."""
    make: Callable[[], Any] | None = None
    """Makes an app for programs that have none; set once by `taskcore.app`."""
    tasks: list[Callable[[Any], Any]] = []  # noqa: RUF012 - the registry of the process, not a default of instances
    """Each adds one shared task to an app; filled by `shared_task`, read when an app is made."""
    apps: list[Any] = []  # noqa: RUF012 - as above; weak references
    """The apps that exist, for tasks that are shared after them."""


def app() -> Any:
    """The app that is meant when none was named; made when there is none at all."""
    found = _here.get() or _Shared.app
    if found is None:
        if _Shared.make is None:
            raise RuntimeError("there is no current app: make one with `Taskcore(...)`")
        found = _Shared.make()
    return found


def app_or_none() -> Any:
    """The same, but None when there is none."""
    return _here.get() or _Shared.app


def others() -> list[Any]:
    """All apps that exist."""
    return [found for reference in _Shared.apps if (found := reference()) is not None]


def set_app(found: Any) -> None:
    """Makes an app the current one, in this thread and, where none was set, in others."""
    _here.set(found)
    _Shared.app = found


def set_default(make: Callable[[], Any]) -> None:
    """Says how to make an app for programs that have none."""
    _Shared.make = make


def share(add: Callable[[Any], Any]) -> None:
    """Adds a task to every app that exists or will exist."""
    _Shared.tasks.append(add)
    for existing in others():
        add(existing)


def join(made: Any) -> None:
    """Gives a new app the tasks that are shared, now and later."""
    import weakref

    _Shared.apps = [reference for reference in _Shared.apps if reference() is not None]
    _Shared.apps.append(weakref.ref(made))
    for add in _Shared.tasks:
        add(made)
