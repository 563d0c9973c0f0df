"""The options of a task: what the decorator takes, what a class may set, and what applies when
neither does.

Names and defaults are Celery's. Options with a setting behind them are read from the app's
configuration at the moment of use, so tasks can be defined before the app is configured and follow
it when it changes.
"""

from __future__ import annotations

from taskcore.entity import EXCHANGE_TYPES
from taskcore.exceptions import SettingIgnored, TaskcoreWarning
from taskcore.typed import TYPE_CHECKING, Any, Callable, Iterable, Mapping, datetime, timedelta
from taskcore.utils import is_mapping, nearest, warn

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
        "exchange",
        "exchange_type",
        "resultrepr_maxsize",
        "before_start",
        "on_success",
        "on_failure",
        "on_retry",
        "after_return",
        "on_replace",
        "shadow_name",
        "store_eager_result",
        "acks_on_failure",
        "acks_on_timeout",
        "pydantic",
        "pydantic_strict",
        "pydantic_context",
        "pydantic_dump_kwargs",
    ]
)
"""What may be set on a task, by the decorator or in a class."""

FOLLOWED = OPTIONS | {"run", "apply_async"}
"""What decides how a task is sent and run: a change of it on a registered task has effect from
then on."""

OF_DECORATOR = frozenset({"bind", "base", "shared", "lazy", "filter"})
"""What only the decorator takes."""

NOT_YET = frozenset(["backend", "Strategy", "Request"])
"""Options of Celery's that this version does not have."""


WITHOUT_EFFECT = {
    "send_events": "a worker tells events of all of its tasks, or of none: start it with or without `-E`",
    "delivery_mode": "what a broker keeps is the same for all messages",
    "retry_on_worker_lost": "use `reject_on_worker_lost`",
}
"""Options of Celery's that are accepted with a warning, and why."""

_OF_CLASSES = (NOT_YET | WITHOUT_EFFECT.keys()) - {"backend"}


def check_class(task: Any) -> None:
    """Refuses what a base class says and nobody here would hear.

    Raises:
        TypeError: an option or hook of Celery's that this version does not have.
    """
    for name in _OF_CLASSES:
        if getattr(type(task), name, None):
            check_option(name, ())


_REMEDIES = {
    "backend": "set `result_backend` of the app, or `ignore_result` of the task",
    **dict.fromkeys(
        ("Strategy", "Request"),
        "what a worker does with a message is decided in its core: use the hooks of the task",
    ),
}


def check_names(options: Iterable[str], cls: type, known: Iterable[str] = OPTIONS) -> None:
    """Looks at the names of options: what neither the class nor Celery has is an attribute of the
    user's own.

    Raises:
        TypeError: Celery has it, and this version does not.
    Warns:
        SettingIgnored: it has no effect here.
        TaskcoreWarning: it reads like a slip of the pen for one of `known`.
    """
    for name in options:
        if name in NOT_YET or not hasattr(cls, name):
            check_option(name, known)


def check_option(name: str, known: Iterable[str]) -> None:
    """As `check_names`, for one name that the class of the task does not have."""
    if name in WITHOUT_EFFECT:
        text = f"task option `{name}` has no effect: {WITHOUT_EFFECT[name]}"
        warn(text, SettingIgnored)
    elif name in NOT_YET:
        raise TypeError(f"task option `{name}` is not supported in this version: {_REMEDIES[name]}")
    elif name not in known and (near := nearest(name, known, alike=_ALIKE)):
        text = f"`{name}` is no option of tasks, did you mean `{near}`? it is kept as an attribute of the task"
        warn(text, TaskcoreWarning)


_ALIKE = 0.85
"""The share of letters from which on an attribute is taken for a slip of the pen."""


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


def _named(value: Any) -> bool:
    return _text(value) or isinstance(getattr(value, "name", None), str)


def _flag(value: Any) -> bool:
    return value in (True, False, None)


def _priority(value: Any) -> bool:
    return value is None or (type(value) is int and 0 <= value <= 9)


_ANYTHING: _Check = ("anything", lambda value: True)
_TEXT: _Check = ("text that is not empty", _text)
_FLAG: _Check = ("True or False", _flag)
_LIMIT: _Check = ("more than 0 seconds, or None", _limit)
_EXCEPTIONS: _Check = ("a tuple of exception classes", _exceptions)
_OPTIONAL_DICT: _Check = ("a dict, or None", lambda value: value is None or is_mapping(value))
_CHECKS: dict[str, _Check] = {
    **dict.fromkeys(("routing_key", "serializer", "compression"), _TEXT),
    **dict.fromkeys(("queue", "exchange"), ("a name, or an object that has one", _named)),
    "exchange_type": (
        "direct, topic, fanout or headers",
        lambda value: value is None or value in EXCHANGE_TYPES,
    ),
    **dict.fromkeys(("ignore_result", "acks_late", "acks_on_failure_or_timeout"), _FLAG),
    **dict.fromkeys(("reject_on_worker_lost", "track_started", "typing", "trail"), _FLAG),
    **dict.fromkeys(("store_eager_result", "acks_on_failure", "acks_on_timeout"), _FLAG),
    **dict.fromkeys(("pydantic", "pydantic_strict"), _FLAG),
    **dict.fromkeys(("pydantic_context", "pydantic_dump_kwargs"), _OPTIONAL_DICT),
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
        queue: Any
        exchange: Any
        exchange_type: str | None
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
        pydantic: bool
        pydantic_strict: bool
        pydantic_context: Mapping[str, Any] | None
        pydantic_dump_kwargs: Mapping[str, Any] | None
        store_eager_result: bool
        acks_on_failure: bool | None
        acks_on_timeout: bool | None
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
    exchange = None
    exchange_type = None
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
    pydantic = False
    pydantic_strict = False
    pydantic_context = None
    pydantic_dump_kwargs = None
    if not TYPE_CHECKING:
        serializer = FromConf("task_serializer")
        priority = FromConf("task_default_priority")
        time_limit = FromConf("task_time_limit")
        soft_time_limit = FromConf("task_soft_time_limit")
        ignore_result = FromConf("task_ignore_result")
        acks_late = FromConf("task_acks_late")
        acks_on_failure_or_timeout = FromConf("task_acks_on_failure_or_timeout")
        acks_on_failure = FromConf("task_acks_on_failure")
        acks_on_timeout = FromConf("task_acks_on_timeout")
        store_eager_result = FromConf("task_store_eager_result")
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
