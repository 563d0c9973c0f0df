"""A worker that runs in a thread of a program, for tests: without processes, signals of the
operating system, or loggers of its own."""

from __future__ import annotations

from typing import Any

from taskcore import _core
from taskcore.worker.boot import WorkerOptions, check_pool, configure
from taskcore.worker.commands import Commands
from taskcore.worker.controller import WorkController
from taskcore.worker.task_spec import make_task_spec


def make(node: WorkController, options: WorkerOptions) -> tuple[Any, list[str]]:
    """The core's worker of `node`, which has not started, and its queues.

    Raises:
        ImproperlyConfigured: a setting or option that can never work.
    """
    app = node.app
    app.import_modules()
    app.finalize()
    config = configure(app, options)
    check_pool(config)
    specs = [make_task_spec(task) for task in app.tasks.values()]
    worker = _core.Worker(config, specs, app.executor, zygote=None, program=Commands(node))
    node.attach(worker)
    return worker, config.queues
