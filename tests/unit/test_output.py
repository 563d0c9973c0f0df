"""Output that never fails: what is dropped, what is waited for, and what is said afterwards."""

import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

import pytest

from taskcore.worker import output

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs poll")


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Where to read, where to write."""
    if request.param == "pipe":
        pair = os.pipe()
    else:
        reader, writer = socket.socketpair()
        pair = reader.detach(), writer.detach()
    yield pair
    for fd in pair:
        os.close(fd)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_PATIENCE_MS", 10)


def text_file(fd: int) -> TextIO:
    return output.stream(output.Output(fd, "<test>"))


def test_what_is_read_is_written(ends: tuple[int, int]) -> None:
    reader, writer = ends
    print("hello", file=text_file(writer))
    assert os.read(reader, 100) == b"hello\n"
    assert os.get_blocking(writer), "others write there too"


def test_what_nobody_reads_is_dropped_and_counted(ends: tuple[int, int]) -> None:
    reader, writer = ends
    file = text_file(writer)
    for _ in range(3000):
        print("x" * 999, file=file)
    seen = b""
    while len(seen) < 10_000:
        seen += os.read(reader, 10_000)
    os.set_blocking(reader, False)
    while True:
        try:
            seen += os.read(reader, 1 << 20)
        except BlockingIOError:
            break
    print("heard again", file=file)
    said, again = os.read(reader, 1000).decode().splitlines()
    dropped = 3000 * 1000 - len(seen)
    assert said == f"{dropped} bytes of output were dropped: nobody read them"
    assert again == "heard again"


def test_a_slow_reader_is_waited_for(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_PATIENCE_MS", 30_000)
    reader, writer = ends
    total = 3000 * 1000
    seen = bytearray()

    def read() -> None:
        while len(seen) < total:
            seen.extend(os.read(reader, 10_000))

    thread = threading.Thread(target=read)
    thread.start()
    file = text_file(writer)
    for _ in range(3000):
        print("x" * 999, file=file)
    thread.join(30)
    assert bytes(seen) == (b"x" * 999 + b"\n") * 3000


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = text_file(writer)
    for _ in range(1000):
        print("x" * 999, file=file)
    file.close()
    os.close(writer)


def test_handlers_of_the_user_follow_standard_error(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(ends[1], "w", closefd=False) as before:
        monkeypatch.setattr(sys, "stderr", before)
        handler = logging.StreamHandler()
        logging.getLogger("proj.own").addHandler(handler)
        try:
            with output.guarded():
                assert handler.stream is sys.stderr is not before
                assert sys.stderr.fileno() == ends[1]
            assert handler.stream is sys.stderr is before
        finally:
            logging.getLogger("proj.own").removeHandler(handler)
