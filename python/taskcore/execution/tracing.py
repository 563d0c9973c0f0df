"""Where packages that watch executions put themselves around them, under Celery's names.

They replace `build_tracer` by a function that calls the one before it and gives what runs a call. Where
nobody has, nothing of this is on the way of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any


def task_has_custom(task: Any, attr: str) -> bool:
    """Whether a class of the user's overrides a method of `Task`."""
    owner = next((cls for cls in type(task).__mro__ if attr in vars(cls)), None)
    return owner is not None and not owner.__module__.startswith(("taskcore.", "typing"))


def build_tracer(name: str, task: Any, *args: Any, **kwargs: Any) -> Callable[..., Any]:
    """What runs the calls of a task.

    Args:
        args, kwargs: accepted, as in Celery.
    Returns:
        a function of id, positional and named arguments, and the request as a dict; it gives what the
        body returns, and lets through what that raises.
    """
    custom = task_has_custom(task, "__call__")

    def trace(task_id: str, args: Any, kwargs: Any, request: Any = None) -> Any:
        value = (task if custom else task.run)(*args, **kwargs)
        if isinstance(value, CoroutineType):
            from taskcore.execution.coroutines import run

            return run(value)
        return value

    return trace


_PLAIN = build_tracer


def traced(task: Any) -> Callable[..., Any] | None:
    """The body as a replaced `build_tracer` wants it run; None where nobody has replaced it."""
    if build_tracer is _PLAIN:
        return None
    tracer = build_tracer(task.name, task, app=task.app)

    def run(*args: Any, **kwargs: Any) -> Any:
        request = task.request
        return tracer(request.id, args, kwargs, request.as_dict())

    return run
