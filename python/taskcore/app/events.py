"""`app.events`: the classes of events, bound to an app."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from taskcore.events.dispatcher import EventDispatcher
from taskcore.events.event import Clock
from taskcore.events.receiver import EventReceiver
from taskcore.events.state import State
from taskcore.utils import shorten

logger = logging.getLogger(__name__)


class Events:
    """Events of an app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.clock = Clock()
        self._bound: dict[type, type] = {}

    def _of_app(self, base: type) -> Any:
        made = self._bound.get(base)
        if made is None:
            made = self._bound[base] = type(base.__name__, (base,), {"app": self.app})
        return made

    @property
    def Receiver(self) -> type[EventReceiver]:  # noqa: N802 - Celery's name
        """The class of receivers."""
        receiver: type[EventReceiver] = self._of_app(EventReceiver)
        return receiver

    @property
    def Dispatcher(self) -> type[EventDispatcher]:  # noqa: N802 - Celery's name
        """The class of dispatchers."""
        dispatcher: type[EventDispatcher] = self._of_app(EventDispatcher)
        return dispatcher

    @property
    def State(self) -> type[State]:  # noqa: N802 - Celery's name
        """The class of states; it needs no app."""
        return State

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[EventDispatcher]:
        """A dispatcher for a moment."""
        with self.Dispatcher(
            None, hostname, enabled, buffer_while_offline=buffer_while_offline
        ) as dispatcher:
            yield dispatcher

    def sent(
        self,
        name: str,
        task_id: str,
        call: tuple[Any, Any],
        fields: Mapping[str, Any],
        way: Mapping[str, Any],
    ) -> None:
        """Tells that a task was published, and which way: `queue`, `exchange`, `routing_key`. What goes wrong is in the log: the task is in its queue."""
        args, kwargs = call
        event = {
            "uuid": task_id,
            "root_id": fields.get("root_id") or task_id,
            "parent_id": fields.get("parent_id"),
            "name": name,
            "args": fields.get("argsrepr") or shorten(tuple(args)),
            "kwargs": fields.get("kwargsrepr") or shorten(kwargs),
            "retries": fields.get("retries", 0),
            "eta": _iso(fields.get("eta")),
            "expires": _iso(fields.get("expires")),
            "queue": way["queue"],
            "exchange": way["exchange"] or "",
            "routing_key": way["routing_key"] or way["queue"],
        }
        try:
            with self.default_dispatcher(f"gen{os.getpid()}@{socket.gethostname()}") as dispatcher:
                dispatcher.send("task-sent", **event)
        except Exception as error:
            logger.warning("monitors are not told that task `%s` was sent: %s", task_id, error)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
