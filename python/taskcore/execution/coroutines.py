"""Runs the coroutines of `async def` tasks in pools that run one task at a time per thread.

Each thread keeps one loop for its life, so that clients bound to a loop survive from task to task. A pool child must
not inherit a loop over fork, hence the process id beside it. This module is imported with the first such task, because
asyncio costs every child a few megabytes.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any

_mine = threading.local()


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end on this thread's loop."""
    made = getattr(_mine, "made", None)
    if made is None or made[0] != os.getpid():
        made = _mine.made = (os.getpid(), asyncio.Runner())
    return made[1].run(coroutine)
