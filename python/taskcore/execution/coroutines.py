"""Runs the coroutines of `async def` tasks in pools that run one task at a time per thread.

Each thread keeps one loop for its life, so that clients bound to a loop survive from task to task.
All else ends with the call: it has a context of its own, a copy of the thread's, and the asyncio
tasks that it leaves running are cancelled, because they would go on inside the next call and be
blamed on it. A forked process must not use its parent's loop, hence the count of forks beside it. This
module is imported with the first such task, because asyncio costs every child a few megabytes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from contextvars import copy_context
from types import CoroutineType
from typing import Any, cast

from taskcore import context, exceptions
from taskcore.execution import fork_guard, interrupt

PATIENCE = 5.0
"""Seconds that cancelled asyncio tasks have to end. A loop in which one does not is given up with it."""

_thread = threading.local()


class SoftTimeLimitExceeded(exceptions.SoftTimeLimitExceeded, asyncio.CancelledError):
    """The limit as a coroutine sees it: a cancellation as well, so that a task group,
    `asyncio.timeout` or `wait_for` around the await ends what it has begun."""

    __module__ = exceptions.__name__


def run(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end on this thread's loop.

    Raises:
        RuntimeError: a loop runs in this thread already.
    """
    try:
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                f"coroutine `{coroutine.__qualname__}` cannot be run to its end here, because an event loop runs in "
                "this thread: await the function itself, or call the task in another thread"
            )
        loop = _loop()
        driver = Driver(coroutine, loop)
        ident = threading.get_ident()
        interrupt.running[ident] = driver
        try:
            return driver.run()
        finally:
            _end_left(loop)
            del interrupt.running[ident]
    finally:
        coroutine.close()  # where it was not begun


def _loop() -> asyncio.AbstractEventLoop:
    kept: _Kept | None = getattr(_thread, "loop", None)
    if kept is None or kept.forks != fork_guard.fork_count():
        kept = _thread.loop = _Kept()
    return kept.loop


def run_receiver(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Runs what a receiver of a signal has begun, in the loop of this thread; what it leaves running
    there goes on beside the tasks. What it raises is logged."""
    try:
        _loop().run_until_complete(coroutine)
    except Exception:
        name = getattr(coroutine, "__qualname__", coroutine)
        logging.getLogger("taskcore.task").exception("signal receiver %s failed", name)


def use(loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
    """Makes this the loop of the thread, for what runs there one coroutine at a time, too."""
    _thread.loop = _Kept(loop)
    return loop


class _Kept:
    """The loop of a thread, closed with it."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.forks = fork_guard.fork_count()
        self.loop = loop or asyncio.new_event_loop()
        self.loop.set_exception_handler(_divert)
        asyncio.set_event_loop(self.loop)

    def __del__(self) -> None:
        if self.forks == fork_guard.fork_count() and not self.loop.is_running():
            self.loop.close()


class Driver:
    """A coroutine as its asyncio task drives it, with a way in for what is raised from outside.

    asyncio can throw nothing but CancelledError at an await. So the task is cancelled, and what is
    due is put in the place of that, here, where the task meets the coroutine.
    """

    __slots__ = ("_coroutine", "_due", "_loop", "_task", "close", "send")

    def __init__(
        self, coroutine: CoroutineType[Any, Any, Any], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._due: BaseException | None = None
        self.send: Any = coroutine.send
        self.close = coroutine.close
        driven = cast("Coroutine[Any, Any, Any]", self)
        self._task: asyncio.Task[Any] = loop.create_task(driven, context=copy_context())

    def run(self) -> Any:
        """Runs the loop until the coroutine has ended; what it returned, or raises what it raised."""
        loop, task = self._loop, self._task
        task.add_done_callback(lambda _: loop.stop())
        while not task.done():
            try:
                loop.run_forever()
            except BaseException as exc:
                if task.done():
                    task.cancelled() or task.exception()  # it has been seen
                    raise
                # A signal handler has raised in the loop's own code.
                self.throw_soon(exc)
        return task.result()

    # For whoever interrupts it, from any thread or signal handler

    def interrupt(self, what: type[BaseException]) -> type[BaseException] | None:
        """As `interrupt.interrupt`."""
        if issubclass(what, exceptions.SoftTimeLimitExceeded):
            what = SoftTimeLimitExceeded
        if self._coroutine.cr_running:
            return what
        self.throw_soon(what())
        return None

    def throw_soon(self, exc: BaseException) -> None:
        """Has the coroutine raise at its await, unless it ends before."""
        self._loop.call_soon_threadsafe(self._cancel, exc)

    def _cancel(self, exc: BaseException) -> None:
        if not self._task.done():
            self._due = exc
            # A child that it awaits may swallow the cancellation; then it is resumed by this.
            self.send = self._throw_due
            self._task.cancel()

    # For asyncio

    def _throw_due(self, _: None) -> Any:
        return self.throw(asyncio.CancelledError())

    def throw(self, exc: BaseException) -> Any:
        """What is due in place of a cancellation."""
        due, self._due = self._due, None
        if due is not None:
            self.send = self._coroutine.send
            self._task.uncancel()
            exc = due
        return self._coroutine.throw(exc)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)  # names and frames, for asyncio's texts


Coroutine.register(Driver)


def _divert(loop: asyncio.AbstractEventLoop, problem: dict[str, Any]) -> None:
    """The loop's exception handler. A limit that was raised in a thread from outside may come
    between two steps of the coroutine, where asyncio catches it."""
    exc, driver = problem.get("exception"), interrupt.running.get(threading.get_ident())
    if isinstance(exc, SoftTimeLimitExceeded) and isinstance(driver, Driver):
        driver.throw_soon(exc)
    else:
        loop.default_exception_handler(problem)


async def _nothing() -> Any:
    yield


_Closing = type(_nothing().aclose())
"""What asyncio runs to close an async generator that was not read to its end."""


def _end_left(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels the asyncio tasks that a call has left running, and names them."""
    end = loop.time() + PATIENCE
    seen: set[asyncio.Task[Any]] = set()
    while left := asyncio.all_tasks(loop):
        if loop.time() > end:
            warn_of_stubborn(left, "the event loop is given up with it")
            _thread.loop = None
            return
        fresh = {task for task in left - seen if not isinstance(task.get_coro(), _Closing)}
        if fresh:
            warn_of_left(fresh)
        for task in fresh:
            task.cancel()
        seen |= fresh
        loop.run_until_complete(asyncio.wait(left, timeout=max(0.0, end - loop.time())))


def warn_of_left(tasks: set[asyncio.Task[Any]]) -> None:
    """Says what the current call has left running."""
    logging.getLogger("taskcore.task").warning(
        "task %s returned while %s was still running, which is cancelled: await what a task starts",
        _current(),
        _names(tasks),
    )


def warn_of_stubborn(tasks: set[asyncio.Task[Any]], what: str = "it goes on") -> None:
    """Says what did not end when it was cancelled."""
    logging.getLogger("taskcore.task").warning(
        "task %s left %s, which did not end within %s s of being cancelled: %s",
        _current(),
        _names(tasks),
        PATIENCE,
        what,
    )


def _current() -> str:
    request = context.get_request()
    return "of an unknown name" if request is None else f"`{request.task}[{request.id}]`"


def _names(tasks: set[asyncio.Task[Any]]) -> str:
    def name(task: asyncio.Task[Any]) -> str:
        coroutine = task.get_coro()
        return f"`{task.get_name()}` ({getattr(coroutine, '__qualname__', coroutine)})"

    return ", ".join(sorted(map(name, tasks)))
