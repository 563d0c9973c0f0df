"""Writes each event as a line."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from taskcore.events.lru import LRUCache

HUMAN_TYPES = {
    "worker-offline": "shutdown",
    "worker-online": "started",
    "worker-heartbeat": "heartbeat",
}
NAMES_MAX = 4_096


def humanize_type(type: str) -> str:
    """A type in words."""
    return HUMAN_TYPES.get(type.lower(), type.lower().replace("-", " "))


class Dumper:
    """Writes events to a stream."""

    def __init__(self, out: Any = None) -> None:
        self.out = out or sys.stdout
        self._names: LRUCache[str, str] = LRUCache(NAMES_MAX)

    def say(self, msg: str) -> None:
        """Writes a line, at once."""
        print(msg, file=self.out, flush=True)

    def on_event(self, ev: dict[str, Any]) -> None:
        """Writes an event."""
        rest = dict(ev)
        when = datetime.fromtimestamp(rest.pop("timestamp"), UTC)
        type, hostname = rest.pop("type").lower(), rest.pop("hostname")
        task = ""
        if type.startswith("task-"):
            uuid = rest.pop("uuid")
            if type in ("task-received", "task-sent"):
                name, args, kwargs = rest.pop("name"), rest.pop("args"), rest.pop("kwargs")
                self._names[uuid] = f"{name}({uuid}) args={args} kwargs={kwargs}"
            task = self._names.get(uuid, "") + " "
        fields = ", ".join(f"{key}={rest[key]}" for key in sorted(rest))
        self.say(f"{hostname} [{when}] {humanize_type(type)}{':' if fields else ''} {task}{fields}")


def evdump(app: Any = None, out: Any = None) -> None:
    """Writes events until it is interrupted."""
    dumper = Dumper(out)
    dumper.say("-> evdump: starting capture...")
    app.events.Receiver(app.connection_for_read(), handlers={"*": dumper.on_event}).capture()
