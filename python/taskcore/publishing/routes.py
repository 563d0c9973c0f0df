"""Where a task goes: `task_routes`, the options of the task and of the call, and the queues.

Owns Celery's precedence. What a call says wins over what the task says, that over the first route
that matches, that over the defaults. A queue that routes directly receives by its name; of any other,
and where a call names both exchange and routing key, the exchange decides.

Routes may be functions. Then nothing about a task's destination holds for all of its calls, and each
call asks.
"""

from __future__ import annotations

from taskcore.entity import to_queue
from taskcore.exceptions import ImproperlyConfigured
from taskcore.publishing.queues import Queues, bindings
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import is_mapping, symbol_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from taskcore.entity import Queue

KEYS = ("queue", "exchange", "routing_key", "exchange_type")
"""What says where a message goes, among the options of a call."""


class MapRoute:
    """A router made of a map, or of pairs, of task name or pattern to route.

    Full names come first, then patterns in their order.
    """

    def __init__(self, routes: Any) -> None:
        self.map: dict[str, Any] = {}
        self.patterns: dict[Any, Any] = {}
        for key, route in routes.items() if is_mapping(routes) else routes:
            if not isinstance(key, str):
                self.patterns[key] = route
            elif any(sign in key for sign in "*?["):
                from fnmatch import translate
                from re import compile as compiled

                self.patterns[compiled(translate(key))] = route
            else:
                self.map[key] = route

    def __call__(self, name: str, *_: Any, **__: Any) -> dict[str, Any] | None:
        if name in self.map:
            return as_route(self.map[name])
        for pattern, route in self.patterns.items():
            if pattern.match(name):
                return as_route(route)
        return None


def as_route(route: Any) -> dict[str, Any]:
    """A route as a dict; a text, or a queue, is the queue's."""
    if isinstance(route, str) or not is_mapping(route):
        return {"queue": route}
    return dict(route)


def prepare(routes: Any) -> list[Any]:
    """The routers of `task_routes`: maps, functions, and names of functions or of Celery 3's classes."""
    if routes is None:
        return []
    if not isinstance(routes, (list, tuple)) or (
        routes and all(is_pair(route) for route in routes)
    ):
        routes = (routes,)
    return [_router(route) for route in routes]


def is_pair(route: Any) -> bool:
    """Whether it is a pattern and its route, and not a router."""
    return (
        isinstance(route, (list, tuple))
        and len(route) == 2
        and (isinstance(route[0], str) or hasattr(route[0], "fullmatch"))
    )


def _router(route: Any) -> Any:
    if is_pair(route):
        return MapRoute([route])
    if is_mapping(route) or isinstance(route, (list, tuple)):
        return MapRoute(route)
    if isinstance(route, str):
        return _Named(route)
    return _Old(route) if hasattr(route, "route_for_task") else route


class _Old:
    """A router with Celery 3's method."""

    def __init__(self, router: Any) -> None:
        self._router = router

    def __call__(self, name: str, args: Any = None, kwargs: Any = None, *_: Any, **__: Any) -> Any:
        return self._router.route_for_task(name, args, kwargs)


