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
from taskcore.config.conf import no_color
from taskcore.exceptions import ImproperlyConfigured
from taskcore.utils.log import task_logger
from taskcore.worker import output

logger = logging.getLogger("taskcore.worker")

# The core's own lines look the same.
_FORMAT = "[%(asctime)s: %(levelname)s/%(processName)s] %(task)s%(message)s"
_COLOURS = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}
"""What a terminal is told in front of a record of each level."""


class TaskFormatter(logging.Formatter):
    """Puts the process, and name and id of the running task, in front of the message.

    Args:
        conf: the formats that the configuration names are written instead.
    """

    def __init__(self, conf: Any = None) -> None:
        said = (
            dict.fromkeys(_SETTINGS) if conf is None else {name: conf[name] for name in _SETTINGS}
        )
        super().__init__(said["worker_log_format"] or _FORMAT, said["worker_log_datefmt"])
        self._of_tasks = logging.Formatter(
            said["worker_task_log_format"] or said["worker_log_format"] or _FORMAT,
            said["worker_task_log_datefmt"] or said["worker_log_datefmt"],
        )
        self._coloured = bool(said["worker_log_color"]) and not no_color()
        self.main = os.getpid()

    def format(self, record: logging.LogRecord) -> str:
        request = context.get_parent_request()
        if record.process != self.main:
            record.processName = f"Child-{record.process}"
        record.task = f"{request.task}[{request.id}]: " if request is not None else ""
        named = ("???", "???") if request is None else (request.task, request.id)
        record.task_name, record.task_id = named
        text = self._of_tasks.format(record) if _is_of_tasks(record) else super().format(record)
        colour = _COLOURS.get(record.levelname)
        return f"\033[{colour}m{text}\033[0m" if self._coloured and colour else text


_SETTINGS = (
    "worker_log_format",
    "worker_log_datefmt",
    "worker_task_log_format",
    "worker_task_log_datefmt",
    "worker_log_color",
)


def _is_of_tasks(record: logging.LogRecord) -> bool:
    found: logging.Logger | None = logging.getLogger(record.name)
    return found is task_logger or (found is not None and found.parent is task_logger)


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
    told = {
        "loglevel": level,
        "logfile": path,
        "format": app.conf["worker_log_format"] or _FORMAT,
        "colorize": bool(app.conf["worker_log_color"]) and not no_color(),
    }
    if signals.setup_logging.send(app, **told):
        return
    hijack: bool | None = app.conf["worker_hijack_root_logger"]
    if logging.root.handlers and not hijack:
        return
    handler: logging.Handler = (
        output.LogFileHandler(path, delay=True) if path else logging.StreamHandler()
    )
    handler.setFormatter(TaskFormatter(app.conf))
    chosen = logging.getLogger("taskcore") if hijack is False else logging.root
    chosen.handlers = [handler]
    chosen.setLevel(level)
    signals.after_setup_logger.send(app, logger=chosen, **told)
    told["format"] = app.conf["worker_task_log_format"] or told["format"]
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
