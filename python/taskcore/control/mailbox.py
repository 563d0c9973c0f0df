"""Says a request to all workers, and collects their replies.

Both travel by the broker's broadcasts, which are heard at that moment or never: the replies' key is
bound before the request is said. Waiting is by push, and ends early when everybody who was named
has answered, or as many as were asked for.
"""

from __future__ import annotations

import itertools
import json
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from taskcore import serialize
from taskcore.exceptions import ContentDisallowed, DecodeError

_ACCEPTED = ("application/json", "application/x-msgpack")
"""What replies are read in: nothing that runs code."""
_CLOCK = itertools.count(1)
"""The logical clock of this process, as far as it asks."""


class Request(NamedTuple):
    """What is asked, and of whom."""

    method: str
    arguments: dict[str, Any]
    destination: list[str] | None = None
    pattern: str | None = None
    matcher: str | None = None


class Wanted(NamedTuple):
    """How long, and for how many replies, to wait."""

    timeout: float = 1.0
    """Seconds without a reply after which nobody is expected to answer any more."""
    limit: int | None = None
    callback: Callable[[Any], object] | None = None
    """Called with each reply as it comes."""


def tell(app: Any, request: Request) -> None:
    """Says a request to which nobody is to reply."""
    _say(app, request, {})


def ask(app: Any, request: Request, wanted: Wanted) -> list[dict[str, Any]]:
    """Says a request and gives the replies, `{node name: reply}` each, in the order they came."""
    limit = wanted.limit
    if limit is None and request.destination:
        limit = len(request.destination)
    key, ticket = str(uuid.uuid4()), str(uuid.uuid4())
    exchange = f"reply.{_exchange(app)}"
    replies: list[dict[str, Any]] = []
    subscriber = app.publisher.subscribe([(exchange, "direct", key)])
    reply_to = {"exchange": exchange, "routing_key": key}
    _say(app, request, {"ticket": ticket, "reply_to": reply_to}, wanted.timeout)
    end = time.monotonic() + wanted.timeout
    while limit is None or len(replies) < limit:
        heard, _ = subscriber.receive(max(0.0, end - time.monotonic()))
        if not heard:
            break
        for _, _, headers, content_type, body in heard:
            reply = _read(headers, ticket, content_type, body)
            if reply is None:
                continue
            replies.append(reply)
            if wanted.callback is not None:
                wanted.callback(reply)
            end = time.monotonic() + wanted.timeout
    return replies if limit is None else replies[:limit]


def _exchange(app: Any) -> str:
    return f"{app.conf['control_exchange']}.pidbox"


def _say(app: Any, request: Request, reply: dict[str, Any], timeout: float | None = None) -> None:
    body = {**request._asdict(), **reply}
    expires = time.time() + timeout if timeout else 0
    headers = json.dumps({"clock": next(_CLOCK), "expires": expires})
    *_, encoded = serialize.dumps(body, "json")
    app.publisher.broadcast(_exchange(app), "fanout", "", encoded, headers=headers)


def _read(headers: str, ticket: str, content_type: str, body: bytes) -> dict[str, Any] | None:
    """A reply; None for what is not meant for this request."""
    if json.loads(headers).get("ticket", ticket) != ticket:
        return None
    try:
        reply = serialize.loads(body, content_type, "binary", _ACCEPTED)
    except (ContentDisallowed, DecodeError):
        return None
    return reply if isinstance(reply, dict) else None


def names(destination: Iterable[str] | str | None) -> list[str] | None:
    """Node names, from one or several.

    Raises:
        ValueError: something else.
    """
    if destination is None:
        return None
    chosen = [destination] if isinstance(destination, str) else list(destination)
    if not all(isinstance(name, str) for name in chosen):
        raise ValueError(f"destination `{destination!r}`, expected names of workers")
    return chosen
