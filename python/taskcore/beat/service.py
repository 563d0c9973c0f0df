"""The loop around a scheduler, as a program of its own or as a thread of a worker."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from taskcore import signals
from taskcore.beat.remote import Remote
from taskcore.beat.scheduler import logger
from taskcore.exceptions import ImproperlyConfigured
from taskcore.utils import symbol_by_name

ENTRY_POINTS = ("taskcore.beat_schedulers", "celery.beat_schedulers")
"""Where packages give their schedulers a short name."""


def scheduler_class(named: Any) -> Any:
    """The class of schedulers that a setting or an option names: `module:name`, `module.name`, or a
    short name of an entry point.

    Raises:
        ImproperlyConfigured: there is none of that name.
    """
    if not isinstance(named, str):
        return named
    name = f"taskcore.{named.removeprefix('celery.')}" if named.startswith("celery.") else named
    if "." not in name and ":" not in name:
        name = _short_names().get(name, name)
    try:
        return symbol_by_name(name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"beat_scheduler is `{named}`: expected a class, as `module:name` ({exc})"
        ) from exc


def _short_names() -> dict[str, str]:
    from importlib.metadata import entry_points

    return {
        point.name: point.value for group in ENTRY_POINTS for point in entry_points(group=group)
    }


class Service:
    """Runs a scheduler until it is told to stop.

    Args:
        app: whose tasks.
        max_interval: seconds to sleep at most.
        schedule_filename: the file of schedulers that have one.
        scheduler_cls: class of the scheduler, or its name; default: the setting `beat_scheduler`.
        remote_control: answer `ping`; default: the setting `beat_enable_remote_control`.
        hostname: the name to answer by; default: `celerybeat@` and the name of this machine.
    """

    scheduler_cls: Any = None
    """What a subclass has instead of the setting."""

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        self.app = app
        self.remote_control: bool = (
            app.conf["beat_enable_remote_control"] if remote_control is None else remote_control
        )
        self.hostname = hostname or f"celerybeat@{socket.gethostname()}"
        self.last_tick = time.monotonic()
        """When the scheduler ticked last; written by the loop, read by what answers `ping`."""
        self.effective_max_interval: float | None = None
        """Seconds between two ticks at most, once there is a scheduler."""
        self.max_interval = max_interval or app.conf["beat_max_loop_interval"]
        self.schedule_filename = schedule_filename or app.conf["beat_schedule_filename"]
        self.scheduler_cls = scheduler_cls or self.scheduler_cls or app.conf["beat_scheduler"]
        self._scheduler: Any = None
        self._is_shutdown = threading.Event()
        self._is_stopped = threading.Event()

    def get_scheduler(self, lazy: bool = False, **_: Any) -> Any:
        """A scheduler; with `lazy` one that has not read its schedule."""
        return scheduler_class(self.scheduler_cls)(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
        )

    @property
    def scheduler(self) -> Any:
        """The scheduler, made on first use."""
        if self._scheduler is None:
            self._scheduler = self.get_scheduler()
        return self._scheduler

    def start(self, embedded_process: bool = False) -> None:
        """Runs until `stop`.

        Args:
            embedded_process: it is part of a worker.
        """
        logger.info("beat: starting")
        scheduler = self.scheduler
        signals.beat_init.send(self)
        if embedded_process:
            signals.beat_embedded_init.send(self)
        self.effective_max_interval, self.last_tick = scheduler.max_interval, time.monotonic()
        remote = Remote(self, self.hostname) if self.remote_control else None
        if remote is not None:
            remote.start()
        try:
            while not self._is_shutdown.is_set():
                interval = scheduler.tick()
                self.last_tick = time.monotonic()
                if interval and interval > 0:
                    self._is_shutdown.wait(interval)
                if scheduler.should_sync():
                    scheduler._do_sync()
        except (KeyboardInterrupt, SystemExit):
            self._is_shutdown.set()
        finally:
            self.sync()
            if remote is not None:
                remote.stop()

    def sync(self) -> None:
        """Ends the scheduler."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None:
            scheduler.close()
        self._is_stopped.set()

    def stop(self, wait: bool = False) -> None:
        """Asks it to end; with `wait` until it has."""
        self._is_shutdown.set()
        if wait:
            self._is_stopped.wait()


class EmbeddedService(threading.Thread):
    """A beat as a thread of this process.

    Args:
        app: whose tasks.
        options: see `Service`. Celery's `thread` has no meaning here: it always is one.
    """

    def __init__(self, app: Any, max_interval: float | None = None, **options: Any) -> None:
        super().__init__(name="Beat", daemon=True)
        options.pop("thread", None)
        self.app = app
        self.service = Service(app, max_interval=max_interval, **options)

    def run(self) -> None:
        """The thread."""
        try:
            self.service.start(embedded_process=True)
        except Exception:
            logger.exception("the beat of this worker has ended: restart the worker")

    def stop(self) -> None:
        """Ends it, and waits for that."""
        self.service.stop()
        if self.is_alive():
            self.join()
