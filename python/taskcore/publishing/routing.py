"""Where the messages of an app go, derived once per task and kept.

Most tasks go one way, which is part of what all of their messages share. A call that names a
queue, an exchange or a routing key of its own goes another way, which is kept by what it names. Only
routes that are functions are asked at each call.
"""

from __future__ import annotations

from taskcore.publishing.routes import KEYS, MapRoute, as_route
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from taskcore.publishing.routes import Router

_OF_TEMPLATES = frozenset(
    ["serializer", "priority", "compression", "time_limit", "soft_time_limit", "ignore_result"]
)
"""Options of a call that all messages of a task may share."""

_KEPT = 10_000
"""How many ways are kept."""


class Routing:
    """Routes for one app.

    Args:
        app: of which `amqp.router` and the defaults are.
    """

    def __init__(self, app: Any) -> None:
        self._app = app
        self._ways: dict[Any, dict[str, Any]] = {}
        self._static: bool | None = None

    def invalidate(self) -> None:
        """Drops what was derived from settings, tasks or queues that have changed."""
        self._ways = {}
        self._static = None

    @property
    def is_static(self) -> bool:
        """Whether no route is a function."""
        if self._static is None:
            self._static = self._router.is_static
        return self._static

    @property
    def _router(self) -> Router:
        router: Router = self._app.amqp.router
        return router

    def shared(self, target: Any, protocol: str) -> dict[str, Any]:
        """What routes say of all messages of a task, as far as that is known before it is called: its
        destination, and other fields of a template."""
        default = self._app.conf.default_queue(protocol)
        if not self.is_static:
            # Every call says where it goes; a template needs the name of a queue all the same.
            return {"queue": default}
        router, name = self._router, _name(target)
        own = of_task(target)
        routed = router.route(dict(own), name, task_type=_task(target), default=default)
        way = router.destination(routed, default).fields(router.queues, known=True)
        return {**way, **{key: routed[key] for key in _OF_TEMPLATES & routed.keys()}}

    def rest(self, target: Any) -> dict[str, Any]:
        """Options of a call that routes add to each call of a task."""
        if not self.is_static:
            return {}
        route = self._router.lookup_route(_name(target)) or {}
        left = route.keys() - _OF_TEMPLATES - set(KEYS)
        return {key: route[key] for key in left if route[key] is not None}

    def of_call(
        self,
        target: Any,
        options: Mapping[str, Any],
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        protocol: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Where one call goes, as fields of its message, and the options that routes add to it. No
        fields where it goes the way of all calls of its task.

        Raises:
            QueueNotFound: a queue is named that is not defined, and missing ones are not made.
            TypeError: a queue that is none.
        """
        if options.get("queue") == "":
            raise TypeError("queue is ``: expected the name of a queue")
        named = {key: options[key] for key in KEYS if options.get(key) is not None}
        if not self.is_static:
            return self._ask(target, options, arguments, protocol)
        if not named:
            return {}, self.rest(target)
        # An object may say more than its name.
        is_kept = all(isinstance(value, str) for value in named.values())
        key = (target, protocol, *named.items()) if is_kept else None
        way = self._ways.get(key)
        if way is None:
            way = self._way({**of_task(target), **named}, target, ((), {}), protocol)[0]
            if is_kept:
                if len(self._ways) >= _KEPT:
                    self._ways = {}
                self._ways[key] = way
        return way, self.rest(target)

    def _ask(
        self,
        target: Any,
        options: Mapping[str, Any],
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        protocol: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        own = {key: value for key, value in options.items() if value is not None}
        way, routed = self._way({**of_task(target), **own}, target, arguments, protocol)
        task = _task(target)
        rest = {
            key: value
            for key, value in routed.items()
            if key not in KEYS
            and value is not None
            and options.get(key) is None
            # What the task itself says wins.
            and (task is None or vars(task).get(key, getattr(type(task), key, None)) is None)
        }
        return way, rest

    def _way(
        self,
        options: dict[str, Any],
        target: Any,
        arguments: tuple[Sequence[Any], Mapping[str, Any]],
        protocol: str,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        router, default = self._router, self._app.conf.default_queue(protocol)
        args, kwargs = arguments
        routed = router.route(
            options, _name(target), args, dict(kwargs), task_type=_task(target), default=default
        )
        return router.destination(routed, default).fields(router.queues), routed

    def queue_of(self, name: str) -> str | None:
        """The name of the queue that a route names for a task."""
        for router in self._router.routes:
            route = router(name, (), {}, {}, task=None) if _is_asked(router) else None
            if route is not None:
                queue = as_route(route).get("queue")
                found: str | None = getattr(queue, "name", queue)
                return found
        return None


def _is_asked(router: Any) -> bool:
    return isinstance(router, MapRoute)


def of_task(target: Any) -> dict[str, Any]:
    """What a task itself says of where its messages go."""
    if isinstance(target, str):
        return {}
    found = {key: getattr(target, key, None) for key in KEYS}
    return {key: value for key, value in found.items() if value is not None}


def _task(target: Any) -> Any:
    return None if isinstance(target, str) else target


def _name(target: Any) -> str:
    return target if isinstance(target, str) else str(target.name)
