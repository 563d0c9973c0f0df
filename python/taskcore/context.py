"""The current request: what `self.request` shows while a task runs.

One context variable holds the request as the core made it; publishing inside a task reads its ids
from there. The view with Celery's attributes (`Context`) is made on the first look at
`self.request` and decodes the rest of the message only when an attribute beyond the common ones is
asked for, so a task that never looks pays nothing.
"""

from __future__ import annotations

from contextvars import ContextVar

from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint

if TYPE_CHECKING:
    from typing import Any, Protocol

DEFAULTS: dict[str, Any] = {
    "id": None,
    "task": None,
    "args": None,
    "kwargs": None,
    "retries": 0,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "root_id": None,
    "parent_id": None,
    "reply_to": None,
    "correlation_id": None,
    "timelimit": None,
    "callbacks": None,
    "errbacks": None,
    "chain": None,
    "chord": None,
    "headers": None,
    "stamps": None,
    "stamped_headers": None,
    "shadow": None,
    "origin": None,
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "argsrepr": None,
    "kwargsrepr": None,
    "delivery_info": None,
    "properties": None,
    "redeliveries": 0,
    "serializer": None,
    "compression": None,
    "queue": None,
    "protocol": None,
    "hostname": None,
    "is_eager": False,
    "called_directly": False,
    "utc": True,
    "loglevel": None,
    "logfile": None,
    "taskset": None,
    "lang": None,
}
"""Every attribute of `self.request` and its value where the message is silent."""


if TYPE_CHECKING:

    class TaskRequest(Protocol):
        """What the Python side needs of a request; `_core.Request` and `LocalRequest` have it."""

        @property
        def id(self) -> Any: ...
        @property
        def task(self) -> str: ...
        @property
        def retries(self) -> int: ...
        @property
        def root_id(self) -> Any: ...
        @property
        def parent_id(self) -> str | None: ...
        @property
        def ignore_result(self) -> bool | None: ...
        @property
        def has_embed(self) -> bool: ...
        def to_dict(self) -> dict[str, Any]: ...
        def add_child(self, task_id: str, parent: Any = None, members: Any = None) -> None: ...
        def drop_following(self) -> list[str]: ...


class LocalRequest:
    """The request of a call that came without a message: `task.apply(...)`, or `task(...)`, which
    has no id."""

    __slots__ = ("children", "fields", "outer")

    def __init__(self, outer: TaskRequest | None = None, **fields: Any) -> None:
        self.outer = outer
        self.fields = fields
        self.children: list[Any] = []

    @property
    def id(self) -> Any:
        return self.fields.get("id")

    @property
    def task(self) -> str:
        return str(self.fields["task"])

    @property
    def retries(self) -> int:
        return int(self.fields.get("retries", 0))

    @property
    def root_id(self) -> Any:
        return self.fields.get("root_id") or self.id

    @property
    def parent_id(self) -> str | None:
        return self.fields.get("parent_id")

    @property
    def ignore_result(self) -> bool | None:
        return self.fields.get("ignore_result")

    @property
    def has_embed(self) -> bool:
        return any(self.fields.get(key) for key in ("callbacks", "errbacks", "chain", "chord"))

    def to_dict(self) -> dict[str, Any]:
        return dict(self.fields)

    def add_child(self, task_id: str, parent: Any = None, members: Any = None) -> None:
        self.children.append([[task_id, parent], members])

    def drop_following(self) -> list[str]:
        """Nothing waits for the end of a call that runs here and now."""
        return []


class PushedRequest(LocalRequest):
    """The request that `task.push_request` has put in front of the one before it."""


