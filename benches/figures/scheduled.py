"""A million tasks an hour ahead: how fast they are published, and what they cost a connected worker."""

import time

from common import client, line, machine

COUNT = 1_000_000

SCHEDULE = f"""
import json, time
import taskcore_app as m
t = time.perf_counter()
m.noop.apply_many(((i,) for i in range({COUNT})), countdown=3600)
print(json.dumps([{COUNT} / (time.perf_counter() - t)]))
"""


def main() -> None:
    """Measures and prints."""
    words = ["-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q"]
    with machine.redis() as server, machine.folder() as folder:
        env = machine.environment(server.url, TALLY_DIR=str(folder))
        with machine.running(machine.ours(*words), env, folder / "log") as worker:
            machine.wait(lambda: len(machine.tree(worker.pid)) >= 4, "the children", 20)
            time.sleep(2)
            without = machine.pss_mib(machine.tree(worker.pid))
            (rate,) = client(SCHEDULE, env)
            time.sleep(10)
            grown = machine.pss_mib(machine.tree(worker.pid)) - without
    line("publishing 1,000,000 tasks an hour ahead", rate, "/s", 300_000, at_least=True)
    line("worker memory with them, beyond that with none", grown, "MiB PSS", 2, at_least=False)


if __name__ == "__main__":
    main()
