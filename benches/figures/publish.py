"""`delay()` from one thread, each confirmed, and publishing in bulk; on Redis, no worker."""

import statistics

from common import client, line, machine, runs

SINGLE, BULK = 40_000, 600_000

SINGLY = f"""
import json, time
import taskcore_app as m
m.publish("noop", 0, 200)
t = time.perf_counter()
m.publish("noop", 0, {SINGLE})
print(json.dumps([{SINGLE} / (time.perf_counter() - t)]))
"""

IN_BULK = f"""
import json, time
import taskcore_app as m
m.publish_bulk("noop", 0, 200)
t = time.perf_counter()
m.publish_bulk("noop", 0, {BULK})
print(json.dumps([{BULK} / (time.perf_counter() - t)]))
"""


def main() -> None:
    """Measures and prints."""
    with machine.redis() as server:
        env = machine.environment(server.url)
        for name, code, bound in (
            ("delay() from one thread, each confirmed", SINGLY, 18_000),
            ("bulk publish", IN_BULK, 300_000),
        ):
            taken = []
            for _ in range(runs()):
                server.clear()
                taken += client(code, env)
            line(name, statistics.median(taken), "/s", bound, at_least=True)


if __name__ == "__main__":
    main()
