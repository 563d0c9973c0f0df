"""What a worker does for a Django project: its tasks never meet a connection that is lost, too old,
or another process's.

A web request closes the connections that are past their age when it begins and when it ends; here
a task does. Django itself leaves alone those inside of an atomic block, and a task that runs
eagerly is part of whatever called it. The receivers below are connected only in the worker of a
program that configures Django; they take its tasks off the short path of those without receivers.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

from taskcore import signals
from taskcore.config.conf import uses_django
from taskcore.exceptions import TaskcoreWarning
from taskcore.utils import warn

_inherited: list[Any] = []
"""What belongs to the process that this one was forked from. Kept, because the end of such an
object would say goodbye to its server, or release a lock."""


def set_up() -> bool:
    """Sets up Django, if the program configures it; whether it does.

    Warns:
        TaskcoreWarning: the environment names settings of Django, and Django is not installed.
    """
    if not uses_django():
        return False
    if find_spec("django") is None:
        text = "DJANGO_SETTINGS_MODULE is set, but Django is not installed: unset it, or install django"
        warn(text, TaskcoreWarning)
        return False
    import django

    django.setup()
    return True


def connect() -> bool:
    """As `set_up`, and has the worker of this process look after Django's connections."""
    if not set_up():
        return False
    signals.worker_init.connect(_before_fork)
    signals.worker_process_init.connect(_after_fork)
    signals.task_prerun.connect(_before_task)
    signals.task_postrun.connect(_after_task)
    return True


def _before_fork(**_: Any) -> None:
    """What was opened while the app was imported is closed, so that no child inherits it and the
    worker's own process holds none."""
    from django.core.cache import close_caches
    from django.db import connections

    connections.close_all()
    for wrapper in connections.all(initialized_only=True):
        getattr(wrapper, "close_pool", _nothing)()
    close_caches()


def _after_fork(**_: Any) -> None:
    """Forgets connections that another receiver has opened since: their server must not hear of it,
    because the session is the parent's."""
    from django.db import connections

    for wrapper in connections.all(initialized_only=True):
        pools = getattr(wrapper, "_connection_pools", {})
        _inherited.append(pools.pop(wrapper.alias, None))
        if wrapper.connection is not None:
            _inherited.append(wrapper.connection)
            _silence(wrapper.connection)
            wrapper.connection = None


def _silence(connection: Any) -> None:
    """Lets go of the socket without closing its number, which would soon be another file's."""
    try:
        fd = connection.fileno()
    except Exception:
        return  # it has none, as sqlite's, or is closed
    null = os.open(os.devnull, os.O_RDWR)
    try:
        os.dup2(null, fd, inheritable=False)
    finally:
        os.close(null)


def _before_task(task: Any, **_: Any) -> None:
    if not task.request.is_eager:
        _close_old()


def _after_task(task: Any, **_: Any) -> None:
    if not task.request.is_eager:
        from django.core.cache import close_caches

        _close_old()
        close_caches()


def _close_old() -> None:
    from django.db import close_old_connections

    close_old_connections()
    # The connections of `async def` tasks belong to the one thread in which asgiref runs what is
    # not async. What is handed to it now runs before anything that the next task hands to it.
    asgiref = sys.modules.get("asgiref.sync")
    executor = getattr(asgiref and asgiref.SyncToAsync, "single_thread_executor", None)
    if executor is not None and any(thread.is_alive() for thread in executor._threads):
        executor.submit(close_old_connections)


def _nothing() -> None:
    pass
