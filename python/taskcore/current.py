"""The current app: the one that is meant when none was named, and the tasks that every app takes
on.

This is the one file with that state. Each thread and each asyncio task may have a current app of
its own (a context variable); where none was set, the app made last is used. `shared_task` leaves
its functions here, because they are defined before the app that will run them exists.
"""

from __future__ import annotations

from contextvars import ContextVar

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_current: ContextVar[Any] = ContextVar("taskcore_current_app", default=None)


class _Process:
    """What all threads of the process share."""

    app: Any = None
    """The app made last; set by `set_app`, read by `get_app`."""
    make_app: Callable[[], Any] | None = None
    """Makes an app for programs that have none; set once by `taskcore.app`."""
    shared_tasks: list[Callable[[Any], Any]] = []  # noqa: RUF012 - the registry of the process, not a default of instances
    """Each adds one shared task to an app; filled by `add_shared_task`, read when an app is made."""
    apps: list[Any] = []  # noqa: RUF012 - as above; weak references
    """The apps that exist, for tasks that are shared after them."""


def get_app() -> Any:
    """The current app; made when there is none at all."""
    app = get_app_or_none()
    if app is None:
        if _Process.make_app is None:
            raise RuntimeError("there is no current app: make one with `Taskcore(...)`")
        app = _Process.make_app()
    return app


def get_app_or_none() -> Any:
    """The current app, or None when there is none."""
    return _current.get() or _Process.app


def all_apps() -> list[Any]:
    """All apps that exist, the oldest first."""
    return [app for reference in _Process.apps if (app := reference()) is not None]


def set_app(app: Any) -> None:
    """Makes an app the current one, in this thread and, where none was set, in others."""
    _current.set(app)
    _Process.app = app


def set_app_factory(make_app: Callable[[], Any]) -> None:
    """Says how to make an app for programs that have none."""
    _Process.make_app = make_app


def add_shared_task(register: Callable[[Any], Any]) -> None:
    """Adds a task to every app that exists or will exist.

    Args:
        register: called with each app; adds the task to it.
    """
    _Process.shared_tasks.append(register)
    for app in all_apps():
        register(app)


def add_app(app: Any) -> None:
    """Gives a new app the tasks that are shared, now and later."""
    # What `weakref` gives, without the containers that it makes.
    from _weakref import ref

    _Process.apps = [reference for reference in _Process.apps if reference() is not None]
    _Process.apps.append(ref(app))
    for register in _Process.shared_tasks:
        register(app)
