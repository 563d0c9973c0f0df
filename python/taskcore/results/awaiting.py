"""Waiting for a result in an event loop, without a thread: the core calls when it has come.

Imported with the first `await`, because asyncio costs every process a few megabytes.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any


async def wait(results: Any, task_id: str, foreign: bool) -> dict[str, Any]:
    """The document of a task once it is in a ready state. Cancelled at any moment, nothing stays
    behind.

    Args:
        foreign: as for `Results.watch`.
    Raises:
        OperationalError: the store went away.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[dict[str, Any]] = loop.create_future()

    def done(document: dict[str, Any], error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits any more
            loop.call_soon_threadsafe(_settle, future, document, error)

    key = results.watch(task_id, done, foreign)
    try:
        return await future
    finally:
        results.unwatch(key)


def _settle(
    future: asyncio.Future[dict[str, Any]], document: dict[str, Any], error: BaseException | None
) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(document)
    else:
        future.set_exception(error)
