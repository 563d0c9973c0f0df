"""Queues, exchanges and bindings, as `task_queues` names them.

The names and arguments are kombu's, which is not needed: `from taskcore.entity import Queue, Exchange,
binding, Broadcast` is all that a Celery project changes. Objects of kombu's own are taken as they are
wherever these are. Nothing here talks to a broker: whoever publishes or consumes declares.
"""

from __future__ import annotations

from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import hint, is_mapping, uuid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

__all__ = ["Broadcast", "Exchange", "Queue", "binding", "worker_direct"]

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
_MODES = {"transient": 1, "persistent": 2}
_USED = (
    "taskcore declares, publishes and consumes by itself: put the queue into `task_queues`, and ask "
    "`app.publisher` about what is in it"
)


class _Entity:
    """What all of these share: comparison by what they say, and no channel."""

    _says: tuple[str, ...] = ()

    def as_dict(self, recurse: bool = False) -> dict[str, Any]:
        """What it says, by name; with `recurse` without objects."""

        def plain(value: Any) -> Any:
            if recurse and isinstance(value, _Entity):
                return value.as_dict(recurse=True)
            return [plain(item) for item in value] if isinstance(value, list) else value

        return {name: plain(getattr(self, name)) for name in self._says}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Entity) or self._says != other._says:
            return NotImplemented
        return self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((type(self).__name__, getattr(self, "name", "")))

    def __getattr__(self, name: str) -> NoReturn:
        kind = type(self).__name__
        if name in _OF_CHANNELS:
            raise _NoChannel(f"`{name}` of kombu's `{kind}` is not in this version: {_USED}")
        raise AttributeError(f"`{kind}` has no attribute `{name}`{hint(name, self._says)}")


class _NoChannel(NotSupportedError, AttributeError):
    """What only an object with a connection of its own can do."""


_OF_CHANNELS = frozenset(
    [
        "bind",
        "maybe_bind",
        "channel",
        "declare",
        "bind_to",
        "unbind_from",
        "publish",
        "Message",
        "delete",
        "purge",
        "get",
        "consume",
        "cancel",
        "queue_declare",
        "queue_bind",
        "queue_unbind",
    ]
)


class Exchange(_Entity):
    """Where messages are published, and how they get from there to queues.

    Args:
        name: its name; the default exchange has none.
        type: `direct` (to queues bound with the routing key), `topic` (with a pattern that it fits),
            `fanout` (to all that are bound) or `headers` (by the headers of the message).
        durable: it outlives the broker.
        auto_delete: it goes with the last queue that was bound to it.
        arguments: of its declaration, for RabbitMQ.
        delivery_mode: 1 or `transient`, 2 or `persistent`: of what is published to it.
        no_declare: somebody else declares it.
        passive: the same, as kombu calls it where the exchange must exist.
    Raises:
        ValueError: a type that does not exist.
    """

    _says = (
        "name",
        "type",
        "arguments",
        "durable",
        "passive",
        "auto_delete",
        "delivery_mode",
        "no_declare",
    )

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        channel: None = None,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        arguments: Mapping[str, Any] | None = None,
        delivery_mode: int | str | None = None,
        no_declare: bool = False,
        passive: bool = False,
    ) -> None:
        self.name = name or ""
        self.type = type or "direct"
        if self.type not in EXCHANGE_TYPES:
            raise ValueError(
                f"type of exchange `{name}` is `{type}`: expected {', '.join(EXCHANGE_TYPES)}"
            )
        self.durable = durable
        self.auto_delete = auto_delete
        self.arguments = arguments
        if delivery_mode is not None and delivery_mode not in (1, 2, *_MODES):
            raise ValueError(
                f"delivery_mode of exchange `{name}` is `{delivery_mode}`: expected 1 or `transient`, "
                "2 or `persistent`"
            )
        self.delivery_mode = _MODES.get(str(delivery_mode), delivery_mode)
        self.no_declare = no_declare
        self.passive = passive

    def binding(self, routing_key: str = "", arguments: Mapping[str, Any] | None = None) -> binding:
        """A binding to this exchange."""
        return binding(self, routing_key, arguments)

    def __repr__(self) -> str:
        return f"<Exchange: {self}>"

    def __str__(self) -> str:
        return f"{self.name or repr('')}({self.type})"


