"""Workers and children are killed under load; an oracle counts every task by its number."""

import os
import signal
from collections import Counter

import pytest

from support.site import Site
from support.wait import until
from taskcore.exceptions import WorkerLostError

TASKS = 10_000
BOUND = 15.0  # seconds from the death of a worker until everything it held has run elsewhere


@pytest.mark.timeout(180)
def test_a_killed_workers_tasks_are_run_by_the_others(site: Site) -> None:
    """SIGKILL one of two workers while 10,000 late-acked tasks run: lost 0, all of it within 15 s."""
    victim = site.worker("-c", "2", "-l", "warning")
    site.worker("-c", "2", "-l", "warning")
    site.task("work_late").apply_many([(str(n),) for n in range(TASKS)])
    site.wait_written(TASKS // 20)
    os.killpg(victim.pid, signal.SIGKILL)

    def missing() -> set[str]:
        return {str(n) for n in range(TASKS)} - set(site.written())

    assert missing(), "it was killed too late to prove anything"
    until(lambda: not missing(), "every task to have run", timeout=BOUND)
    counts = Counter(site.written())
    assert len(counts) == TASKS
    # At-least-once: what ran when the worker died may have run twice, and nothing more often.
    assert max(counts.values()) <= 2
    site.wait_queue(depth=0, in_flight=0, dead=0)


@pytest.mark.timeout(180)
def test_a_worker_that_dies_while_others_run_is_noticed_by_them(site: Site) -> None:
    """The victim holds claimed tasks behind one that never ends; the others were there before and
    take them over."""
    gate = site.gate()
    victim = site.worker("-c", "1", "-Q", "taskcore", "-l", "warning")
    site.task("hold_late").delay(str(gate), "stuck")
    site.wait_written(1)
    site.task("log_late").apply_many([(str(n),) for n in range(50)])
    until(lambda: site.queue()["in_flight"] > 1, "the victim to claim some")
    site.worker("-c", "2", "-l", "warning")
    gate.touch()
    os.killpg(victim.pid, signal.SIGKILL)
    until(
        lambda: {str(n) for n in range(50)} | {"end stuck"} <= set(site.written()),
        "everything to have run",
        timeout=BOUND,
    )
    site.wait_queue(depth=0, in_flight=0, dead=0)


@pytest.mark.timeout(180)
def test_killed_children_lose_nothing(site: Site) -> None:
    """Children are killed again and again; each is replaced, and what it ran is run again."""
    worker = site.worker("-c", "2", "-l", "warning")
    site.task("work_late").apply_many([(str(n),) for n in range(TASKS)])
    for part in range(1, 6):
        site.wait_written(TASKS * part // 10)
        below = set(worker.children()) - set(zygotes(worker.pid))
        assert below and len(set(site.written())) < TASKS
        os.kill(below.pop(), signal.SIGKILL)
    until(lambda: len(set(site.written())) == TASKS, "every task to have run", timeout=60)
    assert max(Counter(site.written()).values()) <= 4
    site.wait_queue(depth=0, in_flight=0, dead=0)
    assert worker.stop() == 0


def zygotes(parent: int) -> list[int]:
    """Direct children of the worker: the process that forks the others."""
    with open(f"/proc/{parent}/task/{parent}/children") as children:
        return [int(pid) for pid in children.read().split()]


@pytest.mark.timeout(180)
def test_a_killed_zygote_ends_the_worker_or_is_replaced_and_nothing_is_lost(site: Site) -> None:
    worker = site.worker("-c", "2", "-l", "warning")
    site.task("work_late").apply_many([(str(n),) for n in range(2000)])
    site.wait_written(100)
    os.kill(zygotes(worker.pid)[0], signal.SIGKILL)
    site.worker("-c", "1", "-l", "warning")
    until(lambda: len(set(site.written())) == 2000, "every task to have run", timeout=60)
    site.wait_queue(depth=0, in_flight=0, dead=0)


@pytest.mark.timeout(180)
def test_a_publisher_that_is_killed_leaves_whole_messages(site: Site) -> None:
    """What arrived is whole, whatever the moment."""
    from support.process import Process

    source = (
        "import sample, itertools; "
        f"app = sample.make(broker_url={site.broker!r}, result_backend={site.results!r}); "
        "log = app.tasks['sample.log']; "
        "[print(log.delay(str(n)).id, flush=True) for n in itertools.count()]"
    )
    import sys

    publisher = Process([sys.executable, "-c", source], cwd=site.folder, env=site.env)
    site.processes.append(publisher)
    publisher.wait_for("-", count=200)
    publisher.kill()
    confirmed = len(publisher.lines)
    site.worker("-c", "1", "-l", "warning")
    site.wait_queue(depth=0, in_flight=0, dead=0)
    ran = site.written()
    assert [int(line) for line in ran] == list(range(len(ran)))
    assert len(ran) >= confirmed - 1


@pytest.mark.timeout(180)
def test_what_cost_too_many_workers_is_parked_and_its_caller_learns_it(site: Site) -> None:
    """The whole worker dies with its task: the first time nobody knows of which, the second time it
    is counted."""
    result = site.app.send_task("fragile.die")
    for _ in range(2):
        dead = site.worker("-P", "solo", app="fragile", ready=False)
        assert dead.wait() == -signal.SIGKILL
    heir = site.worker("-P", "solo", app="fragile")
    with pytest.raises(WorkerLostError, match="prematurely: 1"):
        result.get(timeout=2 * BOUND)
    site.wait_queue(depth=0, in_flight=0, dead=1)
    assert "workers lost with it: `1`" in site.cli("dead", "list", "taskcore")
    assert heir.stop() == 0


@pytest.mark.timeout(180)
def test_of_many_only_the_task_that_kills_its_worker_is_parked(site: Site) -> None:
    fine = [site.app.send_task("fragile.fine", (n,)) for n in range(100)]
    killer = site.app.send_task("fragile.die")
    fine += [site.app.send_task("fragile.fine", (n,)) for n in range(100, 300)]
    for _ in range(2):
        dead = site.worker("-P", "solo", app="fragile", ready=False)
        assert dead.wait() == -signal.SIGKILL
    site.worker("-P", "solo", app="fragile")
    with pytest.raises(WorkerLostError, match="prematurely: 1"):
        killer.get(timeout=2 * BOUND)
    assert [result.get(timeout=BOUND) for result in fine] == list(range(300))
    site.wait_queue(depth=0, in_flight=0, dead=1)
