"""On an idle worker: `delay().get()`, and from before `delay()` to the first line of the task,
also for a stock producer.

Both clocks are the machine's monotonic one. Each call waits for the result of the one before, and
then a little longer, so that the worker has settled everything and waits blocked at its broker
again.
"""

import statistics
import sys
from pathlib import Path

from common import client, line, machine, runs

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from harness import prepare

CALLS = 1_000

ROUNDTRIP = f"""
import json
import taskcore_app as m
m.roundtrip(200)
print(json.dumps([span / 1e3 for span in m.roundtrip({CALLS})]))
"""

START = f"""
import json, time
import taskcore_app as m
spans = []
for number in range({CALLS} + 100):
    time.sleep(0.003)
    before = time.monotonic_ns()
    result = m.started.delay()
    spans.append((result.get(timeout=10) - before) / 1e3)
print(json.dumps(spans[100:]))
"""

# A stock Celery client makes and stages the messages; what is timed begins when the bytes of the
# LPUSH that puts one into the queue leave, as encoding it takes Celery longer than everything that
# comes after.
STOCK = f"""
import json, socket, time
from urllib.parse import urlsplit
import celery_app as m
import redis
client = redis.Redis.from_url(m.URL)
for number in range({CALLS} + 100):
    m.started.apply_async(queue="staged")
at = urlsplit(m.URL)
link = socket.create_connection((at.hostname, at.port))
link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
spans = []
while raw := client.rpop("staged"):
    task_id = json.loads(raw)["headers"]["id"]
    push = b"*3\\r\\n$5\\r\\nLPUSH\\r\\n$6\\r\\ncelery\\r\\n$%d\\r\\n%s\\r\\n" % (len(raw), raw)
    time.sleep(0.003)
    before = time.monotonic_ns()
    link.sendall(push)
    link.recv(64)
    spans.append((m.app.AsyncResult(task_id).get(timeout=10) - before) / 1e3)
print(json.dumps(spans[100:]))
"""


def main() -> None:
    """Measures and prints."""
    celery = prepare("celery").python
    series: dict[str, list[tuple[float, float]]] = {}
    with machine.redis() as server, machine.folder() as folder:
        env = machine.environment(server.url, TALLY_DIR=str(folder))
        words = [
            "-A",
            "taskcore_app",
            "worker",
            "-c",
            "2",
            "-Q",
            "taskcore,celery",
            "-l",
            "warning",
            "-q",
        ]
        with machine.running(machine.ours(*words), env, folder / "log"):
            for _ in range(runs()):
                for name, code, python in (
                    ("roundtrip", ROUNDTRIP, sys.executable),
                    ("start", START, sys.executable),
                    ("stock", STOCK, celery),
                ):
                    spans = client(code, env, python)
                    both = (machine.percentile(spans, 0.5), machine.percentile(spans, 0.99))
                    series.setdefault(name, []).append(both)
    for name, title, index, bound in (
        ("roundtrip", "delay().get() on an idle worker, p50", 0, 250),
        ("roundtrip", "delay().get() on an idle worker, p99", 1, 1_000),
        ("start", "publish to start on an idle worker, p50", 0, 150),
        ("stock", "publish to start, message of a stock Celery client, p50", 0, 150),
    ):
        line(
            title,
            statistics.median(both[index] for both in series[name]),
            "us",
            bound,
            at_least=False,
        )


if __name__ == "__main__":
    main()
