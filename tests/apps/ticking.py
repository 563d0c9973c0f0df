"""The app of the tests of beat: its schedule is what SAMPLE_SCHEDULE says, as JSON, and its tasks
write down which due time they were sent for."""

import json
import os
import signal
from datetime import datetime, timedelta
from typing import Any

from taskcore import Celery
from taskcore.beat import BeatLazyFunc, ScheduleEntry, Scheduler, StoreScheduler
from taskcore.schedules import BaseSchedule, schedstate

app = Celery("ticking", broker=os.environ.get("SAMPLE_BROKER", "memory://"))
app.conf.update(json.loads(os.environ.get("SAMPLE_CONF", "{}")))
app.conf.beat_schedule = json.loads(os.environ.get("SAMPLE_SCHEDULE", "{}"))


def write(text: object) -> None:
    """Appends one line to the ledger."""
    handle = os.open(os.environ["SAMPLE_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


@app.task(bind=True)
def tick(self: Any, *args: Any) -> None:
    headers = self.request.headers or {}
    write(" ".join([headers["periodic_task_name"], headers["periodic_task_due"], *map(str, args)]))


@app.task
def note(*args: Any) -> None:
    write(" ".join(map(str, args)))


class EverySecond(BaseSchedule):
    """A schedule of the user's own, which is asked each time."""

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        return last_run_at + timedelta(seconds=1) - self.now()

    def is_due(self, last_run_at: datetime) -> tuple[bool, float]:
        left = self.remaining_estimate(last_run_at).total_seconds()
        return schedstate(left <= 0, left if left > 0 else 1.0)


class Own(Scheduler):
    """A scheduler of another package: its entries are what it makes them."""

    Entry = ScheduleEntry

    def setup_schedule(self) -> None:
        self.merge_inplace(
            {"own": {"task": "ticking.note", "schedule": 1.0, "args": ("own scheduler",)}}
        )


class Stopped(StoreScheduler):
    """Stops itself between taking the lead and its first change of the store."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.store = StopsFirst(self.store)


class StopsFirst:
    """The store; its first change comes after a long sleep of the process."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._slept = False

    def __getattr__(self, name: str) -> Any:
        if name in ("put", "remove") and not self._slept:
            self._slept = True
            print("stopping before the first change", flush=True)
            os.kill(os.getpid(), signal.SIGSTOP)
        return getattr(self._store, name)


if "SAMPLE_OWN_SCHEDULE" in os.environ:

    @app.on_after_configure.connect
    def add(sender: Any, **_: Any) -> None:
        sender.add_periodic_task(EverySecond(), note.s("own schedule"), name="own")
        sender.add_periodic_task(1.0, note.s(BeatLazyFunc(os.getpid)), name="lazy")
        sender.add_periodic_task(1.0, note.s(object()), name="broken")
