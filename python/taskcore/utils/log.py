"""Loggers for task modules, under Celery's names.

Only loggers are made here. The root logger, stdout and stderr belong to the user's program and are
left alone; what the worker itself prints is decided by the command line.
"""

import logging

task_logger = logging.getLogger("taskcore.task")
"""Parent of all task loggers."""


def get_logger(name: str) -> logging.Logger:
    """The logger `name`."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """The logger for a module of tasks; a child of `taskcore.task` unless it has a parent of its own.

    Args:
        name: usually `__name__`.
    Raises:
        RuntimeError: `name` is the name of the parent logger itself.
    """
    if name in (task_logger.name, "taskcore"):
        raise RuntimeError(
            f"logger name `{name}` is reserved: pass `__name__` of the module that logs"
        )
    logger = logging.getLogger(name)
    if logger.parent is logging.root:
        logger.parent = task_logger
    return logger
