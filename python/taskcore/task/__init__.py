"""Tasks: the class, its options, and how a call is published again."""

from taskcore.task.task import Task

__all__ = ["Task"]
