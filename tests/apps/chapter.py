"""The app of the idioms of workflows, imported by workers as `chapter`."""

from typing import Any

from sample import write
from taskcore import Taskcore


def add(x: int, y: int) -> int:
    return x + y


def mul(x: int, y: int) -> int:
    return x * y


def xsum(numbers: list[Any]) -> Any:
    return sum(numbers)


def cause(*args: Any) -> None:
    raise ValueError("of the header")


def tell(*args: Any) -> None:
    """Writes what it was called with."""
    write(" ".join(map(str, args)))


def mourn(request: Any, exc: BaseException, traceback: str) -> None:
    """An error callback of the new style."""
    write(f"{type(exc).__name__} of {request.task}, traceback {bool(traceback)}")


def stamps(self: Any, *args: Any) -> dict[str, Any]:
    """The stamps that it carries."""
    found = dict(self.request.stamps or {})
    write(f"stamped {sorted(found)}")
    return found


def grow(self: Any, x: int, y: int) -> Any:
    """Has another workflow run in its place."""
    tasks = self.app.tasks
    return self.replace(tasks["chapter.add"].s(x, y) | tasks["chapter.mul"].s(10))


def invite(self: Any, x: int) -> int:
    """Adds a member to the chord that it belongs to."""
    self.add_to_chord(self.app.tasks["chapter.add"].s(x, x))
    return x


def make(**conf: Any) -> Taskcore:
    """An app with all of the above."""
    app = Taskcore("chapter", **conf)
    for plain in (add, mul, xsum, cause, tell, mourn):
        app.task(plain, name=f"chapter.{plain.__name__}")
    for bound in (stamps, grow, invite):
        app.task(bound, name=f"chapter.{bound.__name__}", bind=True)
    return app


app = make()
