"""A beat that answers `ping`, as workers do: `taskcore inspect ping -d celerybeat@host` is a probe.

It answers as long as its scheduler ticks. One that hangs is silent, because silence is what a probe
takes for an error. Every other command is for workers.
"""

from __future__ import annotations

import fnmatch
import json
import re
import threading
import time
from typing import Any

from taskcore import serialize
from taskcore.beat.scheduler import DEFAULT_MAX_INTERVAL, logger
from taskcore.exceptions import OperationalError

RETRY = 5.0
"""Seconds before the broker is tried again."""
PATIENCE = 60.0
"""Seconds without a tick after which a beat is silent, at least: a scheduler may wait for its
database for a while."""
_ACCEPTED = ("application/json", "application/x-msgpack")


class Remote(threading.Thread):
    """Answers while a service runs.

    Args:
        service: see `Service`; its `last_tick` says whether it still ticks.
        name: the node name to answer by.
    """

    def __init__(self, service: Any, name: str) -> None:
        super().__init__(name="BeatRemote", daemon=True)
        self.service = service
        self.node = name
        self._ends = threading.Event()

    def run(self) -> None:
        """The thread."""
        app = self.service.app
        exchange = f"{app.conf['control_exchange']}.pidbox"
        while not self._ends.is_set():
            try:
                subscriber = app.publisher.subscribe([(exchange, "fanout", "")])
                while not self._ends.is_set():
                    for _, _, headers, content_type, body in subscriber.receive(1.0)[0]:
                        self._hear(headers, content_type, body)
            except OperationalError as exc:
                logger.warning("beat: hears no commands, trying again in %g s: %s", RETRY, exc)
                self._ends.wait(RETRY)
            except Exception:
                logger.exception("beat: hears no commands any more")
                return

    def stop(self) -> None:
        """Ends it, and waits for that a moment."""
        self._ends.set()
        if self.is_alive():
            self.join(3.0)

    def _hear(self, headers: str, content_type: str, body: bytes) -> None:
        try:
            asked = serialize.loads(body, content_type, "binary", _ACCEPTED)
        except Exception as exc:  # whatever others have sent
            logger.debug("beat: a command cannot be read: %s", exc)
            return
        expires = json.loads(headers).get("expires") or 0
        late = bool(expires) and expires < time.time()
        if late or not is_ping(asked, self.node) or self.is_stale():
            return
        to = asked.get("reply_to")
        if to:
            *_, reply = serialize.dumps({self.node: {"ok": "pong"}}, "json")
            told = json.dumps({"ticket": asked.get("ticket"), "clock": 0})
            publisher = self.service.app.publisher
            publisher.broadcast(to["exchange"], "direct", to["routing_key"], reply, headers=told)

    def is_stale(self) -> bool:
        """Whether the scheduler has not ticked for too long."""
        age = time.monotonic() - self.service.last_tick
        most = self.service.app.conf["beat_remote_control_max_tick_age"]
        if most is None:
            interval = self.service.effective_max_interval or DEFAULT_MAX_INTERVAL
            most = max(2 * interval, PATIENCE)
        return bool(most) and age > most


def is_ping(asked: Any, node: str) -> bool:
    """Whether it is a `ping` for this node."""
    if not isinstance(asked, dict) or asked.get("method") != "ping":
        return False
    destination, pattern = asked.get("destination"), asked.get("pattern")
    if destination:
        return node in destination
    if pattern:
        regex = pattern if asked.get("matcher") == "pcre" else fnmatch.translate(pattern)
        try:
            return re.match(regex, node) is not None
        except re.error:
            return False
    return True
