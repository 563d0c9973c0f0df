"""Waiting for results in an event loop, without a thread: the core calls when one has come.

Imported with the first `await`, because asyncio costs every process a few megabytes. Cancelled at
any moment, nothing stays behind: neither a thread nor a watch in the core.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from typing import Any

from taskcore.results.arrivals import Watches


async def all_of(results: Iterable[Any], before: Iterable[Any]) -> None:
    """Waits until all of `results` have returned, and fills them.

    Args:
        before: results of tasks without which they will not run.
    Raises:
        OperationalError: the store went away; or what one of these tasks raised, as soon as it is
            known.
    """
    awaited = list(results)
    pending = [one for one in awaited if one._document is None]
    count = missing = len(pending)
    for one in awaited:
        if one._document is not None:
            one.maybe_throw()
    if not missing:
        return
    for one in before:
        if one._document is None:
            pending.append(one)
        else:
            one.maybe_throw()
    come, watches = _Come(), Watches()
    try:
        watches.add(pending, come.put)
        while missing:
            place, document, error = await come.get()
            if error is not None:
                raise error
            pending[place]._document = document
            pending[place].maybe_throw()
            missing -= place < count
    finally:
        watches.close()


async def arriving(results: Iterable[Any]) -> AsyncGenerator[Any]:
    """Each result once its document is final, and kept in it; what is known already comes first.

    Raises:
        OperationalError: the store went away.
    """
    pending = []
    for one in results:
        if one._document is None:
            pending.append(one)
        else:
            yield one
    missing = set(range(len(pending)))
    come, watches = _Come(), Watches()
    try:
        watches.add(pending, come.put)
        while missing:
            place, document, error = await come.get()
            if error is not None:
                raise error
            if place in missing:
                missing.remove(place)
                pending[place]._document = document
                yield pending[place]
    finally:
        watches.close()


class _Come:
    """What has come: put in by the core's thread, taken out in the loop, which is woken once for
    many."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrivals: deque[tuple[int, Any, Any]] = deque()
        self._woken = asyncio.Event()
        self._is_waking = False

    def put(self, *arrival: Any) -> None:
        """Takes place, document and error."""
        self._arrivals.append(arrival)
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # Before what is there is taken out: what comes after that wakes the loop again.
        self._is_waking = False
        self._woken.set()

    async def get(self) -> tuple[int, Any, Any]:
        """Place, document and error of the next."""
        while not self._arrivals:
            self._woken.clear()
            await self._woken.wait()
        return self._arrivals.popleft()
