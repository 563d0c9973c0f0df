"""`taskcore top`, on a terminal of its own."""

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator

import pyte
import pytest

from support.process import TASKCORE
from support.site import Site
from support.wait import until

LINES, COLUMNS = 40, 120


class Terminal:
    """A terminal of 120 by 40 with a command in it."""

    def __init__(self, command: list[str], site: Site) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self._drawn = threading.Lock()
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            command,
            cwd=site.folder,
            env=os.environ | site.env | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody has the other end any more
                return
            with self._drawn:
                self._stream.feed(data)

    def text(self) -> str:
        with self._drawn:
            return "\n".join(line.rstrip() for line in self.screen.display)

    def shows(self, *words: str) -> str:
        """Waits until all of these are on the screen."""

        def seen() -> str:
            text = self.text()
            return text if all(word in text for word in words) else ""

        try:
            return until(seen, f"{words} on the screen")
        except AssertionError:
            raise AssertionError(f"no {words} in\n{self.text()}") from None

    def press(self, key: str) -> None:
        os.write(self._master, key.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        self._reader.join(5)


@pytest.fixture
def terminal(sqlite_site: Site) -> Iterator[Terminal]:
    command = [TASKCORE, "-A", "sample", *sqlite_site.globals_, "top", "-F", "0.1"]
    made = Terminal(command, sqlite_site)
    try:
        yield made
    finally:
        made.close()


def test_a_fleet_is_watched_and_told(sqlite_site: Site, terminal: Terminal) -> None:
    terminal.shows("no worker was heard of yet", "q: quit")
    worker = sqlite_site.worker("-E", "-n", "shown@here")
    terminal.shows("ONLINE  shown@here", "processed 0")
    done = sqlite_site.task("add").delay(2, 3)
    terminal.shows(done.id, "SUCCESS", "sample.add", "heard,", "tasks/s")
    failed = sqlite_site.task("fail").delay("on purpose")
    terminal.shows(failed.id, "FAILURE")
    gate = sqlite_site.gate()
    running = sqlite_site.task("hold").delay(str(gate))
    text = terminal.shows(running.id, "STARTED", "active 1")
    # What runs stands above what is over.
    assert text.index(running.id) < text.index(done.id)

    # The first that was listed is still selected; the one that runs is two or fewer lines above.
    for _ in range(3):
        terminal.press("k")
    terminal.press("i")
    terminal.shows("state: STARTED", f"id: {running.id}", "name: sample.hold", "any key: back")
    terminal.press("x")
    terminal.shows("q: quit", done.id)
    terminal.press("t")
    terminal.shows(f"asked to terminate {running.id}", "REVOKED")
    worker.wait_for(f"{running.id}.* (revoked|terminated)")

    terminal.press("j")
    terminal.press("r")
    terminal.shows("FAILURE: ValueError('on purpose')")
    terminal.press("x")
    terminal.press("q")
    assert terminal.process.wait(30) == 0


def test_a_broker_that_is_away_is_said(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("away")
    with Site(folder, "redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0") as site:
        terminal = Terminal([TASKCORE, "-A", "sample", *site.globals_, "top"], site)
        try:
            terminal.shows("127.0.0.1:1")
            assert terminal.process.wait(30) == 1
        finally:
            terminal.close()
