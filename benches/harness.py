"""taskcore and its peers under the same work on the same machine in one sitting; prints one
Markdown table.

Per run and system: an empty Redis, N messages published before any worker exists, then a worker of
two processes that drains them. The rate is what lies between the first and the last execution,
seen from inside the tasks (`tally.py`); CPU is that of all the worker's processes from their start
on; memory is the largest PSS seen. Medians of `--runs`. The round trip is one client waiting for
one result after the other on an idle worker.

    python benches/harness.py                                  # everything; some twenty minutes
    python benches/harness.py --peers taskcore,huey --kinds noop --runs 3
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

import machine
import tally

# How many messages give each a few seconds of work.
TASKS = {
    "taskcore": 400_000,
    "celery": 8_000,
    "dramatiq": 20_000,
    "huey": 40_000,
    "taskiq": 25_000,
    "saq": 25_000,
}
CELERY_TASKS = 100_000  # published by a stock Celery client, executed by taskcore
ONE_BY_ONE = 20_000  # of which so many are published singly where there is a bulk call too
KINDS = ("noop", "noop_result", "celery", "roundtrip")
ROUNDTRIPS = 2_000


@dataclass
class Peer:
    """A system: its app, and the interpreter of its environment."""

    name: str
    python: str

    def call(self, code: str, env: dict[str, str]) -> str:
        """Runs `code` with the app imported as `m`."""
        done = subprocess.run(
            [self.python, "-c", f"import json, sys, time; import {self.name}_app as m; {code}"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            cwd=machine.PEERS,
        )
        return done.stdout.strip().splitlines()[-1]

    def command(self, kind: str, processes: int, env: dict[str, str]) -> list[str]:
        """How its worker is started."""
        words: list[str] = json.loads(
            self.call(f"print(json.dumps(m.command({kind!r}, {processes})))", env)
        )
        return words


def prepare(name: str) -> Peer:
    """An environment of its own for a peer; taskcore runs in the one that runs this."""
    if name == "taskcore":
        return Peer(name, sys.executable)
    home = machine.WORK / "venvs" / name
    python = home / "bin" / "python"
    if not (home / ".complete").exists():
        print(f"installing {name} into {home}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        source = (machine.PEERS / f"{name}_app.py").read_text()
        line = next(line for line in source.splitlines() if line.startswith("PACKAGES = "))
        packages = json.loads(line.removeprefix("PACKAGES = "))
        pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=True)
        (home / ".complete").touch()
    return Peer(name, str(python))


def drain(
    peer: Peer, publisher: Peer, kind: str, count: int, server: machine.Redis
) -> dict[str, float]:
    """One run: publish all, start the worker, watch it drain."""
    server.clear()
    tally.reset(machine.WORK / "tally")
    env = machine.environment(server.url)
    figures: dict[str, float] = {}
    task = "noop" if kind == "celery" else kind
    singly = min(count, ONE_BY_ONE) if publisher.name == "taskcore" else count
    code = (
        f"m.publish({task!r}, 0, 50); t = time.perf_counter(); m.publish({task!r}, 50, {singly}); "
        "t = time.perf_counter() - t; "
        + (f"m.publish_bulk({task!r}, {singly}, {count}); " if singly < count else "")
        + f"print(({singly} - 50) / t)"
    )
    figures["publish/s"] = float(publisher.call(code, env))
    redis_before = machine.cpu_seconds([server.process.pid])
    command = peer.command(kind, 2, env)
    with machine.running(command, env, machine.WORK / f"{peer.name}.log") as worker:
        cpu = pss = 0.0
        end = time.monotonic() + 600
        done, seconds = tally.total()
        while done < count and worker.poll() is None and time.monotonic() < end:
            time.sleep(0.2)
            pids = machine.tree(worker.pid)
            cpu, pss = machine.cpu_seconds(pids), max(pss, machine.pss_mib(pids))
            done, seconds = tally.total()
        if done < count:
            raise SystemExit(
                f"{peer.name} executed {done} of {count}; its log is {machine.WORK}/{peer.name}.log"
            )
        cpu = max(cpu, machine.cpu_seconds(machine.tree(worker.pid)))
    figures["tasks/s"] = done / seconds
    figures["cpu us"] = 1e6 * cpu / done
    figures["redis us"] = 1e6 * (machine.cpu_seconds([server.process.pid]) - redis_before) / done
    figures["pss MiB"] = pss
    return figures


def roundtrip(peer: Peer, server: machine.Redis) -> dict[str, float]:
    """One run: an idle worker, one client."""
    server.clear()
    tally.reset(machine.WORK / "tally")
    env = machine.environment(server.url)
    with machine.running(peer.command("roundtrip", 2, env), env, machine.WORK / f"{peer.name}.log"):
        code = f"m.roundtrip(100); print(json.dumps(m.roundtrip({ROUNDTRIPS})))"
        spans = [span / 1e3 for span in json.loads(peer.call(code, env))]
    return {"p50 us": machine.percentile(spans, 0.5), "p99 us": machine.percentile(spans, 0.99)}


def medians(runs: list[dict[str, float]]) -> dict[str, float]:
    """Figure by figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def measure(
    peer: Peer, kinds: list[str], runs: int, server: machine.Redis, scale: float
) -> dict[str, dict[str, float]]:
    """Every kind that this peer has."""
    found: dict[str, dict[str, float]] = {}
    for kind in kinds:
        if kind == "celery" and peer.name != "taskcore":
            continue  # Celery's own figure is its `noop`
        done = []
        for number in range(runs):
            if kind == "roundtrip":
                done.append(roundtrip(peer, server))
            elif kind == "celery":
                done.append(drain(peer, prepare("celery"), kind, int(CELERY_TASKS * scale), server))
            else:
                done.append(drain(peer, peer, kind, int(TASKS[peer.name] * scale), server))
            shown = "  ".join(f"{name} {value:,.0f}" for name, value in done[-1].items())
            print(f"{peer.name} {kind} {number + 1}/{runs}: {shown}", file=sys.stderr)
        found[kind] = medians(done)
    return found


COLUMNS = (
    ("noop/s", "noop", "tasks/s"),
    ("with result/s", "noop_result", "tasks/s"),
    ("Celery messages/s", "celery", "tasks/s"),
    ("CPU us/task", "noop", "cpu us"),
    ("Redis CPU us/task", "noop", "redis us"),
    ("publish/s", "noop", "publish/s"),
    ("round trip p50 us", "roundtrip", "p50 us"),
    ("p99 us", "roundtrip", "p99 us"),
    ("PSS MiB", "noop", "pss MiB"),
)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peers", default=",".join(TASKS), help="which systems, separated by commas"
    )
    parser.add_argument("--kinds", default=",".join(KINDS), help="which of " + ", ".join(KINDS))
    parser.add_argument("--runs", type=int, default=5, help="medians of so many (default: 5)")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="fewer or more messages than usual"
    )
    arguments = parser.parse_args()
    machine.WORK.mkdir(parents=True, exist_ok=True)
    peers = [prepare(name) for name in arguments.peers.split(",")]
    with machine.redis() as server:
        found = {
            peer.name: measure(
                peer, arguments.kinds.split(","), arguments.runs, server, arguments.scale
            )
            for peer in peers
        }
    columns = [column for column in COLUMNS if any(column[1] in kinds for kinds in found.values())]
    print(f"| system | {' | '.join(title for title, _, _ in columns)} |")
    print(f"| --- |{' --- |' * len(columns)}")
    for name, kinds in found.items():
        cells = [
            f"{kinds[kind][figure]:,.0f}" if kind in kinds else "" for _, kind, figure in columns
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