class _Named:
    """A router by its dotted name, which is imported when the first task is routed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._router: Callable[..., Any] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._router is None:
            try:
                found = symbol_by_name(self.name)
            except (ImportError, AttributeError, ValueError) as exc:
                raise ImproperlyConfigured(
                    f"router `{self.name}` of task_routes cannot be imported: expected the dotted name of "
                    "a function"
                ) from exc
            if hasattr(found, "route_for_task"):
                found = _Old(found() if isinstance(found, type) else found)
            self._router = found
        return self._router(*args, **kwargs)


class Destination:
    """Where a message goes, and what is declared before.

    Args:
        exchange: its name; empty for the default one.
        routing_key: the name of the queue on the default exchange.
        queue: the queue that is meant.
        name: its name, or that of the exchange where there is none.
        kind: how the exchange routes.
    """

    __slots__ = ("exchange", "kind", "name", "queue", "routing_key")

    def __init__(
        self, exchange: str, routing_key: str, queue: Queue | None, name: str, kind: str
    ) -> None:
        self.exchange = exchange
        self.routing_key = routing_key
        self.queue = queue
        self.name = name
        self.kind = kind

    def declares(self, queues: Queues) -> list[Queue]:
        """The queues to declare: the one that is meant, and all that are bound to the exchange. What
        every worker has one of its own of is declared by workers alone."""
        meant = [] if self.queue is None else [self.queue]
        if self.exchange:
            meant += [queue for queue in queues.bound_to(self.exchange) if queue not in meant]
        return [queue for queue in meant if not queue.is_broadcast]

    def fields(self, queues: Queues, known: bool = False) -> dict[str, Any]:
        """The same as fields of a message.

        Args:
            known: leave out what is so by default; else it takes the place of a template's.
        """
        declares = self.declares(queues)
        plain = not self.exchange and all(is_plain(queue) for queue in declares)
        if plain and known:
            return {"queue": self.routing_key}
        return {
            "queue": self.name,
            "exchange": self.exchange,
            "routing_key": self.routing_key,
            "route": "" if plain else self.to_json(declares),
        }

    def to_json(self, declares: Sequence[Queue]) -> str:
        """How the core is told of the way."""
        import json

        return json.dumps(
            {"type": self.kind, "declares": [declaration(queue) for queue in declares]}
        )


class Router:
    """Routes calls of tasks; what `app.amqp.router` is.

    Args:
        routes: as `prepare` gives them.
        queues: those of the app.
        create_missing: kept for Celery's callers; the queues decide.
        app: of which the default queue is.
    """

    def __init__(
        self,
        routes: Sequence[Any] | None = None,
        queues: Queues | None = None,
        create_missing: bool = True,
        app: Any = None,
    ) -> None:
        self.routes = list(routes or ())
        self.queues = Queues() if queues is None else queues
        self.create_missing = create_missing
        self.app = app

    @property
    def is_static(self) -> bool:
        """Whether all calls of a task go the same way unless they say otherwise."""
        return all(isinstance(router, MapRoute) for router in self.routes)

    def route(
        self,
        options: dict[str, Any],
        name: str,
        args: Any = (),
        kwargs: Any = None,
        task_type: Any = None,
        default: str | None = None,
    ) -> dict[str, Any]:
        """The options of a call, completed by the first route that matches, or the default queue.

        Args:
            default: the queue where nothing names one. Default: `task_default_queue`.
        Raises:
            QueueNotFound: a queue is named that is not defined, and missing ones are not made.
        """
        options = self.expand_destination(options)
        if self.routes:
            route = self.lookup_route(name, args, kwargs or {}, options, task_type)
            if route:
                return _merged(self.expand_destination(route), options)
        if "queue" not in options:
            queue = default or self.app.conf["task_default_queue"]
            return _merged(self.expand_destination(queue), options)
        return options

    def expand_destination(self, route: Any) -> dict[str, Any]:
        """A route with its queue as an object."""
        options = as_route(route)
        if not options.get("queue"):
            options.pop("queue", None)
            return options
        queue = options["queue"]
        if isinstance(queue, str):
            try:
                options["queue"] = self.queues[queue]
            except KeyError as exc:
                raise self.queues.missing(queue) from exc
        else:
            options["queue"] = to_queue(queue)
        return options

    def lookup_route(
        self, name: str, args: Any = None, kwargs: Any = None, options: Any = None, task: Any = None
    ) -> dict[str, Any] | None:
        """What the first router says that knows the task."""
        for router in self.routes:
            route = router(name, args, kwargs, options, task=task)
            if route is not None:
                return as_route(route)
        return None

    def destination(self, options: Mapping[str, Any], default: str) -> Destination:
        """Where a call with these options, completed by `route`, goes.

        Args:
            default: the queue where nothing names one.
        """
        queue: Queue | None = options.get("queue")
        exchange, key = _name(options.get("exchange")), options.get("routing_key")
        if queue is None and exchange is None:
            queue = self.queues[default]
        own = None if queue is None else queue.exchange
        kind = options.get("exchange_type") or (own.type if own is not None else "direct")
        if (not exchange or not key) and kind == "direct" and queue is not None:
            return Destination("", queue.name, queue, queue.name, "direct")
        if exchange is None and queue is not None:
            exchange = (own.name if own is not None else "") or self.queues.default_exchange.name
            key = key or queue.routing_key or self.queues.default_routing_key
        exchange, key = exchange or "", key or ""
        name = queue.name if queue is not None else exchange or key
        return Destination(exchange, key, queue, name, self._kind(options, exchange, queue))

    def _kind(self, options: Mapping[str, Any], exchange: str, queue: Queue | None) -> str:
        """How an exchange routes: as it is declared, else as the call says."""
        known = [queue] if queue is not None else []
        for one in (*known, *self.queues.values()):
            for to, *_ in bindings(one):
                if to.name == exchange:
                    return str(to.type)
        given = options.get("exchange")
        return str(options.get("exchange_type") or getattr(given, "type", None) or "direct")


def _name(exchange: Any) -> str | None:
    name: str | None = getattr(exchange, "name", exchange)
    return name


def _merged(route: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {**route, **{key: value for key, value in options.items() if value is not None}}


def is_plain(queue: Queue) -> bool:
    """Whether a queue is what the core makes of its name alone."""
    own = queue.exchange
    return (
        own is not None
        and (own.name, own.type, queue.routing_key) == (queue.name, "direct", queue.name)
        and (own.durable, own.auto_delete, own.no_declare) == (True, False, False)
        and (queue.durable, queue.exclusive, queue.auto_delete) == (True, False, False)
        and not (own.arguments or queue.bindings or queue.no_declare or _arguments(queue))
    )


_LIMITS = {
    "expires": ("x-expires", 1000),
    "message_ttl": ("x-message-ttl", 1000),
    "max_length": ("x-max-length", 1),
    "max_length_bytes": ("x-max-length-bytes", 1),
    "max_priority": ("x-max-priority", 1),
}
"""Options of a queue that are arguments of its declaration, and what one unit of theirs is."""


def _arguments(queue: Queue) -> dict[str, Any]:
    limits = {
        name: int(getattr(queue, option) * unit)
        for option, (name, unit) in _LIMITS.items()
        if getattr(queue, option) is not None
    }
    return {**(queue.queue_arguments or {}), **limits}


def declaration(queue: Queue) -> dict[str, Any]:
    """A queue as the core declares it."""

    def exchange(to: Any) -> dict[str, Any]:
        return {
            "name": to.name,
            "type": to.type,
            "durable": bool(to.durable),
            "auto_delete": bool(to.auto_delete),
            "no_declare": bool(to.no_declare or to.passive),
            "arguments": dict(to.arguments or {}),
        }

    return {
        "name": queue.name,
        "durable": bool(queue.durable),
        "exclusive": bool(queue.exclusive),
        "auto_delete": bool(queue.auto_delete),
        "no_declare": bool(queue.no_declare),
        "arguments": _arguments(queue),
        "bindings": [
            {"exchange": exchange(to), "routing_key": key or "", "arguments": dict(arguments or {})}
            for to, key, arguments in bindings(queue)
        ],
    }
