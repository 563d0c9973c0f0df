"""A pool child whose calls overlap in one event loop: Python's half of it.

Coroutines of `async def` tasks run as tasks of the loop, plain functions in threads beside it. Each
call has a context of its own, and what a coroutine leaves running is cancelled with it. The parent
sees each call as it sees that of a process: when it began, until when it may run. A soft time limit is raised
at the await of its coroutine, a hard one cancels it; where that does not help, the parent replaces this
process. The core's half is `rust/python/src/coroutines.rs`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from taskcore import exceptions
from taskcore.context import set_request
from taskcore.execution import coroutines, fork_guard, interrupt, overlapping

if TYPE_CHECKING:
    from taskcore import _core

THREADS = 32
"""Most plain functions that run at once in a child; the others wait."""

BLOCKED = 1.0
"""Seconds after which a loop that has not turned is said to be blocked."""

_left: ContextVar[set[asyncio.Task[Any]] | None] = ContextVar("taskcore_left", default=None)
"""The asyncio tasks that the present call has begun and that have not ended."""


def run(
    make_executor: Callable[[], Any],
    make_child: Callable[[Any], _core.LoopChild],
    lanes: int,
) -> int:
    """The life of a pool child with an event loop, until the parent closes the socket.

    Args:
        make_executor: gives the `taskcore.execution.executor.Executor`; called when the loop exists.
        make_child: gives the core's half, for that executor.
        lanes: how many calls run at once.
    """
    loop = coroutines.use(_new_loop())
    executor = make_executor()
    child = make_child(executor)
    pool = _Pool(loop, child, executor, min(lanes, THREADS))
    interrupt.asked = pool.look_now
    loop.add_reader(child.fileno(), pool.receive)
    while not pool.is_over:
        try:
            loop.run_forever()
        except BaseException:
            # An asyncio task that a call began has raised SystemExit or KeyboardInterrupt, which the
            # loop passes on; whoever awaits it has it too.
            if not pool.is_over:
                logging.getLogger("taskcore.task").exception("the event loop was interrupted")
    interrupt.asked = None
    if pool.broken is not None:
        raise pool.broken
    return 0


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return asyncio.new_event_loop()
    return cast("asyncio.AbstractEventLoop", uvloop.new_event_loop())


class _Pool:
    """The calls of this process. All but `look_now` and `_watch` run in the loop's thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        child: _core.LoopChild,
        executor: Any,
        threads: int,
    ) -> None:
        self.is_over = False
        self.broken: BaseException | None = None
        self._loop = loop
        self._child = child
        self._executor = executor
        self._threads = ThreadPoolExecutor(threads, "taskcore-task")
        self._drivers: dict[int, coroutines.Driver] = {}
        """The coroutines that run, by lane."""
        self._idents: dict[int, int] = {}
        """The threads in which plain functions run, by lane. Written by those threads."""
        self._cancelled: set[int] = set()
        """Lanes whose calls the parent has asked to end."""
        self._turn = False
        """Whether `_end_turn` has been asked for."""
        self._watchdog = _Watchdog(loop)
        loop.set_task_factory(cast("Any", _make_task))

    # What comes

    def receive(self) -> None:
        """The socket has something."""
        try:
            if not self._child.receive():
                self._stop()
                return
            self._child.start(self._start)
        except BaseException as exc:
            self._break(exc)

    def _start(
        self,
        lane: int,
        plan: Any,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        plain: bool,
    ) -> None:
        self._watchdog.begin()
        if plan.is_coroutine:
            running = self._run(lane, plan, request, args, kwargs, plain)
            self._drivers[lane] = coroutines.Driver(cast("Any", running), self._loop)
            return
        run = self._threads.submit(self._run_in_thread, lane, plan, request, args, kwargs)
        run.add_done_callback(
            lambda run: self._loop.call_soon_threadsafe(self._thread_ended, lane, run)
        )

    # A call

    async def _run(
        self,
        lane: int,
        plan: Any,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        plain: bool,
    ) -> None:
        set_request(request)
        left: set[asyncio.Task[Any]] = set()
        _left.set(left)
        process = fork_guard.fork_count()
        value: Any = None
        raised: BaseException | None = None
        try:
            if plain:
                value = await plan.function(*args, **kwargs)
            else:
                is_cancelled = self._cancelled.__contains__
                value = await overlapping.execute(
                    plan, request, args, kwargs, lambda: is_cancelled(lane)
                )
        except BaseException as exc:
            raised = exc
        if fork_guard.fork_count() != process:
            fork_guard.exit_forked_process(raised)
        if left:
            await self._end_left(left)
        self._end(lane, plain, value, raised)

    def _run_in_thread(
        self, lane: int, plan: Any, request: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Any:
        outcome: Any = None
        self._idents[lane] = threading.get_ident()
        try:
            outcome = self._executor.run(plan, request, args, kwargs)
            del self._idents[lane]
        except exceptions.SoftTimeLimitExceeded:
            # It was on its way when the call ended.
            self._idents.pop(lane, None)
            if outcome is None:
                raise
        return outcome

    def _thread_ended(self, lane: int, run: Future[Any]) -> None:
        raised = run.exception()
        self._end(lane, False, None if raised else run.result(), raised)

    def _end(self, lane: int, plain: bool, value: Any, raised: BaseException | None) -> None:
        self._drivers.pop(lane, None)
        self._watchdog.end()
        try:
            if lane in self._cancelled:
                self._cancelled.discard(lane)
                self._child.cancelled(lane)
            elif raised is not None:
                self._child.raised(lane, raised)
            elif plain:
                self._child.returned(lane, value)
            else:
                self._child.told(lane, value)
        except BaseException as exc:
            self._break(exc)
        if not self._turn:
            self._turn = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        """Tells the parent of all outcomes at once, and begins what waited for a lane."""
        self._turn = False
        try:
            self._child.start(self._start)
            self._child.ring()
        except BaseException as exc:
            self._break(exc)

    async def _end_left(self, left: set[asyncio.Task[Any]]) -> None:
        """Cancels what a call has left running, and names it."""
        tasks = {task for task in left if not task.done()}
        coroutines.warn_of_left(tasks)
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=coroutines.PATIENCE)
        if pending:
            coroutines.warn_of_stubborn(pending)

    def _break(self, exc: BaseException) -> None:
        """The parent is gone, or this code is wrong: the process ends."""
        if not isinstance(exc, exceptions.OperationalError):
            self.broken = exc
        self._stop()

    def _stop(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._loop.remove_reader(self._child.fileno())
            self._loop.stop()

    # What the parent asks

    def look_now(self) -> None:
        """The signal that the parent asks something, in the loop's thread at any instruction."""
        self._look(at_once=True)
        self._loop.call_soon_threadsafe(self._look)

    def _look(self, at_once: bool = False) -> None:
        soft, ended = self._child.asked()
        due: type[BaseException] | None = None
        for lane in soft:
            if driver := self._drivers.get(lane):
                due = driver.interrupt(exceptions.SoftTimeLimitExceeded) or due
            elif ident := self._idents.get(lane):
                self._child.raise_in(ident, exceptions.SoftTimeLimitExceeded)
        for lane in ended:
            # A thread cannot be cancelled: the parent ends this process when it does not end.
            self._cancelled.add(lane)
            if driver := self._drivers.get(lane):
                driver.throw_soon(asyncio.CancelledError())
        if due is not None and at_once:
            raise due()


def _make_task(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """The loop's task factory: each call knows what it has begun."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    left = _left.get()
    if left is not None:
        left.add(task)
        task.add_done_callback(left.discard)
    return task


class _Watchdog:
    """A thread that says when the loop does not turn while calls run, with the stack that blocks it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._running = 0
        self._busy = threading.Event()
        self._turned = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """A call begins."""
        self._running += 1
        if self._running == 1:
            self._busy.set()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="taskcore-watchdog", daemon=True
                )
                self._thread.start()

    def end(self) -> None:
        """A call has ended."""
        self._running -= 1
        if not self._running:
            self._busy.clear()

    def _watch(self) -> None:
        log = logging.getLogger("taskcore.task")
        while True:
            self._busy.wait()
            self._turned.clear()
            self._loop.call_soon_threadsafe(self._turned.set)
            if self._turned.wait(BLOCKED):
                threading.Event().wait(BLOCKED)
                continue
            frame = sys._current_frames().get(self._loop_thread)
            stack = "".join(traceback.format_stack(frame)) if frame else ""
            log.warning(
                "the event loop has not turned for %s s, so none of its %d calls goes on: something blocks it\n%s",
                BLOCKED,
                self._running,
                stack,
            )
            self._turned.wait()
