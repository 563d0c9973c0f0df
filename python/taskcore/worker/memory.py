"""How much memory this process has."""

from __future__ import annotations

import mmap


def resident() -> float | None:
    """MiB, where the system tells it."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE / 2**20
    except OSError:
        return None
