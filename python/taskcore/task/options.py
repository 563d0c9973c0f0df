"""The options of a task: what the decorator takes, what a class may set, and what applies when
neither does.

Names and defaults are Celery's. Options with a setting behind them are read from the app's
configuration at the moment of use, so tasks can be defined before the app is configured and follow
it when it changes.
"""

from __future__ import annotations

from taskcore.config.validators import unroutable
from taskcore.exceptions import SettingIgnored
from taskcore.typed import TYPE_CHECKING, Any, Callable, Iterable, Mapping, datetime, timedelta
from taskcore.utils import hint, is_mapping, warn

if TYPE_CHECKING:
    _Check = tuple[str, Callable[[Any], bool]]

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
        "trail",
        "store_errors_even_if_ignored",
        "routing_key",
        "resultrepr_maxsize",
        "before_start",
        "on_success",
        "on_failure",
        "on_retry",
        "after_return",
        "on_replace",
    ]
)
"""What may be set on a task, by the decorator or in a class."""

FOLLOWED = OPTIONS | {"run", "apply_async"}
"""What decides how a task is sent and run: a change of it on a registered task has effect from
then on."""

NOT_YET = frozenset(
    [
        "backend",
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


WITHOUT_EFFECT = {
    "send_events": "a worker tells events of all of its tasks, or of none: start it with or without `-E`",
}
"""Options of Celery's that are accepted with a warning, and why."""

_OF_CLASSES = (NOT_YET | WITHOUT_EFFECT.keys()) - {"backend", "shared", "lazy", "filter"}


def check_class(task: Any) -> None:
    """Refuses what a base class says and nobody here would hear.

    Raises:
        TypeError: an option or hook of Celery's that this version does not have.
    """
    for name in _OF_CLASSES:
        if getattr(type(task), name, None):
            check_option(name, ())


_DEFAULTS: dict[str, Any] = {
    "pydantic": False,
    "pydantic_strict": False,
    "pydantic_context": None,
    "pydantic_dump_kwargs": None,
    "store_eager_result": False,
}
"""Celery's defaults of what this version does not have: it is as they ask already."""
_REMEDIES = {
    **dict.fromkeys(
        [name for name in _DEFAULTS if name.startswith("pydantic")],
        "validate inside the task, with `Model.model_validate(...)`",
    ),
    "backend": "set `result_backend` of the app",
    **dict.fromkeys(("exchange", "exchange_type"), "set `queue`"),
}


def is_default(name: str, value: Any) -> bool:
    """Whether an option that this version does not have is set to what holds here anyway."""
    return name in _DEFAULTS and value == _DEFAULTS[name]


def check_option(name: str, known: Iterable[str]) -> None:
    """Refuses an option that does not exist.

    Raises:
        TypeError: with the nearest that does.
    """
    if name in WITHOUT_EFFECT:
        text = f"task option `{name}` has no effect: {WITHOUT_EFFECT[name]}"
        warn(text, SettingIgnored)
        return
    if name in NOT_YET:
        raise TypeError(
            f"task option `{name}` is not supported in this version: {_REMEDIES.get(name, 'remove it')}"
        )
    if name not in known:
        near = hint(name, known) or ": an attribute of your own belongs into a base class, base="
        raise TypeError(f"unknown task option `{name}`{near}")


def _number(value: Any, least: float = 0) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= least


def _limit(value: Any) -> bool:
    return value is None or (_number(value) and value > 0)


def _exceptions(value: Any) -> bool:
    return isinstance(value, (tuple, list, set, frozenset)) and all(
        isinstance(cls, type) and issubclass(cls, BaseException) for cls in value
    )


def _is_time(value: Any, *classes: str) -> bool:
    import datetime

    return isinstance(value, tuple(getattr(datetime, name) for name in classes))


def _text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _flag(value: Any) -> bool:
    return value in (True, False, None)


def _priority(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value <= 9)


_ANYTHING: _Check = ("anything", lambda value: True)
_TEXT: _Check = ("text that is not empty", _text)
_FLAG: _Check = ("True or False", _flag)
_LIMIT: _Check = ("more than 0 seconds, or None", _limit)
_EXCEPTIONS: _Check = ("a tuple of exception classes", _exceptions)
_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("queue", "routing_key", "serializer", "compression"), _TEXT),
    **dict.fromkeys(("ignore_result", "acks_late", "acks_on_failure_or_timeout"), _FLAG),
    **dict.fromkeys(("reject_on_worker_lost", "track_started", "typing", "trail"), _FLAG),
    "retry_jitter": _FLAG,
    **dict.fromkeys(("time_limit", "soft_time_limit"), _LIMIT),
    **dict.fromkeys(("autoretry_for", "dont_autoretry_for", "throws"), _EXCEPTIONS),
    "max_retries": (
        "a whole number, 0 or more, or None for no limit",
        lambda value: value is None or (type(value) is int and value >= 0),
    ),
    "default_retry_delay": (
        "seconds as a number, or a timedelta",
        lambda value: _number(value) or _is_time(value, "timedelta"),
    ),
    "retry_backoff": (
        "True, False, or seconds as a number",
        lambda value: isinstance(value, bool) or _number(value),
    ),
    "retry_backoff_max": ("seconds as a number", _number),
    "retry_kwargs": ("a dict", lambda value: is_mapping(value)),
    "priority": ("a whole number from 0 (served first) to 9", _priority),
    "expires": (
        "seconds as a number, a timedelta or a datetime",
        lambda value: value is None or _number(value) or _is_time(value, "timedelta", "datetime"),
    ),
}
"""What was expected, in words, and whether a value is that."""


