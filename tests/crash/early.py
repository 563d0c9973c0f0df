"""What early acknowledgement costs when workers die or stall: short tasks that are acknowledged when they begin, counted.

A task that is taken early is meant to run at most once. Workers tell the broker in batches which of them have begun, so a worker
that dies, or that is away for longer than its lease, has run some that the broker gives to another. Not a pytest test: it prints
how many ran twice and how many never ended, which are the figures of docs/deployment.md.

    python tests/crash/early.py --tasks 20000 --kills 8
    python tests/crash/early.py --tasks 20000 --stops 1
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.process import Worker
from support.redis_server import RedisServer
from support.site import APPS, Site
from support.wait import until

STOPPED = 20.0
"""Seconds for which a stopped worker is away: longer than its lease."""


def play(site: Site, tasks: int, kills: int, stops: int) -> None:
    """Publishes, kills or stops a worker whenever another part has run, and prints what was counted."""
    options = ("-c", "2", "-l", "error")
    workers = [site.worker(*options) for _ in range(2)]
    results = site.task("work").apply_many([(str(n),) for n in range(tasks)])
    for turn in range(1, kills + stops + 1):
        site.wait_written(tasks * turn // (kills + stops + 2), timeout=120)
        victim = workers.pop(0)
        if turn <= kills:
            os.killpg(victim.pid, signal.SIGKILL)
            workers.append(site.worker(*options))
        else:
            stop(victim)
            workers.append(victim)
    until(lambda: site.queue()["depth"] + site.queue()["in_flight"] == 0, "an empty queue", 120)
    for worker in workers:
        worker.stop()
    counts = Counter(site.written())
    twice = sum(1 for count in counts.values() if count > 1)
    print(
        f"{tasks} tasks, {kills} kills, {stops} stops: {twice} ran more than once, at most "
        f"{max(counts.values())} times; {tasks - len(counts)} never ran, and for "
        f"{tasks - results.completed_count()} the caller waits"
    )


def stop(worker: Worker) -> None:
    """Holds all of its processes, and lets them go on when others have taken over."""
    everyone = [worker.pid, *worker.children()]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(STOPPED)
    for pid in everyone:
        os.kill(pid, signal.SIGCONT)


def main() -> None:
    """One game on sqlite, one on Redis."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--stops", type=int, default=0)
    args = parser.parse_args()
    sys.path.insert(0, str(APPS))
    for kind in ("sqlite", "redis"):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            server = RedisServer(folder).start() if kind == "redis" else None
            url = f"sqlite:///{folder / 'queue.db'}" if server is None else server.url()
            print(f"{kind}: ", end="", flush=True)
            with Site(folder, url, url) as site:
                play(site, args.tasks, args.kills, args.stops)
            if server is not None:
                server.stop()


if __name__ == "__main__":
    main()
