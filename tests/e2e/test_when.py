"""When and in which order tasks run. Order is observed; of time only what is promised is checked:
never too early."""

import datetime as dt
import time

import pytest

from support.site import Site

WAIT = 30


def test_a_countdown_is_waited_for(site: Site) -> None:
    site.worker()
    now = site.task("now")
    begun = time.time()
    assert now.apply_async(countdown=0.5).get(timeout=WAIT) >= begun + 0.5


def test_an_eta_is_waited_for_and_others_pass(site: Site) -> None:
    site.worker("-c", "1")
    eta = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    later = site.task("now").apply_async(eta=eta)
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert later.get(timeout=WAIT) >= eta.timestamp()


def test_an_eta_beyond_the_horizon_is_kept_by_the_broker(site: Site) -> None:
    site.task("log").apply_async(("tomorrow",), countdown=86_400)
    site.worker("-c", "1")
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.queue() == {
        "queue": "taskcore",
        "depth": 0,
        "in_flight": 0,
        "scheduled": 1,
        "dead": 0,
    }


def test_an_eta_just_beyond_the_horizon_is_promoted(site: Site) -> None:
    begun = time.time()
    results = [site.task("now").apply_async(countdown=seconds) for seconds in (3.0, 2.5, 2.2)]
    site.worker("-c", "1")
    ran = [result.get(timeout=WAIT) for result in results]
    assert ran == sorted(ran, reverse=True)
    assert ran[0] >= begun + 3.0


def test_priorities_are_served_best_first(site: Site) -> None:
    for priority in (9, 6, 3, 0, 9, 6, 3, 0):
        site.task("log").apply_async((str(priority),), priority=priority)
    site.worker("-c", "1", "--prefetch-multiplier", "1")
    assert site.wait_written(8) == ["0", "0", "3", "3", "6", "6", "9", "9"]


def test_one_queue_is_served_in_order(site: Site) -> None:
    site.task("log").apply_many([(str(n),) for n in range(500)])
    site.worker("-c", "1")
    assert site.wait_written(500) == [str(n) for n in range(500)]


def test_only_the_named_queues_are_served(site: Site) -> None:
    for queue in ("red", "green", "blue"):
        site.task("log").apply_async((queue,), queue=queue)
    site.worker("-c", "1", "-Q", "green,blue")
    assert sorted(site.wait_written(2)) == ["blue", "green"]
    assert site.queue("red")["depth"] == 1


def test_a_long_task_does_not_hold_up_the_others(site: Site) -> None:
    """Two processes, one of them busy for ever: everything else goes through the other."""
    site.worker("-c", "2")
    gate = site.gate()
    held = site.task("hold").delay(str(gate))
    site.wait_written(1)
    results = site.task("add").apply_many([(n, 0) for n in range(200)])
    assert [result.get(timeout=WAIT) for result in results] == list(range(200))
    gate.touch()
    assert held.get(timeout=WAIT) == "held"


def test_a_rate_limited_task_lets_others_pass(site: Site) -> None:
    site.worker("-c", "1")
    results = [site.task("seldom").delay(str(n)) for n in range(3)]
    assert results[0].get(timeout=WAIT) == "0"
    assert site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert site.written() == ["0"]


def test_a_rate_limit_spaces_the_starts(site: Site) -> None:
    results = site.task("paced").apply_many([() for _ in range(4)])
    site.worker()
    ran = sorted(result.get(timeout=WAIT) for result in results)
    # Five a second with a bucket of one: three gaps of 0.2 s, of which the first may shrink where
    # the first start was slow.
    assert ran[-1] - ran[0] >= 0.3


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_every_pool_runs_tasks(sqlite_site: Site, pool: str) -> None:
    options = ["-P", pool] + (["-c", "2"] if pool != "solo" else [])
    worker = sqlite_site.worker(*options)
    results = sqlite_site.task("add").apply_many([(n, 1) for n in range(100)])
    assert [result.get(timeout=WAIT) for result in results] == list(range(1, 101))
    with pytest.raises(ValueError, match="on purpose"):
        sqlite_site.task("fail").delay("on purpose").get(timeout=WAIT)
    runs_in = sqlite_site.task("pid").delay().get(timeout=WAIT)
    assert (runs_in == worker.pid) == (pool != "prefork")
    assert worker.stop() == 0
