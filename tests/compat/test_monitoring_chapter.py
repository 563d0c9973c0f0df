"""What Celery's guide does to monitor and steer workers does the same with only the import changed:
each program is run with both packages."""

import re
import sys
from types import ModuleType
from typing import Any

import pytest

from support.process import Process
from support.wait import until

WAIT = 30
PACKAGES = ("celery", "taskcore")

CAMERA = """
from pprint import pformat
from PACKAGE.events.snapshot import Polaroid

class DumpCam(Polaroid):
    clear_after = True

    def on_shutter(self, state):
        if not state.event_count:
            return
        print("Workers: {0}".format(pformat(state.workers, indent=4)), flush=True)
        print("Tasks: {0}".format(pformat(state.tasks, indent=4)), flush=True)
        print("Total: {0.event_count} events, {0.task_count} tasks".format(state), flush=True)
"""

CAMERA_PROGRAM = """
import os
from PACKAGE import Celery
from camera import DumpCam

def main(app, freq=1.0):
    state = app.events.State()
    with app.connection() as connection:
        recv = app.events.Receiver(connection, handlers={"*": state.event})
        with DumpCam(state, freq=freq):
            print("listens", flush=True)
            recv.capture(limit=None, timeout=None)

if __name__ == "__main__":
    app = Celery(broker=os.environ["STOCK_URL"])
    main(app, freq=0.2)
"""

ALL_EVENTS = """
import os
from PACKAGE import Celery

def my_monitor(app):
    state = app.events.State()

    def announce_failed_tasks(event):
        state.event(event)
        # The name of a task comes with its first event alone, and is kept by the state.
        task = state.tasks.get(event["uuid"])
        print("TASK FAILED: %s[%s] %s" % (task.name, task.uuid, task.info()), flush=True)

    with app.connection() as connection:
        recv = app.events.Receiver(connection, handlers={
            "task-failed": announce_failed_tasks,
            "*": state.event,
        })
        print("listens", flush=True)
        recv.capture(limit=None, timeout=None, wakeup=True)

if __name__ == "__main__":
    my_monitor(Celery(broker=os.environ["STOCK_URL"]))
"""

ONE_EVENT = """
import os
from PACKAGE import Celery

def my_monitor(app):
    state = app.events.State()

    def announce_failed_tasks(event):
        state.event(event)
        task = state.tasks.get(event["uuid"])
        print("TASK FAILED: [%s] %s" % (task.uuid, task.info(["exception"])), flush=True)

    with app.connection() as connection:
        recv = app.events.Receiver(connection, handlers={"task-failed": announce_failed_tasks})
        print("listens", flush=True)
        recv.capture(limit=None, timeout=None, wakeup=True)

if __name__ == "__main__":
    my_monitor(Celery(broker=os.environ["STOCK_URL"]))
"""

INSPECT = """
import os
from PACKAGE import Celery

app = Celery(broker=os.environ["STOCK_URL"], backend=os.environ["STOCK_URL"])
i = app.control.inspect()
one = app.control.inspect(["steered@here"])
some = app.control.inspect(["steered@here", "other@here"])
print("registered", any(name.startswith("sample.add") for name in i.registered()["steered@here"]))
print("active", one.active())
print("scheduled", some.scheduled())
print("reserved", i.reserved())
print("queues", [queue["name"] for queue in i.active_queues()["steered@here"]])
print("processes", len(i.stats()["steered@here"]["pool"]["processes"]))
print("ping", app.control.ping(timeout=1.0))
print("pinged", app.control.ping(["steered@here"], timeout=1.0))
print("rate", app.control.rate_limit("sample.add", "200/m", reply=True, timeout=1.0))
print("broadcast", app.control.broadcast(
    "rate_limit", arguments={"task_name": "sample.add", "rate_limit": "200/m"},
    reply=True, destination=["steered@here"], timeout=1.0))
print("limit", app.control.time_limit("sample.add", soft=60, hard=120, reply=True, timeout=1.0))
print("added", app.control.add_consumer("foo", reply=True, timeout=1.0))
print("now", sorted(queue["name"] for queue in i.active_queues()["steered@here"]))
print("cancelled", app.control.cancel_consumer("foo", reply=True, timeout=1.0))
print("events", app.control.enable_events(reply=True, timeout=1.0))
app.control.disable_events()
app.control.revoke("d9078da5-9915-40a0-bfa1-392c7bde42ed")
app.control.revoke("d9078da5-9915-40a0-bfa1-392c7bde42ed", terminate=True, signal="SIGKILL")
app.control.revoke(["7993b0aa-1f0b-4780-9af0-c47c0858b3f2", "f565793e-b041-4b2b-9ca4-dca22762a55d"])
print("revoked", sorted(i.revoked()["steered@here"]))
"""


