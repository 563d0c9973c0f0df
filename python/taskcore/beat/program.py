"""`taskcore beat`, and `app.Beat(...).run()`: a beat as a program."""

from __future__ import annotations

import logging
import os
import signal
from _thread import start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskcore.beat.service import Service
from taskcore.config.validators import redact


class Beat:
    """A beat.

    Args:
        app: whose tasks.
        max_interval: seconds to sleep at most.
        schedule: the file of schedulers that have one.
        scheduler: class of the scheduler, or its name.
        pidfile: a file that says the number of the process while it runs.
        quiet: no banner.
        set_up_logging: called before it starts.
    """

    Service = Service

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule: str | None = None,
        scheduler: Any = None,
        pidfile: str | None = None,
        quiet: bool = False,
        set_up_logging: Callable[[], object] | None = None,
    ) -> None:
        self.app = app
        self.pidfile = pidfile or app.conf["beat_pidfile"]
        self.quiet = quiet
        self._set_up_logging = set_up_logging
        self._options = {
            "max_interval": max_interval,
            "schedule_filename": schedule,
            "scheduler_cls": scheduler,
        }

    def run(self) -> None:
        """Runs until SIGTERM or SIGINT.

        Raises:
            ImproperlyConfigured: a setting that can never work.
            FileExistsError: the pidfile is of a process that runs.
        """
        self.app.import_modules()
        self.app.finalize()
        if self._set_up_logging is not None:
            self._set_up_logging()
        service = self.Service(self.app, **self._options)

        def stop(*_: object) -> None:
            # A handler runs in the middle of whatever the main thread does, perhaps of its wait for
            # `stop`, whose lock it would wait for in vain.
            start_new_thread(service.stop, ())

        before = signal.signal(signal.SIGTERM, stop)
        try:
            with _pid_in(self.pidfile):
                if not self.quiet:
                    print(self.banner(service), flush=True)
                service.start()
        finally:
            signal.signal(signal.SIGTERM, before)

    def banner(self, service: Any) -> str:
        """What is started."""
        scheduler = service.scheduler
        lines = [
            f"taskcore beat {os.getpid()}",
            f"  app          {self.app.main or type(self.app).__name__}",
            f"  broker       {redact(self.app.conf['broker_url'])}",
            f"  scheduler    {type(scheduler).__module__}:{type(scheduler).__name__}",
            scheduler.info,
            f"  entries      {len(scheduler.schedule)}",
        ]
        return "\n".join(line for line in lines if line)


@contextmanager
def _pid_in(path: str | None) -> Iterator[None]:
    """Has a file say the number of this process."""
    if path is None:
        yield
        return
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        if _runs(path):
            raise FileExistsError(
                f"pidfile `{path}` is of a process that runs: expected none; stop it, or name another file"
            ) from None
        logging.getLogger("taskcore.beat").warning(
            "pidfile `%s` is of a process that has ended: taken over", path
        )
        file = os.open(path, os.O_TRUNC | os.O_WRONLY)
    with os.fdopen(file, "w") as out:
        out.write(f"{os.getpid()}\n")
    try:
        yield
    finally:
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
