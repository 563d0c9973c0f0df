"""Where the records of task loggers go while a worker runs.

The core writes the worker's own lines, which no logger of Python's sees. This gives the root logger
one handler, so that what tasks log at the worker's level is seen, by whatever logger, each line with
the task that wrote it. With handlers of the user's on it, or a receiver of `setup_logging`, nothing
is done here, unless `worker_hijack_root_logger` asks for it; where that is False, only the loggers of
`taskcore` and `get_task_logger` are heard.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import Any

from taskcore import context, signals
from taskcore.exceptions import ImproperlyConfigured
from taskcore.utils.log import task_logger
from taskcore.worker import output

logger = logging.getLogger("taskcore.worker")

# The core's own lines look the same.
_FORMAT = "[%(asctime)s: %(levelname)s/%(where)s] %(task)s%(message)s"


class TaskFormatter(logging.Formatter):
    """Puts the process, and name and id of the running task, in front of the message."""

    def __init__(self) -> None:
        super().__init__(_FORMAT)
        self.main = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        request = context.get_parent_request()
        record.where = "MainProcess" if record.process == self.main else f"Child-{record.process}"
        record.task = f"{request.task}[{request.id}]: " if request is not None else ""
        return super().format(record)


def _check_file(path: str) -> None:
    try:
        open(path, "ab").close()
    except OSError as exc:
        raise ImproperlyConfigured(
            f"log file `{path}` cannot be written ({exc.strerror}): expected a file in a folder that exists and may be "
            "written; choose another path"
        ) from exc


def descriptor(path: str | None) -> int:
    """Where what writes without Python may write into the log."""
    if path is not None:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return raw.direct if isinstance(raw, output.Output) else 2


def set_up(app: Any, level: int, path: str | None) -> None:
    """Configures the loggers of this process and of those that will be forked from it.

    Raises:
        ImproperlyConfigured: the log file cannot be written.
    """
    if path is not None:
        _check_file(path)
    told = {"loglevel": level, "logfile": path, "format": _FORMAT, "colorize": False}
    if signals.setup_logging.send(app, **told):
        return
    hijack: bool | None = app.conf["worker_hijack_root_logger"]
    if logging.root.handlers and not hijack:
        return
    handler: logging.Handler = (
        output.LogFileHandler(path, delay=True) if path else logging.StreamHandler()
    )
    handler.setFormatter(TaskFormatter())
    chosen = logging.getLogger("taskcore") if hijack is False else logging.root
    chosen.handlers = [handler]
    chosen.setLevel(level)
    signals.after_setup_logger.send(app, logger=chosen, **told)
    signals.after_setup_task_logger.send(app, logger=task_logger, **told)


def path_of(pattern: str | None, node: str) -> str | None:
    """Where the log goes: `%p` is the node's name, `%n` and `%h` what is before and behind its `@`,
    `%d` the host's domain. Every process writes to one file, so `%i` and `%I`, which number files
    in Celery, are as for its main process."""
    name, _, host = node.partition("@")
    meant = {
        "p": node,
        "n": name,
        "h": host,
        "d": host.partition(".")[2],
        "i": "0",
        "I": "",
        "%": "%",
    }
    return pattern and re.sub("%(.)", lambda found: meant.get(found[1], found[0]), pattern)