def program(mixed: Any, package: str, text: str, name: str = "program") -> Process:
    """A program of this package."""
    path = mixed.folder / f"{name}.py"
    path.write_text(text.replace("PACKAGE", package))
    started = Process([sys.executable, str(path)], cwd=mixed.folder, env=mixed.env)
    mixed.processes.append(started)
    return started


@pytest.mark.parametrize("package", PACKAGES)
def test_a_camera(mixed: Any, stock: ModuleType, package: str) -> None:
    (mixed.folder / "camera.py").write_text(CAMERA.replace("PACKAGE", package))
    pictures = program(mixed, package, CAMERA_PROGRAM)
    pictures.wait_for("listens")
    mixed.taskcore_worker("-E", "-c", "1", "-n", "pictured@here")
    pictures.wait_for(r"Workers: .*'pictured@here'.*<Worker: pictured@here \(ONLINE")
    sent = stock.add.delay(2, 3)
    pictures.wait_for(rf"<Task: sample\.add\({sent.id}\) SUCCESS")
    pictures.wait_for(r"Total: \d+ events, [12] tasks")


@pytest.mark.parametrize("package", PACKAGES)
def test_the_command_takes_the_camera(mixed: Any, stock: ModuleType, package: str) -> None:
    (mixed.folder / "camera.py").write_text(CAMERA.replace("PACKAGE", package))
    words = ["-m", package, "-b", mixed.broker, "events"]
    words += ["--camera=camera.DumpCam", "--frequency=0.2"]
    env = mixed.env | {"PYTHONPATH": f"{mixed.folder}:{mixed.env['PYTHONPATH']}"}
    app = ["-A", "stock" if package == "celery" else "sample"]
    pictures = Process([sys.executable, *words[:2], *app, *words[2:]], cwd=mixed.folder, env=env)
    mixed.processes.append(pictures)
    mixed.taskcore_worker("-n", "pictured@here")
    pictures.wait_for(r"Workers: .*'pictured@here'.*<Worker")


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("text", [ALL_EVENTS, ONE_EVENT], ids=["all", "one"])
def test_failures_are_announced(mixed: Any, stock: ModuleType, package: str, text: str) -> None:
    mixed.taskcore_worker("-E", "-c", "1", "-n", "w@here")
    monitor = program(mixed, package, text)
    monitor.wait_for("listens")
    failed: list[str] = []

    def told() -> bool:
        # What is told before the monitor has subscribed is told to nobody.
        failed.append(stock.fail.delay("on purpose").id)
        with pytest.raises(ValueError, match="on purpose"):
            stock.app.AsyncResult(failed[-1]).get(timeout=WAIT)
        return any(f"[{task_id}]" in monitor.output for task_id in failed)

    until(told, "a failure to be announced")
    [line] = [line for line in monitor.lines if line.startswith("TASK FAILED")][:1]
    assert "ValueError('on purpose')" in line
    if text is ALL_EVENTS:
        assert re.match(r"TASK FAILED: sample\.fail\[", line)


@pytest.mark.parametrize("worker", PACKAGES)
def test_workers_are_inspected_and_told(mixed: Any, stock: ModuleType, worker: str) -> None:
    start = mixed.celery_worker if worker == "celery" else mixed.taskcore_worker
    started = start("-c", "2", "-n", "steered@here")
    said = {}
    for package in PACKAGES:
        asked = program(mixed, package, INSPECT)
        asked.wait_for("revoked")
        said[package] = [line for line in asked.lines if not line.startswith("events")]
    assert said["celery"] == said["taskcore"]
    assert "registered True" in said["taskcore"] and "processes 2" in said["taskcore"]
    assert started.popen.poll() is None
