"""`app.control`: telling workers what to do.

Every method says a request to the workers that `destination` names, or that fit `pattern`, or to
all. Without `reply=True` nothing is waited for, and whether anybody heard is not known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taskcore import current
from taskcore.control import mailbox
from taskcore.control.inspect import Inspect

_CANCELLED = 100
"""Of more ids than these what is scheduled is dropped when it is due, instead of being looked for."""


class Control:
    """Tells workers what to do, and asks them.

    Args:
        app: the app whose broker is used.
    """

    def __init__(self, app: Any = None) -> None:
        self.app = current.get_app() if app is None else app

    @property
    def inspect(self) -> Callable[..., Inspect]:
        """Makes an `Inspect` of this app."""

        def make(*args: Any, **kwargs: Any) -> Inspect:
            return Inspect(*args, **{"app": self.app, **kwargs})

        return make

    def broadcast(
        self,
        command: str,
        arguments: dict[str, Any] | None = None,
        destination: Iterable[str] | str | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float = 1.0,
        limit: int | None = None,
        callback: Callable[[Any], object] | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra_kwargs: Any,
    ) -> list[dict[str, Any]] | None:
        """Says a command to workers.

        Args:
            command: its name.
            arguments: its arguments by name; `extra_kwargs` are more of them.
            destination: names of the workers that are meant; default: all.
            connection: not needed; and so `channel`.
            reply: wait for the replies.
            timeout: seconds without a reply after which the wait ends.
            limit: how many replies are enough; default: one of each that `destination` names.
            callback: called with each reply as it comes.
            pattern: names of the workers that are meant, as a pattern.
            matcher: what the pattern is: `glob` or `pcre`.

        Returns:
            The replies, `{node name: reply}` each; None without `reply`.

        Raises:
            OperationalError: the broker is away.
            NotSupportedError: it cannot say anything to all.
            ValueError: wrong names, or a matcher that does not exist.
        """
        if matcher not in (None, "glob", "pcre"):
            raise ValueError(f"matcher `{matcher}`, expected `glob` or `pcre`")
        request = mailbox.Request(
            command,
            {**(arguments or {}), **extra_kwargs},
            mailbox.names(destination),
            pattern,
            matcher or ("glob" if pattern else None),
        )
        if not reply:
            mailbox.tell(self.app, request)
            return None
        return mailbox.ask(self.app, request, mailbox.Wanted(timeout, limit, callback))

    def purge(self, connection: Any = None) -> int:
        """Drops what waits in the queues that the app's workers serve; how many."""
        return sum(self.app.publisher.purge(name) for name in self.app.amqp.queues.consume_from)

    discard_all = purge

    def ping(
        self, destination: Iterable[str] | str | None = None, timeout: float = 1.0, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """Asks workers whether they are there: `[{node name: {"ok": "pong"}}]`."""
        return self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **kwargs) or []

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> None:
        """Has workers of Celery's elect one among them; those of taskcore take no part."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Iterable[str] | str | None = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """Has tasks dropped wherever they wait, and when they come, also by workers that start within
        `worker_revoke_expires`; what is scheduled for later in the broker is taken back at once.

        Args:
            task_id: an id, or several.
            destination: only these workers are told, and nothing is kept for others.
            terminate: also end those that run, with `signal`.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        kept = destination is None and not kwargs.get("pattern")
        arguments: dict[str, Any] = {
            "task_id": task_id if isinstance(task_id, str) else ids,
            "terminate": terminate,
            "signal": signal,
        }
        if kept and ids:
            self.app.publisher.revoke(ids, self.app.conf["worker_revoke_expires"])
            arguments["kept"] = True  # a worker that hears it need not keep it again
        replies = self.broadcast("revoke", arguments, destination, **kwargs)
        if kept and len(ids) <= _CANCELLED:
            for one in ids:
                self.app.cancel(one)
        return replies

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        destination: Iterable[str] | str | None = None,
        terminate: bool = False,
        signal: str | int = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """The same for tasks that carry one of these stamps: names, and one value or several. A task
        that is scheduled in the broker is dropped when it is due."""
        plain = {
            name: list(value) if isinstance(value, (set, frozenset, tuple)) else value
            for name, value in headers.items()
        }
        arguments = {"headers": plain, "terminate": terminate, "signal": signal}
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **kwargs)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Iterable[str] | str | None = None,
        signal: str | int = "SIGTERM",
        **kwargs: Any,
    ) -> Any:
        """As `revoke` with `terminate=True`."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **kwargs)

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float | None,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Changes how many executions of a task may begin: `10/s`, `100/m`, `5/h`, a number per
        second; 0 or None is without limit. For each worker."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **kwargs)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Changes the time limits of a task, in seconds, for executions that have not begun."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **kwargs)

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: dict[str, Any] | None = None,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Has workers consume from another queue."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **kwargs)

    def cancel_consumer(
        self, queue: str, destination: Iterable[str] | str | None = None, **kwargs: Any
    ) -> Any:
        """Has workers consume from a queue no longer."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **kwargs)

    def enable_events(self, destination: Iterable[str] | str | None = None, **kwargs: Any) -> Any:
        """Has workers send events of their tasks."""
        return self.broadcast("enable_events", {}, destination, **kwargs)

    def disable_events(self, destination: Iterable[str] | str | None = None, **kwargs: Any) -> Any:
        """Has workers send no events of their tasks."""
        return self.broadcast("disable_events", {}, destination, **kwargs)

    def heartbeat(self, destination: Iterable[str] | str | None = None, **kwargs: Any) -> Any:
        """Has workers send a heartbeat now."""
        return self.broadcast("heartbeat", {}, destination, **kwargs)

    def pool_grow(
        self, n: int = 1, destination: Iterable[str] | str | None = None, **kwargs: Any
    ) -> Any:
        """Has workers run so many more tasks at a time."""
        return self.broadcast("pool_grow", {"n": n}, destination, **kwargs)

    def pool_shrink(
        self, n: int = 1, destination: Iterable[str] | str | None = None, **kwargs: Any
    ) -> Any:
        """Has workers run so many fewer tasks at a time."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **kwargs)

    def pool_restart(
        self,
        modules: list[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Has workers of Celery's restart their pools; those of taskcore refuse."""
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **kwargs)

    def autoscale(
        self,
        max: int,
        min: int,
        destination: Iterable[str] | str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Changes the bounds of workers of Celery's that scale; those of taskcore refuse."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **kwargs)

    def shutdown(self, destination: Iterable[str] | str | None = None, **kwargs: Any) -> Any:
        """Stops workers: what runs may finish."""
        return self.broadcast("shutdown", {}, destination, **kwargs)