def check_values(task: Any) -> None:
    """Refuses values of the wrong kind, whether the decorator or a class gave them.

    Raises:
        TypeError: naming task, option, value and what was expected.
    """
    for name in _CHECKS:
        # Of the class, an option that follows a setting is None.
        check_value(task, name, own(task, name))


def own(task: Any, name: str) -> Any:
    """What the task or its class says itself; None where an option follows a setting."""
    return vars(task).get(name, getattr(type(task), name))


def check_value(task: Any, name: str, value: Any) -> None:
    """Refuses a value of the wrong kind.

    Raises:
        TypeError: as `check_values`.
    """
    expected, fits = _CHECKS.get(name, _ANYTHING)
    if not fits(value):
        raise TypeError(
            f"option `{name}` of task `{task.name or type(task).__name__}` is `{value!r}`: expected {expected}"
        )
    if name == "routing_key" and (reason := unroutable(task.queue, value, None)):
        raise TypeError(f"option of task `{task.name or type(task).__name__}`: {reason}")


class FromConf:
    """An option that, unless set on the task, is a setting of the app."""

    def __init__(self, setting: str) -> None:
        self.setting = setting

    def __get__(self, task: Any, owner: type) -> Any:
        return None if task is None else task.app.conf[self.setting]


class TaskOptions:
    """Base of Task: the options alone."""

    _registered = False
    """Whether the app has it; from then on, a change of its options is told to the app. Set by the
    registry."""
    if TYPE_CHECKING:
        # Nothing of it stays in `__annotations__`: its names are not there while a program runs, and
        # `typing.get_type_hints` of a subclass asks for all of them.
        name: str
        queue: str | None
        routing_key: str | None
        compression: str | None
        max_retries: int | None
        default_retry_delay: float
        autoretry_for: tuple[type[BaseException], ...]
        dont_autoretry_for: tuple[type[BaseException], ...]
        retry_kwargs: Mapping[str, Any]
        retry_backoff: bool | float
        retry_backoff_max: float
        retry_jitter: bool
        rate_limit: str | float | None
        expires: float | timedelta | datetime | None
        throws: tuple[type[BaseException], ...]
        typing: bool
        trail: bool
        resultrepr_maxsize: int
        serializer: str
        priority: int | None
        time_limit: float | None
        soft_time_limit: float | None
        ignore_result: bool
        acks_late: bool
        acks_on_failure_or_timeout: bool
        reject_on_worker_lost: bool
        track_started: bool
        store_errors_even_if_ignored: bool
        run: Callable[..., Any]

    name = ""
    queue = None
    routing_key = None
    compression = None
    max_retries = 3
    default_retry_delay = 180
    autoretry_for = ()
    dont_autoretry_for = ()
    retry_kwargs = {}  # noqa: RUF012 - a default that nobody changes
    retry_backoff = False
    retry_backoff_max = 600
    retry_jitter = True
    rate_limit = None
    expires = None
    throws = ()
    typing = True
    trail = True
    resultrepr_maxsize = 1024
    if not TYPE_CHECKING:
        serializer = FromConf("task_serializer")
        priority = FromConf("task_default_priority")
        time_limit = FromConf("task_time_limit")
        soft_time_limit = FromConf("task_soft_time_limit")
        ignore_result = FromConf("task_ignore_result")
        acks_late = FromConf("task_acks_late")
        acks_on_failure_or_timeout = FromConf("task_acks_on_failure_or_timeout")
        reject_on_worker_lost = FromConf("task_reject_on_worker_lost")
        track_started = FromConf("task_track_started")
        store_errors_even_if_ignored = FromConf("task_store_errors_even_if_ignored")

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """The body of the task; a class-based task defines it."""
            raise NotImplementedError(f"task `{self.name}` has no body: define `run`")

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in FOLLOWED:
                object.__setattr__(self, name, value)
                return
            if self._registered:
                check_value(self, name, value)
            if value is None and name in FROM_CONF and getattr(type(self), name) is None:
                vars(self).pop(name, None)  # as in Celery, None is what the setting says
            else:
                object.__setattr__(self, name, value)
            if self._registered:
                self._options_changed(name)

        def __delattr__(self, name: str) -> None:
            object.__delattr__(self, name)
            if name in FOLLOWED and self._registered:
                self._options_changed(name)


FROM_CONF = frozenset(
    name for name, value in vars(TaskOptions).items() if isinstance(value, FromConf)
)
"""The options that are settings of the app unless they are set."""
