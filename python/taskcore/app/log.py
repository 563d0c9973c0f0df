"""The formatter of Celery's that programs use in a logging configuration of their own."""

from __future__ import annotations

import logging
from typing import Any

from taskcore import context


class TaskFormatter(logging.Formatter):
    """Gives records `task_name` and `task_id` of the running task, `???` outside of one.

    Args:
        fmt: the format, such as `%(task_name)s[%(task_id)s] %(message)s`.
        use_color: accepted for Celery's sake; nothing is coloured.
        options: as of `logging.Formatter`.
    """

    def __init__(self, fmt: str | None = None, use_color: bool = True, **options: Any) -> None:
        super().__init__(fmt, **options)

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        request = context.get_parent_request()
        if request is not None:
            record.task_name, record.task_id = request.task, request.id
        else:
            record.__dict__.setdefault("task_name", "???")
            record.__dict__.setdefault("task_id", "???")
        return super().format(record)
