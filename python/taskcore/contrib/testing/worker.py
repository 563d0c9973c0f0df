"""A worker in a thread of the process that tests, where coverage, patches and fixtures reach its
tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskcore import signals
from taskcore.result import allow_join_result
from taskcore.signals import Signal
from taskcore.worker import threaded
from taskcore.worker.boot import WorkerOptions
from taskcore.worker.controller import WorkController

test_worker_starting = Signal("test_worker_starting")
"""Before a worker of a test is made. `sender` is its app."""
test_worker_started = Signal("test_worker_started")
"""A worker of a test consumes: worker, consumer (the same)."""
test_worker_stopped = Signal("test_worker_stopped")
"""A worker of a test has ended: worker."""


class TestWorkController(WorkController):
    """A worker of a test: `app`, `hostname`, and what may be asked of a worker."""

    __test__ = False  # it is no test, for pytest
    options = WorkerOptions()
    """How its worker is made."""
    shutdown_timeout = 10.0
    """Seconds for its end."""
    queues: list[str]
    _error: BaseException | None = None

    def start(self) -> None:
        """Makes the worker and has it consume.

        Raises:
            ImproperlyConfigured: a setting or option that can never work.
        """
        self._worker, self.queues = threaded.make(self, self.options)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="test worker")
        self._thread.daemon = True
        self._thread.start()
        ready.wait()
        if self._error is not None:
            raise self._error

    def reload(self, *args: Any, **kwargs: Any) -> None:
        """Learns of tasks that were defined after its start; arguments are accepted, as in Celery."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Ends the worker.

        Raises:
            RuntimeError: it did not end in time.
        """
        self._worker.stop(True)
        self._thread.join(self.shutdown_timeout)
        if self._thread.is_alive():
            self._worker.stop(False)
            raise RuntimeError(
                f"the worker of the test did not end within {self.shutdown_timeout} s: a task is still running"
            )

    def _run(self, ready: threading.Event) -> None:
        signals.worker_init.send(self)
        try:
            if self._worker.start():
                signals.worker_ready.send(self)
            ready.set()
            self._worker.wait()
            signals.worker_shutdown.send(self)
        except BaseException as exc:
            self._error = exc
        finally:
            ready.set()


@contextmanager
def start_worker(
    app: Any,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int | None = None,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **options: Any,
) -> Iterator[TestWorkController]:
    """Runs a worker while it lasts.

    Args:
        concurrency: tasks at the same time; with `pool="threads"`.
        pool: `threads`, or `solo`, which is one thread: tasks run in this process.
        loglevel, logfile: accepted; the loggers of a test are left alone.
        perform_ping_check: have it run a task first.
        ping_task_timeout: seconds for that.
        shutdown_timeout: seconds for its end.
        options: as fields of `WorkerOptions`: `queues`, `hostname`, ...; others of Celery's workers
            (`without_heartbeat`, ...) are accepted.
    Raises:
        ValueError: a pool that needs a process of its own.
        RuntimeError: it did not end in time.
    """
    if pool not in ("solo", "threads"):
        raise ValueError(f"pool is `{pool}`: expected `solo` or `threads`, which run in a test")
    test_worker_starting.send(app)
    if perform_ping_check:
        from taskcore.contrib.testing import tasks
    known = {key: value for key, value in options.items() if key in WorkerOptions._fields}
    # The pool `solo` runs tasks where it waits, which must be the main thread.
    concurrency = 1 if pool == "solo" else concurrency
    chosen = WorkerOptions(concurrency=concurrency, pool="threads", **known)
    node = TestWorkController(app, chosen.hostname or f"taskcore@{app.node}")
    node.options, node.shutdown_timeout = chosen, shutdown_timeout
    before, app.hostname = app.hostname, node.hostname
    node.start()
    try:
        test_worker_started.send(app, worker=node, consumer=node)
        if perform_ping_check:
            with allow_join_result():
                answer = app.tasks[tasks.ping.name].apply_async(queue=node.queues[0])
                assert answer.get(timeout=ping_task_timeout) == "pong"
        yield node
    finally:
        app.hostname = before
        try:
            node.stop()
        finally:
            test_worker_stopped.send(app, worker=node)
