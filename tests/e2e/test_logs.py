"""What becomes of work when its log cannot be written: the lines are dropped and counted, the work
goes on."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process import TASKCORE
from support.site import Site
from support.wait import until

WAIT = 30
MANY = 1500  # their lines are more than a pipe holds


class Quiet:
    """A worker whose output goes where the test says."""

    def __init__(self, site: Site, output: int, *options: str) -> None:
        self.popen = subprocess.Popen(
            [TASKCORE, "-A", "sample", *site.globals_, "worker", "-c", "2", "-l", "info", *options],
            cwd=site.folder,
            env=os.environ | site.env | {"SAMPLE_NO_HARD_LIMITS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@pytest.fixture
def pipe() -> Iterator[list[int]]:
    """Both ends of a pipe; a test that closes one puts -1 in its place."""
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end >= 0:
            os.close(end)


def works_and_ends(site: Site, worker: Quiet) -> None:
    """All kinds of output, more than fits; then a warm stop."""
    try:
        site.task("say").apply_many([(str(n),) for n in range(MANY)])
        site.wait_written(MANY)
        worker.popen.send_signal(signal.SIGTERM)
        assert worker.popen.wait(WAIT) == 0
    finally:
        if worker.popen.poll() is None:
            os.killpg(worker.popen.pid, signal.SIGKILL)
            worker.popen.wait(WAIT)


def test_the_reader_of_the_output_is_gone(sqlite_site: Site, pipe: list[int]) -> None:
    worker = Quiet(sqlite_site, pipe[1])
    os.read(pipe[0], 1)
    os.close(pipe[0])
    pipe[0] = -1
    works_and_ends(sqlite_site, worker)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_nobody_reads_the_output(sqlite_site: Site, pipe: list[int], pool: str) -> None:
    worker = Quiet(sqlite_site, pipe[1], "-P", pool)
    works_and_ends(sqlite_site, worker)


def test_what_was_dropped_is_counted_once_it_can_be_said(
    sqlite_site: Site, pipe: list[int]
) -> None:
    worker = Quiet(sqlite_site, pipe[1])
    try:
        # Each of them is some 40 KB in the log: together more than the worker keeps for a reader.
        sqlite_site.task("fail").apply_many([("x" * 20_000,)] * 500)
        sqlite_site.wait_queue(depth=0, in_flight=0)
        seen = b""

        def reads_it() -> bool:
            nonlocal seen
            seen += os.read(pipe[0], 1 << 20)
            sqlite_site.task("log").delay("more")
            return b"log lines were dropped" in seen

        until(reads_it, "the number of dropped lines")
    finally:
        os.killpg(worker.popen.pid, signal.SIGKILL)
        worker.popen.wait(WAIT)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
@pytest.mark.parametrize("where", ["output", "log file"])
def test_the_disk_under_the_log_is_full(sqlite_site: Site, where: str, tmp_path: Path) -> None:
    said = tmp_path / "said"
    with open("/dev/full" if where == "output" else said, "ab") as output:
        options = () if where == "output" else ("-f", "/dev/full")
        works_and_ends(sqlite_site, Quiet(sqlite_site, output.fileno(), *options))
    if where == "log file":
        lines = [line for line in said.read_text().splitlines() if "/dev/full" in line]
        assert len(lines) == 1 and "No space left" in lines[0], said.read_text()
