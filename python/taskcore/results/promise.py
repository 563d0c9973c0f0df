"""What is to be called when a result has come: `result.then(callback)`.

A promise is fulfilled once, from any thread. Who asks later is called at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any
from weakref import ref

from taskcore.results.arrivals import Watches


class Promise:
    """A value that will be there, and who waits for it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[Callable[[], None]] = []
        self.ready = False
        """Whether it was fulfilled, or has failed."""
        self.value: Any = None
        """What it was fulfilled with."""
        self.reason: BaseException | None = None
        """Why it has failed."""

    @property
    def failed(self) -> bool:
        """Whether it has failed."""
        return self.reason is not None

    def then(
        self,
        callback: Callable[..., Any],
        on_error: Callable[[BaseException], Any] | None = None,
    ) -> Promise:
        """Has `callback` called with the value; gives a promise of what it returns.

        Args:
            on_error: called with why this one failed, or with what `callback` raises. Without it
                the error goes on to the promise that is returned, and to who fulfils this one.
        """
        following = Promise()

        def proceed() -> None:
            try:
                if self.reason is not None:
                    raise self.reason
                value = callback(self.value)
            except Exception as exc:
                following._end(None, exc)
                if on_error is None:
                    raise
                on_error(exc)
            else:
                following._end(value, None)

        with self._lock:
            if not self.ready:
                self._waiting.append(proceed)
                return following
        proceed()
        return following

    def __call__(self, value: Any = None) -> None:
        """Fulfils it."""
        self._end(value, None)

    def throw(self, reason: BaseException) -> None:
        """Has it fail."""
        self._end(None, reason)

    def _end(self, value: Any, reason: BaseException | None) -> None:
        with self._lock:
            if self.ready:
                return
            self.ready, self.value, self.reason = True, value, reason
            waiting, self._waiting = self._waiting, []
        for proceed in waiting:
            proceed()


def when_ended(result: Any, leaves: Sequence[Any], weak: bool) -> Promise:
    """A promise that is fulfilled with `result` when all `leaves` have ended, and fails when their
    store goes away.

    Args:
        weak: nothing is called when nobody else holds `result` any more.
    """
    promise, lock = Promise(), Lock()
    pending = [one for one in leaves if one._document is None]
    if not pending:
        promise(result)
        return promise
    missing = set(range(len(pending)))
    held = ref(result) if weak else lambda: result
    targets = [ref(one) for one in pending] if weak else [lambda one=one: one for one in pending]

    def come(place: int, document: Any, error: BaseException | None) -> None:
        if error is not None:
            promise.throw(error)
            return
        one, whole = targets[place](), held()
        if one is not None:
            one._document = document
        with lock:
            missing.discard(place)
            is_last = not missing
        if is_last and whole is not None:
            promise(whole)

    Watches().add(pending, come)
    return promise
