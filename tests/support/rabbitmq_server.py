"""A RabbitMQ of the tests' own, started from the installed package on free ports."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("rabbitmq.sh")
INSTALLED = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


def free_ports() -> int:
    """The first of three ports in a row that nothing listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        try:
            for next_one in (port + 1, port + 2):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", next_one))
        except (OSError, OverflowError):
            continue
        return port


class RabbitServer:
    """One node; every test takes a virtual host of its own."""

    def __init__(self, folder: Path) -> None:
        if not INSTALLED.exists() and shutil.which("rabbitmq-server") is None:
            if os.environ.get("CI"):
                pytest.fail("rabbitmq-server is not installed, and CI must run every test")
            pytest.skip("rabbitmq-server is not installed")
        self.folder = folder
        self.port = free_ports()
        self.process: subprocess.Popen[str] | None = None
        self.hosts = 0

    def start(self) -> "RabbitServer":
        """Starts it and waits until it serves."""
        self.process = subprocess.Popen(
            [str(SCRIPT), str(self.port), str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        assert any("completed with" in line for line in self.process.stdout), "it did not start"
        return self

    def stop(self) -> None:
        """Ends it at once, as a crash does; what is durable is there again after `start`."""
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(60)
            self.process = None

    def ctl(self, *words: str) -> str:
        """What `rabbitmqctl` says."""
        command = [str(self.folder / "ctl"), "-q", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def new_url(self) -> str:
        """URL of a new virtual host."""
        self.hosts += 1
        name = f"test{self.hosts}"
        self.ctl("add_vhost", name)
        self.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{name}"
