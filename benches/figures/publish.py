"""`delay()` from one thread, each confirmed, and publishing in bulk; on Redis, no worker.

The first stands beside the rate of bare round trips taken just before it, a hand-written LPUSH of
the same size over one socket: what a round trip costs differs by a factor of two with where the
kernel puts the two processes.
"""

import statistics

from common import client, line, machine, note, runs

SINGLE, BULK = 40_000, 600_000

SINGLY = f"""
import json, socket, time, urllib.parse
import taskcore_app as m
url = urllib.parse.urlsplit(m.URL)
command = b"*3\\r\\n$5\\r\\nLPUSH\\r\\n$4\\r\\nbare\\r\\n$150\\r\\n" + b"x" * 150 + b"\\r\\n"
with socket.create_connection((url.hostname, url.port)) as link:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    t = time.perf_counter()
    for _ in range({SINGLE}):
        link.sendall(command)
        link.recv(64)
    bare = {SINGLE} / (time.perf_counter() - t)
m.publish("noop", 0, 200)
t = time.perf_counter()
m.publish("noop", 0, {SINGLE})
print(json.dumps([{SINGLE} / (time.perf_counter() - t), bare]))
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
        single, bare, bulk = [], [], []
        for _ in range(runs()):
            server.clear()
            rate, trips = client(SINGLY, env)
            single.append(rate)
            bare.append(trips)
            server.clear()
            bulk += client(IN_BULK, env)
    note("bare round trips to this Redis", statistics.median(bare), "/s")
    title = "delay() from one thread, each confirmed"
    line(title, statistics.median(single), "/s", 18_000, at_least=True)
    line("bulk publish", statistics.median(bulk), "/s", 300_000, at_least=True)


if __name__ == "__main__":
    main()
