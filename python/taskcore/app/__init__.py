"""The app: configuration, registry of tasks, shared tasks, discovery of modules; `celery.app` in
Celery."""

from __future__ import annotations

from taskcore import current
from taskcore.app.base import Taskcore
from taskcore.app.shared import current_app, current_task, shared_task
from taskcore.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import NoReturn

Celery = Taskcore

__all__ = [
    "Celery",
    "Taskcore",
    "app_or_default",
    "bugreport",
    "current_app",
    "current_task",
    "shared_task",
]


def app_or_default(app: Any = None) -> Any:
    """The app itself, or the current one when there is none."""
    return current.get_app() if app is None else app


def bugreport(app: Any = None) -> str:
    """Versions, system and settings of an app, or of the current one, for a report of an error."""
    report: str = app_or_default(app).bugreport()
    return report


def __getattr__(name: str) -> NoReturn:
    from taskcore import unsupported

    raise unsupported.import_error(__name__, name)
