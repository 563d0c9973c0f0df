"""Counts executions from inside whatever process runs a task, at a cost that no system under test
can feel.

Each process maps one small file: how often it marked, and the monotonic times (one clock for the
whole machine) of its first and its last mark. Reading means adding the files up. Imported by every
peer's app, so it needs nothing but the standard library.
"""

import itertools
import mmap
import os
import struct
import threading
import time
from pathlib import Path

FOLDER = Path(os.environ.get("TALLY_DIR", "."))
_CELL = struct.Struct("<qqq")
_FIRST = struct.Struct("<q")
_opening = threading.Lock()
_owner = 0
_cell: mmap.mmap
_numbers: "itertools.count[int]"


def _open() -> None:
    """Maps this process's own file; again after a fork, which must not share its parent's."""
    global _owner, _cell, _numbers
    with _opening:
        if _owner == os.getpid():
            return
        path = FOLDER / f"{os.getpid()}.tally"
        path.write_bytes(_CELL.pack(0, time.monotonic_ns(), 0))
        with path.open("r+b") as file:
            _cell = mmap.mmap(file.fileno(), _CELL.size)
        _numbers = itertools.count(1)
        _owner = os.getpid()


def mark() -> None:
    """Counts one execution."""
    if _owner != os.getpid():
        _open()
    number = next(_numbers)
    _CELL.pack_into(_cell, 0, number, _FIRST.unpack_from(_cell, 8)[0], time.monotonic_ns())


def total() -> tuple[int, float]:
    """How many executions all processes marked, and the seconds between the first and the last."""
    count, first, last = 0, 0, 0
    for path in FOLDER.glob("*.tally"):
        raw = path.read_bytes()
        if len(raw) == _CELL.size:
            marks, begun, ended = _CELL.unpack(raw)
            if marks:
                count += marks
                first = begun if first == 0 else min(first, begun)
                last = max(last, ended)
    return count, (last - first) / 1e9


def reset(folder: Path) -> None:
    """Forgets everything and counts in `folder` from now on (in this process and in those started
    after)."""
    global FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.tally"):
        path.unlink()
    FOLDER = folder
    os.environ["TALLY_DIR"] = str(folder)
