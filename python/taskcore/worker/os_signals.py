"""What the operating system's signals mean to a worker.

The first SIGTERM or SIGINT is a warm stop, the next a cold one, SIGQUIT is cold at once, and
SIGTERM too where the environment asks for it as Celery does (`REMAP_SIGTERM`). On a terminal each is
answered: what is awaited, and what one more does; the log has a line of the core's. SIGUSR1 writes what
every process is doing into the log. SIGHUP and SIGUSR2 have no meaning yet: they are ignored with
a line in the log. A SIGHUP that the end of the terminal sent is a warm stop.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from taskcore import signals
from taskcore.config.conf import sigterm_is_cold
from taskcore.execution import fork_guard
from taskcore.worker import log_setup, output
from taskcore.worker.controller import WorkController


class OsSignals:
    """Handles them while it is entered.

    Args:
        node: the worker of this process.
        worker: the core's worker.
        zygote: process id of the zygote; None for pools inside this process.
    """

    def __init__(self, node: WorkController, worker: Any, zygote: int | None) -> None:
        self.node = node
        self.worker = worker
        self.zygote = zygote
        self.exit_code = 0
        self._asked = 0
        self._terminal = next((fd for fd in (0, 1, 2) if _is_terminal(fd)), None)
        self._before: dict[int, Any] = {}
        self._soft: threading.Timer | None = None

    def __enter__(self) -> OsSignals:
        chosen: dict[str, Callable[[int, Any], None]] = {
            "SIGTERM": self._stop,
            "SIGINT": self._stop,
            "SIGQUIT": self._stop,
            "SIGHUP": self._hang_up,
            "SIGUSR1": self._dump,
            "SIGUSR2": self._ignore,
        }
        for name, handler in chosen.items():
            number = getattr(signal, name, None)
            # `nohup` asks to ignore SIGHUP. A shell script has what it starts with `&` ignore SIGINT and
            # SIGQUIT, which nobody asked for.
            if number is None or (name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                continue
            self._before[number] = signal.signal(number, handler)
        fork_guard.reset_in_forks({number: signal.getsignal(number) for number in self._before})
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._soft is not None:
            self._soft.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _frame: object) -> None:
        self._asked += 1
        cold = {getattr(signal, "SIGQUIT", None), signal.SIGTERM if sigterm_is_cold() else None}
        warm = self._asked == 1 and number not in cold
        soft = not warm and self._begin_soft_shutdown()
        if not warm:
            self._asked = max(self._asked, 2)
        name = signal.Signals(number).name
        if _is_terminal(2):
            answer = what_follows(self._asked, name, self.worker.stats())
            output.say(f"{self.node.hostname}: {answer}")
        self.worker.stop(warm or soft)
        signals.worker_shutting_down.send(
            self.node.hostname,
            sig=name,
            how="Warm" if warm else "Cold",
            exitcode=self.exit_code,
        )

    def _begin_soft_shutdown(self) -> bool:
        """Whether a cold stop waits for the tasks that run, as `worker_soft_shutdown_timeout` says; the
        stop follows by itself."""
        conf = self.node.app.conf
        seconds: float = conf["worker_soft_shutdown_timeout"]
        if self._soft is not None or not seconds:
            return False
        if not self.worker.stats()["active"] and not conf["worker_enable_soft_shutdown_on_idle"]:
            return False
        log_setup.logger.warning("the cold stop waits %s s for the tasks that run", seconds)
        self._soft = threading.Timer(seconds, self.worker.stop, (False,))
        self._soft.daemon = True
        self._soft.start()
        return True

    def _hang_up(self, number: int, frame: object) -> None:
        if self._terminal is not None and not _is_terminal(self._terminal):
            self._stop(number, frame)
        else:
            self._ignore(number, frame)

    def _ignore(self, number: int, _frame: object) -> None:
        log_setup.logger.warning(
            "%s is ignored: changed code or settings need another worker, and SIGTERM stops this one",
            signal.Signals(number).name,
        )

    def _dump(self, _number: int, _frame: object) -> None:
        figures = ", ".join(f"{name} {value}" for name, value in self.worker.stats().items())
        log_setup.logger.warning("stacks of this worker (%s)\n%s", figures, stacks())
        if self.zygote is not None:
            # It alone knows which of its children have not ended: another process may have their
            # number.
            os.kill(self.zygote, signal.SIGUSR1)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) > 0
    except (AttributeError, OSError):
        return False


def what_follows(asked: int, signal_name: str, stats: Mapping[str, Any]) -> str:
    """What a request to stop leads to, for whoever made it.

    Args:
        asked: the how many-th it is; from the second on it is cold.
        signal_name: which signal it was.
        stats: `Worker.stats()` of the moment before.
    """
    running = stats["active"]
    tasks = f"{running} running task{'' if running == 1 else 's'}"
    if asked > 2:
        return f"{signal_name}: already stopping cold, which takes some seconds"
    if asked == 2:
        return f"cold shutdown ({signal_name}): {tasks} will not finish"
    if running:
        return f"warm shutdown ({signal_name}): waiting for {tasks}; once more stops without them"
    if not stats["connected"]:
        return f"warm shutdown ({signal_name}): nothing runs, the broker is away"
    return f"warm shutdown ({signal_name}): nothing runs"


def stacks() -> str:
    """Where every thread of this process is, the newest call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        lines = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, ident)}:\n{lines}")
    return "".join(parts).rstrip("\n")
