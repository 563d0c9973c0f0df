"""What the worker's loop knows about a task."""

from __future__ import annotations

from typing import Any, NamedTuple

from taskcore.config.validators import rate_per_second
from taskcore.exceptions import NotSupportedError
from taskcore.task.options import own


class TaskSpec(NamedTuple):
    """What the worker loop knows about a task."""

    name: str
    acks_late: bool
    acks_on_failure_or_timeout: bool
    reject_on_worker_lost: bool
    ignore_result: bool
    store_errors_even_if_ignored: bool
    track_started: bool
    rate_limit: float | None
    time_limit: float | None
    soft_time_limit: float | None
    has_failure_handlers: bool


def make_task_spec(task: Any) -> TaskSpec:
    """What the loop must know about a task."""
    rate = (
        task.rate_limit if task.rate_limit is not None else task.app.conf["task_default_rate_limit"]
    )
    return TaskSpec(
        name=task.name,
        acks_late=bool(task.acks_late),
        acks_on_failure_or_timeout=acks_when_it_fails(task),
        reject_on_worker_lost=bool(task.reject_on_worker_lost),
        ignore_result=bool(task.ignore_result),
        store_errors_even_if_ignored=bool(task.store_errors_even_if_ignored),
        track_started=bool(task.track_started),
        rate_limit=rate_per_second(rate),
        time_limit=own(task, "time_limit"),
        soft_time_limit=own(task, "soft_time_limit"),
        has_failure_handlers=task.app.executor.has_failure_handlers(task),
    )


def acks_when_it_fails(task: Any) -> bool:
    """Whether a task that is acknowledged late is acknowledged when it fails or runs out of time.

    Raises:
        NotSupportedError: one of the two alone.
    """
    both = bool(task.acks_on_failure_or_timeout)
    failure, timeout = (
        both if value is None else bool(value)
        for value in (task.acks_on_failure, task.acks_on_timeout)
    )
    if task.acks_late and failure != timeout:
        raise NotSupportedError(
            f"task `{task.name}` has `acks_on_failure={failure}` and `acks_on_timeout={timeout}`: expected the same for "
            "both, which `acks_on_failure_or_timeout` says"
        )
    return failure
