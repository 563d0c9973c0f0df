"""Standard output and standard error of a worker's processes: what cannot be written is dropped,
and the task goes on.

A terminal that was stopped, a pipe that nobody reads or whose reader is gone, a full disk: none of
them is the fault of the task that prints, and none may block or fail it. A reader that is only
slow is waited for. The core's own log lines, which are many, leave by a thread of the core
instead.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, TextIO

_PATIENCE_MS = 1000
"""How long a write waits for a reader that takes nothing. While it goes on taking nothing, the
next ones do not wait."""


class Output(io.RawIOBase):
    """A file descriptor to which every write succeeds; what did not get through is counted and
    reported later.

    Args:
        fd: where to write.
        name: as of any file.
        owned: whether closing this closes `fd`.
    """

    def __init__(self, fd: int, name: str, owned: bool = False) -> None:
        self.name = name
        self._fd = fd
        self._owned = owned
        self._write, self._own = _writer(fd)
        self._room = select.poll()
        self._room.register(fd, select.POLLOUT)
        self._stuck = False
        self._dropped = 0
        self._why = ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    @property
    def direct(self) -> int:
        """For who writes without Python: the descriptor that does not block, where there is one."""
        return self._fd if self._own is None else self._own

    def isatty(self) -> bool:
        return os.isatty(self._fd)

    def write(self, data: Any, /) -> int:
        # What poll reports is room for so much. The rest is written by another call.
        chunk = bytes(memoryview(data)[: select.PIPE_BUF])
        if self._dropped and self._try(
            f"{self._dropped} bytes of output were dropped: {self._why}\n".encode()
        ):
            self._dropped = 0
        written = self._try(chunk)
        if not written:
            self._dropped += len(chunk)
        return written or len(chunk)

    def _try(self, chunk: bytes) -> int:
        """How much was written, 0 when nothing can be."""
        if not self._room.poll(0 if self._stuck else _PATIENCE_MS):
            self._stuck = True
            self._why = "nobody read them"
            return 0
        self._stuck = False
        try:
            return self._write(chunk)
        except OSError as exc:
            self._why = exc.strerror or type(exc).__name__
            return 0

    def close(self) -> None:
        if not self.closed:
            super().close()
            if self._own is not None:
                os.close(self._own)
            if self._owned:
                os.close(self._fd)


def _writer(fd: int) -> tuple[Callable[[bytes], int], int | None]:
    """What writes to `fd`, as far as possible without ever blocking, and the descriptor that it
    needs for that.

    Whoever else writes there may take the room between the question for it and the write. The
    descriptor itself cannot be made one that does not block, because other processes use it.
    """
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        own = os.dup(fd)
        send = socket.socket(fileno=own).send
        return lambda chunk: send(chunk, socket.MSG_DONTWAIT), None
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with contextlib.suppress(OSError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
            return lambda chunk: os.write(own, chunk), own
    return lambda chunk: os.write(fd, chunk), None


def stream(raw: Output, encoding: str = "utf-8", errors: str = "backslashreplace") -> TextIO:
    """A text file over `raw`. What tasks print must not wait in a buffer until their process ends."""
    text: Any = io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
    text.mode = "w"  # as of any file
    return text  # type: ignore[no-any-return]


def say(line: str) -> None:
    """Writes a line to standard error at once, also from a signal's handler that interrupted
    another write."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    if raw is None:
        print(line, file=sys.stderr)
    else:
        raw.write(f"{line}\n".encode())


class LogFileHandler(logging.FileHandler):
    """A handler of a log file that drops what the disk does not take."""

    def _open(self) -> Any:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        return stream(Output(fd, self.baseFilename, owned=True))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While it lasts, standard output and standard error of this process, and of those forked from
    it, never fail."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    guards = {name: _guard(file) for name, file in before.items()}
    try:
        _replace(before, guards)
        yield
    finally:
        _replace(guards, before)


def _guard(file: Any) -> Any:
    if not hasattr(select, "poll") or not isinstance(file, io.TextIOWrapper):
        return file
    try:
        raw = Output(file.fileno(), file.name)
    except (OSError, ValueError):
        return file  # it is no file of the system's
    file.flush()
    return stream(raw, file.encoding, file.errors or "strict")


def _replace(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Puts files in the place of others, also in the handlers that the user's logging made of them."""
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    for name, file in after.items():
        setattr(sys, name, file)
        for handler in handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before[name]:
                handler.setStream(file)
