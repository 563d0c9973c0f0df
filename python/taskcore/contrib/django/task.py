"""Celery's name for the class of tasks of a Django project; here every task is one."""

from taskcore.task import Task as DjangoTask

__all__ = ["DjangoTask"]
