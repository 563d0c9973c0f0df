"""The leading beat is killed again and again; an oracle looks at every due time."""

import os
import signal
from itertools import cycle, islice
from pathlib import Path

import pytest

from support.beats import Beats, gaps, kill
from support.process import Process
from support.redis_server import RedisServer
from support.site import Site
from support.wait import until

KILLS = int(os.environ.get("BEAT_KILLS", "2"))
"""`make chaos` says 50."""


def who_leads(pair: list[Process]) -> Process:
    """The beat that leads, once one does; the other takes over from one that is killed."""
    until(lambda: any("leads" in beat.output for beat in pair), "a beat to lead")
    return next(beat for beat in pair if "leads" in beat.output)


@pytest.mark.timeout(120 + 15 * KILLS)
def test_every_due_time_is_sent_once_whichever_beat_is_lost(site: Site) -> None:
    names = [f"tick-{n}" for n in range(5)]
    entry = {"task": "ticking.tick", "schedule": 1.0, "missed": "all"}
    beats = Beats(site, dict.fromkeys(names, entry))
    worker = beats.worker("-l", "warning")
    pair = [beats.start(), beats.start()]
    for name in islice(cycle(names), KILLS):
        leader = who_leads(pair)
        # In the middle of sending, now after the first and now after the last of a second.
        leader.wait_for(f"sent `{name}`", count=3)
        kill(leader)
        pair.remove(leader)
        pair.append(beats.start())
    who_leads(pair).wait_for("sent `tick-4`", count=3)
    finish(site, beats, pair, worker)


def finish(site: Site, beats: Beats, pair: list[Process], worker: Process) -> None:
    """Ends everything, and compares what ran with what was sent and with the clock."""
    for beat in pair:
        assert beat.stop() == 0
    site.wait_queue(depth=0, in_flight=0)
    assert worker.stop() == 0
    due = beats.due()
    sent = {name: entry["total_run_count"] for name, entry in beats.entries().items()}
    assert {name: len(times) for name, times in due.items()} == sent
    for times in due.values():
        assert gaps(times) == {1.0}
        assert len(times) >= 3


@pytest.mark.timeout(120)
def test_a_beat_that_wakes_from_a_long_sleep_sends_nothing_twice(site: Site) -> None:
    beats = Beats(site, {"tick": {"task": "ticking.tick", "schedule": 1.0, "missed": "all"}})
    worker = beats.worker("-l", "warning")
    first = beats.start()
    first.wait_for("sent `tick`", count=2)
    second = beats.start()
    second.wait_for("beat: starting")
    os.kill(first.pid, signal.SIGSTOP)
    second.wait_for("sent `tick`", count=3)
    os.kill(first.pid, signal.SIGCONT)
    first.wait_for("leads now")
    second.wait_for("sent `tick`", count=6)
    finish(site, beats, [first, second], worker)


@pytest.mark.timeout(120)
def test_a_beat_that_sleeps_before_it_writes_sets_nothing_back(site: Site) -> None:
    tick = {"task": "ticking.tick", "schedule": 1.0, "missed": "all"}
    beats = Beats(site, {"tick": tick})
    worker = beats.worker("-l", "warning")
    # Of an older version of the app, in which the entry says something else and another exists.
    old = Beats(site, {"tick": {**tick, "schedule": 7.0}, "gone": tick})
    first = old.start("-S", "ticking:Stopped")
    first.wait_for("stopping before the first change")
    second = beats.start()
    second.wait_for("sent `tick`", count=3)
    os.kill(first.pid, signal.SIGCONT)
    first.wait_for("has lost the lead before it wrote its entries")
    second.wait_for("sent `tick`", count=6)
    assert set(beats.entries()) == {"tick"}
    finish(site, beats, [first, second], worker)


@pytest.mark.timeout(120 + 30 * KILLS)
def test_leaders_that_sleep_while_entries_change_send_nothing_twice(redis_site: Site) -> None:
    # Not on sqlite, where a process that is stopped in a transaction holds up every other.
    site = redis_site
    tick = {"task": "ticking.tick", "schedule": 1.0, "missed": "all"}
    beats = Beats(site, {"tick": tick})
    worker = beats.worker("-l", "warning")
    leader, other = beats.start(), None
    leader.wait_for("leads")
    for n in range(KILLS):
        other = other or beats.start()
        other.wait_for("beat: starting")
        rule = ("--missed", "all", "--every", str(0.5 + 0.5 * (n % 2)))
        beats.cli("add", "edited", "ticking.tick", *rule)
        leader.wait_for("sent `edited`", count=1 + 3 * n)
        os.kill(leader.pid, signal.SIGSTOP)
        beats.cli("add", "edited", "ticking.tick", "--missed", "all", "--every", "0.25")
        beats.cli("pause", "tick")
        other.wait_for(f"`.*:{other.pid}:.*` leads$", count=(n + 1) // 2 + 1)
        beats.cli("resume", "tick")
        other.wait_for("sent `edited`", count=3 + 3 * n)
        os.kill(leader.pid, signal.SIGCONT)
        leader.wait_for("leads now", count=n // 2 + 1)
        leader, other = other, leader
    for beat in (leader, other):
        assert beat is not None and beat.stop() == 0
    site.wait_queue(depth=0, in_flight=0)
    assert worker.stop() == 0
    for name, times in beats.due().items():
        assert len(times) == len(set(times)) == beats.entries()[name]["total_run_count"]
    assert gaps(beats.due()["tick"]) == {1.0}


@pytest.mark.timeout(120)
def test_a_broker_that_goes_and_comes_back(own_redis: RedisServer, tmp_path: Path) -> None:
    with Site(tmp_path, own_redis.url(0), own_redis.url(0)) as site:
        beats = Beats(site, {"tick": {"task": "ticking.tick", "schedule": 1.0, "missed": "all"}})
        beat = beats.start()
        beat.wait_for("sent `tick`", count=2)
        own_redis.stop(signal.SIGKILL)
        beat.wait_for("the broker is away")
        own_redis.start()
        beat.wait_for("connected again")
        beat.wait_for("sent `tick`", count=6)
        finish(site, beats, [beat], beats.worker("-l", "warning"))
