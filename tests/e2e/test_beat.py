"""Beats, workers and the command line: what is due runs, once, and entries change while they run."""

import grp
import os
import pwd
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from support.beats import Beats, gaps, kill
from support.redis_server import RedisServer
from support.site import Site
from support.wait import until

SECOND = {"tick": {"task": "ticking.tick", "schedule": 1.0, "args": ["a", 1]}}


def test_what_is_due_runs_with_its_arguments(site: Site) -> None:
    beats = Beats(site, SECOND)
    beats.worker()
    beats.start().wait_for("sent `tick`", count=2)
    line = site.wait_written(2)[0].split()
    assert (line[0], line[2:]) == ("tick", ["a", "1"])
    assert gaps(beats.due()["tick"]) == {1.0}
    entry = beats.entries()["tick"]
    assert entry["total_run_count"] >= 2 and entry["code"] and not entry["paused"]


def test_one_beat_leads_and_another_takes_over(site: Site) -> None:
    beats = Beats(site, {"tick": {**SECOND["tick"], "missed": "all"}})
    first = beats.start()
    first.wait_for("leads")
    second = beats.start()
    second.wait_for("beat: starting")
    first.wait_for("sent `tick`", count=2)
    kill(first)
    second.wait_for("leads")
    second.wait_for("sent `tick`", count=4)
    assert second.stop() == 0
    beats.worker()
    site.wait_queue(depth=0, in_flight=0)
    times = beats.due()["tick"]
    assert gaps(times) == {1.0} and len(times) == len(set(times)) >= 6


def test_another_app_of_the_same_name_is_noticed(sqlite_site: Site) -> None:
    Beats(sqlite_site, SECOND).start().wait_for("sent `tick`")
    other = Beats(sqlite_site, {"other": SECOND["tick"]})
    other.start().wait_for("has other entries \\(`other, tick`\\)")
    named = Beats(sqlite_site, {"other": SECOND["tick"]}, beat_schedule_name="mine")
    named.start().wait_for("sent `other`")
    assert set(named.entries()) == {"other"} and set(other.entries()) == {"tick"}


def test_who_ends_leaves_the_lead(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND)
    first = beats.start()
    first.wait_for("leads")
    assert first.stop() == 0
    # At once: the lease has not ended.
    began = datetime.now()
    second = beats.start()
    second.wait_for("leads")
    assert second.stop() == 0
    assert (datetime.now() - began).total_seconds() < 60


def test_entries_change_while_a_beat_runs(site: Site) -> None:
    beats = Beats(site, SECOND)
    beats.worker()
    beat = beats.start()
    beat.wait_for("sent `tick`")
    beats.cli("add", "more", "ticking.tick", "--every", "1", "--args", '["more"]')
    beat.wait_for("sent `more`", count=2)
    beats.cli("pause", "more")
    beats.cli("pause", "tick")
    until(lambda: beats.entries()["more"]["paused"], "it to be paused")
    runs = beats.entries()["more"]["total_run_count"]
    beats.cli("add", "last", "ticking.note", "--every", "1", "--args", '["last"]')
    beat.wait_for("sent `last`", count=2)
    assert beats.entries()["more"]["total_run_count"] == runs
    beats.cli("resume", "more")
    beat.wait_for("sent `more`", count=runs + 1)
    beats.cli("remove", "more")
    assert set(beats.entries()) == {"last", "tick"}
    task_id = beats.cli("run", "last").strip()
    assert len(task_id) == 36
    assert "stands in `beat_schedule`" in beats.cli("remove", "tick", code=1)
    assert "did you mean `last`" in beats.cli("pause", "lsat", code=1)


def test_a_worker_has_a_beat_inside(site: Site) -> None:
    beats = Beats(site, SECOND)
    worker = beats.worker("-B")
    site.wait_written(3)
    assert gaps(beats.due()["tick"]) == {1.0}
    assert worker.stop() == 0
    # It has left the lead.
    beats.start().wait_for("leads")


def test_own_schedules_lazy_arguments_and_what_cannot_be_sent(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site)
    beats.env["SAMPLE_OWN_SCHEDULE"] = "1"
    beats.worker()
    beat = beats.start()
    beat.wait_for("sent `own`", count=2)
    beat.wait_for("sent `lazy`", count=2)
    beat.wait_for("entry `broken` was not sent", count=2)
    lines = sqlite_site.wait_written(4)
    assert {"own schedule", str(beat.pid)} <= set(lines)


def test_a_scheduler_of_another_package(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND)
    beats.worker()
    beat = beats.start("--scheduler", "ticking:Own", "--max-interval", "1")
    assert sqlite_site.wait_written(2) == ["own scheduler"] * 2
    assert beat.stop() == 0


