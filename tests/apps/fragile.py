"""An app whose task kills the process that runs it, and may do so once."""

import os
import signal

from taskcore import Taskcore

app = Taskcore("fragile", worker_max_deliveries=1, task_acks_late=True)


@app.task(name="fragile.die")
def die() -> None:
    """Killed, as by the kernel when memory is short."""
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="fragile.fine")
def fine(number: int) -> int:
    """Harms nobody."""
    return number
