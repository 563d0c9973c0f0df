"""Helpers for tests of programs that use taskcore.

`memory_app` makes an app whose broker and results live in this process; `eager` runs tasks at the
call. Both are plain context managers, usable from any test framework; `celery_app`-style fixtures
are two lines around them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from taskcore import current
from taskcore.app import Taskcore
from taskcore.utils import uuid


@contextmanager
def memory_app(main: str = "tests", **settings: Any) -> Iterator[Taskcore]:
    """An app of its own, with a broker in memory that no other app shares; the current app while it
    lasts."""
    url = f"memory://{uuid()}"
    before = current.get_app_or_none()
    app = Taskcore(
        main,
        broker=settings.pop("broker_url", url),
        backend=settings.pop("result_backend", url),
        **settings,
    )
    try:
        yield app
    finally:
        app.close()
        current.set_app(before)


@contextmanager
def eager(app: Any, propagates: bool = True) -> Iterator[None]:
    """Runs the app's tasks at the call while it lasts; with `propagates`, exceptions are raised there."""
    before = {name: app.conf[name] for name in ("task_always_eager", "task_eager_propagates")}
    app.conf.update(task_always_eager=True, task_eager_propagates=propagates)
    try:
        yield
    finally:
        app.conf.update(before)
