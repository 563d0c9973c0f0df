"""The base class of tasks and the class of `self.request`, under the module name that Celery gives
them."""

from taskcore.context import Context
from taskcore.task import Task

__all__ = ["Context", "Task"]
