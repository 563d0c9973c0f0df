"""A beat of taskcore's sends to a stock worker what that can run, and answers a stock client."""

import socket
from typing import Any

import celery
import pytest

from support.beats import Beats


@pytest.mark.timeout(90)
def test_a_stock_worker_runs_what_a_beat_sends(mixed: Any) -> None:
    entry = {"task": "sample.log", "schedule": 1.0, "args": ["from beat"]}
    beats = Beats(mixed, {"tick": entry}, task_protocol=2)
    mixed.celery_worker()
    beats.start().wait_for("sent `tick`", count=2)
    assert mixed.wait_written(2)[:2] == ["from beat"] * 2


@pytest.mark.timeout(90)
def test_stock_celery_pings_a_beat(mixed: Any) -> None:
    node = f"celerybeat@{socket.gethostname()}"
    beats = Beats(mixed, {}, task_protocol=2)
    beats.start("--enable-remote-control").wait_for("leads")
    app = celery.Celery("pinging", broker=mixed.broker, set_as_current=False)
    assert app.control.ping(destination=[node], timeout=5) == [{node: {"ok": "pong"}}]
    assert app.control.inspect(destination=[node], timeout=1).active() is None
