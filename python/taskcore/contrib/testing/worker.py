"""A worker in a thread of the process that tests, where coverage, patches and fixtures reach its
tasks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskcore import _core, signals
from taskcore.result import allow_join_result
from taskcore.signals import Signal
from taskcore.worker.boot import WorkerOptions, check_pool, configure, make_task_spec
from taskcore.worker.commands import Commands
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
    error: BaseException | None = None
    """What ended it; written by its thread, read by `start_worker`."""


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
        pool: `solo` or `threads`: tasks run in this process.
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
    app.import_modules()
    app.finalize()
    known = {key: value for key, value in options.items() if key in WorkerOptions._fields}
    chosen = WorkerOptions(concurrency=concurrency, pool=pool, **known)
    config = configure(app, chosen)
    check_pool(config)
    node = TestWorkController(app, config.hostname)
    specs = [make_task_spec(task) for task in app.tasks.values()]
    worker = _core.Worker(config, specs, app.executor, zygote=None, program=Commands(node))
    node.attach(worker)
    before, app.hostname = app.hostname, config.hostname
    ready = threading.Event()
    thread = threading.Thread(target=_run, args=(node, worker, ready), name="test worker")
    thread.daemon = True
    thread.start()
    ready.wait()
    try:
        if node.error is not None:
            raise node.error
        test_worker_started.send(app, worker=node, consumer=node)
        if perform_ping_check:
            with allow_join_result():
                answer = app.tasks[tasks.ping.name].apply_async(queue=config.queues[0])
                assert answer.get(timeout=ping_task_timeout) == "pong"
        yield node
    finally:
        worker.stop(True)
        thread.join(shutdown_timeout)
        app.hostname = before
        test_worker_stopped.send(app, worker=node)
        if thread.is_alive():
            worker.stop(False)
            raise RuntimeError(
                f"the worker of the test did not end within {shutdown_timeout} s: a task is still running"
            )


def _run(node: TestWorkController, worker: Any, ready: threading.Event) -> None:
    signals.worker_init.send(node)
    try:
        if worker.start():
            signals.worker_ready.send(node)
        ready.set()
        worker.wait()
        signals.worker_shutdown.send(node)
    except BaseException as exc:
        node.error = exc
    finally:
        ready.set()
