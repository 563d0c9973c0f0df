"""Waiting for many results at once: what is there is read in batches, what is not comes by push.

The core calls from a thread of its own when a document has come, so one thread of the caller's
waits for any number of tasks, and a document is fetched once. Knows results only by what it asks
of them: `id`, `backend`, and `_document`, which it fills.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from taskcore import states
from taskcore.exceptions import TimeoutError as NotReady

_BATCH = 500
"""Documents per request to the store."""

_FIRST_LOOK = 0.05
"""Seconds until those who wait for one result first look at the tasks before it."""

_LOOK = 1.0
"""Seconds between two such looks."""


class Waiting:
    """How long to wait, and what is done meanwhile."""

    def __init__(
        self,
        timeout: float | None = None,
        interval: float | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """
        Args:
            timeout: seconds; default: for ever.
            interval: seconds between two calls of `on_interval`, 0.5 if None or 0.
            options: `on_interval`, and `on_message`, which is called with each document, also of
                states that are not ready, as far as they are seen once in an interval.
        """
        options = options or {}
        self.end = None if timeout is None else monotonic() + timeout
        self.on_message = options.get("on_message")
        self.on_interval = options.get("on_interval")
        self.interval = float(interval or 0.5)

    def step(self) -> float | None:
        """Seconds to block now; None: until something comes."""
        left = None if self.end is None else max(0.0, self.end - monotonic())
        if not self.is_watched:
            return left
        return self.interval if left is None else min(left, self.interval)

    @property
    def is_watched(self) -> bool:
        """Whether something is done meanwhile."""
        return self.on_message is not None or self.on_interval is not None

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return self.end is not None and monotonic() >= self.end


class _Stores:
    """The store of each result, and whether nobody tells this process of its end on the process's
    own channel: asked once for all results that are alike."""

    def __init__(self) -> None:
        self._known: dict[Any, tuple[Any, bool]] = {}

    def of(self, one: Any) -> tuple[Any, bool]:
        alike = id(one.app), id(one._store), one._reply_to
        known = self._known.get(alike)
        if known is None:
            store = one.backend
            known = self._known[alike] = store, one._is_foreign(store)
        return known


def read(results: Iterable[Any]) -> list[dict[str, Any] | None]:
    """The documents of these, in order; None where nothing is stored."""
    stores, count = _Stores(), 0
    by_store: dict[int, tuple[Any, list[tuple[int, str]]]] = {}
    for one in results:
        store, _ = stores.of(one)
        by_store.setdefault(id(store), (store, []))[1].append((count, one.id))
        count += 1
    found: list[dict[str, Any] | None] = [None] * count
    for store, asked in by_store.values():
        for first in range(0, len(asked), _BATCH):
            batch = asked[first : first + _BATCH]
            documents = store.get([task_id for _, task_id in batch])
            for (place, _), document in zip(batch, documents, strict=True):
                found[place] = document
    return found


def arriving(results: Iterable[Any], waiting: Waiting, before: Iterable[Any] = ()) -> Iterator[Any]:
    """Each result once its document is final, and kept in it; what is there already comes first.

    Args:
        before: results of tasks without which these will not run.
    Raises:
        TimeoutError: not all came in time.
        OperationalError: the store went away.
        Exception: what a task in `before` raised, unless all have come.
    """
    pending = []
    for one in results:
        if one._document is None:
            pending.append(one)
        else:
            yield one
    if len(pending) == 1 and not waiting.is_watched:
        yield _alone(pending[0], before, waiting)
        return
    seen: dict[str, Any] = {}
    yield from _look(pending, waiting, seen)
    pending = [one for one in pending if one._document is None]
    if not pending:
        return
    yield from _pushed(pending, _not_failed(before), waiting, seen)


def _alone(one: Any, before: Iterable[Any], waiting: Waiting) -> Any:
    """A single result: the thread that waits reads the socket itself, without the core's thread in
    between, and hears of no task before it. A worker that ends a task without success ends at once
    what was to follow; where a stock Celery worker did, that is seen by looking now and then."""
    earlier, pause = list(before), _FIRST_LOOK
    while True:
        left = waiting.step()
        try:
            look = min(pause, pause if left is None else left)
            one._document = one._wait(look if earlier else left)
        except NotReady:
            if waiting.is_over:
                raise
            earlier, pause = _not_failed(earlier), _LOOK
        else:
            return one


def _not_failed(before: Iterable[Any]) -> list[Any]:
    """Those whose end is not known; raises what another of them raised."""
    earlier = list(before)
    for _ in _look([one for one in earlier if one._document is None], Waiting(), {}):
        pass
    for one in reversed(earlier):
        if one._document is not None:
            one.maybe_throw()
    return [one for one in earlier if one._document is None]


def _look(pending: Iterable[Any], waiting: Waiting, seen: dict[str, Any]) -> Iterator[Any]:
    """Those that are ready by now; other states are told as they change."""
    pending = list(pending)
    for one, document in zip(pending, read(pending), strict=True):
        if document is None or one._document is not None:
            continue
        if document["status"] in states.READY_STATES:
            yield _keep(one, document, waiting)
        elif waiting.on_message is not None and seen.get(one.id) != document:
            seen[one.id] = document
            waiting.on_message(document)


def _keep(one: Any, document: dict[str, Any], waiting: Waiting) -> Any:
    one._document = document
    if waiting.on_message is not None:
        waiting.on_message(document)
    return one


def _pushed(
    pending: list[Any], earlier: list[Any], waiting: Waiting, seen: dict[str, Any]
) -> Iterator[Any]:
    come: SimpleQueue[tuple[int, Any, Any]] = SimpleQueue()
    watches = Watches()
    missing = set(range(len(pending)))
    watched = [*pending, *earlier]
    try:
        watches.add(watched, lambda *arrival: come.put(arrival))
        while missing:
            try:
                place, document, error = come.get(timeout=waiting.step())
            except Empty:
                if waiting.is_over:
                    raise NotReady(not_ready(pending, missing)) from None
                if waiting.on_interval is not None:
                    waiting.on_interval()
                if waiting.on_message is not None:
                    yield from _look([pending[place] for place in missing], waiting, seen)
                    missing = {place for place in missing if pending[place]._document is None}
                continue
            if error is not None:
                raise error
            if place in missing:
                missing.remove(place)
                yield _keep(pending[place], document, waiting)
            elif place >= len(pending):
                watched[place]._document = document
                watched[place].maybe_throw()
    finally:
        watches.close()


def not_ready(pending: list[Any], missing: Iterable[int]) -> str:
    """What is said when the time has passed."""
    ids = [pending[place].id for place in missing]
    if len(ids) == 1:
        return f"task `{ids[0]}` was not ready before the timeout; wait longer or look at its state"
    some = ", ".join(f"`{one}`" for one in ids[:3]) + (", ..." if len(ids) > 3 else "")
    return (
        f"`{len(ids)}` of the tasks were not ready before the timeout ({some}); wait longer or look "
        "at their states"
    )


class Watches:
    """What a process has asked the core to be told."""

    def __init__(self) -> None:
        self._keys: list[tuple[Any, int]] = []

    def add(self, results: Iterable[Any], tell: Any) -> None:
        """Has `tell` called with place, document and error of each of `results`, in a thread of
        the core's."""
        stores = _Stores()
        for place, one in enumerate(results):
            store, foreign = stores.of(one)
            key = store.watch(one.id, partial(tell, place), foreign)
            self._keys.append((store, key))

    def close(self) -> None:
        """Takes all back that have not come."""
        for store, key in self._keys:
            store.unwatch(key)
        self._keys.clear()
