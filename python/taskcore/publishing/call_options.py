"""The options of a call, and what each becomes in the message.

Pure: the options of `apply_async`, `send_task` and signatures come in, the fields of the core's
publisher go out; the time is an argument. Option names are Celery's and strict. A field is only
there when it differs from the task's template, so that the common message stays small and cheap.
"""

from __future__ import annotations

from taskcore.config.validators import priority
from taskcore.exceptions import SettingIgnored
from taskcore.typed import TYPE_CHECKING, TypedDict
from taskcore.utils import hint, is_mapping, warn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta, tzinfo
    from typing import Any


class CallOptions(TypedDict, total=False):
    """What `apply_async` takes besides the arguments."""

    countdown: float | timedelta | None
    eta: datetime | None
    expires: float | timedelta | datetime | None
    queue: Any
    routing_key: str | None
    exchange: Any
    exchange_type: str | None
    priority: int | None
    serializer: str | None
    compression: str | None
    retry: bool | None
    retry_policy: Mapping[str, Any] | None
    timeout: float | None
    headers: Mapping[str, Any] | None
    ignore_result: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    link: Any
    link_error: Any
    shadow: str | None
    add_to_parent: bool
    argsrepr: str | None
    kwargsrepr: str | None
    delivery_mode: int | None
    group_id: str | None
    group_index: int | None
    root_id: str | None
    parent_id: str | None
    reply_to: str | None
    retries: int | None
    chain: Any
    chord: Any
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any] | None
    replaced_task_nesting: int | None
    throw: bool | None
    app_id: str | None
    producer: Any
    publisher: Any
    connection: Any


NAMES = frozenset(CallOptions.__annotations__) | {"task_id"}
CELERY_ONLY = frozenset(
    [
        "declare",
        "confirm_timeout",
        "immediate",
        "mandatory",
        "router",
        "result_cls",
        "route_name",
        "task_type",
    ]
)
"""Celery's options for machinery that taskcore does not have."""

WITHOUT_EFFECT = {
    "app_id": "messages here have no such property; pass `headers=`",
    "propagate": "Celery's `apply` ignores it as well; pass `throw=`",
}
"""Options of Celery's that are accepted with a warning, and what to do instead."""

PROTOCOL_HEADERS = frozenset(
    [
        "lang",
        "task",
        "id",
        "shadow",
        "eta",
        "expires",
        "group",
        "group_index",
        "retries",
        "timelimit",
        "root_id",
        "parent_id",
        "argsrepr",
        "kwargsrepr",
        "origin",
        "ignore_result",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
        "compression",
    ]
)
"""Headers that are not the user's to set."""

_TRANSLATED = frozenset(
    [
        "countdown",
        "eta",
        "expires",
        "queue",
        "routing_key",
        "exchange",
        "exchange_type",
        "headers",
        "link",
        "link_error",
        "add_to_parent",
        "group_id",
        "stamped_headers",
        "stamps",
        "throw",
        "app_id",
        "producer",
        "publisher",
        "connection",
    ]
)
_SAME = NAMES - _TRANSLATED
"""Options that are fields under the same name, with the same value."""
_NUMBERS = ("time_limit", "soft_time_limit", "timeout")


def check_names(options: Mapping[str, Any]) -> None:
    """Refuses options that do not exist.

    Raises:
        TypeError: with the nearest name that does.
    """
    stamps = options.get("stamped_headers") or ()
    for name in options:
        if name in WITHOUT_EFFECT and options[name] is not None:
            warn_ignored(name)
        if name in NAMES or name in stamps:
            continue
        if name in CELERY_ONLY:
            raise TypeError(
                f"option `{name}` of Celery's is not supported by taskcore: leave it out"
            )
        raise TypeError(f"unknown option `{name}`{hint(name, NAMES)}")


def warn_ignored(name: str) -> None:
    """Says that an option is accepted and has no effect."""
    warn(f"option `{name}` of a call has no effect: {WITHOUT_EFFECT[name]}", SettingIgnored)


def check_producers(options: Mapping[str, Any]) -> None:
    """Refuses a producer or a connection of another library, over which nothing would go.

    Raises:
        TypeError: it is not one of taskcore's.
    """
    for name in ("producer", "publisher", "connection"):
        given = options.get(name)
        if given is not None and not type(given).__module__.startswith("taskcore."):
            raise TypeError(
                f"{name} is `{given!r}`: expected one of `app.producer_or_acquire()` or "
                "`app.connection()`; taskcore publishes over connections of its own"
            )


def check_limits(soft: float | None, hard: float | None) -> None:
    """Refuses a soft limit that the hard one comes before.

    Raises:
        ValueError: naming both.
    """
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(
            f"soft_time_limit is `{soft:g}` and time_limit is `{hard:g}`: expected a soft limit that is not above the hard one"
        )


