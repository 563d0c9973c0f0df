"""What tasks print, as records of a logger, where `worker_redirect_stdouts` asks for it."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

logger = logging.getLogger("taskcore.redirected")


class RedirectedOutput(io.TextIOBase):
    """A text file whose lines are records.

    Args:
        level: of the records.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self._writing = threading.local()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str, /) -> int:
        # A handler that prints would come back here.
        if not getattr(self._writing, "now", False):
            self._writing.now = True
            try:
                for line in text.splitlines():
                    if line.strip():
                        logger.log(self.level, "%s", line.rstrip())
            finally:
                self._writing.now = False
        return len(text)


@contextmanager
def redirected(conf: Any) -> Iterator[None]:
    """While it lasts, standard output and standard error of this process, and of those forked from it,
    are records, where the configuration says so."""
    if not conf["worker_redirect_stdouts"]:
        yield
        return
    before = sys.stdout, sys.stderr
    level = logging.getLevelNamesMapping()[conf["worker_redirect_stdouts_level"]]
    sys.stdout = sys.stderr = RedirectedOutput(level)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
