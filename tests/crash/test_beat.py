"""The leading beat is killed again and again; an oracle looks at every due time."""

import os
from itertools import cycle, islice

import pytest

from support.beats import Beats, gaps, kill
from support.process import Process
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
    for beat in pair:
        assert beat.stop() == 0
    site.wait_queue(depth=0, in_flight=0)
    assert worker.stop() == 0
    due = beats.due()
    sent = {name: entry["total_run_count"] for name, entry in beats.entries().items()}
    assert {name: len(times) for name, times in due.items()} == sent
    for times in due.values():
        assert gaps(times) == {1.0}
        assert len(times) >= 3 * KILLS
