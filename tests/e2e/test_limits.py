"""Time limits, and processes that end in the middle of a task."""

import pytest

from support.site import Site
from taskcore.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError

WAIT = 30


def test_a_soft_limit_is_raised_inside_the_task(site: Site) -> None:
    site.worker()
    assert site.task("soft_limited").delay(60).get(timeout=WAIT) == "noticed"
    assert site.task("soft").apply_async((60,), soft_time_limit=0.2).get(timeout=WAIT) == "noticed"
    with pytest.raises(SoftTimeLimitExceeded):
        site.task("hold").apply_async((str(site.gate()),), soft_time_limit=0.2).get(timeout=WAIT)


def test_a_hard_limit_kills_the_child_and_the_worker_goes_on(site: Site) -> None:
    worker = site.worker("-c", "1")
    before = site.task("pid").delay().get(timeout=WAIT)
    with pytest.raises(TimeLimitExceeded):
        site.task("hard_limited").delay(60).get(timeout=WAIT)
    with pytest.raises(TimeLimitExceeded):
        site.task("spin").apply_async((60,), time_limit=0.3).get(timeout=WAIT)
    assert site.task("pid").delay().get(timeout=WAIT) != before
    assert worker.stop() == 0


def test_the_workers_own_limits_apply_to_every_task(site: Site) -> None:
    site.worker("-c", "1", "--time-limit", "1", "--soft-time-limit", "0.2")
    assert site.task("soft").delay(60).get(timeout=WAIT) == "noticed"
    with pytest.raises(TimeLimitExceeded):
        site.task("spin").delay(60).get(timeout=WAIT)


def test_a_task_whose_process_died_is_lost_when_it_was_acknowledged_early(site: Site) -> None:
    site.worker("-c", "1")
    result = site.task("die").delay("early")
    with pytest.raises(WorkerLostError):
        result.get(timeout=WAIT)
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.written() == ["dying early"]


def test_a_task_whose_process_died_is_tried_again_and_then_parked(site: Site) -> None:
    """Acknowledged late, it is redelivered, counted, and parked before it takes the whole fleet down."""
    site.worker("-c", "1")
    site.task("die_late").delay("late")
    dead = site.wait_queue(dead=1)
    assert (dead["depth"], dead["in_flight"]) == (0, 0)
    assert 2 <= len(site.written()) <= 4
    assert "sample.die_late" in site.cli("dead", "list", "taskcore")
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2


def test_children_are_replaced_after_their_share_of_tasks(site: Site) -> None:
    site.worker("-c", "1", "--max-tasks-per-child", "2")
    pids = [site.task("pid").delay().get(timeout=WAIT) for _ in range(6)]
    assert pids[0] == pids[1] and pids[2] == pids[3] and pids[4] == pids[5]
    assert len(set(pids)) == 3


def test_a_rejected_message_is_requeued_or_parked(site: Site) -> None:
    site.worker("-c", "1")
    site.task("reject").delay(True)
    again = ["rejected True True"] * 2
    assert site.wait_written(3) == ["rejected True False", *again]
    site.wait_queue(depth=0, in_flight=0)