class Context:
    """`self.request`: one execution, with Celery's attribute names, and the caller's own headers
    beside them. Unknown names raise AttributeError."""

    def __init__(self, request: TaskRequest | None = None, app: Any = None) -> None:
        self._request = request
        self._app = app
        self._attributes: dict[str, Any] | None = None

    def _fields(self) -> dict[str, Any]:
        attributes = self._attributes
        if attributes is None:
            carried = {} if self._request is None else self._request.to_dict()
            limits = carried.get("timelimit") or (None, None)
            attributes = self._attributes = {
                **DEFAULTS,
                "hostname": getattr(self._app, "hostname", None),
                "called_directly": self._request is None,
                **carried,
                # A message that says nothing wants its result kept.
                "ignore_result": bool(carried.get("ignore_result")),
                "time_limit": limits[0],
                "soft_time_limit": limits[1],
            }
        return attributes

    @property
    def id(self) -> Any:
        """Task id; None when the task was called directly."""
        return None if self._request is None else self._request.id

    @property
    def retries(self) -> int:
        """How often it has been retried."""
        return 0 if self._request is None else self._request.retries

    @property
    def root_id(self) -> Any:
        """The first task of the workflow."""
        return None if self._request is None else self._request.root_id

    @property
    def children(self) -> list[Any]:
        """Results of the tasks that this execution has published, where this process knows them."""
        return [self._result(child) for child in getattr(self._request, "children", ())]

    def _result(self, child: Any) -> Any:
        (task_id, parent), members = child
        above = self._result(parent) if parent else None
        if members is None:
            return self._app.AsyncResult(task_id, parent=above)
        return self._app.GroupResult(task_id, map(self._result, members), above)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        fields = self._fields()
        if name not in fields:
            own = fields["headers"] or {}
            if name in own:
                return own[name]
            raise AttributeError(f"`self.request` has no attribute `{name}`{hint(name, fields)}")
        return opened(fields[name]) if name == "chain" else fields[name]

    def get(self, key: str, default: Any = None) -> Any:
        """The attribute `key`, or `default`."""
        return getattr(self, key, default)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Sets attributes of this view; the message does not change."""
        self.__dict__.update(*args, **kwargs)

    def as_dict(self) -> dict[str, Any]:
        """All attributes."""
        return {
            **self._fields(),
            "chain": self.chain,
            **{k: v for k, v in self.__dict__.items() if not k.startswith("_")},
        }

    def __repr__(self) -> str:
        return (
            f"<Context: {self.task}[{self.id}] retries={self.retries}>"
            if self._request
            else "<Context: no request>"
        )


def opened(chain: Any) -> Any:
    """The rest of a chain as a list, for code that may look at all of it or change it."""
    decoded = getattr(chain, "decoded", None)
    return chain if decoded is None else decoded()


_current: ContextVar[TaskRequest | None] = ContextVar("taskcore_current_request", default=None)
_context: ContextVar[Context | None] = ContextVar("taskcore_current_context", default=None)

get_request = _current.get
set_request = _current.set
reset_request = _current.reset


def get_parent_request() -> TaskRequest | None:
    """The execution that tasks published now belong to: the current one, or the one that called it
    directly."""
    request = _current.get()
    while request is not None and request.id is None:
        request = getattr(request, "outer", None)
    return request


def push_request(name: str, fields: dict[str, Any]) -> None:
    """Makes a request of the task `name` the current one: the one before it, where that is of the
    same task, with these fields."""
    outer = _current.get()
    before = outer.to_dict() if outer is not None and outer.task == name else {}
    pushed = {"called_directly": True, **before, **fields, "task": name}
    _current.set(PushedRequest(outer, **pushed))


def pop_request() -> None:
    """Takes the request away that was pushed last; without one it does nothing, as in Celery."""
    request = _current.get()
    if isinstance(request, PushedRequest):
        _current.set(request.outer)


def get_context(name: str, app: Any) -> Context:
    """The context of the current request if it executes the task `name`, an empty one otherwise."""
    request = _current.get()
    if request is None or request.task != name:
        return Context()
    context = _context.get()
    if context is None or context._request is not request:
        context = Context(request, app)
        _context.set(context)
    return context
