"""Hears events and hands them to handlers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from taskcore import serialize
from taskcore.events.event import Clock, Exchange
from taskcore.exceptions import OperationalError
from taskcore.utils import utcoffset, uuid

logger = logging.getLogger(__name__)

SAFETY_INTERVAL = 1.0
"""How often `should_stop` is looked at while nothing comes; seconds."""
RETRY_MAX = 30.0
"""The longest pause between two attempts to subscribe again; seconds."""
CLIENT_CLOCK_SKEW = -1


class EventReceiver:
    """Captures events.

    Args:
        channel: what `app.connection()` gives; None is the app's own broker.
        handlers: by type of event; `*` gets those that have none.
        routing_key: which events: `task.*` for those about tasks. Those of workers that send
            several at once have the key `task.multi`.
        node_id: in the name of the queue, where the broker has one.
        accept: serializers that are opened.
    """

    app: Any = None

    def __init__(
        self,
        channel: Any = None,
        handlers: dict[str, Callable[[dict[str, Any]], object]] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: Any = None,
        queue_prefix: str | None = None,
        accept: Iterable[str] | None = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_exclusive: bool | None = None,
        queue_durable: bool | None = None,
    ) -> None:
        self.app = app if app is not None else type(self).app
        self.channel = channel
        self.handlers = {} if handlers is None else handlers
        self.routing_key = routing_key
        self.node_id = node_id or uuid()
        self.exchange = Exchange(self.app.conf["event_exchange"])
        self.accept = serialize.content_types(accept or ("json",))
        self.clock: Clock = self.app.events.clock
        self.adjust_clock = self.clock.adjust
        self.forward_clock = self.clock.forward
        self.should_stop = False

    @property
    def connection(self) -> Any:
        """What it was made with."""
        return self.channel

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Hands an event to its handler."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def capture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> None:
        """Hears events until `should_stop` is set.

        Args:
            limit: so many messages.
            timeout: seconds without any.
            wakeup: have all workers tell at once that they are there.
        Raises:
            TimeoutError: nothing came for `timeout`.
            OperationalError: the broker is away at the start. Later it is tried again for ever, and
                the log says that events may be missing.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[None]:
        """As `capture`, with a pause after each message and each second."""
        subscriber, heard, last = self._subscribe(), 0, time.monotonic()
        if wakeup:
            self.wakeup_workers()
        while not self.should_stop and (limit is None or heard < limit):
            messages, missing = [], 0
            try:
                messages, missing = subscriber.receive(SAFETY_INTERVAL)
            except OperationalError as error:
                logger.warning("events may be missing: %s", error)
                subscriber = self._subscribe_again()
                if wakeup:
                    self.wakeup_workers()
            if missing:
                logger.warning(
                    "`%d` messages with events are missing: the handlers take too long", missing
                )
            for _, _, _, content_type, body in messages:
                if self.should_stop or (limit is not None and heard >= limit):
                    return
                heard += 1
                self._receive(content_type, body)
                yield
            if messages:
                last = time.monotonic()
            elif timeout is not None and time.monotonic() - last >= timeout:
                raise TimeoutError(f"no event came for `{timeout}` s")
            else:
                yield

    consume = itercapture

    def wakeup_workers(self, channel: Any = None) -> None:
        """Has all workers tell at once that they are there."""
        self.app.control.broadcast("heartbeat")

    def event_from_message(
        self, body: dict[str, Any], localize: bool = True, now: Callable[[], float] = time.time
    ) -> tuple[str, dict[str, Any]]:
        """An event as handlers get it: with its time moved to this machine's zone as its sender's
        offset says, and when it was received."""
        if body["type"] == "task-sent":
            # Clients have no part in the logical time.
            body["clock"] = (self.clock.value or 1) + CLIENT_CLOCK_SKEW
            self.adjust_clock(body["clock"])
        elif body.get("clock") is None:
            body["clock"] = self.forward_clock()
        else:
            self.adjust_clock(body["clock"])
        if localize and "utcoffset" in body and "timestamp" in body:
            body["timestamp"] -= (body["utcoffset"] - utcoffset()) * 3600
        body["local_received"] = now()
        return body["type"], body

    def _receive(self, content_type: str, data: bytes) -> None:
        try:
            body = serialize.loads(data, content_type, accept=self.accept)
        except Exception as error:
            logger.warning("an event cannot be read: %s", error)
            return
        for event in body if isinstance(body, list) else [body]:
            self.process(*self.event_from_message(event))

    def _subscribe(self) -> Any:
        publisher = getattr(self.channel, "publisher", None) or self.app.publisher
        return publisher.subscribe([(self.exchange.name, "topic", self.routing_key)])

    def _subscribe_again(self) -> Any:
        pause = 0.5
        while True:
            try:
                return self._subscribe()
            except OperationalError:
                if self.should_stop:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, RETRY_MAX)
