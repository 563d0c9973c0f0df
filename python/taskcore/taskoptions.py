"""The options of a task: what the decorator takes, what a class may set, and what applies when neither does.

Names and defaults are Celery's. Options with a setting behind them are read from the app's configuration at the moment
of use, so tasks can be defined before the app is configured and follow it when it changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from taskcore.utils import hint

OPTIONS = frozenset(
    [
        "name",
        "queue",
        "serializer",
        "compression",
        "ignore_result",
        "acks_late",
        "acks_on_failure_or_timeout",
        "reject_on_worker_lost",
        "max_retries",
        "default_retry_delay",
        "autoretry_for",
        "dont_autoretry_for",
        "retry_kwargs",
        "retry_backoff",
        "retry_backoff_max",
        "retry_jitter",
        "rate_limit",
        "time_limit",
        "soft_time_limit",
        "expires",
        "priority",
        "track_started",
        "throws",
        "typing",
        "store_errors_even_if_ignored",
        "routing_key",
        "resultrepr_maxsize",
        "before_start",
        "on_success",
        "on_failure",
        "on_retry",
        "after_return",
    ]
)
"""What may be set on a task, by the decorator or in a class."""

NOT_YET = frozenset(
    [
        "send_events",
        "trail",
        "shadow_name",
        "store_eager_result",
        "acks_on_failure",
        "acks_on_timeout",
        "delivery_mode",
        "exchange",
        "exchange_type",
        "Strategy",
        "Request",
        "pydantic",
        "pydantic_strict",
        "pydantic_context",
        "pydantic_dump_kwargs",
        "shared",
        "lazy",
        "filter",
    ]
)
"""Options of Celery's that this version does not have."""


def check_option(name: str, known: Iterable[str]) -> None:
    """Refuses an option that does not exist.

    Raises:
        TypeError: with the nearest that does.
    """
    if name in NOT_YET:
        raise TypeError(f"task option `{name}` is not supported in this version: remove it")
    if name not in known:
        near = hint(name, known) or ": an attribute of your own belongs into a base class, base="
        raise TypeError(f"unknown task option `{name}`{near}")


class FromConf:
    """An option that, unless set on the task, is a setting of the app."""

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __get__(self, task: Any, owner: type) -> Any:
        return None if task is None else task.app.conf[self.setting]


class TaskOptions:
    """Base of Task: the options alone."""

    name: str = ""
    queue: str | None = None
    routing_key: str | None = None
    compression: str | None = None
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    rate_limit: str | float | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    expires: float | timedelta | datetime | None = None
    throws: tuple[type[BaseException], ...] = ()
    typing: bool = True
    resultrepr_maxsize: int = 1024
    if TYPE_CHECKING:
        serializer: str
        priority: int | None
        ignore_result: bool
        acks_late: bool
        acks_on_failure_or_timeout: bool
        reject_on_worker_lost: bool
        track_started: bool
        store_errors_even_if_ignored: bool
        run: Callable[..., Any]
    else:
        serializer = FromConf("task_serializer")
        priority = FromConf("task_default_priority")
        ignore_result = FromConf("task_ignore_result")
        acks_late = FromConf("task_acks_late")
        acks_on_failure_or_timeout = FromConf("task_acks_on_failure_or_timeout")
        reject_on_worker_lost = FromConf("task_reject_on_worker_lost")
        track_started = FromConf("task_track_started")
        store_errors_even_if_ignored = FromConf("task_store_errors_even_if_ignored")

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """The body of the task; a class-based task defines it."""
            raise NotImplementedError(f"task `{self.name}` has no body: define `run`")