class binding(_Entity):  # noqa: N801 - kombu's name
    """A reason for which a queue receives messages.

    Args:
        exchange: of what is published here:
        routing_key: what has this key, or one that fits this pattern of a topic. `*` stands for one
            word between dots, `#` for any number of them.
        arguments: for a headers exchange, the headers that are wanted, and `x-match` (`all` or `any`).
        unbind_arguments: kombu's; nothing is unbound here.
    """

    _says = ("exchange", "routing_key", "arguments")

    def __init__(
        self,
        exchange: Any = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        unbind_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.exchange = to_exchange(exchange)
        self.routing_key = routing_key or ""
        self.arguments = arguments
        self.unbind_arguments = unbind_arguments

    def __repr__(self) -> str:
        return f"<binding: {self}>"

    def __str__(self) -> str:
        return f"{self.exchange.name}->{self.routing_key}"


class Queue(_Entity):
    """A queue, and what it receives.

    Args:
        name: its name.
        exchange: what it is bound to, as an `Exchange` or the name of a direct one; also a list of
            bindings. Default: `task_default_exchange`.
        routing_key: with which it is bound. Default: `task_default_routing_key`.
        bindings: further bindings.
        queue_arguments: of its declaration, such as `x-max-priority` and `x-queue-type`; for RabbitMQ.
        binding_arguments: of the binding to `exchange`.
        consumer_arguments: for RabbitMQ.
        durable: it outlives the broker.
        exclusive: only one connection may use it.
        auto_delete: it goes with its last consumer, and so does what is in it.
        no_ack: not in this version: every message is acknowledged.
        alias: another name, for `-Q` and `task_routes`.
        no_declare: somebody else declares it.
        expires: seconds without a consumer after which RabbitMQ deletes it.
        message_ttl: seconds after which RabbitMQ drops a message.
        max_length: how many messages RabbitMQ keeps.
        max_length_bytes: how many bytes.
        max_priority: the highest priority that RabbitMQ tells apart.
        on_declared: not in this version.
    Raises:
        NotSupportedError: `no_ack` or `on_declared`.
    """

    _says = (
        "name",
        "exchange",
        "routing_key",
        "queue_arguments",
        "binding_arguments",
        "consumer_arguments",
        "durable",
        "exclusive",
        "auto_delete",
        "no_ack",
        "alias",
        "bindings",
        "no_declare",
        "expires",
        "message_ttl",
        "max_length",
        "max_length_bytes",
        "max_priority",
    )
    if TYPE_CHECKING:
        exchange: Any
        routing_key: str
        auto_delete: bool

    is_broadcast = False
    """Whether every worker has one of its own, which nobody else declares."""

    def __init__(
        self,
        name: str = "",
        exchange: Any = None,
        routing_key: str = "",
        channel: None = None,
        bindings: Iterable[Any] | None = None,
        on_declared: None = None,
        **options: Any,
    ) -> None:
        self.name = name
        self.bindings = [to_binding(one) for one in bindings or ()]
        if isinstance(exchange, (list, tuple, set, frozenset)):
            self.bindings += [to_binding(one) for one in exchange]
            exchange = None
        self.bindings.sort(key=str)
        self.exchange = None if self.bindings else to_exchange(exchange)
        self.routing_key = routing_key or ""
        for option, default in _QUEUE_DEFAULTS.items():
            setattr(self, option, options.pop(option, default))
        for unknown in options:
            raise TypeError(
                f"queue `{name}`: unknown option `{unknown}`{hint(unknown, self._says)}"
            )
        if self.no_ack or on_declared is not None:
            what = "no_ack" if self.no_ack else "on_declared"
            raise NotSupportedError(
                f"`{what}` of queue `{name}` is not in this version: leave it out"
            )
        for flag in ("durable", "exclusive", "no_ack", "no_declare"):
            setattr(self, flag, bool(getattr(self, flag)))
        self.auto_delete = bool(self.auto_delete or self.exclusive)

    @classmethod
    def from_dict(cls, queue: str, **options: Any) -> Queue:
        """A queue from Celery's flat form: `exchange`, `exchange_type`, `routing_key` or `binding_key`,
        and options with the prefixes `exchange_` and `queue_`."""
        both = {key: options.pop(key, None) for key in ("durable", "auto_delete")}
        exchange: dict[str, Any] = {}
        for key in ("durable", "auto_delete", "arguments"):
            value = options.pop(f"exchange_{key}", None)
            exchange[key] = both.get(key) if value is None else value
        for key in ("durable", "auto_delete"):
            value = options.pop(f"queue_{key}", None)
            options[key] = both[key] if value is None else value
        exchange["delivery_mode"] = options.pop("delivery_mode", None)
        kind = options.pop("exchange_type", None)
        given = {key: value for key, value in exchange.items() if value is not None}
        name = options.pop("exchange", None)
        routing_key = options.pop("routing_key", None)
        routing_key = options.pop("binding_key", None) or routing_key
        kept = {key: value for key, value in options.items() if value is not None}
        is_name = name is None or isinstance(name, str)
        to = Exchange(name or "", kind or "direct", **given) if is_name else name
        return cls(queue, to, routing_key or "", **kept)

    def __repr__(self) -> str:
        if self.bindings:
            return f"<Queue: {self.name} -> [{', '.join(map(str, self.bindings))}]>"
        return f"<Queue: {self.name} -> {self.exchange!r} -> {self.routing_key}>"


_QUEUE_DEFAULTS: dict[str, Any] = {
    "queue_arguments": None,
    "binding_arguments": None,
    "consumer_arguments": None,
    "durable": True,
    "exclusive": False,
    "auto_delete": False,
    "no_ack": False,
    "alias": None,
    "no_declare": False,
    "expires": None,
    "message_ttl": None,
    "max_length": None,
    "max_length_bytes": None,
    "max_priority": None,
}


class Broadcast(Queue):
    """A queue of which every worker has one of its own, so that a task published to it runs on all of
    them.

    Args:
        name: name of the exchange, by which tasks are routed to it.
        queue: name of the queue. Default: one that nobody else has.
        unique: the name of the queue is one that nobody else has, and begins with `queue`.
        auto_delete: it goes with its worker.
        exchange: another exchange than the fanout exchange `name`.
        alias: by what `-Q` and `task_routes` know it. Default: `name`.
    """

    is_broadcast = True

    def __init__(
        self,
        name: str | None = None,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Any = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        own = f"{queue or 'bcast'}.{uuid()}" if unique or not queue else queue
        to = Exchange(name or "", type="fanout") if exchange is None else exchange
        super().__init__(own, to, alias=alias or name, auto_delete=auto_delete, **options)


def worker_direct(hostname: str | Queue) -> Queue:
    """The queue of one worker's own, which it has with `worker_direct`; a queue is given back.

    Args:
        hostname: the name of the worker, as in `w1@example.com`.
    """
    if isinstance(hostname, Queue):
        return hostname
    return Queue(f"{hostname}.dq2", Exchange("C.dq2"), hostname)


def to_exchange(exchange: Any) -> Any:
    """An exchange of kombu's, or the name of a direct one, as one of ours; None stays None.

    Raises:
        TypeError: it is none of these.
    """
    if exchange is None or isinstance(exchange, Exchange):
        return exchange
    if isinstance(exchange, str):
        return Exchange(exchange)
    return Exchange(**_said(exchange, Exchange._says, "an exchange"))


def to_binding(found: Any) -> binding:
    """A binding of kombu's, or a dict with its names, as one of ours.

    Raises:
        TypeError: it is neither.
    """
    if isinstance(found, binding):
        return found
    return binding(**_said(found, binding._says, "a binding"))


def to_queue(queue: Any) -> Queue:
    """A queue of kombu's, its name, or a dict with its names, as one of ours.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(queue, Queue):
        return queue
    if isinstance(queue, str):
        return Queue(queue, Exchange(queue), queue)
    if is_mapping(queue):
        options = dict(queue)
        name = options.pop("name", None)
        if not name:
            raise TypeError(f"queue `{queue!r}` has no name")
        if "exchange_type" in options or "binding_key" in options:
            return Queue.from_dict(name, **options)
        return Queue(name, **options)
    said = _said(queue, Queue._says, "a queue")
    made = Queue(**said)
    if any(base.__name__ == "Broadcast" for base in type(queue).__mro__):
        made.is_broadcast = True
    return made


def _said(found: Any, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if is_mapping(found):
        return dict(found)
    if not hasattr(found, names[0]) or not hasattr(found, names[1]):
        raise TypeError(f"`{found!r}` is not {what}: expected one of taskcore.entity or of kombu")
    return {name: getattr(found, name) for name in names if hasattr(found, name)}