def to_args(task: str, args: Any) -> tuple[Any, ...] | list[Any]:
    """Positional arguments as a sequence.

    Raises:
        TypeError: they are text, a mapping, or not iterable.
    """
    if type(args) is tuple or type(args) is list:
        return args
    if args is None:
        return ()
    from collections.abc import Iterable

    if (
        isinstance(args, (str, bytes, bytearray))
        or is_mapping(args)
        or not isinstance(args, Iterable)
    ):
        raise TypeError(
            f"args of task `{task}` is of type `{type(args).__name__}`: expected a list or tuple of arguments"
        )
    return tuple(args)


def to_kwargs(task: str, kwargs: Any) -> dict[str, Any]:
    """Keyword arguments as a dict.

    Raises:
        TypeError: they are not a mapping of names.
    """
    if kwargs is None:
        return {}
    if not is_mapping(kwargs):
        raise TypeError(
            f"kwargs of task `{task}` is of type `{type(kwargs).__name__}`: expected a dict"
        )
    for key in kwargs:
        if not isinstance(key, str):
            raise TypeError(f"kwargs of task `{task}` has the key `{key!r}`: expected names")
    return kwargs if type(kwargs) is dict else dict(kwargs)


def to_fields(options: Mapping[str, Any], now: float, zone: tzinfo) -> dict[str, Any]:
    """The options of a call as fields of the message, without where it goes (`routing`).

    Args:
        now: Unix seconds.
        zone: the zone of naive times.
    Raises:
        TypeError: an unknown option, or a value of the wrong type.
        ValueError: a value out of range.
    """
    check_names(options)
    check_producers(options)
    fields = {key: value for key, value in options.items() if value is not None and key in _SAME}
    _check_values(fields)
    if (group := options.get("group_id")) is not None:
        fields["group"] = group
    _add_times(fields, options, now, zone)
    for key, field in (("link", "callbacks"), ("link_error", "errbacks")):
        if value := options.get(key):
            fields[field] = signatures(key, value)
    if headers := options.get("headers"):
        fields["headers"] = dict(headers)
        if "stamped_headers" in headers:  # stamps as they are in a message
            fields |= stamps(headers)
            for name in ("stamped_headers", "stamps"):
                fields["headers"].pop(name, None)
    if options.get("stamped_headers"):
        fields |= stamps(options)
    return fields


def stamps(options: Mapping[str, Any]) -> dict[str, Any]:
    """The stamps among the options of a call, and their names."""
    names, known = options.get("stamped_headers") or (), options.get("stamps") or {}
    if not names:
        return {}
    return {
        "stamped_headers": list(names),
        "stamps": {name: options.get(name, known.get(name)) for name in names},
    }


def _check_values(fields: dict[str, Any]) -> None:
    if "priority" in fields:
        priority(fields["priority"])
    if "task_id" in fields and (not isinstance(fields["task_id"], str) or not fields["task_id"]):
        raise TypeError(f"task_id is `{fields['task_id']!r}`: expected text that is not empty")
    for key in _NUMBERS:
        if key in fields:
            fields[key] = _seconds(key, fields[key])
            if fields[key] <= 0:
                raise ValueError(f"{key} is `{fields[key]}`: expected more than 0 seconds")
    check_limits(fields.get("soft_time_limit"), fields.get("time_limit"))


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        from datetime import timedelta

        if isinstance(value, timedelta):
            return value.total_seconds()
        raise TypeError(f"{key} is `{value!r}`: expected a number of seconds")
    return float(value)


def _add_times(
    fields: dict[str, Any], options: Mapping[str, Any], now: float, zone: tzinfo
) -> None:
    countdown, eta, expires = options.get("countdown"), options.get("eta"), options.get("expires")
    if countdown is not None:
        # Celery gives a countdown precedence over an eta; so does this.
        fields["eta"] = now + _seconds("countdown", countdown)
    elif eta is not None:
        fields["eta"] = timestamp("eta", eta, zone)
    if expires is None:
        return
    from datetime import datetime

    if isinstance(expires, (datetime, str)):
        fields["expires"] = timestamp("expires", expires, zone)
    else:
        fields["expires"] = now + max(0.0, _seconds("expires", expires))


def timestamp(key: str, value: Any, zone: tzinfo) -> float:
    """A time as Unix seconds; text in ISO form is what signatures carry.

    Raises:
        TypeError: neither a datetime nor ISO text.
    """
    from contextlib import suppress
    from datetime import datetime

    if isinstance(value, str):
        with suppress(ValueError):
            value = datetime.fromisoformat(value)
    if not isinstance(value, datetime):
        raise TypeError(f"{key} is `{value!r}`: expected a datetime")
    return (value if value.tzinfo else value.replace(tzinfo=zone)).timestamp()


def signatures(key: str, found: Any) -> list[dict[str, Any]]:
    """The signatures of `link` or `link_error`, of which there may be none, one, or a list.

    Raises:
        TypeError: one is not a signature.
    """
    if not found:
        return []
    items = found if isinstance(found, (list, tuple)) else [found]
    for item in items:
        if not is_mapping(item):
            raise TypeError(f"{key} is `{item!r}`: expected a signature, as made by `task.s()`")
    return [dict(item) for item in items]
