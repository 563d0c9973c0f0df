"""Programs that tasks start: they end with the process that runs their task, and no signal meant
for the worker reaches them."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.process import Worker
from support.site import Site
from support.wait import until
from taskcore.exceptions import TimeLimitExceeded, WorkerLostError

WAIT = 30


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture
def program(sqlite_site: Site) -> Iterator["Program"]:
    started = Program(sqlite_site)
    yield started
    if started.pid and alive(started.pid):
        os.kill(started.pid, signal.SIGKILL)


class Program:
    """A task on a worker of one process that has started a program."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.worker: Worker = site.worker("-c", "1")
        self.pid = 0

    def start(self, then: str = "wait", **options: float) -> object:
        result = self.site.task("start_program").apply_async(
            (then, str(self.site.gate())), **options
        )
        self.pid = int(self.site.wait_written(1)[0])
        return result

    def ends(self) -> None:
        until(lambda: not alive(self.pid), "the program to end with its task")


def test_a_hard_limit_ends_the_programs_of_the_task(program: Program) -> None:
    result = program.start(time_limit=0.5)
    with pytest.raises(TimeLimitExceeded):
        result.get(timeout=WAIT)
    program.ends()


def test_a_lost_child_takes_its_programs_along(program: Program) -> None:
    result = program.start("die")
    with pytest.raises(WorkerLostError):
        result.get(timeout=WAIT)
    program.ends()


def test_a_cold_stop_ends_them(program: Program) -> None:
    program.start()
    program.worker.signal(signal.SIGQUIT)
    program.worker.wait()
    program.ends()


def test_a_killed_worker_leaves_none(program: Program) -> None:
    program.start()
    program.worker.signal(signal.SIGKILL)
    program.ends()


def test_ctrl_c_leaves_them_to_their_task(program: Program) -> None:
    """A terminal sends it to the whole foreground group; a warm stop lets the task finish, and so
    its program."""
    result = program.start()
    os.killpg(program.worker.pid, signal.SIGINT)
    program.worker.wait_for("(?i)warm shutdown")
    program.site.gate().touch()
    assert result.get(timeout=WAIT) == 0
    assert program.worker.wait() == 0


def test_a_program_that_outlives_its_task_goes_on(sqlite_site: Site) -> None:
    """Only what is killed is killed with its group: a child that retires in order ends nothing."""
    sqlite_site.worker("-c", "1", "--max-tasks-per-child", "1")
    pid = sqlite_site.task("start_daemon").delay().get(timeout=WAIT)
    until(lambda: sqlite_site.task("pid").delay().get(timeout=WAIT), "another child")
    try:
        assert alive(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
