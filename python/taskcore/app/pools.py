"""What projects ask of Celery's pools of connections and producers. taskcore keeps connections by
itself, so these stand for them in `with` blocks and in the options of calls."""

from __future__ import annotations

from taskcore.app.connections import Connection
from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


class Producer:
    """Stands for a producer: `task.apply_async(producer=...)` takes it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def publish(self, body: Any, *_: Any, **__: Any) -> NoReturn:
        """Not in this version.

        Raises:
            NotSupportedError: always; a queue of tasks is no place for other messages.
        """
        raise NotSupportedError(
            "taskcore publishes tasks and nothing else: call a task, or `app.send_task(name, ...)`, with "
            "`exchange` and `routing_key`"
        )

    def close(self) -> None:
        """Lets go of it."""

    release = close

    def __enter__(self) -> Producer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class Pool:
    """Stands for a pool; what it gives can be given back or not.

    Args:
        make: makes what it gives.
        limit: what is shown as its limit.
    """

    def __init__(self, make: Callable[[], Any], limit: int | None) -> None:
        self._make = make
        self.limit = limit

    def acquire(self, block: bool = False, timeout: float | None = None) -> Any:
        """One of them, for a `with` block; there is always one."""
        return self._make()

    def release(self, resource: Any) -> None:
        """Takes it back."""
        resource.release()

    def force_close_all(self) -> None:
        """Nothing is open that this would close; `app.close()` drops connections."""


def or_given(given: Any, make: Callable[[], Any]) -> Any:
    """What was given, or a new one, for a `with` block that closes it only if it was made."""
    return make() if given is None else _Given(given)


class _Given:
    """Gives what it was given, and does not close it."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def __enter__(self) -> Any:
        return self._given

    def __exit__(self, *exc_info: object) -> None:
        pass
