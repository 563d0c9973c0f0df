"""Signals of the operating system that are no request to stop, and what a request to stop is
answered with."""

import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import termios

import pytest

from support.process import TASKCORE
from support.redis_server import free_port
from support.site import Site
from support.wait import until

WAIT = 30
POOLS = ["prefork", "threads", "solo"]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR2], ids=lambda n: n.name)
def test_what_has_no_meaning_is_ignored_with_a_line(
    sqlite_site: Site, number: signal.Signals, pool: str
) -> None:
    worker = sqlite_site.worker("-P", pool)
    worker.signal(number)
    worker.wait_for(f"{number.name} is ignored")
    assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("where", ["output", "log file"])
def test_the_stacks_of_every_process_are_written(sqlite_site: Site, where: str, pool: str) -> None:
    path = sqlite_site.folder / "log"
    options = ["-f", str(path)] if where == "log file" else []
    worker = sqlite_site.worker("-c", "1", "-P", pool, *options, ready=False)
    gate = sqlite_site.gate()
    result = sqlite_site.task("hold").delay(str(gate), "held")
    sqlite_site.wait_written(1)
    worker.signal(signal.SIGUSR1)

    def said() -> str:
        return path.read_text() if path.exists() else ""

    if where == "log file":
        until(lambda: "in wait_for_file" in said(), "the stack of the task")
        assert "stacks of this worker" in said()
    else:
        worker.wait_for("stacks of this worker .*active 1")
        worker.wait_for("in wait_for_file")
    if pool == "prefork":
        text = said() if where == "log file" else worker.output
        assert "stacks of Child-" in text
    gate.touch()
    assert result.get(timeout=WAIT) == "held"
    assert worker.stop() == 0


def on_terminal(site: Site, *options: str) -> tuple[subprocess.Popen[bytes], int]:
    """A worker on a terminal of its own, and our end of that."""
    ours, theirs = pty.openpty()
    popen = subprocess.Popen(
        [TASKCORE, "-A", "sample", *site.globals_, "worker", *options],
        cwd=site.folder,
        env=os.environ | site.env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    return popen, ours


def read_until(fd: int, pattern: str) -> str:
    """What a terminal shows, up to a line that matches."""
    seen = ""
    while not re.search(pattern, seen):
        assert select.select([fd], [], [], WAIT)[0], seen
        seen += os.read(fd, 65536).decode()
    return seen


def test_a_stop_says_on_a_terminal_what_it_waits_for(sqlite_site: Site) -> None:
    popen, terminal = on_terminal(sqlite_site, "-c", "2", "-l", "error")
    try:
        for text in ("one", "two"):
            sqlite_site.task("hold_late").delay(str(sqlite_site.gate()), text)
        sqlite_site.wait_written(2)
        popen.send_signal(signal.SIGINT)
        read_until(
            terminal, r"warm shutdown \(SIGINT\): waiting for 2 running tasks; once more stops"
        )
        popen.send_signal(signal.SIGINT)
        read_until(terminal, r"cold shutdown \(SIGINT\): 2 running tasks will not finish")
        popen.wait(WAIT)
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
        os.close(terminal)


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_stop_is_no_more_than_a_line_of_the_log_elsewhere(sqlite_site: Site, level: str) -> None:
    worker = sqlite_site.worker("-q", "-l", level, ready=level == "info")
    if level == "error":
        assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
    assert worker.stop() == 0
    assert worker.output.count("warm shutdown") == (1 if level == "info" else 0)


def test_a_worker_that_a_script_has_started_obeys_sigint(sqlite_site: Site) -> None:
    # What `&` does in a script is inherited.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker = sqlite_site.worker()
    finally:
        signal.signal(signal.SIGINT, before)
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0


def test_a_stop_while_the_broker_is_away_says_so_and_never_ready(sqlite_site: Site) -> None:
    sqlite_site.broker = f"redis://127.0.0.1:{free_port()}/0"
    for level in ("info", "warning"):
        worker = sqlite_site.worker("-l", level, ready=False)
        worker.wait_for("the broker is away")
        worker.signal(signal.SIGINT)
        assert worker.wait() == 0
        assert " ready" not in worker.output


def test_received_never_comes_before_ready(site: Site) -> None:
    site.task("add").apply_many([(n,) for n in range(50)])
    worker = site.worker()
    lines = [line for line in worker.lines if line.startswith("[")]
    assert "ready" in lines[0], lines


def test_the_end_of_the_terminal_is_a_warm_stop(sqlite_site: Site) -> None:
    popen, ours = on_terminal(sqlite_site, "-c", "1")
    try:
        assert sqlite_site.task("add").delay(1, 1).get(timeout=WAIT) == 2
        os.close(ours)
        assert popen.wait(WAIT) == 0
    finally:
        if popen.poll() is None:
            os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()


def test_a_stopped_zygote_is_noticed_and_continued(sqlite_site: Site) -> None:
    """Its children are dead, and it does not say so: the worker would hold messages and run nothing."""
    worker = sqlite_site.worker("-c", "1")
    child = sqlite_site.task("pid").delay().get(timeout=WAIT)
    zygote = next(pid for pid in worker.children() if pid != child)
    os.kill(zygote, signal.SIGSTOP)
    os.kill(child, signal.SIGKILL)
    result = sqlite_site.task("pid").delay()
    worker.wait_for(f"the zygote, process `{zygote}`.* has not answered for `5` s")
    assert result.get(timeout=WAIT) != child
    assert worker.stop() == 0


def test_between_tasks_there_is_no_current_request(sqlite_site: Site) -> None:
    results = sqlite_site.task("watch_current").apply_many([(n,) for n in range(50)])
    worker = sqlite_site.worker("-c", "1")
    for pid in {result.get(timeout=WAIT) for result in results}:
        os.kill(pid, signal.SIGUSR2)
    assert sqlite_site.wait_written(1) == ["current None"]
    assert worker.stop() == 0
