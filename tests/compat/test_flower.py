"""Monitors of Celery's fleets that show a taskcore worker: Flower, and an exporter for Prometheus."""

import json
import re
import socket
import sys
import urllib.request
from collections.abc import Callable
from types import ModuleType
from typing import Any
from urllib.error import URLError

import pytest

from support.process import Process
from support.wait import until

WAIT = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def page(port: int, path: str) -> str:
    """A page, or nothing while there is none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=WAIT) as answer:
            text: str = answer.read().decode()
            return text
    except (URLError, ConnectionError):
        return ""


@pytest.fixture
def flower(mixed: Any) -> Callable[[str], str]:
    """Asks a Flower of this fleet for a page."""
    port = free_port()
    words = ["-m", "celery", "-A", "stock", "flower", f"--port={port}", "--address=127.0.0.1"]
    env = mixed.env | {"FLOWER_UNAUTHENTICATED_API": "true"}
    started = Process([sys.executable, *words], cwd=mixed.folder, env=env)
    mixed.processes.append(started)
    until(lambda: page(port, "/api/workers"), "Flower to answer")
    return lambda path: page(port, path)


def test_flower_shows_a_worker_and_its_tasks(
    mixed: Any, stock: ModuleType, flower: Callable[[str], str]
) -> None:
    mixed.taskcore_worker("-E", "-c", "1", "-n", "grown@here")

    def known() -> Any:
        return json.loads(flower("/api/workers?refresh=true") or "{}").get("grown@here")

    # What it has inspected.
    worker = until(lambda: (known() or {}).get("stats") and known(), "the worker to be inspected")
    assert worker["stats"]["pool"]["max-concurrency"] == 1
    assert [queue["name"] for queue in worker["active_queues"]] == ["celery"]
    assert "sample.add" in worker["registered"]
    assert json.loads(flower("/api/workers?status=true"))["grown@here"] is True

    done, failed = stock.add.delay(2, 3), stock.fail.delay("on purpose")
    assert done.get(timeout=WAIT) == 5

    def told(task_id: str, state: str) -> Any:
        tasks = json.loads(flower("/api/tasks") or "{}")
        return tasks.get(task_id, {}).get("state") == state and tasks[task_id]

    task = until(lambda: told(done.id, "SUCCESS"), "the task that succeeded")
    assert (task["name"], task["args"], task["result"], task["worker"]) == (
        "sample.add",
        "(2, 3)",
        "5",
        "grown@here",
    )
    task = until(lambda: told(failed.id, "FAILURE"), "the task that failed")
    assert task["exception"] == "ValueError('on purpose')"

    assert "grown@here" in flower("/workers")
    assert "sample.add" in flower("/tasks") or "tasks-table" in flower("/tasks")
    shown = flower(f"/task/{done.id}")
    assert "sample.add" in shown and "grown@here" in shown
    assert "grown@here" in flower("/worker/grown@here")

    metrics = flower("/metrics")
    assert 'flower_worker_online{worker="grown@here"} 1.0' in metrics
    total = 'flower_events_total{task="sample.add",type="task-succeeded",worker="grown@here"} 1.0'
    assert total in metrics


def test_an_exporter_counts_tasks(mixed: Any, stock: ModuleType) -> None:
    port = free_port()
    command = [sys.executable, "-m", "celery_prometheus_exporter", "--broker", mixed.broker]
    command += ["--addr", f"127.0.0.1:{port}", "--enable-events"]
    exporter = Process(command, cwd=mixed.folder, env=mixed.env)
    mixed.processes.append(exporter)
    until(lambda: page(port, "/metrics"), "the exporter to answer")
    mixed.taskcore_worker("-c", "1", "-n", "counted@here")
    # It asks for events of tasks by remote control, which the worker needs to have obeyed.
    until(lambda: "celery_workers 1.0" in page(port, "/metrics"), "the worker to be counted")

    def counted() -> bool:
        assert stock.add.delay(2, 3).get(timeout=WAIT) == 5
        counts = re.findall(r"celery_tasks_by_name{(.*)} (.*)", page(port, "/metrics"))
        labels = {'name="sample.add"', 'state="SUCCESS"'}
        return any(labels == set(said.split(",")) and float(count) > 0 for said, count in counts)

    until(counted, "a task to be counted")
