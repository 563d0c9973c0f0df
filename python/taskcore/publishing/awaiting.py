"""Publishing for coroutines: one thread of the process sends what they have, and nobody blocks a loop.

What comes while a batch is under way leaves with the next, pipelined, so a thousand coroutines that
publish at the same moment cost a few round trips. The thread starts with the first message and ends
when none has come for [`IDLE`] seconds.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from taskcore.publishing import trail
from taskcore.utils import uuid

IDLE = 10.0
"""Seconds that the thread outlives the last message."""

MOST = 1_000
"""Messages in a batch."""


class _Item(NamedTuple):
    """A message, or a function that publishes, and who awaits what comes of it."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    message: Any
    """As of `Publisher.publish_each`, with the `task_id` among its fields; None for a function."""
    function: Callable[[], Any] | None


class Sender:
    """Sends for all coroutines of an app."""

    def __init__(self, producer: Any) -> None:
        self._producer = producer
        self._lock = threading.Lock()
        self._items: SimpleQueue[_Item] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = 0
        """The process that the thread belongs to: a forked one has none."""

    async def send(
        self, template: Any, args: Any, kwargs: dict[str, Any], fields: dict[str, Any]
    ) -> None:
        """Publishes a message, confirmed; parameters as of `Publisher.publish`, with the `task_id` among
        the fields.

        Raises:
            As `Publisher.publish`. Cancelled, it returns at once, and the message may have been sent.
        """
        await self._put((template, args, kwargs, fields), None)

    async def call(self, function: Callable[[], Any]) -> Any:
        """Calls a function that publishes, in the context of the caller; gives what it returns."""
        context = copy_context()
        return await self._put(None, lambda: context.run(function))

    def _put(self, message: Any, function: Callable[[], Any] | None) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self._process != os.getpid():
                self._items, self._thread, self._process = SimpleQueue(), None, os.getpid()
            self._items.put(_Item(loop, future, message, function))
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="taskcore-publish", daemon=True
                )
                self._thread.start()
        return future

    # In the thread

    def _run(self) -> None:
        items = self._items
        while True:
            try:
                batch = [items.get(timeout=IDLE)]
            except Empty:
                with self._lock:
                    if items.empty():
                        self._thread = None
                        return
                continue
            with suppress(Empty):
                while len(batch) < MOST:
                    batch.append(items.get_nowait())
            self._send(batch)

    def _send(self, batch: list[_Item]) -> None:
        ends: list[tuple[_Item, Any, BaseException | None]] = []
        messages = [item for item in batch if item.function is None]
        if messages:
            ends += self._publish(messages)
        for item in batch:
            if item.function is not None:
                try:
                    ends.append((item, item.function(), None))
                except BaseException as exc:
                    ends.append((item, None, exc))
        by_loop = defaultdict(list)
        for end in ends:
            by_loop[end[0].loop].append(end)
        for loop, its in by_loop.items():
            # A loop that is closed by now has nobody who waits.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_tell, its)

    def _publish(self, items: list[_Item]) -> list[tuple[_Item, Any, BaseException | None]]:
        """Publishes together; where that fails, one by one those that are not published, so that each
        has an answer of its own."""
        try:
            self._producer.publisher.publish_each(item.message for item in items)
        except BaseException as exc:
            if len(items) == 1:
                return [(items[0], None, exc)]
            published = set(getattr(exc, "published", ()))
            ends: list[tuple[_Item, Any, BaseException | None]] = []
            for item in items:
                sent = item.message[3]["task_id"] in published
                ends += [(item, None, None)] if sent else self._publish([item])
            return ends
        return [(item, None, None) for item in items]


async def send_call(
    producer: Any, task: Any, args: Any, kwargs: dict[str, Any], options: dict[str, Any]
) -> Any:
    """Sends one call of a task, as `Producer.send` does; gives what stands for its result."""
    parent = producer.parent(options)
    fields, replies, make = producer.complete(task, options, parent, (args, kwargs))
    task_id: str = fields.setdefault("task_id", uuid())
    await producer.awaited.send(producer.template(task), args, kwargs, fields)
    if options.get("add_to_parent", True):
        trail.add(producer.app, parent, task_id)
    reply_to = fields.get("reply_to") if replies else None
    return make(task_id, None, None, producer.app, None, reply_to)


def _tell(ends: list[tuple[_Item, Any, BaseException | None]]) -> None:
    """In the loop: resolves what is still awaited."""
    for item, value, exc in ends:
        if item.future.done():
            continue
        if exc is None:
            item.future.set_result(value)
        elif isinstance(exc, StopIteration):
            item.future.set_exception(RuntimeError(repr(exc)))
        else:
            item.future.set_exception(exc)
