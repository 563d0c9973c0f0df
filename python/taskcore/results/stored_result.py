"""What is known of one task: its document, as the store has it or had it when the task had ended.

What is final is kept, so that asking twice is free. Documents are Celery's, hence every reader
works with either worker.
"""

from __future__ import annotations

from taskcore import current, exceptions, states
from taskcore.results import ResultBase
from taskcore.typed import Any, Callable, datetime


class StoredResult(ResultBase):
    """The result of a task as far as its store tells."""

    is_ignored = False
    """Whether results of this class are `ignored` when they are made."""
    __slots__ = (
        "__weakref__",
        "_document",
        "_given",
        "_reply_to",
        "app",
        "id",
        "parent",
    )

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: Any = None,
        parent: Any = None,
        reply_to: str | None = None,
    ) -> None:
        """
        Args:
            backend: where to look; default: the app's results.
            task_name: accepted for Celery's sake; the store knows the name.
            app: default: the current one.
            parent: the result of what came before, in a chain.
            reply_to: the reply id that the task was published with, when this process published it.
        Raises:
            TypeError: an app as `backend`.
            ValueError: no id.
        """
        if id is None:
            raise ValueError("the id of a result is `None`: expected the id of a task")
        self.id = id
        self.app = app
        self._reply_to = reply_to
        self.parent = parent
        self._given: dict[str, Any] | None = None
        """What few results have: `backend` and `ignored`, where they were set."""
        if backend is not None:
            if hasattr(backend, "tasks"):
                raise TypeError(
                    f"backend of result `{id}` is the app `{backend!r}`: expected a result store; pass `app=`"
                )
            self._given = {"backend": backend}
        self._document: dict[str, Any] | None = None

    # The document

    def _read(self) -> dict[str, Any]:
        if self._document is not None:
            return self._document
        document = self.backend.get([self.id])[0]
        if document is None:
            return {"status": states.PENDING, "result": None}
        if document["status"] in states.READY_STATES:
            self._document = document
        return dict(document)

    def _get_task_meta(self) -> dict[str, Any]:
        """The document with the exception itself in its place."""
        document = self._read()
        if document["status"] in states.EXCEPTION_STATES:
            return {**document, "result": self.result}
        return document

    @property
    def _app(self) -> Any:
        return self.app or current.get_app()

    @property
    def task_id(self) -> str:
        """The id."""
        return self.id

    @task_id.setter
    def task_id(self, task_id: str) -> None:
        self.id = task_id

    @property
    def backend(self) -> Any:
        """Where to look: the app's results, unless others were given."""
        store = self._store
        return self._app.backend if store is None else store

    @backend.setter
    def backend(self, backend: Any) -> None:
        self._given = {**(self._given or {}), "backend": backend}

    @property
    def _store(self) -> Any:
        return None if self._given is None else self._given.get("backend")

    @property
    def ignored(self) -> bool:
        """Whether the caller said that no result is wanted; `get` then returns None at once."""
        given = self._given
        return self.is_ignored if given is None else bool(given.get("ignored", self.is_ignored))

    @ignored.setter
    def ignored(self, ignored: bool) -> None:
        self._given = {**(self._given or {}), "ignored": ignored}

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

    def maybe_throw(
        self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None
    ) -> Any:
        """Raises what the task raised, if it has; otherwise gives what is stored.

        Args:
            propagate: False gives the exception.
            callback: called with the id and the value.
        """
        document = self._read()
        failed = document["status"] in states.PROPAGATE_STATES
        value = self._value(document, propagate) if failed else document.get("result")
        if callback is not None:
            callback(self.id, value)
        return value

    throw = maybe_reraise = maybe_throw

    def exists(self) -> bool:
        """Whether the store has anything about it; nothing tells an unknown id from a task that has
        not begun."""
        return self._document is not None or self.backend.get([self.id])[0] is not None

    # The exception

    def _value(self, document: Any, propagate: bool) -> Any:
        status = document["status"]
        if status == states.SUCCESS:
            return document.get("result")
        exc = self._exception(document)
        if propagate and status in states.PROPAGATE_STATES:
            raise exc
        return exc

    def _exception(self, document: dict[str, Any]) -> BaseException:
        if document.get("result") is None and document["status"] == states.REVOKED:
            return exceptions.TaskRevokedError("revoked")
        from taskcore.results.exception_codec import from_document

        exc = from_document(document.get("result"))
        if document.get("traceback"):
            exc.add_note("".join(("traceback in the worker:\n", document["traceback"])).rstrip())
        return exc
