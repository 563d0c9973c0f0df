"""Events between stock Celery and taskcore, on one Redis: each sees the other's workers."""

import sys
import threading
from types import ModuleType
from typing import Any

import pytest

from support.process import Process

WAIT = 30


class StockMonitor:
    """Stock Celery's receiver and state, in a thread."""

    def __init__(self, stock: ModuleType) -> None:
        self.connection = stock.app.connection()
        self.state = stock.app.events.State()
        self.events: list[dict[str, Any]] = []
        self.came = threading.Condition()
        self.receiver = stock.app.events.Receiver(self.connection, handlers={"*": self.hear})
        self.thread = threading.Thread(target=self.listen, daemon=True)
        self.thread.start()

    def listen(self) -> None:
        try:
            self.receiver.capture(limit=None, timeout=None, wakeup=True)
        except Exception:
            if not self.receiver.should_stop:
                raise

    def hear(self, event: dict[str, Any]) -> None:
        self.state.event(event)
        with self.came:
            self.events.append(event)
            self.came.notify_all()

    def wait(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of this type with these fields."""

        def found() -> dict[str, Any] | None:
            for event in self.events:
                if event["type"] == kind and fields.items() <= event.items():
                    return event
            return None

        with self.came:
            assert self.came.wait_for(found, WAIT), f"no {kind} {fields} among {self.events}"
            return found() or {}

    def close(self) -> None:
        self.receiver.should_stop = True
        self.thread.join(WAIT)
        self.connection.release()


@pytest.fixture
def monitor(stock: ModuleType) -> Any:
    made = StockMonitor(stock)
    yield made
    made.close()


def test_a_stock_monitor_follows_a_taskcore_worker(
    mixed: Any, stock: ModuleType, monitor: Any
) -> None:
    worker = mixed.taskcore_worker("-E", "-c", "1", "-n", "watched@here")
    monitor.wait("worker-heartbeat", hostname="watched@here", sw_ident="taskcore", freq=2.0)
    sent = stock.add.delay(2, 3)
    assert sent.get(timeout=WAIT) == 5
    done = monitor.wait("task-succeeded", uuid=sent.id)
    assert done["result"] == "5" and 0 <= done["runtime"] < 10
    received = monitor.wait("task-received", uuid=sent.id)
    assert (received["name"], received["args"], received["kwargs"]) == (
        "sample.add",
        "(2, 3)",
        "{}",
    )
    assert (received["root_id"], received["parent_id"]) == (sent.id, None)
    monitor.wait("task-started", uuid=sent.id)
    failed = stock.fail.delay("on purpose")
    told = monitor.wait("task-failed", uuid=failed.id)
    assert told["exception"] == "ValueError('on purpose')" and "in fail" in told["traceback"]

    seen = monitor.state.tasks[sent.id]
    assert (seen.state, seen.name, seen.worker.hostname) == (
        "SUCCESS",
        "sample.add",
        "watched@here",
    )
    assert monitor.state.workers["watched@here"].alive
    worker.stop()
    monitor.wait("worker-offline", hostname="watched@here")


def test_celery_events_dump_shows_a_taskcore_worker(mixed: Any, stock: ModuleType) -> None:
    command = [sys.executable, "-m", "celery", "-A", "stock", "events", "--dump"]
    dump = Process(command, cwd=mixed.folder, env=mixed.env)
    mixed.processes.append(dump)
    dump.wait_for("starting capture")
    mixed.taskcore_worker("-E", "-n", "dumped@here")
    dump.wait_for(r"dumped@here .* heartbeat")
    sent = stock.add.delay(2, 3)
    dump.wait_for(rf"dumped@here .* task received: sample.add\({sent.id}\) args=\(2, 3\)")
    dump.wait_for(r"dumped@here .* task succeeded: .* result=5")


def test_without_the_option_tasks_are_not_told(mixed: Any, stock: ModuleType, monitor: Any) -> None:
    mixed.taskcore_worker("-n", "quiet@here")
    monitor.wait("worker-heartbeat", hostname="quiet@here")
    assert stock.add.delay(2, 3).get(timeout=WAIT) == 5
    processed = monitor.wait("worker-heartbeat", hostname="quiet@here", processed=1)
    assert processed["active"] == 0
    assert not [event for event in monitor.events if event["type"].startswith("task-")]


def test_without_heartbeat_a_worker_is_silent(mixed: Any, stock: ModuleType, monitor: Any) -> None:
    mixed.taskcore_worker("--without-heartbeat", "-n", "silent@here")
    mixed.taskcore_worker("-n", "loud@here")
    monitor.wait("worker-heartbeat", hostname="loud@here")
    assert stock.add.delay(2, 3).get(timeout=WAIT) == 5
    assert {event["hostname"] for event in monitor.events} == {"loud@here"}


def test_a_taskcore_monitor_follows_a_stock_worker(mixed: Any, stock: ModuleType) -> None:
    mixed.celery_worker("-E", "-c", "1", "-n", "stock@here")
    app = mixed.client()
    state = app.events.State()
    told: list[dict[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        state.event(event)
        told.append(event)
        if event["type"] == "task-succeeded":
            receiver.should_stop = True

    receiver = app.events.Receiver(app.connection(), handlers={"*": hear})
    sent = []
    for _ in receiver.itercapture(timeout=WAIT):
        # The heartbeat that was asked for comes before a task is sent.
        if told and not sent:
            sent.append(stock.add.delay(2, 3).id)
    task = state.tasks[sent[0]]
    assert (task.state, task.name, task.args, task.result) == (
        "SUCCESS",
        "sample.add",
        "(2, 3)",
        "5",
    )
    assert state.workers["stock@here"].sw_ident == "py-celery" and task.ready


def test_events_are_switched_by_a_stock_client(mixed: Any, stock: ModuleType, monitor: Any) -> None:
    mixed.taskcore_worker("-n", "switched@here")
    monitor.wait("worker-heartbeat", hostname="switched@here")
    ask = {"reply": True, "timeout": 5, "limit": 1}
    for _ in range(2):
        told = stock.app.control.enable_events(**ask)
        sent = stock.add.delay(2, 3)
        assert monitor.wait("task-succeeded", uuid=sent.id)["result"] == "5"
    assert told == [{"switched@here": {"ok": "task events already enabled"}}]
    told = stock.app.control.disable_events(**ask)
    assert told == [{"switched@here": {"ok": "task events disabled"}}]


def test_what_a_client_sends_is_told(mixed: Any, monitor: Any) -> None:
    mixed.taskcore_worker("-n", "any@here")
    monitor.wait("worker-heartbeat", hostname="any@here")
    client = mixed.client(task_send_sent_event=True)
    result = client.tasks["sample.add"].delay(2, y=3)
    sent = monitor.wait("task-sent", uuid=result.id)
    assert (sent["name"], sent["args"], sent["kwargs"]) == ("sample.add", "(2,)", "{'y': 3}")
    assert (sent["queue"], sent["routing_key"], sent["exchange"]) == ("celery", "celery", "")
    with client.events.default_dispatcher(hostname="me@here") as dispatcher:
        dispatcher.send("task-progress", uuid=result.id, done=3)
    assert monitor.wait("task-progress", hostname="me@here")["done"] == 3
    assert monitor.state.tasks[result.id].state == "PROGRESS"
