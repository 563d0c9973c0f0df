"""What a value of each kind of setting looks like: the checks behind the table of settings.

Each check takes what the user gave and returns it as it is kept, or raises TypeError or
ValueError; `conf` says which setting it was. `priority` and `rate_per_second` are also the checks
of the task options of the same kind.
"""

from __future__ import annotations

import os

from taskcore.config.servers import without_idle_parameters
from taskcore.config.settings import RETRY_POLICY
from taskcore.entity import to_queue
from taskcore.exceptions import SettingIgnored
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint, is_mapping, warn

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from datetime import tzinfo
    from typing import Any

_PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def redact(text: str) -> str:
    """Hides the password of a URL."""
    scheme, mark, rest = text.partition("://")
    userinfo, at, host = rest.rpartition("@")
    if not (mark and at):
        return text
    user, colon, _ = userinfo.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}@{host}"


def database_file(url: str) -> str | None:
    """The absolute path of the file that a sqlite URL names; None for any other URL."""
    scheme, _, path = url.partition(":///")
    if scheme != "sqlite":
        return None
    from urllib.parse import unquote

    return os.path.abspath(unquote(path.partition("?")[0]))


def rate_per_second(value: str | float | None) -> float | None:
    """`10/s`, `100/m`, `5/h` or a number per second; None and 0 are no limit.

    Raises:
        ValueError: anything else.
    """
    if value is None:
        return None
    if isinstance(value, str):
        number, _, period = value.strip().partition("/")
        unit = _PERIODS.get(period.strip().lower() or "s")
        if unit is None:
            raise ValueError(f"rate limit `{value}` has no period s, m or h")
        rate = float(number) / unit
    else:
        rate = float(value)
    if rate < 0:
        raise ValueError(f"rate limit `{value}` is negative")
    return rate or None


def _bool(value: Any) -> bool:
    if value not in (True, False):
        raise TypeError
    return bool(value)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError
    return value


def _count(value: Any) -> int:
    if _whole(value) < 1:
        raise ValueError
    return int(value)


def priority(value: Any) -> int:
    """0 to 9.

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 9:
        raise ValueError(
            f"priority `{value!r}` is not a whole number from 0 to 9 (0 is served first)"
        )
    return value


def _seconds(value: Any) -> float:
    if not isinstance(value, (int, float)):
        from datetime import timedelta

        if not isinstance(value, timedelta):
            raise TypeError
        value = value.total_seconds()
    if isinstance(value, bool) or value < 0:
        raise TypeError
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _url(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        if len(value) != 1:
            raise TypeError("several servers to fall back on are not supported: name one")
        value = value[0]
    url, idle = without_idle_parameters(_text(value))
    if idle:
        text = f"`{'`, `'.join(idle)}` in a URL have no effect in taskcore: remove them"
        warn(text, SettingIgnored)
    return url


def _ssl(value: Any) -> Any:
    return _dict(value) if is_mapping(value) else _bool(value)


def _number_or_text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise TypeError
    return str(value)


def _level(value: Any) -> str:
    import logging

    name = logging.getLevelName(value) if type(value) is int else _text(value).upper()
    if name not in logging.getLevelNamesMapping():
        raise ValueError
    return str(name)


def _fork(value: Any) -> str:
    if value != "fork":
        raise ValueError
    return "fork"


def _policy(value: Any) -> dict[str, Any]:
    """How a publish is tried again: names as in Celery, values as the core takes them."""
    policy = _dict(value)
    for key, part in policy.items():
        if key not in RETRY_POLICY:
            raise ValueError(f"unknown key `{key}`{hint(key, RETRY_POLICY)}")
        if key == "max_retries" and part is not None:
            _whole(part)
        elif part is not None:
            policy[key] = _seconds(part)
    return policy


def _names(value: Any) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else tuple(value)
    return tuple(_text(item) for item in items)


def _queues(value: Any) -> Any:
    """The queues as they are written; what each says is checked here, too."""
    if is_mapping(value):
        for name, options in value.items():
            queue = {"name": _text(name), **options} if is_mapping(options) else options
            to_queue(queue)
        return dict(value)
    single = isinstance(value, str) or hasattr(value, "routing_key")
    items = (value,) if single else tuple(value)
    for item in items:
        if not to_queue(item).name:
            raise ValueError(f"queue `{item!r}` has no name")
    return items


def _dict(value: Any) -> dict[str, Any]:
    if not is_mapping(value):
        raise TypeError
    return dict(value)


def _rate(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    rate_per_second(value)
    return value


def _zone(value: Any) -> str | tzinfo:
    if isinstance(value, str):
        return value
    from datetime import tzinfo

    if not isinstance(value, tzinfo):
        raise TypeError
    # A zone of pytz is wrong by minutes unless each time is made by its own method; it has the name
    # of the right one.
    name = getattr(value, "zone", None)
    return name if isinstance(name, str) else value


def _protocol(value: Any) -> Any:
    if value in ("celery", "2"):
        return 2
    if value not in ("compact", 2):
        raise ValueError
    return value


def _routes(value: Any) -> Any:
    """The routes as they are written; what each says is checked here, too."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    if all(_is_pair(part) for part in parts):
        parts = [parts]
    for part in parts:
        if is_mapping(part):
            pairs = list(part.items())
        elif isinstance(part, (list, tuple)):
            pairs = [tuple(part)] if _is_pair(part) else list(part)
        elif isinstance(part, str):
            if not part.replace(":", ".").strip(".").count("."):
                raise ValueError(f"router `{part}` is not the dotted name of a function")
            continue
        elif callable(part) or hasattr(part, "route_for_task"):
            continue
        else:
            raise TypeError(
                f"router `{part!r}` is neither a dict nor a list of pairs nor a function"
            )
        for pair in pairs:
            if not _is_pair(pair):
                raise TypeError(
                    f"route `{pair!r}` is not a pair of task name, or pattern, and route"
                )
            _check_route(_pattern(pair[0]), pair[1])
    return value


