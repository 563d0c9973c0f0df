"""`app.amqp`: the queues, the exchanges and the router of an app, by Celery's names."""

from __future__ import annotations

from taskcore.entity import Exchange, Queue
from taskcore.exceptions import NotSupportedError
from taskcore.publishing import queues as _queues
from taskcore.publishing import routes as _routes
from taskcore.publishing.queues import Queues
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint

if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["AMQP", "Queues"]

_DECIDE = (
    "task_queues",
    "task_default_queue",
    "task_default_queue_type",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_routing_key",
    "task_create_missing_queues",
    "task_create_missing_queue_type",
    "task_create_missing_queue_exchange_type",
    "task_queue_max_priority",
)
"""Settings that decide which queues there are."""

_BY_ITSELF = "taskcore publishes and consumes by itself"
_NOT_HERE = {
    "Connection": f"{_BY_ITSELF}: `app.connection()` stands for a connection",
    "BrokerConnection": f"{_BY_ITSELF}: `app.connection()` stands for a connection",
    "Consumer": f"{_BY_ITSELF}: start a worker, or hear events by `app.events.Receiver`",
    "TaskConsumer": f"{_BY_ITSELF}: start a worker",
    "Producer": f"{_BY_ITSELF}: `app.send_task` publishes tasks",
    "create_task_message": "read what is published in a receiver of `before_task_publish`",
    "send_task_message": "call `app.send_task`, which checks what it is given",
    "as_task_v1": "taskcore writes protocol 2, and reads both",
    "as_task_v2": "read what is published in a receiver of `before_task_publish`",
    "task_protocols": "set `task_protocol`",
}


class AMQP:
    """What an app knows about queues and routes.

    Args:
        app: the app.
    """

    queues_cls = _queues.Queues
    autoexchange: Any = None
    """What makes the exchange of a queue that nobody has defined, of its name."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self._queues: _queues.Queues | None = None
        self._queues_of: Any = None
        self._router: _routes.Router | None = None
        self._router_of: Any = None

    def Queues(  # noqa: N802 - Celery's name
        self,
        queues: Any,
        create_missing: bool | None = None,
        create_missing_queue_type: str | None = None,
        create_missing_queue_exchange_type: str | None = None,
        autoexchange: Any = None,
        max_priority: int | None = None,
    ) -> _queues.Queues:
        """Queues with the defaults of this app; without any, its default queue."""
        conf = self.app.conf
        made = self.queues_cls(
            None,
            default_exchange=self.default_exchange,
            create_missing=_or(create_missing, conf["task_create_missing_queues"]),
            create_missing_queue_type=create_missing_queue_type
            or conf["task_create_missing_queue_type"],
            create_missing_queue_exchange_type=create_missing_queue_exchange_type
            or conf["task_create_missing_queue_exchange_type"],
            autoexchange=autoexchange or self.autoexchange,
            max_priority=_or(max_priority, conf["task_queue_max_priority"]),
            default_routing_key=conf["task_default_routing_key"],
        )
        for name, queue in (queues or self._default()).items():
            if isinstance(queue, dict):
                made.add_compat(name, **queue)
            else:
                made.add(queue)
        made._default_consume_from = dict(made)
        return made

    def _default(self) -> dict[str, Queue]:
        conf = self.app.conf
        name, kind = conf["task_default_queue"], conf["task_default_queue_type"]
        arguments = {"x-queue-type": kind} if kind == "quorum" else None
        key = conf["task_default_routing_key"]
        return {name: Queue(name, self.default_exchange, key, queue_arguments=arguments)}

    def Router(self, queues: Any = None, create_missing: bool | None = None) -> _routes.Router:  # noqa: N802
        """A router with the routes of this app."""
        create = _or(create_missing, self.app.conf["task_create_missing_queues"])
        return _routes.Router(self.routes, queues or self.queues, create, self.app)

    @property
    def queues(self) -> _queues.Queues:
        """The queues of the app, by name. What is added to them stays until a setting changes that
        decides which queues there are."""
        conf = self.app.conf
        of = [conf[name] for name in _DECIDE]
        if self._queues is None or of != self._queues_of:
            self._queues, self._queues_of = self.Queues(by_name(conf["task_queues"])), of
            self._queues.added = self.app.producer.invalidate_routes
        return self._queues

    @queues.setter
    def queues(self, queues: Any) -> None:
        made = queues if isinstance(queues, _queues.Queues) else self.Queues(by_name(queues))
        made.added = self.app.producer.invalidate_routes
        self._queues, self._queues_of = made, [self.app.conf[name] for name in _DECIDE]
        self.app.producer.invalidate_routes()

    @property
    def routes(self) -> list[Any]:
        """The routers of `task_routes`."""
        return _routes.prepare(self.app.conf["task_routes"])

    @property
    def router(self) -> _routes.Router:
        """What says where a call goes."""
        of = (self.app.conf["task_routes"], self.queues)
        if self._router is None or any(
            a is not b for a, b in zip(of, self._router_of, strict=True)
        ):
            self._router, self._router_of = self.Router(), of
        return self._router

    @router.setter
    def router(self, router: _routes.Router) -> None:
        self._router, self._router_of = router, (self.app.conf["task_routes"], self.queues)
        self.app.producer.invalidate_routes()

    def flush_routes(self) -> None:
        """Reads `task_routes` anew."""
        self._router = None
        self.app.producer.invalidate_routes()

    @property
    def default_queue(self) -> Queue:
        """The queue of what nobody routes."""
        return self.queues[self.app.conf["task_default_queue"]]

    @property
    def default_exchange(self) -> Exchange:
        """The exchange of queues that name none."""
        conf = self.app.conf
        return Exchange(conf["task_default_exchange"], conf["task_default_exchange_type"])

    @property
    def producer_pool(self) -> Any:
        """What gives producers, as `app.producer_pool`."""
        return self.app.producer_pool

    publisher_pool = producer_pool

    @property
    def utc(self) -> bool:
        """`enable_utc`."""
        return bool(self.app.conf["enable_utc"])

    def __getattr__(self, name: str) -> NoReturn:
        if name in _NOT_HERE:
            raise _NotHere(f"`{name}` of `app.amqp` is not in this version: {_NOT_HERE[name]}")
        raise AttributeError(f"`AMQP` has no attribute `{name}`{hint(name, dir(AMQP))}")


class _NotHere(NotSupportedError, AttributeError):
    """What only kombu has."""


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def by_name(queues: Any) -> dict[str, Any]:
    """What `task_queues` says, by the names of the queues."""
    from taskcore.entity import to_queue
    from taskcore.utils import is_mapping

    if not queues:
        return {}
    if is_mapping(queues):
        return dict(queues)
    found = [to_queue(queue) for queue in queues]
    return {queue.name: queue for queue in found}
