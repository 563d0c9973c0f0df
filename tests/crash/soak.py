"""Mixed load for an hour on one worker: its memory, its children and its open files must not grow.

Not a pytest test: it runs as long as it is told to. Prints a line a minute and exits with 1 when
something grew.

    make soak MINUTES=60
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from support.redis_server import RedisServer
from support.site import APPS, Site

GROWTH_MIB = 8.0  # what allocators may keep; a leak of one byte a task is far beyond it in an hour


def memory(pids: list[int]) -> float:
    """PSS of these processes in MiB."""
    kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kib += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kib / 1024


def files(pid: int) -> int:
    """Open file descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def load(site: Site) -> None:
    """A little of everything, and all of it awaited."""
    add = site.task("add")
    results = list(add.apply_many([(n, n) for n in range(2000)]))
    results += [add.apply_async((n,), countdown=0.2) for n in range(100)]
    results += [site.task("try_until").delay(1) for _ in range(20)]
    failed = [site.task("fail").delay("soak") for _ in range(50)]
    for result in results:
        result.get(timeout=60)
    for result in failed:
        result.get(timeout=60, propagate=False)


def main() -> int:
    """Warms up for a twentieth of the time, then compares with what was then."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    seconds = 60 * parser.parse_args().minutes
    sys.path.insert(0, str(APPS))
    with tempfile.TemporaryDirectory() as name:
        server = RedisServer(Path(name)).start()
        with Site(Path(name), server.url(), server.url()) as site:
            worker = site.worker("-c", "2", "-l", "warning")
            begun = shown = time.monotonic()
            first: tuple[float, int, int] | None = None
            now = (0.0, 0, 0)
            while time.monotonic() - begun < seconds:
                load(site)
                pids = [worker.pid, *worker.children()]
                now = (memory(pids), len(pids), files(worker.pid))
                if first is None and time.monotonic() - begun > seconds / 20:
                    first = now
                if time.monotonic() - shown > 60:
                    shown = time.monotonic()
                    print(
                        f"{(shown - begun) / 60:5.0f} min: {now[0]:.1f} MiB, {now[1]} processes, {now[2]} files",
                        flush=True,
                    )
            assert first is not None
            print(
                f"from {first[0]:.1f} to {now[0]:.1f} MiB, {first[1]} to {now[1]} processes, {first[2]} to {now[2]} files"
            )
            grew = now[0] - first[0] > GROWTH_MIB or now[1] > first[1] or now[2] > first[2] + 2
        server.stop()
    print("it grew" if grew else "nothing grew")
    return 1 if grew else 0


if __name__ == "__main__":
    raise SystemExit(main())
