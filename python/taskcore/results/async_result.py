"""The result of one task.

An AsyncResult is an id and an app, nothing else until it is asked; making one costs a fraction of
a microsecond, so `delay` can return it for every call. Waiting is by push in the core, without the
interpreter lock; no polling. What is final is kept, so that asking twice is free. Documents are
Celery's, hence every reader works with either worker.
"""

from __future__ import annotations

from time import monotonic

from taskcore import current, states
from taskcore.exceptions import NotSupportedError, TaskRevokedError
from taskcore.exceptions import TimeoutError as NotReady
from taskcore.typed import TYPE_CHECKING, Generic, R
from taskcore.utils import hint

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping
    from datetime import datetime
    from typing import Any, NoReturn

_GET_OPTIONS = frozenset(
    [
        "interval",
        "no_ack",
        "follow_parents",
        "callback",
        "on_message",
        "on_interval",
        "EXCEPTION_STATES",
        "PROPAGATE_STATES",
    ]
)
"""Options of `get` beside those that it names."""


class AsyncResult(Generic[R]):
    """The result of a task, now or later."""

    ignored = False
    """Whether the caller said that no result is wanted; `get` then returns None at once."""
    __slots__ = ("_document", "_reply_to", "app", "id", "parent")

    def __init__(
        self,
        id: str,
        app: Any = None,
        reply_to: str | None = None,
        parent: Any = None,
        *,
        backend: Any = None,
        task_name: str | None = None,
    ) -> None:
        """
        Args:
            backend, task_name: accepted for Celery's sake; the app knows its store, and the store
                the name.
            reply_to: the reply id that the task was published with, when this process published it.
        """
        self.id = id
        self.app = app
        self._reply_to = reply_to
        self.parent = parent
        self._document: dict[str, Any] | None = None

    # Waiting

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **options: Any,
    ) -> R:
        """Waits for the task and returns its value; None at once if no result was wanted.

        Args:
            timeout: seconds; default: for ever.
            propagate: raise what the task raised; otherwise return the exception.
            disable_sync_subtasks: False allows the call inside a task.
            options: `on_message` is called with the document of each state that is seen,
                `on_interval` every `interval` seconds (0.5), `callback` with id and value in the
                end. `no_ack` and `follow_parents` have no meaning here.
        Raises:
            TimeoutError: not ready in time.
            RuntimeError: called inside a task.
        """
        for key in options.keys() - _GET_OPTIONS:
            raise TypeError(f"unknown option `{key}` of get(){hint(key, _GET_OPTIONS)}")
        if self.ignored:
            return None  # type: ignore[return-value] # as the caller asked
        if disable_sync_subtasks:
            from taskcore.results.joining import assert_will_not_block

            assert_will_not_block()
        if self._document is None:
            watching = options.get("on_message") or options.get("on_interval")
            self._document = self._watch(timeout, options) if watching else self._wait(timeout)
        value: R = self._value(self._document, propagate)
        if callback := options.get("callback"):
            callback(self.id, value)
        return value

    wait = get

    def _wait(self, timeout: float | None) -> dict[str, Any]:
        results = self._app.backend
        document: dict[str, Any] = results.wait(self.id, timeout, self._is_foreign(results))
        return document

    def _is_foreign(self, results: Any) -> bool:
        """Whether nobody announces it on this process's own channel, as far as is known."""
        foreign = self._reply_to is None or self._reply_to != results.reply_to
        return foreign or self._app.conf.protocol == "celery"

    def _watch(self, timeout: float | None, options: Mapping[str, Any]) -> dict[str, Any]:
        """Waits in short steps and says what is seen in between."""
        on_message, on_interval = options.get("on_message"), options.get("on_interval")
        step = float(options.get("interval") or 0.5)
        end = None if timeout is None else monotonic() + timeout
        seen: Any = None
        while True:
            left = None if end is None else end - monotonic()
            try:
                document = self._wait(step if left is None else max(0.0, min(step, left)))
            except NotReady:
                if left is not None and left <= step:
                    raise
                document = self._read()
            if on_message and document != seen and document["status"] != states.PENDING:
                on_message(document)
            seen = document
            if document["status"] in states.READY_STATES:
                return document
            if on_interval:
                on_interval()

    def _value(self, document: dict[str, Any], propagate: bool) -> Any:
        status = document["status"]
        if status == states.SUCCESS:
            return document.get("result")
        exc = self._exception(document)
        if propagate and status in states.PROPAGATE_STATES:
            raise exc
        return exc

    def _exception(self, document: dict[str, Any]) -> BaseException:
        if document.get("result") is None and document["status"] == states.REVOKED:
            return TaskRevokedError("revoked")
        from taskcore.results.exception_codec import from_document

        exc = from_document(document.get("result"))
        if document.get("traceback"):
            exc.add_note("".join(("traceback in the worker:\n", document["traceback"])).rstrip())
        return exc

    def __await__(self) -> Generator[Any, None, R]:
        return self._awaited().__await__()

    async def _awaited(self) -> R:
        if self.ignored:
            return None  # type: ignore[return-value] # as the caller asked
        if self._document is None:
            from taskcore.results.awaiting import wait
            from taskcore.results.joining import assert_will_not_block

            assert_will_not_block()

            results = self._app.backend
            self._document = await wait(results, self.id, self._is_foreign(results))
        value: R = self._value(self._document, True)
        return value

    # Reading

    def _read(self) -> dict[str, Any]:
        if self._document is not None:
            return self._document
        document = self._app.backend.get([self.id])[0]
        if document is None:
            return {"status": states.PENDING, "result": None}
        if document["status"] in states.READY_STATES:
            self._document = document
        return dict(document)

    @property
    def _app(self) -> Any:
        return self.app or current.get_app()

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @property
    def backend(self) -> Any:
        """The app's results."""
        return self._app.backend

    @property
    def state(self) -> str:
        """PENDING (also: unknown), STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the
        task's own."""
        return str(self._read()["status"])

    status = state

    @property
    def result(self) -> Any:
        """The value; the exception of a task that failed; what `update_state` stored."""
        document = self._read()
        if document["status"] in states.EXCEPTION_STATES:
            return self._exception(document) if document.get("result") is not None else None
        return document.get("result")

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a task that failed, as text."""
        return self._read().get("traceback")

    @property
    def date_done(self) -> datetime | None:
        """When it ended."""
        text = self._read().get("date_done")
        if not isinstance(text, str):
            return text
        from datetime import datetime

        return datetime.fromisoformat(text)

    @property
    def children(self) -> list[AsyncResult[Any]] | None:
        """The tasks that it published."""
        children = self._read().get("children")
        return (
            None if children is None else [result_from_tuple(item, self.app) for item in children]
        )

    @property
    def name(self) -> str | None:
        """Name of the task; like the next ones only with `result_extended`."""
        return self._read().get("name")

    @property
    def args(self) -> Any:
        """Its positional arguments."""
        return self._read().get("args")

    @property
    def kwargs(self) -> Any:
        """Its keyword arguments."""
        return self._read().get("kwargs")

    @property
    def worker(self) -> str | None:
        """Where it ran."""
        return self._read().get("worker")

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        return self._read().get("retries")

    @property
    def queue(self) -> str | None:
        """The queue it came from."""
        return self._read().get("queue")

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether it has returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.state == states.FAILURE

    def maybe_throw(self, propagate: bool = True) -> Any:
        """Raises what the task raised, if it has."""
        document = self._read()
        if document["status"] in states.PROPAGATE_STATES:
            return self._value(document, propagate)
        return document.get("result")

    throw = maybe_reraise = maybe_throw

    def exists(self) -> bool:
        """Whether the store has anything about it; nothing tells an unknown id from a task that has
        not begun."""
        return self._document is not None or self._app.backend.get([self.id])[0] is not None

    # The tasks that it published

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, AsyncResult[Any]]]:
        """This result and, parent by parent, those of the tasks that were published, as (parent,
        result).

        Args:
            intermediate: go on where a task is not ready.
        Raises:
            RuntimeError: a task is not ready.
        """
        waiting: list[tuple[Any, AsyncResult[Any]]] = [(None, self)]
        while waiting:
            parent, node = waiting.pop(0)
            yield parent, node
            if node.ready():
                waiting.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise RuntimeError(
                    f"task `{node.id}` is not ready: wait for it, or pass intermediate=True"
                )

    def collect(
        self, intermediate: bool = False, **options: Any
    ) -> Iterator[tuple[AsyncResult[Any], Any]]:
        """Waits for this task and all that it published, one by one, as (result, value).

        Args:
            options: as for `get`.
        """
        waiting: list[AsyncResult[Any]] = [self]
        while waiting:
            node = waiting.pop(0)
            yield node, node.get(**options)
            waiting.extend(node.children or ())

    def get_leaf(self) -> Any:
        """The value of the last task in `collect`."""
        return list(value for _, value in self.collect())[-1]

    def as_list(self) -> list[str]:
        """The ids of this result and its parents."""
        return [self.id, *(self.parent.as_list() if self.parent is not None else ())]

    # Changing

    def forget(self) -> None:
        """Deletes the result from its store."""
        self._document = None
        self._app.backend.forget(self.id)

    def revoke(self, **options: Any) -> None:
        """Cancels the task while it is scheduled for later.

        Raises:
            NotSupportedError: it is not scheduled; this version cannot stop a task that is queued
                or runs.
        """
        if options or not self._app.cancel(self.id):
            raise NotSupportedError(
                f"cannot revoke task `{self.id}`: it is not scheduled for later, and this version cannot revoke "
                "a task that is queued or runs"
            )

    def as_tuple(self) -> Any:
        """The form that is stored: ids of this result and its parents."""
        return (self.id, self.parent and self.parent.as_tuple()), None

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
        return type(self), (self.id, None, None, self.parent)

    def __copy__(self) -> AsyncResult[R]:
        return type(self)(self.id, self.app, self._reply_to, self.parent)


class IgnoredResult(AsyncResult[R]):
    """The result of a task whose caller wants none."""

    ignored = True
    __slots__ = ()


def result_from_tuple(parts: Any, app: Any = None) -> AsyncResult[Any]:
    """A result from its stored form."""
    (id_, parent), _ = parts if not isinstance(parts, str) else ((parts, None), None)
    return AsyncResult(id_, app, None, result_from_tuple(parent, app) if parent else None)
