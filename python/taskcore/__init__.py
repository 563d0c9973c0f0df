"""taskcore: a distributed task queue for Python with a Rust core.

    from taskcore import Taskcore

    app = Taskcore("proj")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(2, 3).get()

Names, options and defaults are Celery's; `Celery` is another name of `Taskcore`.
"""

from typing import NoReturn

from taskcore import unsupported
from taskcore._core import __version__
from taskcore.app import Taskcore
from taskcore.app.shared import current_app, current_task, shared_task
from taskcore.canvas import Signature, maybe_signature, signature, subtask
from taskcore.result import AsyncResult, EagerResult, ResultSet
from taskcore.task import Task
from taskcore.utils import uuid

Celery = Taskcore

__all__ = [
    "Taskcore",
    "Celery",
    "shared_task",
    "Task",
    "Signature",
    "signature",
    "maybe_signature",
    "subtask",
    "AsyncResult",
    "EagerResult",
    "ResultSet",
    "current_app",
    "current_task",
    "uuid",
    "__version__",
]


def __getattr__(name: str) -> NoReturn:
    raise unsupported.import_error(__name__, name)
