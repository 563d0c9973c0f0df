"""A Redis server of the tests' own, on a free port, that keeps nothing on disk."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from support.wait import until


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary() -> str:
    """Where redis-server is; without it the test is skipped, or fails where CI must have it."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is not installed, and CI must run every test")
        pytest.skip("redis-server is not installed")
    return found


class RedisServer:
    """One server process; `stop` and `start` again on the same port to see what a restart does."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, database: int = 0) -> str:
        """URL of one of its databases."""
        return f"redis://127.0.0.1:{self.port}/{database}"

    def start(self) -> "RedisServer":
        """Starts it and waits until it answers."""
        command = [
            binary(),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        command += ["--dir", str(self.folder), "--databases", "64", *self.options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(self.answers, f"redis-server on port {self.port}")
        return self

    def answers(self) -> bool:
        """Whether it accepts commands; loading its data from disk counts as not yet."""
        assert self.process is not None
        assert self.process.poll() is None, "redis-server ended at once"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as link:
                link.sendall(b"PING\r\n")
                return link.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False

    def command(self, *words: str) -> bytes:
        """Sends one command by hand and returns the raw answer."""
        request = f"*{len(words)}\r\n" + "".join(
            f"${len(word.encode())}\r\n{word}\r\n" for word in words
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as link:
            link.sendall(request.encode())
            return link.recv(65536)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None
