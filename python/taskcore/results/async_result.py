"""The result of one task.

An AsyncResult is an id and an app, nothing else until it is asked; making one costs a fraction of
a microsecond, so `delay` can return it for every call. Waiting is by push in the core, without the
interpreter lock; no polling. What is read from the store is `stored_result`'s.
"""

from __future__ import annotations

from taskcore import current, exceptions
from taskcore.results import ResultBase
from taskcore.results.stored_result import StoredResult
from taskcore.typed import (
    TYPE_CHECKING,
    Any,
    Callable,
    Generator,
    Generic,
    Iterator,
    Mapping,
    NoReturn,
    R,
    later,
)
from taskcore.utils import hint

if TYPE_CHECKING:
    from taskcore.results.promise import Promise
    from taskcore.utils.graph import DependencyGraph, GraphFormatter
else:
    Promise = later("taskcore.results.promise", "Promise")
    DependencyGraph = later("taskcore.utils.graph", "DependencyGraph")
    GraphFormatter = later("taskcore.utils.graph", "GraphFormatter")

_GET_OPTIONS = frozenset(
    [
        "no_ack",
        "follow_parents",
        "callback",
        "on_message",
        "on_interval",
        "disable_sync_subtasks",
        "EXCEPTION_STATES",
        "PROPAGATE_STATES",
    ]
)
"""Options of `get` beside those that it names."""


def check_options(options: Mapping[str, Any]) -> None:
    """Refuses options that `get` does not have."""
    for key in options.keys() - _GET_OPTIONS:
        known = {*_GET_OPTIONS, "timeout", "propagate", "interval"}
        raise TypeError(f"unknown option `{key}` of get(){hint(key, known)}")


