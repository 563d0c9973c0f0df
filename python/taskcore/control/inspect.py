"""`app.control.inspect()`: asking workers what they hold and have done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from taskcore import current
from taskcore.control.replies import flatten_reply


class Inspect:
    """Asks workers; every method gives `{node name: reply}`, None when nobody answered, and the bare
    reply when one name is given as text.

    Args:
        destination: names of the workers that are asked; default: all.
        timeout: seconds without a reply after which the wait ends.
        callback: called with each reply as it comes.
        connection: not needed.
        app: default: the current app.
        limit: how many replies are enough.
        pattern: names of the workers that are asked, as a pattern.
        matcher: what the pattern is: `glob` or `pcre`.
    """

    app: Any = None

    def __init__(
        self,
        destination: Iterable[str] | str | None = None,
        timeout: float = 1.0,
        callback: Callable[[Any], object] | None = None,
        connection: Any = None,
        app: Any = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self.app = app or self.app or current.get_app()
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.connection = connection
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def ask(self, command: str, **arguments: Any) -> Any:
        """Asks for anything by its name, commands of the user's own among it."""
        replies = self.app.control.broadcast(
            command,
            arguments,
            self.destination,
            reply=True,
            timeout=self.timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        if not replies:
            return None
        by_node = flatten_reply(replies)
        if isinstance(self.destination, str) and not self.pattern:
            return by_node.get(self.destination)
        return by_node

    _request = ask

    def report(self) -> Any:
        """What is installed and set, as text for a bug report."""
        return self.ask("report")

    def clock(self) -> Any:
        """The logical clock."""
        return self.ask("clock")

    def active(self, safe: bool | None = None) -> Any:
        """Tasks that run; with `safe` their arguments as text."""
        return self.ask("active", safe=safe)

    def scheduled(self, safe: bool | None = None) -> Any:
        """Tasks that wait in a worker for their due time."""
        return self.ask("scheduled")

    def reserved(self, safe: bool | None = None) -> Any:
        """Tasks that wait in a worker for a slot or for their rate limit."""
        return self.ask("reserved")

    def stats(self) -> Any:
        """Figures of the worker."""
        return self.ask("stats")

    def revoked(self) -> Any:
        """Ids that are dropped when they come."""
        return self.ask("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """Names of tasks, with these attributes of each."""
        return self.ask("registered", taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def ping(self, destination: Iterable[str] | str | None = None) -> Any:
        """Whether they are there."""
        if destination:
            self.destination = destination
        return self.ask("ping")

    def health(self) -> Any:
        """Whether they are ready for tasks, and why not; taskcore's own."""
        return self.ask("health")

    def active_queues(self) -> Any:
        """Queues that are consumed from."""
        return self.ask("active_queues")

    def query_task(self, *ids: str | Iterable[str]) -> Any:
        """Where tasks are, and what is known of each; ids, or one list of them."""
        chosen = list(ids[0]) if len(ids) == 1 and isinstance(ids[0], (list, tuple)) else list(ids)
        return self.ask("query_task", ids=chosen)

    def conf(self, with_defaults: bool = False) -> Any:
        """Settings, without secrets; those that were set, or all."""
        return self.ask("conf", with_defaults=with_defaults)

    def hello(self, from_node: str, revoked: Any = None) -> Any:
        """What workers of Celery's ask each other at their start."""
        return self.ask("hello", from_node=from_node, revoked=revoked)

    def memsample(self) -> Any:
        """The memory of the worker's process now, as text."""
        return self.ask("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """The samples of memory so far, as text."""
        return self.ask("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """A graph of Python's objects, from workers of Celery's; those of taskcore refuse."""
        return self.ask("objgraph", num=n, max_depth=max_depth, type=type)
