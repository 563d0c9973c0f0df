"""Schedulers of other packages, as they are published, with the imports of Celery changed: their
entries are sent, and what they keep is kept."""

import json
import os
import re
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from support.beats import Beats
from support.process import Process
from support.redis_server import RedisServer
from support.site import Site
from support.wait import until

NOTE = {"task": "ticking.note", "schedule": 1.0, "args": ["of the code"]}

DJANGO = """
SECRET_KEY = "none"
INSTALLED_APPS = ["django_celery_beat"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER + "/django.db"}}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
"""


def moved(site: Site, package: str, *modules: str) -> Path:
    """A copy of an installed package that imports taskcore where it imports Celery."""
    spec = find_spec(package)
    assert spec is not None and spec.origin is not None
    folder = site.folder / "moved"
    shutil.copytree(Path(spec.origin).parent, folder / package)
    for path in (folder / package).rglob("*.py"):
        text = re.sub(
            r"^(\s*(?:from|import) )celery\b", r"\1taskcore", path.read_text(), flags=re.M
        )
        path.write_text(text)
    return folder


def beats_with(site: Site, folder: Path, schedule: dict[str, Any], **env: str) -> Beats:
    beats = Beats(site, schedule)
    beats.env["PYTHONPATH"] = os.pathsep.join([str(folder), beats.env["PYTHONPATH"]])
    beats.env.update(env)
    return beats


def python(beats: Beats, program: str) -> str:
    """Runs a program beside the beats; what it prints."""
    import sys

    done = Process([sys.executable, "-c", program], cwd=beats.site.folder, env=beats.env)
    beats.site.processes.append(done)
    assert done.wait() == 0, done.output
    return done.output


def test_redbeat(redis_site: Site, redis_server: RedisServer) -> None:
    pytest.importorskip("redbeat")
    site = redis_site
    beats = beats_with(site, moved(site, "redbeat"), {"code": NOTE})
    beats.worker()
    named = ("-S", "redbeat.RedBeatScheduler", "--max-interval", "1")
    first = beats.start(*named)
    first.wait_for("Acquired lock")
    site.wait_written(2)
    # Another waits for the lock of the first.
    second = beats.start(*named)
    second.wait_for("beat: starting")
    python(
        beats,
        """
from ticking import app
from redbeat import RedBeatSchedulerEntry
from redbeat.schedules import rrule
from taskcore.schedules import crontab, schedule
RedBeatSchedulerEntry("added", "ticking.note", schedule(1), args=["added"], app=app).save()
RedBeatSchedulerEntry("ruled", "ticking.note", rrule("SECONDLY"), args=["ruled"], app=app).save()
far = RedBeatSchedulerEntry("far", "ticking.note", crontab(day_of_month=31, month_of_year="1"), app=app).save()
again = RedBeatSchedulerEntry.from_key(far.key, app=app)
assert again.schedule == far.schedule and again.due_at > again.last_run_at, again
assert "far" not in app.conf.beat_schedule
""",
    )
    until(lambda: {"added", "ruled", "of the code"} <= set(site.written()), "all entries to run")
    os.kill(first.pid, signal.SIGTERM)
    first.wait_for("Releasing lock")
    second.wait_for("Acquired lock")
    written = len(site.written())
    site.wait_written(written + 3)
    assert set(site.written()) == {"added", "ruled", "of the code"}


def test_django_celery_beat(sqlite_site: Site) -> None:
    pytest.importorskip("django_celery_beat")
    site = sqlite_site
    folder = moved(site, "django_celery_beat")
    (folder / "settled.py").write_text(DJANGO.replace("FOLDER", repr(str(site.folder))))
    beats = beats_with(site, folder, {"code": NOTE}, DJANGO_SETTINGS_MODULE="settled")
    python(
        beats,
        "import django.core.management as m, django; django.setup(); m.call_command('migrate')",
    )
    beats.worker()
    first = beats.start("-S", "django", "--max-interval", "1")
    site.wait_written(2)
    program = """
import django, json; django.setup()
from datetime import timedelta
from django.utils.timezone import now
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
"""
    python(
        beats,
        program
        + """
every = IntervalSchedule.objects.create(every=1, period="seconds")
PeriodicTask.objects.create(name="row", task="ticking.note", interval=every, args='["of a row"]')
clock = ClockedSchedule.objects.create(clocked_time=now() + timedelta(seconds=2))
PeriodicTask.objects.create(name="once", task="ticking.note", clocked=clock, one_off=True, args='["once"]')
cron = CrontabSchedule.objects.create(minute="*", timezone="Europe/Oslo")
PeriodicTask.objects.create(
    name="cron", task="ticking.note", crontab=cron, args='["of a crontab"]',
    last_run_at=now() - timedelta(minutes=2),
)
sun = SolarSchedule.objects.create(event="sunset", latitude=59.9, longitude=10.7)
PeriodicTask.objects.create(name="sun", task="ticking.note", solar=sun, args='["sun"]')
""",
    )
    expected = {"of a row", "once", "of a crontab", "of the code"}
    until(lambda: expected <= set(site.written()), "the rows to be sent")
    assert first.stop() == 0
    told = python(
        beats,
        program
        + "print(json.dumps({t.name: [t.total_run_count, t.enabled] for t in PeriodicTask.objects.all()}))",
    )
    found = json.loads(told.strip().splitlines()[-1])
    assert found["row"][0] >= 1 and found["code"][0] >= 2 and found["sun"][0] == 0
    assert site.written().count("once") == found["once"][0] == 1
    assert found["celery.backend_cleanup"] == [0, True]
