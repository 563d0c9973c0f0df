"""A file that says which process a program is, for those who stop it, and so that it runs once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def pid_in(
    path: str | None, logger: str, taken: type[Exception] = FileExistsError
) -> Iterator[None]:
    """Has a file say the number of this process for as long as it lasts.

    Args:
        path: None: there is none.
        logger: who says that the file of a process that has ended was taken over.
        taken: the error for a file of a process that runs.
    Raises:
        FileExistsError: or `taken`: the file is of a process that runs.
    """
    if path is None:
        yield
        return
    path = os.path.abspath(path)
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        if _runs(path):
            raise taken(
                f"pidfile `{path}` is of a process that runs: expected none; stop it, or name another file"
            ) from None
        text = "pidfile `%s` is of a process that has ended: taken over"
        logging.getLogger(logger).warning(text, path)
        file = os.open(path, os.O_TRUNC | os.O_WRONLY)
    with os.fdopen(file, "w") as out:
        out.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _runs(path: str) -> bool:
    try:
        with open(path) as file:
            pid = int(file.read())
        os.kill(pid, 0)
    except (ValueError, ProcessLookupError, FileNotFoundError):
        return False
    except PermissionError:
        return True  # of another user
    return pid != os.getpid()
