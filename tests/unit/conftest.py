"""Unit tests see a fake core; they need no extension, though they also run where it is installed."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from support import fake_core

if "taskcore._core" not in sys.modules:
    try:
        import taskcore._core  # noqa: F401
    except ImportError:
        for name in [name for name in sys.modules if name.split(".")[0] == "taskcore"]:
            del sys.modules[name]
        sys.modules["taskcore._core"] = fake_core  # type: ignore[assignment]


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The fake, wherever the Python layer would use the core."""
    from taskcore import serialize
    from taskcore.app import base, connections
    from taskcore.worker import boot

    for module in (base, connections, serialize, boot):
        monkeypatch.setattr(module, "_core", fake_core)
    monkeypatch.setattr(fake_core.Worker, "made", [])
    return fake_core


@pytest.fixture
def app(core: Any) -> Iterator[Any]:
    """An app with results, whose publisher and results are the fake's."""
    from taskcore import Taskcore, current

    before = current.get_app_or_none()
    yield Taskcore("proj", broker="memory://", backend="memory://")
    current.set_app(before)
