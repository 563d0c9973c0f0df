"""taskcore: a distributed task queue for Python with a Rust core.

    from taskcore import Taskcore

    app = Taskcore("proj")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    add.delay(2, 3).get()

Names, options and defaults are Celery's; `Celery` is another name of `Taskcore`.
"""

from __future__ import annotations

from sys import meta_path

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from taskcore import cli as cli
    from taskcore._core import __version__
    from taskcore.app import Celery, Taskcore, bugreport, current_app, current_task, shared_task
    from taskcore.canvas.chain import chain
    from taskcore.canvas.chord import chord
    from taskcore.canvas.group import group
    from taskcore.canvas.maps import chunks, xmap, xstarmap
    from taskcore.canvas.signature import Signature, maybe_signature, signature, subtask
    from taskcore.canvas.stamping import StampingVisitor
    from taskcore.result import AsyncResult, EagerResult, GroupResult, ResultSet
    from taskcore.task import Task
    from taskcore.utils import uuid

__all__ = [
    "Taskcore",
    "Celery",
    "shared_task",
    "Task",
    "Signature",
    "signature",
    "maybe_signature",
    "subtask",
    "chain",
    "group",
    "chord",
    "chunks",
    "xmap",
    "xstarmap",
    "StampingVisitor",
    "AsyncResult",
    "EagerResult",
    "GroupResult",
    "ResultSet",
    "bugreport",
    "current_app",
    "current_task",
    "uuid",
    "__version__",
]


_MODULES = {
    **dict.fromkeys(("Taskcore", "Celery"), "taskcore.app"),
    **dict.fromkeys(("shared_task", "current_app", "current_task", "bugreport"), "taskcore.app"),
    **dict.fromkeys(("Signature", "signature", "maybe_signature", "subtask"), "taskcore.canvas"),
    **dict.fromkeys(("chain", "group", "chord", "chunks"), "taskcore.canvas"),
    **dict.fromkeys(("xmap", "xstarmap", "StampingVisitor"), "taskcore.canvas"),
    **dict.fromkeys(("AsyncResult", "EagerResult", "GroupResult", "ResultSet"), "taskcore.result"),
    "Task": "taskcore.task",
    "uuid": "taskcore.utils",
    "__version__": "taskcore._core",
}
"""Where each name is; it is imported when it is first asked for, so that a program pays for what
it uses."""

_PARTS = frozenset(
    [
        "_core",
        "app",
        "beat",
        "canvas",
        "cli",
        "context",
        "current",
        "exceptions",
        "result",
        "schedules",
        "signals",
        "states",
        "testing",
        "unsupported",
        "utils",
    ]
)
"""Modules that are asked for as names of the package."""


def __getattr__(name: str) -> Any:
    # `importlib` would be one more module, and so would be what knows Celery's other names.
    if name in _PARTS:
        return __import__(f"{__name__}.{name}", fromlist=["*"])
    module = _MODULES.get(name)
    if module is None:
        raise __import__("taskcore.unsupported", fromlist=["*"]).import_error(__name__, name)
    value = globals()[name] = getattr(__import__(module, fromlist=["*"]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Missing:
    """Asked for modules that nobody else has found, to say what to do instead of Celery's."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name.startswith("taskcore."):
            __import__("taskcore.unsupported", fromlist=["*"]).check_module(name)


meta_path.append(_Missing)

# What this file needs, and nobody is to import from here.
del TYPE_CHECKING, annotations, meta_path
