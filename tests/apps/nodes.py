"""The app of random workflows, imported by workers as `nodes`: tasks whose values tell what they were
called with, and which write to the ledger that they ran to their end."""

import json
import zlib
from typing import Any

from sample import write
from taskcore import Taskcore, maybe_signature


def value_of(number: int, given: Any) -> int:
    """The value of node `number` that is called with `given`."""
    return zlib.crc32(json.dumps([number, given]).encode())


def node(given: Any, number: int) -> int:
    write(number)
    return value_of(number, given)


def again(self: Any, given: Any, number: int) -> int:
    """Is retried once."""
    if self.request.retries < 1:
        raise self.retry(countdown=0)
    return node(given, number)


def broken(given: Any, number: int) -> None:
    write(number)
    raise ValueError(f"node {number} is broken")


def become(self: Any, given: Any, number: int, sig: Any) -> Any:
    """Has another workflow run in its place, with what it was given."""
    write(number)
    return self.replace(self.app.tasks["nodes.give"].si(given) | maybe_signature(sig, self.app))


def give(value: Any) -> Any:
    return value


def make(**conf: Any) -> Taskcore:
    """An app with all of the above."""
    return register(Taskcore("nodes", **conf))


def register(app: Any) -> Any:
    """Adds them to an app."""
    for plain in (node, broken, give):
        app.task(plain, name=f"nodes.{plain.__name__}", acks_late=True)
    for bound in (again, become):
        app.task(bound, name=f"nodes.{bound.__name__}", bind=True, acks_late=True)
    return app


app = make()
