"""The app of the pool tests. No task has a hard time limit of its own, so that every pool starts."""

import asyncio
import contextlib
import ctypes
import multiprocessing
import multiprocessing.util
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextvars import ContextVar
from typing import Any

from taskcore import Taskcore, current_task
from taskcore.exceptions import SoftTimeLimitExceeded


def wait_for_file(path: str) -> None:
    """Blocks until the file exists; a minute is for ever here."""
    end = time.monotonic() + 60
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(path)
        time.sleep(0.01)


def add(x: int, y: int = 1) -> int:
    return x + y


def echo(value: Any) -> Any:
    return value


def fail() -> None:
    raise ValueError("boom", 42)


def leave() -> None:
    sys.exit(3)


def unencodable() -> object:
    return object()


def hold(path: str) -> int:
    """Waits for a file, and says which process did."""
    wait_for_file(path)
    return os.getpid()


def meet(mine: str, other: str) -> str:
    """Returns when another execution of it runs at the same time."""
    with open(mine, "w"):
        pass
    wait_for_file(other)
    return mine


def busy() -> str:
    """Runs until its soft limit."""
    end = time.monotonic() + 60
    try:
        while time.monotonic() < end:
            sum(range(1000))
    except SoftTimeLimitExceeded:
        return "noticed"
    return "not noticed"


def asleep() -> str:
    """As `busy`, in one call into the system."""
    with contextlib.suppress(SoftTimeLimitExceeded):
        time.sleep(60)
        return "not noticed"
    return "noticed"


def spoil(values: list[Any], fails: bool = False) -> int:
    """Puts what JSON cannot write where the document of the result may look for the arguments."""
    values.append(object())
    current_task.update_state(state="PROGRESS", meta={"n": 1})
    if fails:
        raise ValueError("spoiled \udc80")
    return len(values)


def pid() -> int:
    return os.getpid()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def segfault() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def draw() -> float:
    return random.random()


def program(sign: int) -> int:
    """The exit code of a program that is sent a signal, as the task's programs see it."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as started:
        started.send_signal(sign)
        return started.wait()


def fork(how: str) -> int:
    """Forks without care: the new process comes back from the task too. Gives its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if how == "exit":
        sys.exit(7)
    if how == "raise":
        raise ValueError("in the fork")
    return -1


def terminate() -> int:
    """The exit code of a process of `multiprocessing` that is told to end."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_say_and_wait, args=(theirs,))
    process.start()
    ours.recv()
    process.terminate()
    process.join(60)
    return process.exitcode or 0


def temporary() -> str:
    """A folder that `multiprocessing` promises to remove when the process ends."""
    return multiprocessing.util.get_temp_dir()


def _say_and_wait(pipe: Any) -> None:
    pipe.send("up")
    time.sleep(60)


def say(text: str) -> None:
    print(text)


def stack() -> int:
    """Bytes of stack of the thread that runs the task."""
    libc = ctypes.CDLL(None)
    libc.pthread_self.restype = ctypes.c_ulong
    attributes, size = (ctypes.c_char * 256)(), ctypes.c_size_t()
    assert libc.pthread_getattr_np(ctypes.c_ulong(libc.pthread_self()), attributes) == 0
    assert libc.pthread_attr_getstacksize(attributes, ctypes.byref(size)) == 0
    return size.value


if "POOLS_STACK" in os.environ:
    threading.stack_size(int(os.environ["POOLS_STACK"]))


VISITED: ContextVar[bool] = ContextVar("pools_visited", default=False)


async def context(value: Any) -> list[Any]:
    """What a coroutine sees of its own call: id, arguments, and whether an earlier call left
    something."""
    visited = VISITED.get()
    VISITED.set(True)
    await asyncio.sleep(0)
    request = current_task.request
    return [request.id, list(request.args), visited]


async def retried(times: int) -> int:
    """Runs again so many times."""
    await asyncio.sleep(0)
    task = current_task
    if task.request.retries < times:
        raise task.retry(countdown=0)
    return int(task.request.retries)


async def awaits(how: str, folder: str) -> str:
    """Awaits for ever, and writes down how that ends."""

    def note(name: str) -> None:
        with open(os.path.join(folder, name), "w"):
            pass

    async def child() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            note("child")

    try:
        if how == "sleep":
            await asyncio.sleep(600)
        elif how == "group":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(child())
        elif how == "child":
            await asyncio.create_task(child())
        elif how == "timeout":
            await asyncio.wait_for(child(), 600)
        else:
            while True:
                sum(range(1000))
    except SoftTimeLimitExceeded:
        note("except")
        await asyncio.sleep(0.01)
        if how == "sleep":
            raise
        return "noticed"
    finally:
        note("finally")
    return "not noticed"


async def leaves(folder: str) -> str:
    """Returns while what it has started still runs."""

    async def left_behind() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            with open(os.path.join(folder, "cancelled"), "w"):
                pass

    started = asyncio.create_task(left_behind(), name="errand")
    await asyncio.sleep(0)
    return "running" if not started.done() else "done"


TASKS = (
    add, echo, fail, leave, unencodable, hold, meet, busy, asleep, pid, die, segfault, draw, program,
    fork, terminate, temporary, say, context, retried, awaits, leaves, stack, spoil
)  # fmt: skip


def make(**conf: Any) -> Taskcore:
    """An app with all of the above."""
    made = Taskcore("pools", **conf)
    for task in TASKS:
        made.task(task, name=f"pools.{task.__name__}")
    return made


app = make(result_extended="POOLS_EXTENDED" in os.environ)
