"""The schedulers of other packages: what Celery's interface promises them."""

import pickle
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from taskcore import signals
from taskcore.beat import (
    BeatLazyFunc,
    PersistentScheduler,
    ScheduleEntry,
    Scheduler,
    SchedulingError,
    Service,
)
from taskcore.beat.program import Beat
from taskcore.beat.service import scheduler_class
from taskcore.exceptions import ImproperlyConfigured


class Noted(Scheduler):
    """Notes what it sends."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.sent: list[str] = []
        self.synced = 0
        super().__init__(*args, **kwargs)

    def apply_async(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        self.sent.append(entry.name)
        return super().apply_async(entry, *args, **kwargs)

    def sync(self) -> None:
        self.synced += 1


@pytest.fixture
def noop(app: Any) -> Any:
    return app.task(lambda *args, **kwargs: None, name="noop")


def entries(**every: float) -> dict[str, Any]:
    return {name: {"task": "noop", "schedule": seconds} for name, seconds in every.items()}


def test_a_tick_sends_one_and_says_how_long_to_sleep(app: Any, noop: Any) -> None:
    app.conf.beat_schedule = entries(slow=3600.0, soon=60.0)
    scheduler = Noted(app, max_interval=100)
    assert 59 < scheduler.tick() <= 60 and scheduler.sent == []
    for name in ("slow", "soon"):
        scheduler.schedule[name].last_run_at -= timedelta(hours=2)
    scheduler.populate_heap()
    assert [scheduler.tick(), scheduler.tick()] == [0, 0]
    assert sorted(scheduler.sent) == ["slow", "soon"]
    assert scheduler.schedule["slow"].total_run_count == 1
    assert 59 < scheduler.tick() <= 60
    del scheduler.schedule["soon"]
    assert scheduler.tick() == 100  # no longer than `max_interval`


def test_what_is_due_is_sent_as_the_entry_says(app: Any, noop: Any) -> None:
    scheduler = Noted(app)
    entry = scheduler.add(
        name="n",
        task="noop",
        schedule=5,
        args=(1, BeatLazyFunc(max, 2, 3)),
        kwargs={"k": BeatLazyFunc(dict, a=1)},
        options={"queue": "other", "headers": {"mine": 1}},
    )
    scheduler.apply_async(entry)
    _, args, kwargs, fields = app.publisher.sent[0]
    assert (args, kwargs, fields["queue"]) == ([1, 3], {"k": {"a": 1}}, "other")
    assert fields["headers"]["periodic_task_name"] == "n" and fields["headers"]["mine"] == 1
    # The entry itself stays as it was said.
    assert entry.options == {"queue": "other", "headers": {"mine": 1}}
    assert scheduler.schedule["n"].total_run_count == 1


def test_a_task_of_another_program_is_sent_by_its_name(app: Any) -> None:
    scheduler = Scheduler(app)
    scheduler.apply_async(ScheduleEntry("n", "elsewhere", schedule=5, app=app), advance=False)
    assert app.publisher.sent[0][0].task == "elsewhere"


def test_a_failure_is_one_error_with_its_cause(
    app: Any, noop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(app)
    broken = ScheduleEntry("n", "noop", schedule=5, options={"no_such": 1}, app=app)
    with pytest.raises(SchedulingError, match="no_such") as caught:
        scheduler.apply_async(broken, advance=False)
    assert isinstance(caught.value.__cause__, TypeError)
    scheduler.apply_entry(broken)
    assert "entry `n` was not sent" in caplog.text


def test_an_entry_that_cannot_tell_does_not_stop_the_others(
    app: Any, noop: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ScheduleEntry):
        def is_due(self) -> Any:
            raise RuntimeError("no idea")

    app.conf.beat_schedule = entries(good=5.0)
    scheduler = Noted(app, max_interval=50)
    scheduler.schedule["bad"] = Broken("bad", "noop", schedule=5, app=app)
    scheduler.schedule["good"].last_run_at -= timedelta(hours=1)
    assert scheduler.tick() == 0 and scheduler.sent == ["good"]
    assert "no idea" in caplog.text


def test_merging_keeps_when_entries_were_sent(app: Any) -> None:
    app.conf.beat_schedule = entries(stays=5.0, goes=5.0)
    scheduler = Scheduler(app)
    then = datetime(2026, 1, 1, tzinfo=UTC)
    scheduler.schedule["stays"].last_run_at = then
    scheduler.merge_inplace(entries(stays=6.0, comes=5.0))
    assert set(scheduler.schedule) == {"stays", "comes"}
    stays = scheduler.schedule["stays"]
    assert stays.last_run_at == then and stays.schedule.seconds == 6.0


def test_it_is_written_after_so_many_tasks(app: Any, noop: Any) -> None:
    scheduler = Noted(app, sync_every_tasks=2)
    entry = ScheduleEntry("n", "noop", schedule=5, app=app)
    for _ in range(5):
        scheduler.apply_async(entry, advance=False)
    # The first, because it was never written; then every second.
    assert scheduler.synced == 3


def test_an_entry_is_a_mapping_of_its_fields_and_is_pickled(app: Any) -> None:
    entry = ScheduleEntry("n", "t", schedule=5, args=(1,), missed="all", jitter=2, app=app)
    after = next(entry)
    assert (after.name, after.args, after.missed, after.jitter) == ("n", (1,), "all", 2.0)
    assert after.total_run_count == 1 and after.last_run_at >= entry.last_run_at
    again = pickle.loads(pickle.dumps(entry))
    assert again == entry and (again.missed, again.jitter) == ("all", 2.0)
    assert entry != ScheduleEntry("n", "t", schedule=6, args=(1,), app=app)
    assert repr(entry) == "<ScheduleEntry: n t(1) <freq: 5.00 seconds>>"


def test_a_file_keeps_when_entries_were_sent(app: Any, tmp_path: Path) -> None:
    app.conf.beat_schedule = entries(n=5.0)
    path = str(tmp_path / "schedule")
    first = PersistentScheduler(app, schedule_filename=path)
    first.schedule["n"].last_run_at = then = datetime(2026, 1, 1, tzinfo=UTC)
    first.close()
    assert first.schedule["n"].app is app
    again = PersistentScheduler(app, schedule_filename=path)
    assert again.schedule["n"].last_run_at == then and again.schedule["n"].app is app
    app.conf.timezone = "Asia/Tokyo"
    assert PersistentScheduler(app, schedule_filename=path).schedule["n"].last_run_at > then


def test_a_service_runs_until_it_is_told_to_stop(app: Any) -> None:
    seen: list[Any] = []

    class Once(Scheduler):
        def tick(self) -> float:
            service.stop()
            return 1000.0

        def close(self) -> None:
            seen.append("closed")

    service = Service(app, scheduler_cls=Once)

    def started(sender: Any, **_: Any) -> None:
        seen.append(sender)

    signals.beat_init.connect(started)
    try:
        service.start()
    finally:
        signals.beat_init.disconnect(started)
    assert seen == [service, "closed"]


@pytest.mark.timeout(20)
def test_a_signal_in_the_middle_of_a_wait_ends_it(app: Any) -> None:
    class Waiting(Scheduler):
        def tick(self) -> float:
            # As when the signal comes while `Event.wait` has its lock.
            with services[0]._is_shutdown._cond:
                signal.raise_signal(signal.SIGTERM)
            return 1000.0

    services: list[Service] = []

    class Known(Service):
        def start(self, embedded_process: bool = False) -> None:
            services.append(self)
            super().start(embedded_process)

    class Program(Beat):
        Service = Known

    Program(app, scheduler=Waiting, quiet=True).run()
    assert services[0]._is_shutdown.is_set()


def test_a_service_of_a_subclass_has_its_own_scheduler(app: Any) -> None:
    class Own(Service):
        scheduler_cls = Noted

    assert type(Own(app).scheduler) is Noted
    assert type(Own(app, scheduler_cls=Scheduler).scheduler) is Scheduler


def test_celerys_arguments_of_a_tick_are_taken(app: Any) -> None:
    scheduler = Noted(app, max_interval=7)
    assert scheduler.tick(min=min, heappop=None) == 7
    assert scheduler.connection is scheduler.connection


def test_a_scheduler_is_named() -> None:
    assert scheduler_class("celery.beat:PersistentScheduler") is PersistentScheduler
    assert scheduler_class("taskcore.beat.Scheduler") is Scheduler
    assert scheduler_class(Noted) is Noted
    for name in ("nothing", "no.such:Thing", "taskcore.beat:Nothing"):
        with pytest.raises(ImproperlyConfigured, match=f"beat_scheduler is `{name}`"):
            scheduler_class(name)
