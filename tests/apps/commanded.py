"""The app of the tests of commands: its worker carries out what it reads from a socket."""

import json
import os
import socket
import threading
import time
from typing import Any

from taskcore import Taskcore, signals
from taskcore.exceptions import SoftTimeLimitExceeded


def make(**conf: Any) -> Taskcore:
    """An app with these tasks."""
    app = Taskcore("commanded", **conf)
    for task in (add, hold, guarded):
        app.task(name=f"commanded.{task.__name__}")(task)
    app.task(name="commanded.late", acks_late=True)(hold)
    return app


def add(x: int, y: int = 1) -> int:
    return x + y


def hold(path: str) -> int:
    """Waits for a file, and says which process did."""
    with open(f"{path}.{os.getpid()}", "w"):
        pass
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)
    return os.getpid()


def guarded(path: str) -> str:
    """The same, and goes on when it is told that its time is over."""
    try:
        hold(path)
    except SoftTimeLimitExceeded:
        return "noticed"
    return "done"


app = make()


@signals.worker_ready.connect
def listen(sender: Any, **kwargs: Any) -> None:
    """Serves commands, one a connection: a name and its arguments, the answer or the error."""
    server = socket.socket(socket.AF_UNIX)
    server.bind("commands")
    server.listen()

    def serve() -> None:
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rw") as lines:
                name, args = json.loads(lines.readline())
                try:
                    answer = {"value": getattr(sender, name)(*args)}
                except Exception as exc:
                    answer = {"error": f"{type(exc).__name__}: {exc}"}
                lines.write(json.dumps(answer) + "\n")
                lines.flush()

    threading.Thread(target=serve, daemon=True).start()
