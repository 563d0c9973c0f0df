"""A worker and a task as their events tell of them."""

from __future__ import annotations

import bisect
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, ClassVar
from weakref import WeakSet

from taskcore import states

logger = logging.getLogger(__name__)

HEARTBEAT_EXPIRE_WINDOW = 200
"""A worker is there for so many percent of its interval between two heartbeats."""
HEARTBEAT_DRIFT_MAX = 16
"""Seconds by which clocks may differ before that is said."""

TASK_EVENT_TO_STATE = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "succeeded": states.SUCCESS,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}

_drifting: set[str] = set()


def heartbeat_expires(
    timestamp: float, freq: float = 60, expire_window: float = HEARTBEAT_EXPIRE_WINDOW
) -> float:
    """When a worker is not there any more whose last heartbeat was then."""
    return float(timestamp) + float(freq) * expire_window / 100


def _warn_of_drift(hostname: str, here: float, there: float) -> None:
    if hostname in _drifting:
        return
    _drifting.add(hostname)
    logger.warning(
        "the clocks of `%s` and of this machine differ by `%d` s (it says %s, here it is %s): "
        "synchronise them",
        hostname,
        abs(here - there),
        datetime.fromtimestamp(there),
        datetime.fromtimestamp(here),
    )


class Worker:
    """A worker.

    `heartbeats` are the times at which the last few events of it came.
    """

    heartbeat_max = 4
    expire_window = HEARTBEAT_EXPIRE_WINDOW
    _fields = (
        "hostname",
        "pid",
        "freq",
        "heartbeats",
        "clock",
        "active",
        "processed",
        "loadavg",
        "sw_ident",
        "sw_ver",
        "sw_sys",
    )

    def __init__(
        self,
        hostname: str | None = None,
        pid: int | None = None,
        freq: float = 60,
        heartbeats: list[float] | None = None,
        clock: int | None = 0,
        active: int | None = None,
        processed: int | None = None,
        loadavg: Any = None,
        sw_ident: str | None = None,
        sw_ver: str | None = None,
        sw_sys: str | None = None,
    ) -> None:
        self.hostname = hostname
        self.pid = pid
        self.freq = freq
        self.heartbeats: list[float] = [] if heartbeats is None else heartbeats
        self.clock = clock or 0
        self.active = active
        self.processed = processed
        self.loadavg = loadavg
        self.sw_ident = sw_ident
        self.sw_ver = sw_ver
        self.sw_sys = sw_sys

    def event(
        self,
        type_: str | None,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        max_drift: float = HEARTBEAT_DRIFT_MAX,
    ) -> None:
        """It told of itself, or of a task."""
        self.update(fields or {})
        if type_ == "offline":
            self.heartbeats.clear()
        elif timestamp and local_received:
            if abs(int(local_received) - int(timestamp)) > max_drift:
                _warn_of_drift(str(self.hostname), local_received, timestamp)
            if len(self.heartbeats) >= self.heartbeat_max:
                self.heartbeats.pop(0)
            bisect.insort(self.heartbeats, local_received)

    def update(self, f: dict[str, Any], **kw: Any) -> None:
        """Sets attributes."""
        for key, value in {**f, **kw}.items():
            setattr(self, key, value)

    @property
    def heartbeat_expires(self) -> float:
        """When it is not there any more."""
        return heartbeat_expires(self.heartbeats[-1], self.freq, self.expire_window)

    @property
    def alive(self) -> bool:
        """Whether it was heard of in time."""
        return bool(self.heartbeats) and time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """ONLINE or OFFLINE."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Node name and process."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})"

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__class__, tuple(getattr(self, name) for name in self._fields)


def _unpickled(cls: type[Task], fields: dict[str, Any]) -> Task:
    return cls(**fields)


class Task:
    """A task. What no event has told is None.

    Each event leaves its time under its name (`received`, `started`, ...), and its fields. Events
    may come out of order: one that belongs before the present state changes no state and adds only
    what `merge_rules` allow.
    """

    name: Any = None
    received = sent = started = succeeded = failed = retried = revoked = rejected = None
    args = kwargs = eta = expires = retries = worker = result = exception = timestamp = None
    runtime = traceback = exchange = routing_key = root_id = parent_id = client = None
    state: str = states.PENDING
    clock = 0
    _fields = (
        *("uuid", "name", "state", "received", "sent", "started", "rejected", "succeeded"),
        *("failed", "retried", "revoked", "args", "kwargs", "eta", "expires", "retries", "worker"),
        *("result", "exception", "timestamp", "runtime", "traceback", "exchange", "routing_key"),
        *("clock", "client", "root", "root_id", "parent", "parent_id", "children"),
    )
    merge_rules: ClassVar = {
        states.RECEIVED: (
            *("name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires"),
        ),
    }
    _info_fields = (
        *("args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception"),
        *("exchange", "routing_key", "root_id", "parent_id"),
    )

    def __init__(
        self,
        uuid: str | None = None,
        cluster_state: Any = None,
        children: Iterable[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        self.children: WeakSet[Task] = WeakSet()
        if cluster_state is not None:
            known = cluster_state.tasks
            self.children.update(known[child] for child in children or () if child in known)
        relatives = {"root": kwargs.pop("root", None), "parent": kwargs.pop("parent", None)}
        for name, task_id in relatives.items():
            if task_id is not None:
                kwargs.setdefault(f"{name}_id", task_id)
        vars(self).update(kwargs)

    def event(
        self,
        type_: str,
        timestamp: float | None = None,
        local_received: float | None = None,
        fields: dict[str, Any] | None = None,
        precedence: Callable[[str], int] = states.precedence,
    ) -> None:
        """Something happened to it."""
        fields = dict(fields or {})
        state = TASK_EVENT_TO_STATE.get(type_)
        if state is None:
            state = type_.upper()
        else:
            setattr(self, type_, timestamp)
        belongs_before = (
            states.RETRY not in (state, self.state)
            # The smaller, the later in a task's life.
            and precedence(state) > precedence(self.state)
        )
        if not belongs_before:
            fields |= {"state": state, "timestamp": timestamp}
        elif state in self.merge_rules:
            allowed = self.merge_rules[state]
            fields = {key: value for key, value in fields.items() if key in allowed}
        vars(self).update(fields)

    def info(
        self, fields: Iterable[str] | None = None, extra: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """What is known of these fields, for a screen."""
        names = [*(self._info_fields if fields is None else fields), *(extra or ())]
        found = {name: getattr(self, name, None) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def as_dict(self) -> dict[str, Any]:
        """All fields; relatives by their ids."""
        relatives = {
            "root": self.root_id,
            "parent": self.parent_id,
            "children": [child.uuid for child in self.children],
        }
        return {
            name: relatives[name] if name in relatives else getattr(self, name)
            for name in self._fields
        }

    @property
    def id(self) -> str | None:
        """Its id."""
        return self.uuid

    @property
    def origin(self) -> Any:
        """Who told of it: the worker that has it, else the client that sent it."""
        return self.client if self.worker is None else self.worker.id

    @property
    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    @property
    def parent(self) -> Any:
        """The task that published it, if that is known."""
        return self._relative(self.parent_id)

    @property
    def root(self) -> Any:
        """The first task of its workflow, if that is known."""
        return self._relative(self.root_id)

    def _relative(self, task_id: Any) -> Any:
        if not task_id or self.cluster_state is None:
            return None
        return self.cluster_state.tasks.data.get(task_id)

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.__class__, self.as_dict())
