"""Looks at a state now and then: a camera, to be subclassed with what is done with the picture."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from taskcore.config.validators import rate_per_second
from taskcore.signals import Signal

logger = logging.getLogger(__name__)


class _Repeated(threading.Thread):
    """Calls something every so many seconds until it is cancelled."""

    def __init__(self, every: float, call: Callable[[], object]) -> None:
        super().__init__(daemon=True, name="taskcore-camera")
        self._every, self._call = every, call
        self._cancelled = threading.Event()

    def run(self) -> None:
        while not self._cancelled.wait(self._every):
            try:
                self._call()
            except Exception:
                logger.exception("a camera has failed, it goes on with the next picture")

    def cancel(self) -> None:
        self._cancelled.set()
        if threading.current_thread() is not self:
            self.join()


class Polaroid:
    """Takes pictures of a state. Subclass it and override `on_shutter`.

    Args:
        state: the state.
        freq: seconds between two pictures.
        maxrate: at most so many, as `10/m`; those in excess are not taken.
        cleanup_freq: seconds between two calls of `on_cleanup`.
    """

    timer: Any = None
    clear_after = False
    """Forget all that the picture has shown."""
    shutter_signal = Signal("shutter_signal")
    cleanup_signal = Signal("cleanup_signal")

    def __init__(
        self,
        state: Any,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        self.app = app
        self.state = state
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.timer = timer or self.timer
        self.logger = logger
        self.maxrate = rate_per_second(maxrate)
        self._next = 0.0
        self._threads: list[_Repeated] = []

    def on_shutter(self, state: Any) -> None:
        """What is done with a picture; no event counts meanwhile."""

    def on_cleanup(self) -> None:
        """What is done now and then with what the pictures have left."""

    def install(self) -> None:
        """Begins."""
        self._threads = [
            _Repeated(self.freq, self.capture),
            _Repeated(self.cleanup_freq, self.cleanup),
        ]
        for thread in self._threads:
            thread.start()

    def cancel(self) -> None:
        """Ends, with a last picture."""
        if not self._threads:
            return
        for thread in self._threads:
            thread.cancel()
        self._threads = []
        self.capture()

    def capture(self) -> None:
        """Takes a picture."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def shutter(self) -> None:
        """Takes a picture, unless there were too many."""
        now = time.monotonic()
        if self.maxrate is not None:
            if now < self._next:
                return
            self._next = now + 1 / self.maxrate
        self.shutter_signal.send(sender=self.state)
        self.on_shutter(self.state)

    def cleanup(self) -> None:
        """Cleans up."""
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.cancel()


def camera_class(name: str) -> Any:
    """The class of a camera, as `module.Class` or `module:Class`.

    Raises:
        ImportError, AttributeError: there is none.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def evcam(
    camera: Any,
    freq: float = 1.0,
    maxrate: str | float | None = None,
    app: Any = None,
    timer: Any = None,
    out: Any = None,
    **_: Any,
) -> None:
    """Runs a camera until it is interrupted.

    Args:
        camera: a class of cameras, or its name.
    """
    print(f"-> evcam: Taking snapshots with {camera} (every {freq} secs.)", file=out or sys.stdout)
    (out or sys.stdout).flush()
    state = app.events.State()
    make = camera_class(camera) if isinstance(camera, str) else camera
    with make(state, freq=freq, maxrate=maxrate, app=app, timer=timer):
        app.events.Receiver(app.connection_for_read(), handlers={"*": state.event}).capture()
