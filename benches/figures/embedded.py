"""The embedded default: a sqlite file, its durability as shipped; publishing in bulk, and
executing what was published."""

import statistics
import time

import common
from common import client, line, machine, runs

COUNT = 200_000

IN_BULK = f"""
import json, time
import taskcore_app as m
m.publish_bulk("noop", 0, 50)
t = time.perf_counter()
m.publish_bulk("noop", 50, {COUNT})
print(json.dumps([({COUNT} - 50) / (time.perf_counter() - t)]))
"""


def main() -> None:
    """Measures and prints."""
    import tally

    published, executed = [], []
    for _ in range(runs()):
        with machine.folder() as folder:
            tally.reset(folder / "tally")
            env = machine.environment(f"sqlite:///{folder / 'bench.db'}")
            published += client(IN_BULK, env)
            words = ["-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q"]
            with machine.running(machine.ours(*words), env, common.machine.WORK / "embedded.log"):
                machine.wait(lambda: tally.total()[0] >= COUNT, "the tasks", 120)
                time.sleep(0.1)
            done, seconds = tally.total()
            executed.append(done / seconds)
    line("embedded sqlite: bulk publish", statistics.median(published), "/s", 50_000, at_least=True)
    line("embedded sqlite: executed", statistics.median(executed), "/s", 30_000, at_least=True)


if __name__ == "__main__":
    machine.WORK.mkdir(parents=True, exist_ok=True)
    main()
