"""What Celery's guide does with periodic tasks does the same with only the import changed: each
program is run with both packages, and the schedules that come of it are compared."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from taskcore import Taskcore

ON_CONFIGURE = """
from PACKAGE import Celery
from PACKAGE.schedules import crontab
app = Celery(broker="memory://")
@app.on_after_configure.connect
def setup_periodic_tasks(sender: Celery, **kwargs):
    sender.add_periodic_task(10.0, test.s("hello"), name="add every 10")
    sender.add_periodic_task(30.0, test.s("hello"), name="add every 30", expires=10)
    sender.add_periodic_task(30.0, test.s("world"), expires=10)
    sender.add_periodic_task(crontab(hour=7, minute=30, day_of_week=1), test.s("Happy Mondays!"))
    sender.add_periodic_task(5.0, test, args=("plain",), name="a task")
@app.task(name="tasks.test")
def test(arg):
    print(arg)
@app.task(name="tasks.add")
def add(x, y):
    return x + y
"""

BEFORE_CONFIGURATION = """
from PACKAGE import Celery
app = Celery(broker="memory://")
@app.task(name="tasks.test")
def test(arg):
    print(arg)
app.add_periodic_task(10.0, test.s("early"), name="early")
app.conf.timezone = "UTC"
"""

SETTING = """
from datetime import timedelta
from PACKAGE import Celery
from PACKAGE.schedules import crontab, schedule
app = Celery(broker="memory://")
app.conf.beat_schedule = {
    "add-every-30-seconds": {"task": "tasks.add", "schedule": 30.0, "args": (16, 16)},
    "delta": {"task": "tasks.add", "schedule": timedelta(seconds=30), "kwargs": {"x": 1, "y": 2},
              "options": {"queue": "other", "expires": 15.0}},
    "aligned": {"task": "tasks.add", "schedule": timedelta(hours=1), "relative": True, "args": (1, 2)},
    "add-every-monday-morning": {"task": "tasks.add", "schedule": crontab(hour=7, minute=30, day_of_week=1),
                                 "args": (16, 16)},
}
app.conf.timezone = "Europe/London"
"""

OLD_NAMES = """
from PACKAGE import Celery
app = Celery(broker="memory://")
app.config_from_object({
    "CELERYBEAT_SCHEDULE": {"old": {"task": "tasks.add", "schedule": 5, "args": (1, 2)}},
    "CELERY_TIMEZONE": "UTC",
})
"""

MELBOURNE = """
from PACKAGE import Celery
from PACKAGE.schedules import solar
app = Celery(broker="memory://")
app.conf.beat_schedule = {
    "add-at-melbourne-sunset": {"task": "tasks.add", "schedule": solar("sunset", -37.81753, 144.96715), "args": (16, 16)},
}
"""

WORKFLOW = """
from PACKAGE import Celery, group
app = Celery(broker="memory://")
@app.task(name="tasks.add")
def add(x, y):
    return x + y
@app.task(name="tasks.run_add_group")
def run_add_group():
    group(add.s(i, i) for i in range(10)).apply_async()
@app.on_after_configure.connect
def setup_periodic_tasks(sender: Celery, **kwargs):
    sender.add_periodic_task(30.0, run_add_group.s(), name="add group every 30")
"""

WHEN_FINAL = """
from PACKAGE import Celery
app = Celery(broker="memory://")
@app.on_after_finalize.connect
def setup_periodic_tasks(sender, **kwargs):
    sender.add_periodic_task(30.0, sender.tasks["tasks.elsewhere"].s(1), name="elsewhere")
@app.task(name="tasks.elsewhere")
def elsewhere(n):
    pass
"""

OWN_TYPE = """
from PACKAGE import Celery
from PACKAGE.schedules import schedstate, schedule
app = Celery(broker="memory://")
class Never(schedule):
    def is_due(self, last_run_at):
        return schedstate(False, 7.0)
app.conf.beat_schedule = {"never": {"task": "tasks.add", "schedule": Never(30)}}
"""

SUN = [
    "dawn_astronomical",
    "dawn_nautical",
    "dawn_civil",
    "sunrise",
    "solar_noon",
    "sunset",
    "dusk_civil",
    "dusk_nautical",
    "dusk_astronomical",
]

CRONTABS = """
crontab()
crontab(minute=0, hour=0)
crontab(minute=0, hour='*/3')
crontab(minute=0, hour='0,3,6,9,12,15,18,21')
crontab(minute='*/15')
crontab(day_of_week='sunday')
crontab(minute='*', hour='*', day_of_week='sun')
crontab(minute='*/10', hour='3,17,22', day_of_week='thu,fri')
crontab(minute=0, hour='*/2,*/3')
crontab(minute=0, hour='*/5')
crontab(minute=0, hour='*/3,8-17')
crontab(0, 0, day_of_month='2')
crontab(0, 0, day_of_month='2-30/2')
crontab(0, 0, day_of_month='1-7,15-21')
crontab(0, 0, day_of_month='11', month_of_year='5')
crontab(0, 0, month_of_year='*/3')
""".strip().splitlines()


def run(program: str, package: str) -> Any:
    space: dict[str, Any] = {"__name__": "proj"}
    exec(program.replace("PACKAGE", package), space)
    app = space["app"]
    app.finalize()
    _ = app.conf.timezone  # Celery reads its configuration when somebody asks
    return app


@pytest.mark.parametrize(
    "program",
    [
        ON_CONFIGURE,
        BEFORE_CONFIGURATION,
        SETTING,
        OLD_NAMES,
        MELBOURNE,
        WORKFLOW,
        WHEN_FINAL,
        OWN_TYPE,
    ],
)
def test_a_program_makes_the_same_schedule(program: str) -> None:
    if program is MELBOURNE:
        pytest.importorskip("ephem")
    made = {}
    for package in ("celery", "taskcore"):
        beat = __import__(f"{package}.beat", fromlist=["*"])
        app = run(program, package)
        entries = {
            name: beat.ScheduleEntry(**dict(entry, name=name, app=app))
            for name, entry in app.conf.beat_schedule.items()
        }
        made[package] = {
            name: (e.task, repr(e.schedule), tuple(e.args), e.kwargs, dict(e.options))
            for name, e in entries.items()
        }
    assert made["taskcore"] == made["celery"] != {}


FROM_A_MODULE = """
import sys, types
from PACKAGE import Celery
module = types.ModuleType("periodic_settings")
module.beat_schedule = {"said": {"task": "tasks.test", "schedule": 5.0}}
sys.modules["periodic_settings"] = module
app = Celery(broker="memory://")
app.config_from_object("periodic_settings")
@app.task(name="tasks.test")
def test(arg):
    print(arg)