def test_a_schedule_in_a_file(sqlite_site: Site) -> None:
    note = {"tick": {"task": "ticking.note", "schedule": 1.0, "args": ["in a file"]}}
    beats = Beats(sqlite_site, note)
    beats.worker()
    named = ("--scheduler", "celery.beat:PersistentScheduler", "--schedule", "here")
    first = beats.start(*named)
    first.wait_for("sending `tick`", count=2)
    assert first.stop() == 0
    (sqlite_site.folder / "here").write_bytes(b"no schedule")
    second = beats.start(*named)
    second.wait_for("is moved to `here.unreadable`")
    second.wait_for("sending `tick`")
    assert second.stop() == 0 and (sqlite_site.folder / "here").read_bytes() != b"no schedule"


def test_a_store_that_is_emptied_is_filled_again(
    redis_site: Site, redis_server: RedisServer
) -> None:
    beats = Beats(redis_site, SECOND)
    beat = beats.start()
    beat.wait_for("sent `tick`", count=2)
    redis_server.command("FLUSHALL")
    sent = len([line for line in beat.lines if "sent `tick`" in line])
    beat.wait_for("sent `tick`", count=sent + 3)
    assert set(beats.entries()) == {"tick"}


def test_options_without_effect_are_said(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND, beat_sync_every=5)
    beat = beats.start("--schedule", "here")
    beat.wait_for("schedule file `here` is not used")
    beat.wait_for("`beat_sync_every` has no effect")
    beat.wait_for("leads")
    assert beat.stop() == 0 and not (sqlite_site.folder / "here").exists()
    worker = beats.worker("--schedule", "here")
    assert "add -B for a beat" in worker.output


def test_one_beat_a_pidfile(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND)
    first = beats.start("--pidfile", "pid")
    first.wait_for("leads")
    assert (sqlite_site.folder / "pid").read_text() == f"{first.pid}\n"
    second = beats.start("--pidfile", "pid")
    assert second.wait() == 1 and "of a process that runs" in second.output
    kill(first)
    third = beats.start("--pidfile", "pid")
    third.wait_for("taken over")
    assert third.stop() == 0 and not (sqlite_site.folder / "pid").exists()


def test_a_beat_in_the_background(sqlite_site: Site) -> None:
    beats, folder = Beats(sqlite_site, SECOND), sqlite_site.folder / "place"
    folder.mkdir()
    options = ("--detach", "--workdir", "place", "--pidfile", "pid", "--logfile", "log")
    first = beats.start(*options, "--umask", "027")
    assert first.wait() == 0, first.output
    pid = int((folder / "pid").read_text())
    try:
        until(lambda: "sent `tick`" in (folder / "log").read_text(), "it to send")
        assert os.getpgid(pid) != os.getpgid(0) and os.getsid(pid) != os.getsid(0)
        assert (folder / "log").stat().st_mode & 0o777 == 0o640
        # What is wrong is said by the command itself.
        second = beats.start(*options)
        assert second.wait() == 1 and "of a process that runs" in second.output
    finally:
        os.kill(pid, signal.SIGTERM)
    until(lambda: not (folder / "pid").exists(), "it to end")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_a_beat_of_another_user(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND, beat_gid="nogroup", beat_umask="077")
    beat = beats.start("--pidfile", "pid")
    beat.wait_for("leads")
    assert (
        f"Gid:\t{grp.getgrnam('nogroup').gr_gid}\t" in Path(f"/proc/{beat.pid}/status").read_text()
    )
    assert (sqlite_site.folder / "pid").stat().st_mode & 0o777 == 0o600
    assert beat.stop() == 0
    # A user of whom the test knows that it can read what a beat imports later is not everywhere.
    program = """
import os
from taskcore.cli import daemon
daemon.become("nobody", None, "027")
print(os.getuid(), os.getgid(), os.getgroups(), oct(os.umask(0)))
try:
    daemon.become("root", None, None)
except Exception as error:
    print(error)
"""
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    user = pwd.getpwnam("nobody")
    assert told.stdout.startswith(f"{user.pw_uid} {user.pw_gid} [{user.pw_gid}] 0o27\n")
    assert "cannot become user `root`" in told.stdout and "only root may" in told.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["add", "a", "t"], "expected one of --every"),
        (["add", "a", "t", "--every", "1", "--timezone", "UTC"], "--timezone is the zone"),
        (["add", "a", "t", "--crontab", "* *"], "has 2 fields"),
        (["add", "a", "t", "--crontab", "61 * * * *"], "`61`, expected a number from 0 to 59"),
        (["add", "a", "t", "--crontab", "* * * * *", "--timezone", "Mars"], "Europe/Oslo"),
        (["--executable", "python"], "name the interpreter in front"),
        (["--umask", "9"], "three octal digits"),
        (["--uid", "no-such-user"], "expected a user of this machine"),
        (["--gid", "no-such-group"], "expected a group of this machine"),
        (["--detach", "--scheduler", "no.such:Scheduler"], "module:name"),
        (["--scheduler", "no.such:Scheduler"], "module:name"),
    ],
)
def test_what_cannot_be_is_said(sqlite_site: Site, words: list[str], told: str) -> None:
    beats = Beats(sqlite_site)
    usage = ("expected one of", "--timezone is", "name the interpreter")
    code = 2 if told.startswith(usage) else 1
    assert told in beats.cli(*words, code=code)
