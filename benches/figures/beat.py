"""How late periodic tasks are sent, and what a beat costs between them: 10,000 entries, spread evenly
over ten seconds, all at one moment, and none of them due."""

import statistics

from common import client, line, machine, note, runs

COUNT, SPREAD, AHEAD = 10_000, 10.0, 4.0

BEAT = """
import json, sys, time
from taskcore import Taskcore
from taskcore.beat import StoreScheduler, definition, entries
from taskcore.beat.entry import ScheduleEntry

count, spread, seconds, url = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
app = Taskcore(sys.argv[5], broker=url)

@app.task(name="noop")
def noop():
    pass

every = 3600.0
text = definition.dump(ScheduleEntry(name="e", task="noop", schedule=every, app=app), code=False)
first = int((time.time() + (seconds / 3 if spread >= 0 else every / 2)) * 1e6)
begin = first - int(every * 1e6)
entries.store_of(app).put(
    [(f"entry-{n}", text, begin + int(n * max(spread, 0) / count * 1e6), True) for n in range(count)]
)
scheduler, late = StoreScheduler(app), []


class Store:
    def __getattr__(self, name):
        return getattr(store, name)
    def fire(self, firings):
        done = store.fire(firings)
        now = time.time()
        late.extend(now - due / 1e6 for (_, _, due, _), sent in zip(firings, done) if sent)
        return done

store, scheduler.store = scheduler.store, Store()
scheduler.tick(), scheduler.tick()
end, begun, used = time.time() + seconds, time.time(), time.process_time()
while time.time() < end:
    time.sleep(scheduler.tick())
cost = (time.process_time() - used) / (time.time() - begun)
scheduler.close()
late.sort()
at = lambda share: 1e3 * late[int(share * (len(late) - 1))] if late else 0.0
print(json.dumps([len(late), at(0.5), at(0.99), 100 * cost]))
"""


def measure(url: str, spread: float, seconds: float, name: str) -> list[float]:
    """Number sent, median and tail of lateness (ms), share of a core (%). Spread over so many seconds,
    from a third of the time on; a spread below 0: none is due."""
    code = f"import sys; sys.argv = ['', '{COUNT}', '{spread}', '{seconds}', '{url}', '{name}']\n{BEAT}"
    return client(code, machine.environment(url))


def main() -> None:
    """Measures and prints."""
    with machine.redis() as server, machine.folder() as folder:
        for broker, url in (("redis", server.url), ("sqlite", f"sqlite:///{folder / 'q.db'}")):
            taken = [measure(url, SPREAD, 1.5 * SPREAD, f"spread-{n}") for n in range(runs(3))]
            assert all(count == COUNT for count, *_ in taken), taken
            half, tail, _ = (statistics.median(one[i] for one in taken) for i in (1, 2, 3))
            line(f"{broker}: lateness of a periodic task, p50", half, "ms", 20, at_least=False)
            line(f"{broker}: lateness of a periodic task, p99", tail, "ms", 20, at_least=False)
            (count, half, tail, _) = measure(url, 0.0, 10.0, "at-once")
            assert count == COUNT
            note(f"{broker}: all at one moment, p50", half, "ms")
            note(f"{broker}: all at one moment, p99", tail, "ms")
            cost = measure(url, -1.0, 10.0, "none-due")[3]
            line(f"{broker}: CPU with none due", cost, "% of 1", 1, at_least=False)


if __name__ == "__main__":
    main()
