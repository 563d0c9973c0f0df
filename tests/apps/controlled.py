"""The app of the tests of remote control."""

import os
import time
from typing import Any

from taskcore import Taskcore, signals
from taskcore.worker.control import control_command, inspect_command


def make(**conf: Any) -> Taskcore:
    """An app with these tasks."""
    app = Taskcore("controlled", **conf)
    app.task(name="controlled.add", rate_limit="100/s")(add)
    app.task(name="controlled.hold")(hold)
    app.task(name="controlled.late", acks_late=True)(hold)
    return app


def add(x: int, y: int = 1) -> int:
    return x + y


def hold(path: str) -> int:
    """Waits for a file, and says which process did."""
    with open(f"{path}.{os.getpid()}", "a") as begun:
        begun.write("x")
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)
    return os.getpid()


@inspect_command(name="greet", args=[("who", str)], signature="<who>")
def greet(state: Any, who: str, times: int = 1) -> dict[str, str]:
    """Greets somebody."""
    return {"ok": f"{state.hostname} greets {who} {times} times"}


@control_command()
def fail_loudly(state: Any) -> None:
    raise ValueError("on purpose")


@control_command()
def block(state: Any, path: str) -> str:
    hold(path)
    return "done"


app = make(worker_enable_remote_control="TASKCORE_TEST_QUIET" not in os.environ)


@signals.worker_ready.connect
def tell(sender: Any, **kwargs: Any) -> None:
    """For the tests in one process: what to do when the worker is ready."""
    if scenario := getattr(app, "scenario", None):
        scenario()
