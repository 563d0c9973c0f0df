"""A beat of taskcore's sends to a stock worker what that can run."""

from typing import Any

import pytest

from support.beats import Beats


@pytest.mark.timeout(90)
def test_a_stock_worker_runs_what_a_beat_sends(mixed: Any) -> None:
    entry = {"task": "sample.log", "schedule": 1.0, "args": ["from beat"]}
    beats = Beats(mixed, {"tick": entry}, task_protocol=2)
    mixed.celery_worker()
    beats.start().wait_for("sent `tick`", count=2)
    assert mixed.wait_written(2)[:2] == ["from beat"] * 2
