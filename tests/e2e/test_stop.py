"""A stop in the middle of everything: nothing is lost, nothing changes its order."""

import signal

import pytest

from support.site import Site

WAIT = 30


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_warm_stop_finishes_what_runs_and_hands_back_the_rest_in_order(
    site: Site, how: signal.Signals
) -> None:
    worker = site.worker("-c", "1")
    gate = site.gate()
    running = site.task("hold").delay(str(gate), "first")
    site.wait_written(1)
    site.task("log").apply_many([(str(n),) for n in range(100)])
    from support.wait import until

    until(lambda: site.queue()["in_flight"] > 0, "some of them to be claimed")
    worker.signal(how)
    worker.wait_for("(?i)warm shutdown")
    gate.touch()
    assert worker.wait() == 0
    assert running.get(timeout=WAIT) == "first"
    assert site.written() == ["begin first", "end first"]
    assert site.queue() == {
        "queue": "taskcore",
        "depth": 100,
        "in_flight": 0,
        "scheduled": 0,
        "dead": 0,
    }

    site.worker("-c", "1")
    assert site.wait_written(102)[2:] == [str(n) for n in range(100)]


def test_a_second_signal_stops_cold_and_what_ran_is_put_back(site: Site) -> None:
    worker = site.worker("-c", "1")
    gate = site.gate()
    site.task("hold_late").delay(str(gate), "cold")
    site.wait_written(1)
    worker.signal(signal.SIGTERM)
    worker.wait_for("(?i)warm shutdown")
    worker.signal(signal.SIGTERM)
    worker.wait_for("(?i)cold shutdown")
    worker.wait()
    assert worker.children() == []
    site.wait_queue(depth=1, in_flight=0)

    gate.touch()
    site.worker("-c", "1")
    assert site.wait_written(3) == ["begin cold", "begin cold", "end cold"]


def test_no_process_is_left_when_the_worker_is_killed(site: Site) -> None:
    import os

    from support.wait import until

    worker = site.worker("-c", "2")
    below = worker.children()
    assert below
    worker.signal(signal.SIGKILL)
    worker.popen.wait(WAIT)

    def gone() -> bool:
        for pid in below:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                continue
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] != "Z":
                    return False
        return True

    until(gone, "the children to end with their parent")


def test_an_idle_worker_stops_and_says_goodbye_to_the_broker(site: Site) -> None:
    worker = site.worker()
    assert worker.stop() == 0


SOFT = ("-l", "INFO", "--", "worker_soft_shutdown_timeout=30")
SHORT = ("-l", "INFO", "--", "worker_soft_shutdown_timeout=0.2")


def test_a_cold_stop_waits_for_what_runs_where_that_is_asked(site: Site) -> None:
    worker = site.worker("-c", "1", *SOFT)
    gate = site.gate()
    running = site.task("hold").delay(str(gate), "soft")
    site.wait_written(1)
    worker.signal(signal.SIGQUIT)
    worker.wait_for(r"the cold stop waits 30.0 s")
    gate.touch()
    worker.wait()
    assert running.get(timeout=WAIT) == "soft"
    assert site.written() == ["begin soft", "end soft"]


@pytest.mark.parametrize("options", [SOFT, SHORT])
def test_a_soft_stop_ends_cold(sqlite_site: Site, options: tuple[str, ...]) -> None:
    """By its timeout, or by one more signal."""
    worker = sqlite_site.worker("-c", "1", *options)
    sqlite_site.task("hold_late").delay(str(sqlite_site.gate()), "soft")
    sqlite_site.wait_written(1)
    worker.signal(signal.SIGQUIT)
    worker.wait_for("the cold stop waits")
    if options is SOFT:
        worker.signal(signal.SIGQUIT)
    worker.wait()
    assert worker.children() == []
    sqlite_site.wait_queue(depth=1, in_flight=0)


def test_a_soft_stop_of_an_idle_worker_is_cold_at_once(sqlite_site: Site) -> None:
    worker = sqlite_site.worker("-c", "1", *SOFT)
    worker.signal(signal.SIGQUIT)
    worker.wait()
    assert "the cold stop waits" not in worker.output
