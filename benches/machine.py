"""What a benchmark starts and reads: a private Redis, workers, and what the kernel says they cost."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
WORK = Path(os.environ.get("BENCH_DIR", HERE.parent / "target" / "bench"))
TICK = os.sysconf("SC_CLK_TCK")


class Redis:
    """A Redis of our own on a free port that keeps nothing on disk."""

    def __init__(self) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            raise SystemExit("missing: redis-server; on Debian: apt-get install redis-server")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process = subprocess.Popen(
            [
                binary,
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ],
            stdout=subprocess.DEVNULL,
        )
        self.url = f"redis://127.0.0.1:{self.port}/0"
        wait(self._answers, "redis-server", 10)

    def _answers(self) -> bool:
        try:
            return self.command("PING").startswith(b"+PONG")
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """Sends one command by hand."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as link:
            link.sendall(
                (f"*{len(words)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in words)).encode()
            )
            return link.recv(65536)

    def clear(self) -> None:
        """Empties it."""
        self.command("FLUSHALL")

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        self.process.wait(10)


def wait(look: Callable[[], object], what: str, timeout: float, every: float = 0.05) -> None:
    """Looks until it is so."""
    end = time.monotonic() + timeout
    while not look():
        if time.monotonic() > end:
            raise SystemExit(f"gave up waiting for {what} after {timeout:g} s")
        time.sleep(every)


@contextmanager
def redis() -> Iterator[Redis]:
    """A running Redis."""
    server = Redis()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary directory."""
    with tempfile.TemporaryDirectory(prefix="taskcore-bench-") as name:
        yield Path(name)


def environment(broker: str, **more: str) -> dict[str, str]:
    """What the apps read: `BENCH_BROKER`, and where their modules are."""
    return (
        os.environ
        | {"BENCH_BROKER": broker, "PYTHONPATH": os.pathsep.join([str(HERE), str(PEERS)])}
        | more
    )


@contextmanager
def running(
    command: Sequence[str], env: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a session of its own, its output in `log`, ended with everything that it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=dict(env), stdout=out, stderr=out, start_new_session=True, cwd=PEERS
        )
    try:
        yield process
    finally:
        for how, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
            try:
                os.killpg(process.pid, how)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def tree(root: int) -> list[int]:
    """A process and everything below it."""
    below: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            below.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += below.get(found[-1], [])
    return found


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time so far, of these processes and of their children that have ended."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / TICK


def pss_mib(pids: Sequence[int]) -> float:
    """Memory of these processes, shared pages counted in parts."""
    kib = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        kib += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return kib / 1024


def ours(*words: str) -> list[str]:
    """The `taskcore` command of this interpreter's environment."""
    return [str(Path(sys.executable).with_name("taskcore")), *words]


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
