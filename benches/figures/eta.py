"""How late tasks with an ETA start: 10,000 of them, spread evenly over ten seconds that begin a
little ahead."""

import statistics

from common import client, line, machine, runs

COUNT, SPREAD, AHEAD = 10_000, 10.0, 4.0

SCHEDULE = f"""
import datetime, json, time
import taskcore_app as m
base = time.time() + {AHEAD}
signatures = []
for i in range({COUNT}):
    due = base + i * {SPREAD} / {COUNT}
    when = datetime.datetime.fromtimestamp(due, datetime.timezone.utc)
    signatures.append(m.lateness.s(due).set(eta=when))
m.app.send_many(signatures)
print(json.dumps([base - time.time()]))
"""


def main() -> None:
    """Measures and prints."""
    import tally

    half, tail = [], []
    words = ["-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q"]
    with machine.redis() as server, machine.folder() as folder:
        for number in range(runs(3)):
            server.clear()
            marks = folder / str(number)
            tally.reset(marks)
            env = machine.environment(server.url)
            with machine.running(machine.ours(*words), env, folder / "log"):
                (left,) = client(SCHEDULE, env)
                if left < 0:
                    raise SystemExit("publishing took longer than the tasks were ahead")
                machine.wait(lambda: tally.total()[0] >= COUNT, "the tasks", 60)
            late = [
                1e3 * float(text)
                for path in marks.glob("*.late")
                for text in path.read_text().split()
            ]
            half.append(machine.percentile(late, 0.5))
            tail.append(machine.percentile(late, 0.99))
    line("lateness of an ETA task, p50", statistics.median(half), "ms", 5, at_least=False)
    line("lateness of an ETA task, p99", statistics.median(tail), "ms", 5, at_least=False)


if __name__ == "__main__":
    main()
