"""The app: configuration, registry of tasks, shared tasks, discovery of modules; `celery.app` in
Celery."""

from typing import NoReturn

from taskcore import unsupported
from taskcore.app.base import Taskcore
from taskcore.app.shared import shared_task

Celery = Taskcore

__all__ = ["Celery", "Taskcore", "shared_task"]


def __getattr__(name: str) -> NoReturn:
    raise unsupported.import_error(__name__, name)
