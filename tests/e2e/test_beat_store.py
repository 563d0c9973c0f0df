"""The default scheduler in this process: clocks that jump, stores that fail, entries that change, and
others who are faster."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from taskcore import Taskcore, signals
from taskcore.beat import EmbeddedService, Entries, StoreScheduler
from taskcore.exceptions import OperationalError
from taskcore.schedules import crontab
from taskcore.utils import uuid


class ChangedMeanwhile:
    """The store of an app; somebody else changes an entry between what is read and what is put."""

    def __init__(self, store: Any, change: Callable[[], object]) -> None:
        self._store = store
        self._change: Callable[[], object] | None = change
        self.written: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put(self, *args: Any, **kwargs: Any) -> bool:
        change, self._change = self._change, None
        if change is not None:
            change()
        self.written.append(self._store.put(*args, **kwargs))
        return self.written[-1]


def test_who_adds_an_entry_looks_again_when_another_was_faster() -> None:
    app = Taskcore(f"meanwhile-{uuid()}", broker="memory://", set_as_current=False)
    entries, other = Entries(app), Entries(app)
    store = ChangedMeanwhile(entries._store, lambda: other.add("a", "theirs", 5.0, missed="skip"))
    entries._store = store
    entries.add("a", "mine", 5.0)
    assert store.written == [False, True]
    assert [entry.task for entry in entries.list()] == ["mine"]


def test_an_entry_that_enters_the_code_meanwhile_is_not_overwritten() -> None:
    app = Taskcore(f"meanwhile-{uuid()}", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {"a": {"task": "of the code", "schedule": 5.0}}
    entries, leader = Entries(app), StoreScheduler(app)
    entries._store = ChangedMeanwhile(entries._store, leader.tick)
    with pytest.raises(ValueError, match="stands in `beat_schedule`"):
        entries.add("a", "mine", 5.0)
    with pytest.raises(ValueError, match="stands in `beat_schedule`"):
        leader.add(name="a", task="mine", schedule=5.0)
    assert [entry.task for entry in entries.list()] == ["of the code"]


class Clock:
    """The time of the scheduler, as `time` gives it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("taskcore.beat.store.time", clock)
    return clock


class Told:
    """The store of a scheduler; what it has sent, and calls that fail."""

    def __init__(self, scheduler: Any) -> None:
        self._store = scheduler.store
        scheduler.store = self
        self.sent: list[str] = []
        self.fails: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        if name in self.fails:
            self.fails.remove(name)
            raise OperationalError("the store is away for a moment")
        return getattr(self._store, name)

    def fire(self, firings: Any) -> Any:
        done = self._store.fire(firings)
        self.sent += [name for (name, *_), sent in zip(firings, done, strict=True) if sent]
        return done


def scheduler(**schedule: Any) -> tuple[Any, Any, Told]:
    """An app, a scheduler of it, and the store of that."""
    app = Taskcore(f"jumps-{uuid()}", broker="memory://", set_as_current=False)
    app.conf.beat_schedule = {
        name: {"task": name, "schedule": when} for name, when in schedule.items()
    }
    scheduler = StoreScheduler(app)
    return app, scheduler, Told(scheduler)


def test_a_clock_that_is_set_back_stops_no_entry(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    _, beat, told = scheduler(often=30.0, yearly=crontab(0, 0, day_of_month=1, month_of_year=1))
    beat.tick()
    # A wrong clock: in ten years.
    clock.ahead = 10 * 366 * 86400.0
    beat.tick()
    assert sorted(told.sent) == ["often", "yearly"]
    clock.ahead = 0.0
    beat.tick()
    assert "`often, yearly` begin anew" in caplog.text and len(told.sent) == 2
    clock.ahead = 31.0
    beat.tick()
    assert told.sent[2:] == ["often"]
    clock.ahead = 367 * 86400.0
    beat.tick()
    assert sorted(told.sent[3:]) == ["often", "yearly"]
    beat.close()


def test_an_hour_that_the_clock_shows_again_is_sent_once(clock: Clock) -> None:
    now = datetime.now(UTC)
    _, beat, told = scheduler(nightly=crontab(now.minute, now.hour, tz="UTC"), often=600.0)
    beat.tick()
    clock.ahead = 86400.0 + 60.0
    beat.tick()
    assert sorted(told.sent) == ["nightly", "often"]
    # As at a daylight saving of a clock without zone: an hour back, and over the same time again.
    clock.ahead -= 3600.0
    beat.tick()
    clock.ahead += 3600.0
    beat.tick()
    assert sorted(told.sent[2:]) == ["often"]
    beat.close()


def test_entries_of_the_code_that_change_while_it_runs(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    app, beat, told = scheduler(a=10.0, gone=10.0)
    beat.tick()
    app.conf.beat_schedule["new"] = {"task": "new", "schedule": 10.0}
    app.conf.beat_schedule["a"]["schedule"] = 3600.0
    del app.conf.beat_schedule["gone"]
    clock.ahead = 3.0
    beat.tick()
    assert [entry.name for entry in Entries(app).list()] == ["a", "new"]
    clock.ahead = 14.0
    beat.tick()
    assert told.sent == ["new"]
    app.conf.beat_schedule["new"] = {"task": "new", "schedule": -1.0}
    clock.ahead = 25.0
    beat.tick()
    assert "stays as it was: schedule of entry `new`" in caplog.text
    assert told.sent == ["new", "new"]
    app.conf.beat_schedule = {}
    clock.ahead = 28.0
    beat.tick()
    assert Entries(app).list() == []
    beat.close()


@pytest.mark.parametrize("call", ["put", "remove", "entries"])
def test_a_store_that_is_away_while_the_lead_is_taken_over(clock: Clock, call: str) -> None:
    app, beat, _ = scheduler(a=10.0, gone=10.0)
    beat.tick()
    beat.close()
    app.conf.beat_schedule = {"a": {"task": "changed", "schedule": 10.0}}
    after = StoreScheduler(app)
    told = Told(after)
    told.fails = {call}
    after.tick()
    clock.ahead = 5.0
    after.tick()
    assert [(entry.name, entry.task) for entry in Entries(app).list()] == [("a", "changed")]
    assert after.leads
    after.close()


def test_signals_say_that_a_beat_starts_and_where() -> None:
    told: list[tuple[str, Any]] = []
    started = threading.Event()

    def receiver(name: str) -> Any:
        def receive(sender: Any, signal: Any, **kwargs: Any) -> None:
            assert kwargs == {} and sender.scheduler.app is app
            told.append((name, sender))
            if name == "beat_embedded_init":
                started.set()

        return receive

    app = Taskcore(f"signals-{uuid()}", broker="memory://", set_as_current=False)
    receivers = {name: receiver(name) for name in ("beat_init", "beat_embedded_init")}
    for name, receive in receivers.items():
        getattr(signals, name).connect(receive)
    try:
        embedded = EmbeddedService(app)
        embedded.start()
        assert started.wait(30)
        embedded.stop()
    finally:
        for name, receive in receivers.items():
            getattr(signals, name).disconnect(receive)
    assert told == [("beat_init", embedded.service), ("beat_embedded_init", embedded.service)]
