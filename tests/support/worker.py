"""A worker in a thread of this process."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskcore import _core
from taskcore.worker.boot import WorkerOptions, configure
from taskcore.worker.task_spec import make_task_spec


@contextmanager
def working(app: Any) -> Iterator[None]:
    """A worker of two threads for as long as it lasts."""
    app.finalize()
    config = configure(app, WorkerOptions(pool="threads", concurrency=2))
    worker = _core.Worker(
        config, [make_task_spec(task) for task in app.tasks.values()], app.executor
    )
    worker.start()
    try:
        yield
    finally:
        worker.stop()
        worker.wait()
