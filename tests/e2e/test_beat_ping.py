"""A beat answers `ping` as a worker does, while it ticks."""

import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from support.beats import Beats
from support.process import TASKCORE, Process
from support.site import Site
from taskcore import Taskcore
from taskcore.beat.remote import Remote, is_ping

SECOND = {"tick": {"task": "ticking.tick", "schedule": 1.0}}
NODE = f"celerybeat@{socket.gethostname()}"


def ping(beats: Beats, *words: str) -> Process:
    command = [TASKCORE, "-A", "ticking", "inspect", "ping", "-t", "5", *words]
    done = Process(command, cwd=beats.site.folder, env=beats.env)
    beats.site.processes.append(done)
    done.wait()
    return done


def test_a_beat_answers_while_it_runs(site: Site) -> None:
    beats = Beats(site, SECOND)
    beat = beats.start("--enable-remote-control")
    beat.wait_for("sent `tick`")
    answer = ping(beats, "-d", NODE)
    assert answer.wait() == 0 and NODE in answer.output and "pong" in answer.output
    named = Beats(site, SECOND, beat_enable_remote_control=True)
    second = named.start("-n", "second@%h")
    second.wait_for("beat: starting")
    name = f"second@{socket.gethostname()}"
    assert ping(beats, "-d", name).wait() == 0
    os.kill(second.pid, signal.SIGSTOP)
    assert ping(beats, "-d", name).wait() != 0
    os.kill(second.pid, signal.SIGCONT)
    assert second.stop() == 0 and beat.stop() == 0
    assert ping(beats, "-d", NODE).wait() != 0


def test_a_beat_is_silent_unless_it_is_asked_to_answer(sqlite_site: Site) -> None:
    beats = Beats(sqlite_site, SECOND)
    beats.start().wait_for("leads")
    assert ping(beats, "-t", "1", "-d", NODE).wait() != 0


def test_who_is_meant() -> None:
    def asked(**said: Any) -> bool:
        return is_ping({"method": "ping", **said}, "celerybeat@here")

    assert asked() and asked(destination=None) and asked(destination=["x", "celerybeat@here"])
    assert not asked(destination=["x"]) and not is_ping({"method": "active"}, "x")
    assert asked(pattern="celerybeat@*", matcher="glob") and not asked(pattern="w*", matcher="glob")
    assert asked(pattern="^celery", matcher="pcre") and not asked(pattern="(", matcher="pcre")
    assert not is_ping("ping", "x")


@pytest.mark.parametrize(
    ("most", "age", "stale"),
    [(None, 500, False), (None, 700, True), (5, 6, True), (5, 4, False), (0, 1e6, False)],
)
def test_one_that_does_not_tick_is_silent(most: float | None, age: float, stale: bool) -> None:
    import time

    app = Taskcore("silent", broker="memory://", set_as_current=False)
    app.conf.beat_remote_control_max_tick_age = most
    service = SimpleNamespace(app=app, last_tick=time.monotonic() - age, effective_max_interval=300)
    assert Remote(service, "x").is_stale() is stale
