"""What events of tasks cost: the rate of no-ops with `-E` while nobody listens and while one monitor
does, beside the rate without, in turns; and how many events that monitor heard."""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import common
from common import line, machine, note, runs

COUNT = 200_000

MONITOR = """
import sys, time
from taskcore_app import app

heard = 0

def hear(event):
    global heard
    heard += 1

receiver = app.events.Receiver(handlers={"*": hear})
begun = None
for _ in receiver.itercapture(wakeup=False):
    if begun is None:
        print("listens", flush=True)
        begun = 0.0
    if heard and not begun:
        begun = time.perf_counter()
    if heard:
        passed = max(time.perf_counter() - begun, 0.001)
        with open(sys.argv[1], "w") as out:
            out.write(f"{heard / passed}")
"""

IN_BULK = f"""
import taskcore_app as m
m.publish_bulk("noop", 0, {COUNT})
print("[]")
"""


def rate(env: dict[str, str], tally: object, *options: str) -> float:
    """No-ops executed in a second by a worker with these options."""
    words = ["-A", "taskcore_app", "worker", "-c", "2", "-l", "warning", "-q", *options]
    with machine.running(machine.ours(*words), env, common.machine.WORK / "events.log"):
        machine.wait(lambda: tally.total()[0] >= COUNT, "the tasks", 120)  # type: ignore[attr-defined]
        time.sleep(0.1)
    done, seconds = tally.total()  # type: ignore[attr-defined]
    return float(done / seconds)


def heard_by(monitor: "subprocess.Popen[str]", path: Path) -> float:
    """Events a second that the monitor heard, until it ends."""
    time.sleep(0.5)  # what is on its way
    monitor.kill()
    return float(path.read_text() or 0)


def main() -> None:
    """Measures and prints."""
    import tally

    rates: dict[str, list[float]] = {"off": [], "unheard": [], "heard": []}
    heard: list[float] = []
    with machine.redis() as server:
        for _ in range(runs(3)):
            for variant, found in rates.items():
                with machine.folder() as folder:
                    server.clear()
                    tally.reset(folder / "tally")
                    env = machine.environment(server.url, TALLY_DIR=str(folder / "tally"))
                    common.client(IN_BULK, env)
                    if variant != "heard":
                        found.append(rate(env, tally, *(["-E"] if variant == "unheard" else [])))
                        continue
                    path = folder / "heard"
                    with subprocess.Popen(
                        [sys.executable, "-c", MONITOR, str(path)],
                        env=env,
                        stdout=subprocess.PIPE,
                        text=True,
                    ) as monitor:
                        assert monitor.stdout is not None
                        monitor.stdout.readline()
                        found.append(rate(env, tally, "-E"))
                        heard.append(heard_by(monitor, path))
    off, unheard, listened = (statistics.median(found) for found in rates.values())
    note("no-ops without events", off, "/s")
    line("no-ops with -E and nobody who listens", 100 * unheard / off, "% of it", 50, at_least=True)
    line("no-ops with -E and a monitor", 100 * listened / off, "% of it", 50, at_least=True)
    line("events heard by that monitor", statistics.median(heard), "/s", 10_000, at_least=True)


if __name__ == "__main__":
    machine.WORK.mkdir(parents=True, exist_ok=True)
    main()
