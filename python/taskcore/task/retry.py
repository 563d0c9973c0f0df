"""Retries: how long to wait, and the message that runs the task again.

Pure. A retry is a new message with the same id and one more in `retries`; everything that the
first message carried (workflow, limits, stamps, headers, reply address, queue, encoding) is
carried on, and only the parent becomes the task itself. Jitter comes from the system and not from
`random`, because children forked from one process share its state and would all wait equally long.
"""

from __future__ import annotations

import os

from taskcore.publishing.call_options import timestamp
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

_CARRIED = [
    "root_id",
    "group",
    "group_index",
    "shadow",
    "stamps",
    "stamped_headers",
    "headers",
    "reply_to",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "ignore_result",
    "replaced_task_nesting",
    "serializer",
]
_OPTION_OF = {"callbacks": "link", "errbacks": "link_error", "group": "group_id"}
_KEPT_EAGERLY = (
    "headers",
    "root_id",
    "shadow",
    "ignore_result",
    "chain",
    "stamps",
    "stamped_headers",
)
NO_MORE = "_taskcore_no_more_retries"
"""Attribute of an exception with which `retry(max_retries=...)` has ended the call:
`autoretry_for` leaves it alone."""
REQUEUE_SECONDS = 1.0
"""Between two runs of a task that refuses its message again and again."""
_COMPRESSIONS = {
    "application/x-gzip": "gzip",
    "application/x-bz2": "bzip2",
    "application/zstd": "zstd",
}


def backoff(retries: int, factor: float, maximum: float, jitter: bool) -> float:
    """Seconds before retry number `retries` (from 0): doubling from `factor`, at most `maximum`;
    with jitter, evenly between 0 and that."""
    factor = float(max(1, int(factor)))  # whole seconds, as in Celery
    # 2.0 ** 1024 does not exist; long before that every maximum is reached.
    wait = min(float(maximum), factor * 2.0 ** min(retries, 64))
    if jitter:
        wait *= int.from_bytes(os.urandom(4), "big") / 0xFFFFFFFF
    return max(0.0, wait)


def arguments(
    run: Any, before: tuple[Sequence[Any], Mapping[str, Any]], args: Any, kwargs: Any
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a retry that names new positional ones, new named ones, both, or neither.

    What it does not name stays as it was, also where the call had given the same parameter in the
    other way.

    Args:
        run: the body of the task.
        before: positional and named arguments of the call.
    """
    if args is not None and kwargs is not None:
        return args, kwargs
    if args is None and kwargs is None:
        return before
    from inspect import Parameter, signature

    try:
        known = signature(run)
    except (TypeError, ValueError):  # written in C
        return (before[0] if args is None else args), (before[1] if kwargs is None else kwargs)
    if kwargs is None:
        kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        positional = [part for part in known.parameters.values() if part.kind in kinds]
        taken = {part.name for part in positional[: len(args)] if part.kind is kinds[1]}
        return args, {name: value for name, value in before[1].items() if name not in taken}
    try:
        bound = known.bind_partial(*before[0])
    except TypeError:  # the check of the arguments says so
        return before[0], kwargs
    named = dict(kwargs)
    for name in kwargs:
        part = known.parameters.get(name)
        if name in bound.arguments and part and part.kind is Parameter.POSITIONAL_OR_KEYWORD:
            bound.arguments[name] = named.pop(name)
    return bound.args, {**bound.kwargs, **named}


def as_exception(exc: Any) -> BaseException | None:
    """What `retry(exc=...)` was given, as an exception; of a class, one without arguments.

    Raises:
        TypeError: it is none, or a class that needs arguments.
    """
    if isinstance(exc, type) and issubclass(exc, BaseException):
        exc = exc()
    if exc is None or isinstance(exc, BaseException):
        return exc
    raise TypeError(f"exc is `{exc!r}`: expected an exception, why the task is tried again")


def carried(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of the message that runs `request` again.

    Args:
        request: `Request.to_dict()`.
    """
    fields = {key: request[key] for key in _CARRIED if request.get(key)}
    if request.get("ignore_result") is not None:
        fields["ignore_result"] = request["ignore_result"]
    if request.get("group_index") is not None:
        fields["group_index"] = request["group_index"]
    fields["task_id"] = fields["parent_id"] = request["id"]
    fields["retries"] = int(request.get("retries") or 0) + 1
    info = request.get("delivery_info") or {}
    queue = request.get("queue") or info.get("routing_key")
    if queue:
        # Back to the queue that it came from, whatever exchange it was published to.
        fields |= {"queue": queue, "exchange": "", "routing_key": queue, "route": ""}
    if info.get("priority"):
        fields["priority"] = info["priority"]
    hard, soft = request.get("timelimit") or (None, None)
    fields |= {k: v for k, v in (("time_limit", hard), ("soft_time_limit", soft)) if v}
    if compression := request.get("compression"):
        fields["compression"] = _COMPRESSIONS.get(compression, compression)
    if request.get("expires"):
        from datetime import UTC

        fields["expires"] = timestamp("expires", request["expires"], UTC)
    return fields


def as_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a message as the options of `apply_async` that make it."""
    from datetime import UTC, datetime

    known = {name: value for name, value in fields.items() if name not in ("exchange", "route")}
    options = {_OPTION_OF.get(name, name): value for name, value in known.items()}
    for name in ("eta", "expires"):
        if options.get(name) is not None:
            options[name] = datetime.fromtimestamp(options[name], UTC)
    return {**options, "add_to_parent": False}


def eager(request: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the call that runs `request` again, where it ran without a message."""
    kept = {name: request.get(name) for name in _KEPT_EAGERLY}
    return {**kept, "link": request.get("callbacks"), "link_error": request.get("errbacks")}


def requeued(request: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The fields of the message that brings `request` again after `Reject(requeue=True)`, marked as
    redelivered like Celery's.

    A task that goes on refusing would otherwise run hundreds of times a second: from the second
    time on it waits.

    Args:
        now: Unix seconds.
    """
    fields = carried(request)
    fields["retries"] = int(request.get("retries") or 0)
    fields["parent_id"] = request.get("parent_id")
    fields["headers"] = {**(request.get("headers") or {}), "redelivered": True}
    if (request.get("delivery_info") or {}).get("redelivered"):
        fields["eta"] = now + REQUEUE_SECONDS
    return fields


def protocol_of(request: Mapping[str, Any]) -> str:
    """The encoding in which the message of an execution came.

    A pool child gets every message in the compact encoding. Whoever writes Celery's also writes
    `origin`, and nobody else does, so that tells where the message does not.
    """
    return str(request.get("protocol") or ("celery" if request.get("origin") else "compact"))
