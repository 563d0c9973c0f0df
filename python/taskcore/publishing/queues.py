"""The queues that an app knows, by name: `app.amqp.queues`.

Owns the rules by which a queue that says little is completed, and what a queue is that nobody has
defined. Which of them a worker consumes is part of it, as in Celery.
"""

from __future__ import annotations

from taskcore.entity import Exchange, Queue, to_exchange, to_queue
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint, is_mapping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any


class Queues(dict[str, Queue]):
    """Queues by name; one that is missing is made on the first look, unless that is turned off.

    Args:
        queues: those that are defined, as a list or by name.
        default_exchange: of queues that name none.
        create_missing: whether a queue is made that nobody has defined.
        create_missing_queue_type: `quorum`, for RabbitMQ.
        create_missing_queue_exchange_type: how its exchange routes.
        max_priority: `x-max-priority` of queues that name none, for RabbitMQ.
        default_routing_key: of queues that name none.
    """

    _consume_from: dict[str, Queue] | None = None

    def __init__(
        self,
        queues: Any = None,
        default_exchange: Any = None,
        create_missing: bool = True,
        create_missing_queue_type: str | None = None,
        create_missing_queue_exchange_type: str | None = None,
        autoexchange: Any = None,
        max_priority: int | None = None,
        default_routing_key: str | None = None,
    ) -> None:
        super().__init__()
        self.aliases: dict[str, Queue] = {}
        self.default_exchange = to_exchange(default_exchange)
        self.default_routing_key = default_routing_key
        self.create_missing = create_missing
        self.create_missing_queue_type = create_missing_queue_type
        self.create_missing_queue_exchange_type = create_missing_queue_exchange_type
        self.autoexchange = autoexchange or Exchange
        self.max_priority = max_priority
        self.added: Callable[[], object] = lambda: None
        """Called when somebody adds a queue, for whoever keeps what follows from them."""
        for name, queue in _named(queues):
            if is_mapping(queue):
                self.add_compat(name, **queue)
            else:
                self.add(queue)
        self._default_consume_from = dict(self)

    def __getitem__(self, name: str) -> Queue:
        return self.aliases[name] if name in self.aliases else super().__getitem__(name)

    def __missing__(self, name: str) -> Queue:
        if not self.create_missing:
            raise KeyError(name)
        self[name] = self.new_missing(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, queue: Any) -> None:
        queue = to_queue(queue)
        if self.default_exchange and (queue.exchange is None or not queue.exchange.name):
            queue.exchange = self.default_exchange
        if not queue.routing_key:
            queue.routing_key = self.default_routing_key or ""
        if self.max_priority is not None:
            own = {"x-max-priority": self.max_priority}
            queue.queue_arguments = {**own, **(queue.queue_arguments or {})}
        super().__setitem__(name, queue)
        if queue.alias:
            self.aliases[queue.alias] = queue

    def add(self, queue: Any, **options: Any) -> Queue:
        """Adds a queue: an object, or a name with options as in `Queue.from_dict`."""
        if isinstance(queue, str):
            return self.add_compat(queue, **options)
        queue = to_queue(queue)
        self[queue.name] = queue
        self.added()
        return super().__getitem__(queue.name)

    def add_compat(self, name: str, **options: Any) -> Queue:
        """Adds a queue by its name and options; the routing key is the name unless it is given."""
        options.setdefault("routing_key", options.get("binding_key"))
        if options["routing_key"] is None:
            options["routing_key"] = name
        return self.add(Queue.from_dict(name, **options))

    def new_missing(self, name: str) -> Queue:
        """The queue of this name that nobody has defined."""
        kind, route = self.create_missing_queue_type, self.create_missing_queue_exchange_type
        arguments = {"x-queue-type": kind} if kind and kind != "classic" else None
        exchange = Exchange(name, route) if route else self.autoexchange(name)
        return Queue(name, exchange, name, queue_arguments=arguments)

    # What is consumed

    @property
    def consume_from(self) -> dict[str, Queue]:
        """What a worker consumes."""
        chosen = self._consume_from
        return self._default_consume_from if chosen is None else chosen

    def select(self, include: Iterable[str] | str | None) -> None:
        """Chooses the queues to consume; those that are not defined are made.

        Raises:
            KeyError: one is not defined, and missing ones are not made.
        """
        if include:
            names = [include] if isinstance(include, str) else include
            chosen = [self[name] for name in names]
            self._consume_from = {queue.name: queue for queue in chosen}

    def deselect(self, exclude: Iterable[str] | str | None) -> None:
        """Takes queues out of what is consumed."""
        for name in [exclude] if isinstance(exclude, str) else exclude or ():
            queue = self.aliases.get(name)
            self.consume_from.pop(name if queue is None else queue.name, None)

    def select_add(self, queue: Any, **options: Any) -> Queue:
        """Adds a queue that is consumed whatever was selected."""
        added = self.add(queue, **options)
        self.consume_from[added.name] = added
        return added

    def format(self, indent: int = 0, indent_first: bool = True) -> str:
        """What is consumed, for people."""
        lines = [
            f".> {queue.name:<16} exchange={queue.exchange.name}({queue.exchange.type}) "
            f"key={queue.routing_key}"
            for _, queue in sorted(self.consume_from.items())
        ]
        margin = " " * indent
        text = f"\n{margin}".join(lines)
        return margin + text if lines and indent_first else text

    def bound_to(self, exchange: str) -> list[Queue]:
        """The queues that are bound to an exchange."""
        return [
            queue for queue in self.values() if exchange in {to.name for to, *_ in bindings(queue)}
        ]

    def missing(self, name: str) -> KeyError:
        """The error about a queue that is not defined and not made either."""
        from taskcore.exceptions import QueueNotFound

        return QueueNotFound(
            f"queue `{name}` is not in task_queues{hint(name, self)}: define it there, or set "
            "task_create_missing_queues"
        )


def _named(queues: Any) -> Iterable[tuple[str, Any]]:
    if not queues:
        return []
    if is_mapping(queues):
        return list(queues.items())
    found = [to_queue(queue) for queue in queues]
    return [(queue.name, queue) for queue in found]


def bindings(queue: Queue) -> list[tuple[Exchange, str, Mapping[str, Any] | None]]:
    """Exchange, routing key and arguments of each binding of a queue."""
    found = [(one.exchange, one.routing_key, one.arguments) for one in queue.bindings]
    if queue.exchange is not None and queue.exchange.name:
        found.insert(0, (queue.exchange, queue.routing_key, queue.binding_arguments))
    return found