def _is_pair(part: Any) -> bool:
    return (
        isinstance(part, (list, tuple))
        and len(part) == 2
        and (isinstance(part[0], str) or _is_compiled(part[0]))
    )


def _pattern(value: Any) -> str | re.Pattern[str]:
    compiled: re.Pattern[str] | None = value if _is_compiled(value) else None
    return _text(value) if compiled is None else compiled


def _is_compiled(value: Any) -> bool:
    """Whether it is a regular expression; `re` is loaded only where routes name tasks by one."""
    if isinstance(value, str):
        return False
    from re import Pattern

    return isinstance(value, Pattern)


def _annotations(value: Any) -> tuple[Any, ...]:
    """Maps of task name to options, and objects that give them, in the order in which they are
    applied."""
    return tuple(
        {_text(name): _dict(options) for name, options in one.items()}
        if is_mapping(one)
        else _annotating(one)
        for one in (value if isinstance(value, (list, tuple)) else [value])
    )


def _annotating(value: Any) -> Any:
    methods = (getattr(value, name, None) for name in ("annotate", "annotate_any"))
    if not (isinstance(value, str) and value) and not any(map(callable, methods)):
        raise TypeError
    return value


_ROUTES_HAVE = frozenset(
    [
        "queue",
        "exchange",
        "exchange_type",
        "routing_key",
        "priority",
        "serializer",
        "compression",
        "delivery_mode",
        "expires",
        "countdown",
        "eta",
        "ignore_result",
        "time_limit",
        "soft_time_limit",
        "headers",
        "shadow",
        "link",
        "link_error",
        "retry",
        "retry_policy",
        "timeout",
    ]
)
"""Options of a call that a route may name."""


def _check_route(pattern: str | re.Pattern[str], route: Any) -> None:
    if not is_mapping(route):
        if not isinstance(route, str) and not hasattr(route, "routing_key"):
            raise TypeError(f"route of `{pattern}` is `{route!r}`: expected a queue or a dict")
        return
    for key in route:
        if key not in _ROUTES_HAVE:
            raise ValueError(
                f"route of `{pattern}` has the unknown key `{key}`{hint(key, _ROUTES_HAVE)}"
            )
    if route.get("priority") is not None:
        priority(route["priority"])


def _address(value: Any) -> str:
    """Where to listen: a port alone may be a number. What the text means is the core's to say."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _scheduler(value: Any) -> Any:
    return value if isinstance(value, type) else _text(value)


_ENTRY = ("task", "schedule", "args", "kwargs", "options", "relative", "missed", "jitter")


def _entries(value: Any) -> dict[str, Any]:
    """Periodic tasks by name; what each says is checked when it is read."""
    entries = _dict(value)
    for name, entry in entries.items():
        if not is_mapping(entry):
            if not hasattr(entry, "schedule"):
                raise TypeError
            continue  # an entry of a scheduler's own class
        for key in entry:
            if key not in _ENTRY:
                raise ValueError(f"entry `{name}` has the unknown key `{key}`{hint(key, _ENTRY)}")
        if not isinstance(entry.get("task"), str) or entry.get("schedule") is None:
            raise ValueError(f"entry `{name}` needs `task`, the name of a task, and `schedule`")
    return entries


CHECKS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "bool": ("True or False", _bool),
    "int": ("a whole number, 0 or more", _whole),
    "count": ("a whole number, 1 or more", _count),
    "priority": ("a priority", priority),
    "seconds": ("seconds as a number, or a timedelta", _seconds),
    "str": ("text", _text),
    "url": ("a URL", _url),
    "ssl": ("True, False, or a dict of ca_certs, certfile, keyfile, cert_reqs", _ssl),
    "text": ("text or a whole number", _number_or_text),
    "fork": ("fork", _fork),
    "address": ("`host:port`, a port, or `unix:` and a path", _address),
    "level": ("the name of a level of `logging`, such as WARNING, or its number", _level),
    "names": ("a list of names", _names),
    "queues": ("a list of queues, or a dict of name to options", _queues),
    "dict": ("a dict", _dict),
    "entries": ("a dict of name to periodic task", _entries),
    "scheduler": ("a class of schedulers, or its name as `module:name`", _scheduler),
    "policy": (
        "a dict of max_retries (a whole number, or None), interval_start, interval_step, interval_max (seconds)",
        _policy,
    ),
    "rate": ("a rate like 10/s, 100/m, 5/h, or a number per second", _rate),
    "protocol": ("compact or 2", _protocol),
    "zone": ("the name of a time zone, or a tzinfo", _zone),
    "annotations": (
        "a dict of task name, or `*`, to a dict of options, an object with `annotate` or `annotate_any`, or a list of these",
        _annotations,
    ),
    "routes": (
        "a dict of task name or pattern to queue or route, a function, its name, or a list of these",
        _routes,
    ),
}
"""Kind to what was expected, in words, and the check."""
