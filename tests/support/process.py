"""Child processes whose standard error is read as events, and that never outlive their test."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.wait import DEADLINE

TASKCORE = str(Path(sysconfig.get_path("scripts"), "taskcore"))


class Process:
    """A started command; every line of its output is kept, and can be waited for."""

    def __init__(
        self, command: Sequence[str], *, cwd: Path | str, env: Mapping[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._closed = False
        self.popen = subprocess.Popen(
            self.command,
            cwd=cwd,
            env=os.environ | {"PYTHONUNBUFFERED": "1"} | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.popen.stdout is not None
        for line in self.popen.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._closed = True
            self._news.notify_all()

    @property
    def pid(self) -> int:
        """Process id of the command itself."""
        return self.popen.pid

    @property
    def output(self) -> str:
        """Everything it has written so far."""
        return "\n".join(self.lines)

    def wait_for(self, pattern: str, timeout: float = DEADLINE, count: int = 1) -> str:
        """Waits for the `count`-th line that matches, and returns it."""
        end = time.monotonic() + timeout
        with self._news:
            while True:
                seen = [line for line in self.lines if re.search(pattern, line)]
                if len(seen) >= count:
                    return seen[count - 1]
                if self._closed:
                    raise AssertionError(
                        f"it ended without a line like `{pattern}`:\n{self.output}"
                    )
                if (
                    not self._news.wait(max(0.0, end - time.monotonic()))
                    and time.monotonic() >= end
                ):
                    raise AssertionError(
                        f"no line like `{pattern}` after {timeout} s:\n{self.output}"
                    )

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the command itself."""
        self.popen.send_signal(number)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Waits for its end and returns the exit code."""
        try:
            code = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout} s:\n{self.output}") from None
        self._reader.join(timeout)
        return code

    def stop(self, timeout: float = DEADLINE) -> int:
        """Asks it to end (SIGTERM) and returns the exit code."""
        if self.popen.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Kills it and everything that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(DEADLINE)


class Worker(Process):
    """`taskcore ... worker`, ready when the constructor of a test says so with `ready()`."""

    READY = r"\bready\b"

    def __init__(
        self,
        app: str,
        *options: str,
        cwd: Path | str,
        globals_: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        python: Sequence[str] = (),
    ) -> None:
        # `python` are words in front of the command: a wrapper that takes rights away, for example.
        super().__init__(
            [*python, TASKCORE, "-A", app, *globals_, "worker", *options], cwd=cwd, env=env
        )

    def ready(self, timeout: float = DEADLINE) -> "Worker":
        """Waits until it consumes."""
        self.wait_for(self.READY, timeout)
        return self

    def children(self) -> list[int]:
        """Process ids of everything below it."""
        below: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                below.setdefault(int(fields[1]), []).append(int(entry.name))
        found: list[int] = []
        todo = [self.pid]
        while todo:
            found += below.get(todo[0], [])
            todo = todo[1:] + below.get(todo[0], [])
        return found


def run(
    *arguments: str,
    cwd: Path | str,
    env: Mapping[str, str] | None = None,
    code: int | None = 0,
    timeout: float = DEADLINE,
) -> str:
    """Runs `taskcore` to its end and returns what it wrote to both streams; fails when it exits
    with anything but `code`."""
    done = subprocess.run(
        [TASKCORE, *arguments],
        cwd=cwd,
        env=os.environ | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    text = done.stdout + done.stderr
    assert code is None or done.returncode == code, (
        f"exit code {done.returncode}, expected {code}:\n{text}"
    )
    return text


def python(
    source: str, *, cwd: Path | str, env: Mapping[str, str] | None = None, timeout: float = DEADLINE
) -> str:
    """Runs a piece of Python to its end and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        cwd=cwd,
        env=os.environ | dict(env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
