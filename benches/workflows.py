"""Groups, chords and chains of taskcore beside Celery's, in one sitting; prints Markdown tables.

A worker of two processes that is idle, and one client that composes a workflow, publishes it and
waits for its value; the time is that of all three. Figures are medians of `--runs`, each beside
their least and greatest. Memory is the peak RSS of each process as the kernel kept it.

    python benches/workflows.py                    # all: some two minutes
    python benches/workflows.py --only taskcore    # without Celery
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import machine
import tally
from harness import Peer, prepare

# What is compared, how long it is, and how many times Celery's speed is asked for.
COMPARED = (("group", 5_000, 40), ("chord", 1_000, 40), ("chain", 100, 12))
# Twice the length shall cost about twice as much.
GROWTH = (
    ("chain", 500),
    ("chain", 1_000),
    ("chain", 2_000),
    ("nested", 5),
    ("nested", 10),
    ("nested", 20),
)
LARGE = 100_000  # members of the chord whose memory is told
LARGE_MIB = 150


class Session:
    """A worker of a system, and clients of it."""

    def __init__(self, peer: Peer, env: dict[str, str], worker: int) -> None:
        self.peer, self.env, self.worker = peer, env, worker

    def times(self, kind: str, size: int, runs: int) -> list[list[float]]:
        """For each run what `Compositions.run` gives."""
        code = f"import compositions; compositions.repeat(m.workflows, {kind!r}, {size}, {runs})"
        found: list[list[float]] = json.loads(self.peer.call(code, self.env))
        shown = "  ".join(f"{run[2] * 1e3:,.1f}" for run in found)
        print(f"{self.peer.name} {kind} of {size:,}, ms: {shown}", file=sys.stderr)
        return found


@contextmanager
def session(peer: Peer, server: machine.Redis) -> Iterator[Session]:
    """An empty Redis and a worker that has taken its first task."""
    server.clear()
    tally.reset(machine.WORK / "tally")
    env = machine.environment(server.url)
    log = machine.WORK / f"{peer.name}.log"
    with machine.running(peer.command("noop_result", 2, env), env, log) as worker:
        found = Session(peer, env, worker.pid)
        found.times("group", 10, 1)
        yield found


def told(values: list[float]) -> str:
    """Milliseconds: the median, the least and the greatest."""
    ordered = [f"{value * 1e3:,.1f}" for value in (min(values), max(values))]
    return f"{statistics.median(values) * 1e3:,.1f} ({ordered[0]} to {ordered[1]})"


def compare(peers: list[Peer], runs: int, server: machine.Redis) -> None:
    """Each workflow with each system."""
    found: dict[str, list[list[list[float]]]] = {}
    for peer in peers:
        with session(peer, server) as running:
            found[peer.name] = [running.times(kind, size, runs) for kind, size, _ in COMPARED]
    print(f"| ms | {' | '.join(found)} | of that composed and published | times Celery | asked |")
    print(f"| --- |{' --- |' * len(found)} --- | --- | --- |")
    for place, (kind, size, asked) in enumerate(COMPARED):
        times = {name: [run[2] for run in rows[place]] for name, rows in found.items()}
        ours = statistics.median(times["taskcore"])
        sent = statistics.median([run[1] for run in found["taskcore"][place]])
        ratio = statistics.median(times["celery"]) / ours if "celery" in times else float("nan")
        cells = " | ".join(told(times[name]) for name in found)
        print(f"| {kind} of {size:,} | {cells} | {sent * 1e3:,.1f} | {ratio:,.1f} | {asked} |")


def grow(peer: Peer, runs: int, server: machine.Redis) -> None:
    """What twice the length costs."""
    print("\n| taskcore | ms | of that composed and published | client CPU ms | ms a step |")
    print("| --- | --- | --- | --- | --- |")
    with session(peer, server) as running:
        for kind, size in GROWTH:
            rows = running.times(kind, size, runs)
            spent, sent, cpu = ([run[place] for run in rows] for place in (2, 1, 3))
            name = f"chain of {size:,}" if kind == "chain" else f"chords {size} deep"
            middle = statistics.median
            print(
                f"| {name} | {told(spent)} | {middle(sent) * 1e3:,.1f} | {middle(cpu) * 1e3:,.1f} "
                f"| {middle(spent) * 1e3 / size:.2f} |"
            )


def large(peer: Peer, server: machine.Redis) -> None:
    """The peak memory of every process while a large chord runs."""
    from compositions import peak_kib

    with session(peer, server) as running:
        pids = machine.tree(running.worker)
        before = [peak_kib(pid) / 1024 for pid in pids]
        (run,) = running.times("chord", LARGE, 1)
        after = [peak_kib(pid) / 1024 for pid in pids]
        same = sorted(pids) == sorted(machine.tree(running.worker))
    print(f"\n| chord of {LARGE:,} in {run[2]:.2f} s | peak RSS, MiB | before |")
    print("| --- | --- | --- |")
    print(f"| client | {run[4] / 1024:.1f} | |")
    for number, (least, most) in enumerate(zip(before, after, strict=True)):
        print(f"| worker, process {number} | {most:.1f} | {least:.1f} |")
    highest = max([run[4] / 1024, *after])
    verdict = "holds" if highest <= LARGE_MIB else "MISSED"
    print(
        f"\nAt most {LARGE_MIB} MiB asked: {verdict}."
        + ("" if same else " A process was replaced.")
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="medians of so many (default: 3)")
    parser.add_argument("--only", choices=("taskcore",), help="leaves Celery out")
    parser.add_argument("--parts", default="compare,grow,large", help="which parts, by commas")
    arguments = parser.parse_args()
    machine.WORK.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(machine.PEERS))
    names = [arguments.only] if arguments.only else ["taskcore", "celery"]
    peers = [prepare(name) for name in names]
    with machine.redis() as server:
        if "compare" in arguments.parts:
            compare(peers, arguments.runs, server)
        if "grow" in arguments.parts:
            grow(peers[0], arguments.runs, server)
        if "large" in arguments.parts:
            large(peers[0], server)


if __name__ == "__main__":
    main()
