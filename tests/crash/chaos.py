"""Kills workers, children and the broker at random moments under load for some minutes; an oracle
counts every task.

Not a pytest test: it runs as long as it is told to. Prints a line per kill and a verdict, and
exits with 1 when a task was lost. The seed is printed, so that a bad night can be repeated in
kind, though not in its exact timing.

    make chaos MINUTES=10
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import contextlib

from support.process import Worker
from support.redis_server import RedisServer
from support.site import APPS, Site
from support.wait import until

WORKERS = 3
BATCH = 500


class Chaos:
    """The load, the oracle, and what goes wrong."""

    def __init__(self, site: Site, server: RedisServer | None, dice: random.Random) -> None:
        self.site = site
        self.server = server
        self.dice = dice
        self.published = 0
        self.workers: list[Worker] = [self.worker() for _ in range(WORKERS)]

    def worker(self) -> Worker:
        """Another worker."""
        return self.site.worker("-c", "2", "-l", "warning", ready=False)

    def publish(self) -> None:
        """One batch; what was not confirmed is not counted, but may run."""
        from taskcore.exceptions import OperationalError

        numbers = [(str(n),) for n in range(self.published, self.published + BATCH)]
        try:
            self.site.task("log_late").apply_many(numbers)
        except OperationalError as error:
            print(f"  not confirmed: {error}", flush=True)
            self.published += len(getattr(error, "published", ()))
            return
        self.published += BATCH

    def hurt(self) -> str:
        """Kills something and sees to it that as much lives as before."""
        what = self.dice.choice(["worker", "child", "stop", "broker"])
        victim = self.dice.randrange(WORKERS)
        worker = self.workers[victim]
        if what == "child":
            below = worker.children()[1:]
            if below:
                os.kill(self.dice.choice(below), signal.SIGKILL)
        elif what == "broker":
            if self.server is None:
                return "nothing"
            self.server.stop(signal.SIGKILL)
            self.server.start()
        else:
            if what == "worker":
                worker.kill()
            else:
                worker.stop(60)
            self.workers[victim] = self.worker()
        return f"{what} of worker {victim}"

    def run(self, seconds: float) -> bool:
        """Until the time is over, then until everything has run."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.publish()
            behind = max(0, self.published - 20 * BATCH)
            until(lambda: len(set(self.site.written())) >= behind, "the workers to keep up", 120)  # noqa: B023
            if self.dice.random() < 0.3:
                print(f"{self.published:>9,} published, killed: {self.hurt()}", flush=True)
        expected = {str(n) for n in range(self.published)}
        with contextlib.suppress(AssertionError):
            until(lambda: expected <= set(self.site.written()), "the last tasks", 120)
        counts = Counter(self.site.written())
        lost = expected - counts.keys()
        again = sum(1 for count in counts.values() if count > 1)
        print(f"published {self.published:,}, lost {len(lost)}, run more than once {again:,}")
        return not lost


def main() -> int:
    """Redis, then the embedded database, each half of the time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    sys.path.insert(0, str(APPS))
    good = True
    for kind in ("redis", "sqlite"):
        print(f"{kind}, seed {arguments.seed}", flush=True)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            server = None
            url = f"sqlite:///{folder / 'queue.db'}"
            if kind == "redis":
                server = RedisServer(
                    folder, "--appendonly", "yes", "--appendfsync", "always"
                ).start()
                url = server.url()
            with Site(folder, url, url) as site:
                good &= Chaos(site, server, random.Random(arguments.seed)).run(
                    30 * arguments.minutes
                )
            if server is not None:
                server.stop()
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