app.add_periodic_task(10.0, test.s("early"), name="early")
"""


@pytest.mark.parametrize("program", [BEFORE_CONFIGURATION, FROM_A_MODULE])
@pytest.mark.parametrize("package", ["celery", "taskcore"])
def test_what_is_added_is_seen_in_the_schedule_at_once(program: str, package: str) -> None:
    space: dict[str, Any] = {"__name__": "proj"}
    exec(program.replace("PACKAGE", package), space)
    app = space["app"]
    names = {"early"} | ({"said"} if program is FROM_A_MODULE else set())
    assert set(app.conf.beat_schedule) == names
    app.add_periodic_task(10.0, space["test"].s("late"), name="late")
    assert set(app.conf.beat_schedule) == names | {"late"}
    app.finalize()
    assert set(app.conf.beat_schedule) == names | {"late"}


def test_what_was_added_stays_when_the_schedule_is_set_later() -> None:
    # DIFFERENCE: Celery loses it when somebody has looked at the configuration before.
    app = Taskcore(broker="memory://", set_as_current=False)
    task = app.task(lambda: None, name="tasks.test")
    app.add_periodic_task(10.0, task.s(), name="early")
    app.conf.beat_schedule = {"said": {"task": "tasks.test", "schedule": 5.0}}
    assert set(app.conf.beat_schedule) == {"said", "early"}
    del app.conf.beat_schedule["early"]
    app.finalize()
    assert set(app.conf.beat_schedule) == {"said"}


def test_of_two_calls_without_a_name_the_second_counts_and_that_is_said() -> None:
    app = Taskcore(broker="memory://", set_as_current=False)
    task = app.task(lambda: None, name="tasks.test")
    app.add_periodic_task(10.0, task.s(), name="named")
    app.add_periodic_task(10.0, task.s())
    with pytest.warns(UserWarning, match="pass a `name` to keep both"):
        app.add_periodic_task(20.0, task.s())
    schedule = {name: entry["schedule"] for name, entry in app.conf.beat_schedule.items()}
    assert schedule == {"named": 10.0, "tasks.test()": 20.0}


@pytest.mark.parametrize("text", CRONTABS)
def test_a_crontab_of_the_guide_is_due_at_the_same_times(text: str) -> None:
    due = {}
    for package in ("celery", "taskcore"):
        module = __import__(f"{package}.schedules", fromlist=["*"])
        app = run(OLD_NAMES, package)
        when = eval(text, {"crontab": module.crontab})
        when.app = app
        at, times = datetime(2026, 1, 1, tzinfo=UTC), []
        for _ in range(50):
            when.nowfun = lambda at=at: at
            at += when.remaining_estimate(at)
            times.append(at)
        due[package] = times
    assert due["taskcore"] == due["celery"]
    assert due["taskcore"][0] <= datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=366)


def test_an_entry_of_a_type_of_ones_own_is_asked() -> None:
    for package in ("celery", "taskcore"):
        app = run(OWN_TYPE, package)
        module = __import__(f"{package}.beat", fromlist=["*"])
        entry = module.ScheduleEntry(**app.conf.beat_schedule["never"], name="never", app=app)
        assert tuple(entry.is_due()) == (False, 7.0)


def test_the_workflow_of_the_guide_runs() -> None:
    app = run(WORKFLOW, "taskcore")
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    entry = app.conf.beat_schedule["add group every 30"]
    assert app.tasks[entry["task"]].apply_async(entry["args"], entry["kwargs"]).successful()


@pytest.mark.parametrize("event", SUN)
@pytest.mark.parametrize("place", [(-37.81753, 144.96715), (78.2, 15.6)])
def test_every_event_of_the_sun_is_due_at_the_same_times(
    event: str, place: tuple[float, float]
) -> None:
    pytest.importorskip("ephem")
    due = {}
    for package in ("celery", "taskcore"):
        module = __import__(f"{package}.schedules", fromlist=["*"])
        at, times = datetime(2026, 3, 1, 3, tzinfo=UTC), []
        when = module.solar(event, *place, app=run(OLD_NAMES, package))
        for _ in range(4):
            when.nowfun = lambda at=at: at
            at += when.remaining_estimate(at) + timedelta(minutes=1)
            times.append(at)
        due[package] = times
    for ours, theirs in zip(due["taskcore"], due["celery"], strict=True):
        assert abs(ours - theirs) < timedelta(seconds=2)
