"""What is kept of events, beside what Celery keeps of the same."""

import gc
import io
import json
import pickle
import random
import time
from pathlib import Path
from typing import Any

import pytest

from taskcore import Taskcore
from taskcore.events import group_from
from taskcore.events.dumper import Dumper
from taskcore.events.lru import LRUCache
from taskcore.events.snapshot import Polaroid
from taskcore.events.state import State

CAPTURED = Path(__file__).parent.parent / "wire" / "events_redis.jsonl"


def captured() -> list[dict[str, Any]]:
    """The events that stock workers and clients sent, as a receiver hands them on."""
    events = []
    for line in CAPTURED.read_text().splitlines():
        body = json.loads(line)["envelope_with_body_decoded"]["body"]
        events += body if isinstance(body, list) else [body]
    return [event | {"local_received": event["timestamp"] + 0.01} for event in events]


def plain(state: Any) -> dict[str, Any]:
    """All that a state knows, as plain data."""

    def task(one: Any) -> dict[str, Any]:
        known = one.as_dict()
        known["worker"] = known["worker"] and known["worker"].hostname
        known["children"] = sorted(child.uuid for child in one.children)
        return known | {"info": one.info(), "ready": one.ready, "origin": one.origin}

    def worker(one: Any) -> dict[str, Any]:
        return {name: getattr(one, name) for name in one._fields}

    return {
        "counts": (state.event_count, state.task_count),
        "tasks": {uuid: task(one) for uuid, one in state.itertasks()},
        "workers": {name: worker(one) for name, one in state.workers.items()},
        "types": state.task_types(),
        "by_time": [uuid for uuid, _ in state.tasks_by_time()],
        "oldest": [uuid for uuid, _ in state.tasks_by_time(limit=7, reverse=False)],
        "by_type": {
            name: sorted(one.uuid for one in tasks) for name, tasks in state.tasks_by_type.items()
        },
        "of_type": [uuid for uuid, _ in state.tasks_by_type("proj.add", limit=3)],
        "by_worker": {
            name: sorted(one.uuid for one in tasks) for name, tasks in state.tasks_by_worker.items()
        },
    }


@pytest.mark.parametrize("seed", [None, 1, 2, 3])
@pytest.mark.parametrize("tasks", [10_000, 5])
def test_a_state_knows_what_celerys_knows(seed: int | None, tasks: int) -> None:
    celery = pytest.importorskip("celery.events.state")
    events = captured()
    if seed is not None:
        # Out of order, as over several connections.
        random.Random(seed).shuffle(events)
    ours, theirs = State(max_tasks_in_memory=tasks), celery.State(max_tasks_in_memory=tasks)
    for event in events:
        assert type(ours.event(dict(event))) is type(theirs.event(dict(event)))
    gc.collect()
    known, expected = plain(ours), plain(theirs)
    if tasks < len(expected["tasks"]) + 1:
        # How long Celery finds what it has forgotten depends on when garbage is collected.
        for name in ("by_time", "oldest", "by_type", "of_type", "by_worker"):
            assert set(known.pop(name)) <= set(expected.pop(name)) | set(ours.tasks)
        for one in (*known["tasks"].values(), *expected["tasks"].values()):
            del one["children"]
    assert known == expected
    for state in (ours, theirs):
        state.clear_tasks()
    assert sorted(ours.tasks) == sorted(theirs.tasks)
    for state in (ours, theirs):
        state.clear(ready=False)
        assert not state.tasks and not state.workers and state.event_count == 0


def test_joining_and_leaving_is_told() -> None:
    told: list[str] = []
    state = State(
        on_node_join=lambda worker: told.append(f"+{worker.hostname}"),
        on_node_leave=lambda worker: told.append(f"-{worker.hostname}"),
    )
    now = time.time()
    for kind in ("online", "heartbeat", "offline"):
        event = {"hostname": "w@h", "timestamp": now, "local_received": now, "freq": 2.0}
        state.event({**event, "type": f"worker-{kind}", "clock": 1})
        if kind != "offline":
            assert [worker.hostname for worker in state.alive_workers()] == ["w@h"]
    assert told == ["+w@h", "-w@h"] and not state.workers


def test_a_worker_that_is_silent_is_not_alive() -> None:
    state, long_ago = State(), time.time() - 5
    event = {"hostname": "w@h", "timestamp": long_ago, "local_received": long_ago, "freq": 2.0}
    state.event({**event, "type": "worker-heartbeat", "clock": 1})
    assert not state.workers["w@h"].alive and state.workers["w@h"].status_string == "OFFLINE"


def test_a_state_crosses_processes() -> None:
    state = State()
    for event in captured():
        state.event(event)
    assert sorted(pickle.loads(pickle.dumps(state)).tasks) == sorted(state.tasks)


def test_the_unused_is_forgotten() -> None:
    cache: LRUCache[str, int] = LRUCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache["a"] == 1
    cache["c"] = 3
    assert list(cache) == ["a", "c"] and "b" not in cache


def test_a_camera_forgets_what_it_has_shown() -> None:
    class Camera(Polaroid):
        clear_after = True
        seen: list[int]

        def on_shutter(self, state: Any) -> None:
            self.seen = [*getattr(self, "seen", []), state.event_count]

    state = State()
    for event in captured():
        state.event(event)
    camera = Camera(state, freq=3600, maxrate="1/h")
    with camera:
        camera.capture()
    assert camera.seen == [len(captured())], "the second picture would be one too many"
    assert state.event_count == 0


def test_lines_are_those_of_celery() -> None:
    celery = pytest.importorskip("celery.events.dumper")
    ours, theirs = io.StringIO(), io.StringIO()
    mine, stock = Dumper(ours), celery.Dumper(theirs)
    for event in captured():
        mine.on_event(dict(event))
        stock.on_event(dict(event))
    assert ours.getvalue() == theirs.getvalue()


def test_groups_and_classes_of_an_app() -> None:
    app = Taskcore("t", broker="memory://events", set_as_current=False)
    assert group_from("task-sent") == "task" and group_from("custom-my-event") == "custom"
    assert app.events.Receiver.app is app and app.events.Dispatcher().app is app
    assert isinstance(app.events.State(), State)
    with app.connection() as connection:
        assert connection.as_uri() == "memory://events"
