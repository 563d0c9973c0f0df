"""Events within taskcore, over each broker: sent, heard, lost and found again."""

import sys
from typing import Any

import pytest

from support.process import Process
from support.site import Site
from taskcore import Taskcore
from taskcore.exceptions import OperationalError

WAIT = 30


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_site")


def test_lines_of_a_worker_and_its_tasks(place: Any) -> None:
    command = [
        sys.executable,
        "-m",
        "taskcore",
        "-A",
        "sample",
        *place.globals_,
        "events",
        "--dump",
    ]
    dump = Process(command, cwd=place.folder, env=place.env)
    place.processes.append(dump)
    dump.wait_for("starting capture")
    worker = place.worker("-E", "-n", "seen@here")
    dump.wait_for(r"seen@here .* (started|heartbeat): active=0")
    sent = place.task("add").delay(2, 3)
    dump.wait_for(rf"seen@here .* task received: sample.add\({sent.id}\)")
    dump.wait_for(r"seen@here .* task succeeded: .* result=5, runtime=")
    worker.stop()
    dump.wait_for(r"seen@here .* shutdown")


def test_a_camera_is_fed(place: Any) -> None:
    (place.folder / "cameras.py").write_text(
        "from taskcore.events.snapshot import Polaroid\n"
        "class Camera(Polaroid):\n"
        "    def on_shutter(self, state):\n"
        "        print('alive', sorted(w.hostname for w in state.alive_workers()), flush=True)\n"
    )
    command = [sys.executable, "-m", "taskcore", "-A", "sample", *place.globals_, "events"]
    command += ["-c", "cameras.Camera", "-F", "0.1"]
    env = place.env | {"PYTHONPATH": f"{place.folder}:{place.env['PYTHONPATH']}"}
    camera = Process(command, cwd=place.folder, env=env)
    place.processes.append(camera)
    camera.wait_for("Taking snapshots")
    place.worker("-n", "pictured@here")
    camera.wait_for(r"alive \['pictured@here'\]")


def test_a_receiver_takes_what_it_wants_and_stops() -> None:
    app = Taskcore("t", broker="memory://heard", set_as_current=False)
    heard: list[str] = []
    receiver = app.events.Receiver(
        handlers={"task-done": lambda event: heard.append(event["uuid"])}, routing_key="task.#"
    )
    captured = receiver.itercapture(limit=2, timeout=WAIT, wakeup=False)
    with app.events.default_dispatcher() as dispatcher:
        for _ in captured:
            for number in range(3):
                dispatcher.send("task-done", uuid=f"{number}")
                dispatcher.send("other-done", uuid="no")
    assert heard[:2] == ["0", "1"] and len(heard) == 2


class Unprintable(dict[str, int]):
    def __repr__(self) -> str:
        raise ValueError("on purpose")


def test_what_is_shown_of_arguments_is_bounded_and_never_raises() -> None:
    app = Taskcore("t", broker="memory://shown", task_send_sent_event=True, set_as_current=False)

    @app.task(name="t.take")
    def take(value: object) -> None:
        """Runs nowhere."""

    told: list[dict[str, Any]] = []
    receiver = app.events.Receiver(handlers={"task-sent": told.append})
    for _ in receiver.itercapture(limit=2, timeout=WAIT, wakeup=False):
        if not told:
            take.delay("x" * 100_000)
            take.delay(Unprintable(a=1))
    assert [len(event["args"]) for event in told[:2]] == [1024, len("<unprintable tuple>")]


def test_nothing_is_published_while_nobody_listens(own_redis: Any, tmp_path: Any) -> None:
    with Site(tmp_path, own_redis.url(), own_redis.url()) as site:
        site.worker("-E", "--without-heartbeat", "-n", "unheard@here")
        for number in range(20):
            site.task("quiet").delay(f"{number}")
        site.wait_written(20)
        assert b"cmdstat_publish:" not in own_redis.command("INFO", "commandstats")
        told: list[dict[str, Any]] = []
        receiver = site.app.events.Receiver(handlers={"*": told.append})
        last = None
        for _ in receiver.itercapture(timeout=WAIT, wakeup=False):
            last = last or site.task("quiet").delay("heard").id
            # What has just happened may be told, too.
            own = [event for event in told if event["uuid"] == last]
            if any(event["type"] == "task-succeeded" for event in own):
                break
        assert [event["type"] for event in own] == [
            "task-received",
            "task-started",
            "task-succeeded",
        ]
        assert own[0]["args"] == "('heard',)"


def test_silence_ends_a_capture() -> None:
    app = Taskcore("t", broker="memory://silence", set_as_current=False)
    with pytest.raises(TimeoutError, match=r"`0\.1` s"):
        app.events.Receiver().capture(timeout=0.1, wakeup=False)


def test_what_a_broker_does_not_take_waits_bounded() -> None:
    app = Taskcore("t", broker="redis://127.0.0.1:1", set_as_current=False)
    app.conf.task_publish_timeout = 0.2
    dispatcher = app.events.Dispatcher(groups=["task"])
    dispatcher.send("task-done", uuid="1")
    dispatcher.send("worker-done", uuid="not of the group")
    assert len(dispatcher._waiting) == 1
    with (
        app.events.default_dispatcher() as other,
        pytest.raises(OperationalError, match=r"127\.0\.0\.1:1"),
    ):
        other.send("task-done", uuid="2")
