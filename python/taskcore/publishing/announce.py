"""The signals around a publish: what receivers of before_task_publish see, and what they change.

Receivers see Celery's headers, properties and body. What they change is taken over where a message
has an option for it; a change that this version has no use for is warned of, because a message that
silently goes out otherwise is hard to explain.
"""

from __future__ import annotations

import time

from taskcore import context, signals
from taskcore.exceptions import SettingIgnored
from taskcore.publishing import call_options
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import uuid, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import tzinfo
    from typing import Any

_EMBED = ("callbacks", "errbacks", "chain", "chord")
_HEADERS = ("eta", "expires", "shadow", "argsrepr", "kwargsrepr")
"""Headers that receivers may change, each an option of a call."""
_LIMITS = ("time_limit", "soft_time_limit")


def announce(
    name: str,
    body: tuple[Sequence[Any], dict[str, Any]],
    fields: dict[str, Any],
    defaults: Mapping[str, Any],
    zone: tzinfo,
) -> Callable[[], None]:
    """Sends before_task_publish and puts into `fields` what receivers change; gives what sends
    after_task_publish.

    Args:
        defaults: the fields that all messages of the task share.
        zone: the zone of naive times.
    Raises:
        TypeError, ValueError: a receiver has put what the option of that name does not take.
    """
    headers, properties = _headers(name, fields, defaults), _properties(fields, defaults)
    before = {**headers, "timelimit": list(headers["timelimit"])}
    before_properties = {**properties}
    own = fields.get("headers", {})
    headers.update(own)
    if "chain" in fields:
        fields["chain"] = context.opened(fields["chain"])
    embed = {key: fields.get(key) for key in _EMBED}
    queue = fields.get("queue") or defaults["queue"]
    exchange = fields.get("exchange", defaults.get("exchange", ""))
    shown = {
        "body": (*body, embed),
        "exchange": exchange,
        "routing_key": (fields if "queue" in fields else defaults).get("routing_key", queue),
        "headers": headers,
    }
    declare: list[Any] = []
    signals.before_task_publish.send(
        name,
        **shown,
        properties=properties,
        declare=declare,
        retry_policy=fields.get("retry_policy"),
    )
    changes = (_changed(before, headers), _changed(before_properties, properties))
    _take_over(fields, *changes, defaults, zone)
    fields.update({key: value for key, value in embed.items() if value is not fields.get(key)})
    if extra := {k: v for k, v in headers.items() if k not in call_options.PROTOCOL_HEADERS}:
        fields["headers"] = extra
    else:
        fields.pop("headers", None)
    if declare:
        _warn("argument `declare`")

    def sent() -> None:
        signals.after_task_publish.send(name, **shown)

    return sent


def _headers(name: str, fields: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    task_id = fields.setdefault("task_id", uuid())
    return {
        "lang": "py",
        "task": name,
        "id": task_id,
        "root_id": fields.get("root_id", task_id),
        "parent_id": fields.get("parent_id"),
        "retries": fields.get("retries", 0),
        "eta": _iso(fields.get("eta")),
        "expires": _iso(fields.get("expires")),
        "group": fields.get("group"),
        "timelimit": [fields.get(key, defaults.get(key)) for key in _LIMITS],
        "shadow": fields.get("shadow"),
    }


def _properties(fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "correlation_id": fields["task_id"],
        "priority": fields.get("priority", defaults["priority"]),
        "reply_to": fields.get("reply_to"),
    }


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What differs, None where it was removed; the caller's own headers are in neither."""
    names = {*before, *call_options.PROTOCOL_HEADERS.intersection(after)}
    if "priority" in before:  # properties, none of which are the caller's own
        names.update(after)
    return {name: after.get(name) for name in sorted(names) if after.get(name) != before.get(name)}


def _take_over(
    fields: dict[str, Any],
    headers: dict[str, Any],
    properties: dict[str, Any],
    defaults: Mapping[str, Any],
    zone: tzinfo,
) -> None:
    options = {key: headers.pop(key) for key in _HEADERS if key in headers}
    if "priority" in properties:
        options["priority"] = properties.pop("priority")
    if "timelimit" in headers:
        options.update(zip(_LIMITS, headers.pop("timelimit") or (None, None), strict=True))
        if any(options[key] is None and defaults.get(key) for key in _LIMITS):
            headers["timelimit"] = None  # only another limit can take the place of the task's own
    for key in options:
        fields.pop(key, None)
    fields.update(call_options.to_fields(options, time.time(), zone))
    for kind, changes in (("header", headers), ("property", properties)):
        for key in changes:
            _warn(f"{kind} `{key}`")


def _warn(what: str) -> None:
    text = (
        f"a receiver of before_task_publish changed the {what}, which has no effect: it can change "
        "eta, expires, timelimit, shadow, argsrepr, kwargsrepr, priority, and headers of its own"
    )
    warn(text, SettingIgnored)
