"""Sends events of a program's own: those of a task's, of a client's, of any type."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

from taskcore import serialize
from taskcore.events.event import Clock, Event, Exchange, group_from
from taskcore.exceptions import OperationalError
from taskcore.utils import utcoffset

logger = logging.getLogger(__name__)

WAITING_MAX = 10_000
"""Events that wait for a broker that is away; the oldest make room."""


class EventDispatcher:
    """Sends events. Thread-safe.

    Args:
        connection: what `app.connection()` gives; None is the app's own broker.
        hostname: in whose name; default: of this process.
        enabled: whether anything is sent at all.
        channel: as `connection`.
        buffer_while_offline: keep events while the broker is away (at most 10,000), and send them
            with the next one; False raises.
        groups: send only those whose type begins with one of these, as `task`; default: all.
        buffer_group: gather those of these groups, and send them as one list.
        buffer_limit: so many at a time.
        on_send_buffered: called when one is gathered.
    """

    app: Any = None

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: Any = None,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
        delivery_mode: int = 1,
        buffer_group: Iterable[str] | None = None,
        buffer_limit: int = 24,
        on_send_buffered: Callable[[], object] | None = None,
    ) -> None:
        self.app = app if app is not None else type(self).app
        self.connection = connection if connection is not None else channel
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"
        self.buffer_while_offline = buffer_while_offline
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        self.groups = set(groups or ())
        self.serializer = serializer or self.app.conf["event_serializer"]
        self.delivery_mode = delivery_mode
        self.exchange = Exchange(self.app.conf["event_exchange"])
        self.headers = {"hostname": self.hostname}
        self.pid = os.getpid()
        self.clock: Clock = self.app.events.clock
        self.mutex = threading.Lock()
        self.on_enabled: set[Callable[[], object]] = set()
        self.on_disabled: set[Callable[[], object]] = set()
        self._waiting: deque[tuple[Any, str]] = deque(maxlen=WAITING_MAX)
        self._gathered: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.enabled = False
        if enabled:
            self.enable()

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def enable(self) -> None:
        """Sends from now on."""
        self.enabled = True
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Sends no longer."""
        if self.enabled:
            self.flush()
            self.enabled = False
            for callback in self.on_disabled:
                callback()

    def send(
        self,
        type: str,
        blind: bool = False,
        utcoffset: Callable[[], float] = utcoffset,
        retry: bool = False,
        retry_policy: Any = None,
        Event: Callable[..., dict[str, Any]] = Event,  # noqa: N803 - Celery's name
        **fields: Any,
    ) -> None:
        """Sends an event, unless its group is not to be sent.

        Args:
            type: a group and a name, as `task-progress`.
            blind: without logical time.
            fields: of its own; plain data.
        Raises:
            OperationalError: the broker is away, and nothing is kept for it.
        """
        group = group_from(type)
        if not self.enabled or (self.groups and group not in self.groups):
            return
        clock = None if blind else self.clock.forward()
        event = Event(
            type, hostname=self.hostname, utcoffset=utcoffset(), pid=self.pid, clock=clock, **fields
        )
        if group not in self.buffer_group:
            self._send(event, type.replace("-", "."))
            return
        with self.mutex:
            gathered = self._gathered[group]
            gathered.append(event)
            full = len(gathered) >= self.buffer_limit
        if full:
            self.flush()
        elif self.on_send_buffered is not None:
            self.on_send_buffered()

    def publish(
        self, type: str, fields: dict[str, Any], producer: Any = None, blind: bool = False, **_: Any
    ) -> None:
        """As `send`, whatever the groups."""
        clock = None if blind else self.clock.forward()
        own: dict[str, Any] = {"hostname": self.hostname, "utcoffset": utcoffset(), "pid": self.pid}
        self._send(Event(type, **own, clock=clock, **fields), type.replace("-", "."))

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Sends what waits.

        Args:
            errors: what waits for the broker.
            groups: what was gathered.
        """
        if errors:
            self._send_waiting()
        if groups:
            with self.mutex:
                gathered, self._gathered = self._gathered, defaultdict(list)
            for group, events in gathered.items():
                self._send(events, f"{group}.multi")

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Takes over what waits at another one."""
        self._waiting.extend(other._waiting)

    def close(self) -> None:
        """Sends what was gathered."""
        self.flush(errors=False)

    def _send(self, body: Any, routing_key: str) -> None:
        try:
            if self._waiting:
                self._send_waiting()
            self._broadcast(body, routing_key)
        except OperationalError:
            if not self.buffer_while_offline:
                raise
            self._waiting.append((body, routing_key))

    def _send_waiting(self) -> None:
        while self._waiting:
            first = self._waiting[0]
            self._broadcast(*first)
            self._waiting.popleft()

    def _broadcast(self, body: Any, routing_key: str) -> None:
        content_type, _, data = serialize.dumps(body, self.serializer)
        headers = serialize.dumps(self.headers, "json")[2].decode()
        publisher = getattr(self.connection, "publisher", None) or self.app.publisher
        publisher.broadcast(self.exchange.name, "topic", routing_key, data, headers, content_type)
