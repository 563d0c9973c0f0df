"""The app of the tests of the pool `asyncio`."""

import asyncio
import os
import time
from contextvars import ContextVar
from typing import Any

from taskcore import Taskcore, current_task
from taskcore.exceptions import SoftTimeLimitExceeded
from taskcore.signals import worker_process_init, worker_process_shutdown

app = Taskcore("overlapping")
opened: list[str] = []
own: ContextVar[str] = ContextVar("own", default="")


@worker_process_init.connect
async def open_pool(**_: Any) -> None:
    await asyncio.sleep(0)
    opened.append(type(asyncio.get_running_loop()).__module__)


@worker_process_shutdown.connect
async def close_pool(**_: Any) -> None:
    await asyncio.sleep(0)
    print("pool closed", flush=True)


async def until_exists(path: str) -> None:
    while not os.path.exists(path):
        await asyncio.sleep(0.01)


@app.task
async def loop_of() -> list[Any]:
    """The loop's module, as a receiver of a signal and as a task see it, and the process."""
    return [opened, type(asyncio.get_running_loop()).__module__, os.getpid()]


@app.task(bind=True)
async def meet(self: Any, mine: str, other: str) -> list[str]:
    """Returns when another execution of it runs at the same time; what it sees of its context before
    and after."""
    own.set(self.request.id)
    with open(mine, "w"):
        pass
    await until_exists(other)
    async with asyncio.TaskGroup() as group:
        seen = group.create_task(asyncio.sleep(0, (current_task.request.id, own.get())))
    return [self.request.id, own.get(), *seen.result()]


@app.task
def function(mine: str, other: str) -> int:
    """The same, as a plain function."""
    with open(mine, "w"):
        pass
    while not os.path.exists(other):
        time.sleep(0.01)
    return os.getpid()


@app.task(acks_late=True)
async def hold(path: str) -> int:
    await until_exists(path)
    return os.getpid()


@app.task
async def noted(path: str) -> None:
    """Waits until it is cancelled, and writes that down."""
    with open(path + ".began", "w"):
        pass
    try:
        await asyncio.sleep(60)
    finally:
        with open(path, "w") as out:
            out.write("finally")


@app.task
async def softly() -> str:
    try:
        await asyncio.sleep(60)
    except SoftTimeLimitExceeded:
        return "noticed"
    return "not noticed"


@app.task
async def swallows(path: str) -> str:
    """Ends in time, whatever it is told."""
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await until_exists(path)
    return "swallowed"


@app.task
async def never_ends() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@app.task
async def blocks(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "unblocked"


@app.task
async def leaves_running() -> str:
    task = asyncio.create_task(asyncio.sleep(60), name="left behind")
    await asyncio.sleep(0)
    return str(task.done())


@app.task
async def raises_from_finally() -> None:
    try:
        raise KeyError("first")
    finally:
        raise ValueError("second")


@app.task
async def exits(how: str) -> None:
    if how == "exit":
        raise SystemExit(3)
    if how == "interrupt":
        await asyncio.create_task(_interrupts())
    if how == "cancelled":
        raise asyncio.CancelledError
    if how == "stop":
        asyncio.get_running_loop().stop()
    if how == "close":
        asyncio.get_running_loop().close()


async def _interrupts() -> None:
    raise KeyboardInterrupt


@app.task(bind=True, max_retries=3)
async def retried(self: Any, times: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return int(self.request.retries)


@app.task
async def add(x: int, y: int) -> int:
    await asyncio.sleep(0)
    return x + y
