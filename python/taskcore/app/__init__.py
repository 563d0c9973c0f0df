"""The app: configuration, registry of tasks, shared tasks, discovery of modules; `celery.app` in
Celery."""

from __future__ import annotations

from taskcore.app.base import Taskcore
from taskcore.app.shared import current_app, current_task, shared_task
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import NoReturn

Celery = Taskcore

__all__ = ["Celery", "Taskcore", "current_app", "current_task", "shared_task"]


def __getattr__(name: str) -> NoReturn:
    from taskcore import unsupported

    raise unsupported.import_error(__name__, name)
