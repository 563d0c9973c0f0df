"""`delay().get()` on an idle worker of two processes."""

from pathlib import Path
from typing import Any

import machine
from taskcore import Taskcore


def test_roundtrip(benchmark: Any, broker: str, tmp_path: Path) -> None:
    env = machine.environment(broker, TALLY_DIR=str(tmp_path))
    command = machine.ours("-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q")
    app = Taskcore("micro", broker_url=broker, result_backend=broker)
    task = app.task(lambda i: i, name="bench.noop_result")
    with machine.running(command, env, tmp_path / "log"):
        task.delay(1).get(timeout=30)
        benchmark(lambda: task.delay(1).get(timeout=30))
