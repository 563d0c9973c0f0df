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
