"""`taskcore beat`, and `app.Beat(...).run()`: a beat as a program."""

from __future__ import annotations

import os
import signal
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any

from taskcore.beat.service import Service
from taskcore.config.validators import redact
from taskcore.utils.pid_file import pid_in


class Beat:
    """A beat.

    Args:
        app: whose tasks.
        max_interval: seconds to sleep at most.
        schedule: the file of schedulers that have one.
        scheduler: class of the scheduler, or its name.
        pidfile: a file that says the number of the process while it runs.
        remote_control, hostname: see `Service`.
        quiet: no banner.
        set_up_logging: called before it starts.
        on_start: called when nothing can be wrong any more but the broker.
    """

    Service = Service

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule: str | None = None,
        scheduler: Any = None,
        pidfile: str | None = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
        quiet: bool = False,
        set_up_logging: Callable[[], object] | None = None,
        on_start: Callable[[], object] | None = None,
    ) -> None:
        self.app = app
        self.pidfile = pidfile or app.conf["beat_pidfile"]
        self.quiet = quiet
        self._set_up_logging = set_up_logging
        self._on_start = on_start
        self._options = {
            "max_interval": max_interval,
            "schedule_filename": schedule,
            "scheduler_cls": scheduler,
            "remote_control": remote_control,
            "hostname": hostname,
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
            with pid_in(self.pidfile, "taskcore.beat"):
                if not self.quiet:
                    print(self.banner(service), flush=True)
                if self._on_start is not None:
                    self._on_start()
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
