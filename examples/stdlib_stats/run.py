"""Counts the tokens of Python's standard library twice: with a taskcore worker, and in this
process alone.

It starts its own worker through the installed command line, publishes one task per file, joins the
results, prints the ten largest packages, then does the same work without taskcore and compares.
Everything happens in a temporary directory; nothing is left behind, but for the name of the queue
in a Redis. Exit code 1 means that the two tables differ.

    python run.py                                      # the embedded default, no server
    python run.py --broker redis://localhost:6379/0    # the same program on Redis
"""

import argparse
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import counts

HERE = Path(__file__).resolve().parent
BAR = 40
QUEUE = "stdlib-stats"  # not the default one: a Redis may be in use by others


class Progress:
    """A bar that redraws itself on a terminal, and one line per tenth anywhere else."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.drawn = -1
        self.tty = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Draws when there is something new to see."""
        steps = BAR if self.tty else 10
        step = done * steps // max(self.total, 1)
        if step == self.drawn:
            return
        self.drawn = step
        if self.tty:
            end = "\n" if done == self.total else ""
            print(
                f"\r[{'#' * step:<{steps}}] {done:,}/{self.total:,} files",
                end=end,
                file=sys.stderr,
                flush=True,
            )
        else:
            print(f"{done:,}/{self.total:,} files", file=sys.stderr, flush=True)


@contextmanager
def worker(options: list[str], concurrency: int, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A worker of `concurrency` processes, started as a user starts it, and stopped warm."""
    scripts = sysconfig.get_path("scripts")
    command = [str(Path(scripts, "taskcore")), "-A", "app", *options, "worker"]
    command += ["-c", str(concurrency), "-Q", QUEUE, "-l", "warning", "-n", "demo@%h"]
    environment = os.environ | {"PYTHONPATH": str(HERE)}
    with subprocess.Popen(command, cwd=folder, env=environment, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def with_taskcore(
    files: list[Path], root: Path, arguments: argparse.Namespace, folder: Path
) -> list[counts.Counts]:
    """Publishes a task per file and joins the results."""
    from app import app, count

    options = []
    if arguments.broker:
        app.conf.update(broker_url=arguments.broker, result_backend=arguments.broker)
        options = ["-b", arguments.broker, "--result-backend", arguments.broker]
    with worker(options, arguments.concurrency, folder) as process:
        results = count.apply_many([(str(root), str(path)) for path in files], queue=QUEUE)
        try:
            return join(results, process)
        finally:
            app.publisher.purge(QUEUE)
            for result in results:
                result.forget()


def join(results: Sequence[Any], process: subprocess.Popen[str]) -> list[counts.Counts]:
    """The results in the order of the files, for as long as the worker lives."""
    from taskcore.exceptions import TimeoutError as NotReady

    progress = Progress(len(results))
    joined: list[counts.Counts] = []
    while len(joined) < len(results):
        try:
            joined.append(results[len(joined)].get(timeout=5))
        except NotReady:
            if process.poll() is not None:
                raise SystemExit(f"the worker ended with code {process.returncode}") from None
        progress.show(len(joined))
    return joined


def alone(files: list[Path], root: Path) -> list[counts.Counts]:
    """The same work in this process, without a queue."""
    progress = Progress(len(files))
    counted = []
    for path in files:
        counted.append(counts.count_file(str(root), str(path)))
        progress.show(len(counted))
    return counted


def main() -> int:
    """Runs both, prints both, compares both."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--broker", help="broker and result store; the default is a database file")
    parser.add_argument(
        "-c", "--concurrency", type=int, default=2, help="worker processes (default: 2)"
    )
    parser.add_argument("--limit", type=int, help="count only the first LIMIT files")
    arguments = parser.parse_args()

    root = counts.stdlib()
    files = counts.source_files(root)[: arguments.limit]
    size = sum((root / path).stat().st_size for path in files) / 1e6
    print(f"{len(files):,} files, {size:.1f} MB of Python, one task each\n", flush=True)

    start = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="stdlib-stats-") as folder:
        os.chdir(folder)  # the embedded default is a file in the current directory
        try:
            begun = time.monotonic()
            spread = counts.by_package(files, with_taskcore(files, root, arguments, Path(folder)))
            spread_seconds = time.monotonic() - begun
        finally:
            os.chdir(start)
    where = "the broker you named" if arguments.broker else "the embedded default"
    print(f"\nwith taskcore: {arguments.concurrency} worker processes, {where}")
    print(counts.table(spread), end="\n\n", flush=True)

    begun = time.monotonic()
    single = counts.by_package(files, alone(files, root))
    single_seconds = time.monotonic() - begun
    print("\nwithout taskcore: one process")
    print(counts.table(single), end="\n\n")

    print(f"with taskcore     {spread_seconds:8.2f} s, starting and stopping the worker included")
    print(
        f"without taskcore  {single_seconds:8.2f} s ({single_seconds / spread_seconds:.2f} times as long)"
    )
    identical = spread == single
    print(f"identical: {'yes' if identical else 'no'}")
    return 0 if identical else 1


if __name__ == "__main__":
    raise SystemExit(main())
