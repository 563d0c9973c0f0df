"""One event, and where events are told."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

EVENT_EXCHANGE_NAME = "celeryev"


class Exchange(NamedTuple):
    """Where events are told."""

    name: str = EVENT_EXCHANGE_NAME
    type: str = "topic"


event_exchange = Exchange()


def Event(type: str, _fields: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:  # noqa: N802 - Celery's name
    """Makes an event: a dict with its type, and the time if no field says it."""
    event = {**(_fields or {}), **fields}
    event.setdefault("timestamp", time.time())
    event["type"] = type
    return event


def group_from(type: str) -> str:
    """The part of a type in front of its first dash: `task` of `task-sent`."""
    return type.partition("-")[0]


def get_exchange(connection: object = None, name: str = EVENT_EXCHANGE_NAME) -> Exchange:
    """The exchange of this name; it is the same on every broker."""
    return Exchange(name)


class Clock:
    """Logical time (Lamport's): what happened after what, without a common clock."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def forward(self) -> int:
        """The time of an event of one's own."""
        self.value += 1
        return self.value

    def adjust(self, other: int) -> int:
        """Somebody else's time was seen."""
        self.value = max(self.value, other) + 1
        return self.value