class AsyncResult(StoredResult, Generic[R]):
    """The result of a task, now or later."""

    TimeoutError = exceptions.TimeoutError
    """What `get` raises when the time has passed."""
    supports_native_join = True
    """Whether many are waited for at once."""
    __slots__ = ()

    # Waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        **options: Any,
    ) -> R:
        """Waits for the task and returns its value; None at once if no result was wanted.

        Args:
            timeout: seconds; default: for ever.
            propagate: raise what the task raised; otherwise return the exception.
            interval: seconds between two calls of `on_interval`.
            options: `disable_sync_subtasks=False` allows the call inside a task. `on_message` is
                called with the document of each state that is seen, `on_interval` every `interval`
                seconds, `callback` with id and value in the end. `follow_parents=False` waits on
                when a task before this one in its chain has failed. `no_ack` has no meaning here.
        Raises:
            TimeoutError: not ready in time.
            RuntimeError: called inside a task.
        """
        check_options(options)
        if self.ignored:
            return None  # type: ignore[return-value] # as the caller asked
        if options.get("disable_sync_subtasks", True):
            from taskcore.results.joining import assert_will_not_block

            assert_will_not_block()
        if self._document is None:
            watching = options.get("on_message") or options.get("on_interval")
            follows = self.parent is not None and propagate and options.get("follow_parents", True)
            if watching or follows:
                from taskcore.results import arrivals

                waiting = arrivals.Waiting(timeout, interval, options)
                before = self._before() if follows else ()
                for _ in arrivals.arriving([self], waiting, before):
                    pass
            else:
                self._document = self._wait(timeout)
        value: R = self._value(self._document, propagate)
        if callback := options.get("callback"):
            callback(self.id, value)
        return value

    wait = get

    def _wait(self, timeout: float | None) -> dict[str, Any]:
        results = self.backend
        document: dict[str, Any] = results.wait(self.id, timeout, self._is_foreign(results))
        return document

    def _is_foreign(self, results: Any) -> bool:
        """Whether nobody announces it on this process's own channel, as far as is known."""
        foreign = self._reply_to is None or self._reply_to != results.reply_to
        return foreign or self._app.conf.protocol == "celery"

    async def aget(self, timeout: float | None = None) -> R:
        """As `await result`, for `timeout` seconds at most.

        Raises:
            TimeoutError: not ready in time; what else as `get`.
        """
        from asyncio import timeout as within

        try:
            async with within(timeout):
                return await self
        except TimeoutError:
            if self._document is not None:
                raise  # the task's own
            raise exceptions.TimeoutError(
                f"task `{self.id}` was not ready before the timeout; wait longer or look at its state"
            ) from None

    def __await__(self) -> Generator[Any, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        if self.ignored:
            return None  # type: ignore[return-value] # as the caller asked
        if self._document is None:
            from taskcore.results.awaiting import all_of
            from taskcore.results.joining import assert_will_not_block

            assert_will_not_block()
            await all_of([self], self._before())
        value: R = self._value(self._document, True)
        return value

    @property
    def children(self) -> list[AsyncResult[Any]] | None:
        """The tasks that it published."""
        children = self._read().get("children")
        return (
            None if children is None else [result_from_tuple(item, self.app) for item in children]
        )

    # When it has ended

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,
    ) -> Promise:
        """Has `callback` called with this result when the task has ended, however it did: now if
        it has, otherwise in a thread of the core's.

        Args:
            on_error: called with what `callback` raises, which is reported as unraisable otherwise.
            weak: do not keep this result alive for it.
        Returns:
            A promise of what `callback` returns, with a `then` of its own.
        """
        from taskcore.results.promise import when_ended

        return when_ended(self, [self], weak).then(callback, on_error)

    @property
    def on_ready(self) -> Promise:
        """The promise behind `then`: fulfilled with this result when the task has ended."""
        from taskcore.results.promise import when_ended

        return when_ended(self, [self], False)

    # The tasks that it published

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, AsyncResult[Any]]]:
        """This result and, parent by parent, those of the tasks that were published, as (parent,
        result).

        Args:
            intermediate: go on where a task is not ready.
        Raises:
            IncompleteStream: a task is not ready.
        """
        from collections import deque

        waiting: deque[tuple[Any, Any]] = deque([(None, self)])
        while waiting:
            parent, node = waiting.popleft()
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise exceptions.IncompleteStream(
                    f"task `{node.id}` is not ready: wait for it, or pass intermediate=True"
                )

    def collect(
        self, intermediate: bool = False, **options: Any
    ) -> Iterator[tuple[AsyncResult[Any], Any]]:
        """Waits for this task and all that it published, one by one, as (result, value).

        Args:
            options: as for `get`.
        """
        for _, node in self.iterdeps(intermediate):
            yield node, node.get(**options)

    def get_leaf(self) -> Any:
        """The value of the last task in `collect`."""
        return [value for _, value in self.collect()][-1]

    def build_graph(
        self, intermediate: bool = False, formatter: GraphFormatter | None = None
    ) -> DependencyGraph:
        """This result and those in `iterdeps` as a graph, whose `to_dot` writes it for Graphviz.

        Args:
            formatter: how to write it; default: Celery's shapes and colours.
        """
        from taskcore.utils.graph import DependencyGraph, GraphFormatter

        graph = DependencyGraph(formatter=formatter or GraphFormatter(root=self.id, shape="oval"))
        for parent, node in self.iterdeps(intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """`build_graph()`."""
        return self.build_graph()

    # Changing

    def forget(self) -> None:
        """Deletes the result, and those of the tasks before it in its chain, from their store."""
        node: Any = self
        while isinstance(node, AsyncResult):
            node._document = None
            node.backend.forget(node.id)
            node = node.parent
        if node is not None:
            node.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Has the task dropped wherever it waits, and when it comes; see `Control.revoke`.

        Args:
            connection: not needed.
            terminate: also end it if it runs, with `signal`; default: SIGTERM.
            wait: wait for the workers to answer, up to `timeout` seconds; default: 1.
        """
        self._app.control.revoke(
            self.id,
            terminate=terminate,
            signal=signal or "SIGTERM",
            reply=wait,
            timeout=1.0 if timeout is None else timeout,
        )

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Has all tasks dropped that carry one of these stamps; arguments as of `revoke`."""
        self._app.control.revoke_by_stamped_headers(
            headers,
            terminate=terminate,
            signal=signal or "SIGTERM",
            reply=wait,
            timeout=1.0 if timeout is None else timeout,
        )

    def as_list(self) -> list[str]:
        """The ids of this result and its parents."""
        return [node.id for node in self._lineage()]

    def as_tuple(self) -> Any:
        """The form that is stored: ids of this result and its parents."""
        # From the first parent on, because a chain may be longer than Python's stack is deep.
        stored: Any = None
        for node in reversed(list(self._lineage())):
            members = [one.as_tuple() for one in node] if hasattr(node, "ids") else None
            stored = (node.id, stored), members
        return stored

    def _lineage(self) -> Iterator[Any]:
        node: Any = self
        while node is not None:
            yield node
            node = node.parent

    def __eq__(self, other: object) -> bool:
        return other.id == self.id if isinstance(other, AsyncResult) else other == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __getattr__(self, name: str) -> NoReturn:
        from taskcore import unsupported

        raise unsupported.attribute_error(self, name, unsupported.RESULT)

    def __reduce__(self) -> Any:
        return _restored, (type(self), self.id, self.parent)

    def __copy__(self) -> AsyncResult[R]:
        parent, backend = self.parent, self._store
        return type(self)(self.id, backend, None, self.app, parent, self._reply_to)


def _restored(kind: type[AsyncResult[Any]], id: str, parent: Any) -> AsyncResult[Any]:
    """A result that was pickled; it belongs to the current app of the process that reads it."""
    return kind(id, parent=parent)


class IgnoredResult(AsyncResult[R]):
    """The result of a task whose caller wants none."""

    is_ignored = True
    __slots__ = ()


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """A result from its stored form, or from its id: an AsyncResult, or a GroupResult.

    Args:
        app: default: the current one.
    """
    lineage = []
    while r is not None and not isinstance(r, ResultBase):
        ids, members = (r, None) if isinstance(r, str) else r
        id_, above = (ids, None) if isinstance(ids, str) else ids
        lineage.append((id_, members))
        r = above
    result: Any = r
    for id_, members in reversed(lineage):
        if members is None:
            result = AsyncResult(id_, app=app, parent=result)
        else:
            children = [result_from_tuple(one, app) for one in members]
            group = (app or current.get_app()).GroupResult
            result = group(id_, children, parent=result)
    return result
