"""Apps for tests: a broker and results in memory that no other app shares, and what is current
put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from taskcore import current
from taskcore.app import Taskcore
from taskcore.utils import uuid

DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "accept_content": ["json", "msgpack"],
    "enable_utc": True,
    "timezone": "UTC",
}
"""Settings of the apps that `TestApp` makes, beside broker and results."""


class Trap:
    """Stands for the current app where a test must not use it: each look at it is an error."""

    def __getattr__(self, name: str) -> NoReturn:
        # Python itself, and pytest, look for these.
        if name == "_is_coroutine" or name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"the current app was asked for `{name}`: expected the app of the test to be named"
        )


class UnitLogging:
    """Accepted as `log=` for Celery's sake: the loggers of a test are left alone."""


def TestApp(  # noqa: N802 - Celery's name
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: object = UnitLogging,
    backend: str | None = None,
    broker: str | None = None,
    **options: Any,
) -> Taskcore:
    """An app for a test.

    Args:
        name: of its main module.
        config: settings, over `DEFAULT_TEST_CONFIG`.
        enable_logging, log: accepted; the loggers of a test are left alone.
        backend, broker: URLs; default: in memory, not shared with any other app.
        options: arguments of `Taskcore`, and settings.
    """
    url = f"memory://{uuid()}"
    settings = {"broker_url": url, "result_backend": url, **DEFAULT_TEST_CONFIG, **(config or {})}
    named = {"broker_url": broker, "result_backend": backend}
    settings |= {key: value for key, value in named.items() if value is not None}
    special = {
        key: options.pop(key)
        for key in ("include", "task_cls", "strict_typing", "config_source", "namespace")
        if key in options
    }
    app = Taskcore(name or "celery.tests", set_as_current=set_as_current, **special)
    app.conf.update({**settings, **options})
    return app


TestApp.__test__ = False  # type: ignore[attr-defined] # it is no test, for pytest


@contextmanager
def set_trap(app: Any) -> Iterator[None]:
    """While it lasts, whoever asks for the current app gets an error."""
    before = current.get_app_or_none()
    current.set_app(Trap())
    try:
        yield
    finally:
        current.set_app(before)


@contextmanager
def setup_default_app(app: Any, use_trap: bool = False) -> Iterator[None]:
    """Puts the current app back afterwards, and closes the connections of `app`.

    Args:
        use_trap: meanwhile there is none, and asking for it is an error.
    """
    before = current.get_app_or_none()
    if use_trap:
        current.set_app(Trap())
    try:
        yield
    finally:
        current.set_app(before)
        app.close()
