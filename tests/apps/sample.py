"""The app of the end-to-end tests: imported by workers as `sample`, and made with other settings
by clients.

Tasks write what the tests want to know into a ledger, one line per write, which the operating
system appends atomically.
"""

import asyncio
import contextlib
import contextvars
import os
import signal
import subprocess
import sys
import time
from typing import Any

from taskcore import Task, Taskcore, maybe_signature
from taskcore.exceptions import Ignore, Reject, Retry, SoftTimeLimitExceeded
from taskcore.utils.log import get_task_logger

task_logger = get_task_logger(__name__)


class Refused(Exception):
    """An exception of the user's own, with arguments of its own."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(code, why)
        self.code = code
        self.why = why


class Unpicklable(Exception):
    """An exception that cannot be made again from its arguments."""

    def __init__(self, needed: str, *, also: str) -> None:
        super().__init__(f"{needed} and {also}")


def write(text: object) -> None:
    """Appends one line to the ledger."""
    handle = os.open(os.environ["SAMPLE_LEDGER"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, f"{text}\n".encode())
    finally:
        os.close(handle)


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


def repeat(text: str, times: int) -> str:
    return text * times


def fail(message: str) -> None:
    raise ValueError(message)


def refuse(code: int, why: str) -> None:
    raise Refused(code, why)


def fail_unpicklable() -> None:
    raise Unpicklable("this", also="that")


def unencodable() -> object:
    return object()


def log(text: str) -> str:
    write(text)
    return text


def say(text: str) -> None:
    """Speaks in every way that a task has."""
    task_logger.warning("%s by the logger", text)
    print(text, "printed")
    print(text, "to standard error", file=sys.stderr)
    write(text)


def work(text: str) -> None:
    """Half a millisecond of work, so that ten thousand are still running when something is killed."""
    write(text)
    time.sleep(0.0005)


def now() -> float:
    return time.time()


def hold(path: str, text: str = "held") -> str:
    """Says that it has begun, then waits for a file."""
    write(f"begin {text}")
    wait_for_file(path)
    write(f"end {text}")
    return text


def describe(self: Any) -> dict[str, Any]:
    request = self.request
    return {
        "id": request.id,
        "task": request.task,
        "retries": request.retries,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "routing_key": request.delivery_info["routing_key"],
        "root_id": request.root_id,
        "hostname": request.hostname,
    }


def try_until(self: Any, times: int) -> int:
    """Asks for another try until it has been retried `times` times."""
    write(f"try {self.request.retries}")
    if self.request.retries < times:
        raise self.retry(countdown=0)
    return int(self.request.retries)


def retry_and_ignore(self: Any) -> None:
    """Asks for another try, and wants nothing kept of this one."""
    write(f"ignored try {self.request.retries}")
    if self.request.retries == 0:
        with contextlib.suppress(Retry):
            self.retry(countdown=0)
        raise Ignore()


_left: list[Any] = []


def leave_context(self: Any) -> list[Any]:
    """Leaves a context that outlives this execution; shows the request as a task sees it."""
    _left.append((contextvars.copy_context(), self))
    return [self.request.args, self.request.timelimit]


def tag(value: Any, number: int) -> list[Any]:
    """What it was called with, and with which number."""
    return [number, value]


def boom(*args: Any) -> None:
    raise ValueError("boom")


def become(self: Any, sig: Any) -> Any:
    """Has another signature run in its place."""
    return self.replace(maybe_signature(sig))


def invite(self: Any, sig: Any) -> str:
    """Adds a member to the chord that it belongs to."""
    self.add_to_chord(maybe_signature(sig))
    return "invited"


def retry_in_left_context() -> str:
    context, task = _left.pop()
    try:
        context.run(task.retry)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "published"


def give_up(self: Any) -> None:
    """Retries more often than it may."""
    try:
        raise KeyError("the cause")
    except KeyError as error:
        raise self.retry(exc=error, countdown=0, max_retries=2) from error


def stubborn(self: Any) -> str:
    """Is retried for its exception."""
    write(f"stubborn {self.request.retries}")
    if self.request.retries < 2:
        raise ConnectionError("not yet")
    return "at last"


def ignore() -> None:
    write("ignored")
    raise Ignore()


def reject(self: Any, requeue: bool) -> None:
    write(f"rejected {requeue} {self.request.delivery_info['redelivered']}")
    raise Reject("not mine", requeue=requeue and len(_lines()) < 3)


def _lines() -> list[str]:
    with open(os.environ["SAMPLE_LEDGER"]) as ledger:
        return ledger.readlines()


def soft(seconds: float) -> str:
    """Notices its soft limit."""
    try:
        time.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "noticed"
    return "slept"


def spin(seconds: float) -> None:
    """Ignores everything but the hard limit."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(SoftTimeLimitExceeded):
            time.sleep(0.05)


def start_program(then: str, path: str = "") -> int:
    """Starts a program that waits for the file at `path`, and says its process id; then waits for
    its end, or dies."""
    program = f"while [ ! -e '{path}' ]; do sleep 0.02; done"
    popen = subprocess.Popen(["/bin/sh", "-c", program])
    write(popen.pid)
    if then == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return popen.wait()


def start_daemon() -> int:
    """Starts a program that goes on after its task."""
    return subprocess.Popen(["sleep", "60"]).pid


def die(text: str) -> None:
    """Ends the process that runs it, as a segfault or the kernel's memory killer would."""
    write(f"dying {text}")
    os.kill(os.getpid(), signal.SIGKILL)


async def gather(count: int) -> list[int]:
    """A coroutine that really waits."""

    async def one(number: int) -> int:
        await asyncio.sleep(0.01)
        return number

    return list(await asyncio.gather(*(one(number) for number in range(count))))


def pid() -> int:
    return os.getpid()


def take_memory(mebibytes: int) -> int:
    """Has so much memory for a moment."""
    return len(b"x" * (mebibytes << 20))


def watch_current(_: int) -> int:
    """From now on SIGUSR2 writes which request is the current one, and is told to this process."""
    from taskcore.context import get_request

    signal.signal(signal.SIGUSR2, lambda *_: write(f"current {get_request()}"))
    return os.getpid()


def nested(x: int) -> str:
    """Publishes another task and says its id."""
    from taskcore import current_app

    return str(current_app.tasks["sample.add"].delay(x, 1).id)


def mourn(task_id: str) -> None:
    """An error callback that gets the id, as a task of its own."""
    write(f"mourned {task_id}")


def bury(request: Any, exc: BaseException, traceback: str) -> None:
    """An error callback that gets what happened, in the process that knows it."""
    write(f"buried {request.id} {type(exc).__name__}")


def bury_and_die(request: Any, exc: BaseException, traceback: str) -> None:
    """An error callback that ends the process that calls it."""
    bury(request, exc, traceback)
    os.kill(os.getpid(), signal.SIGKILL)


def expect() -> None:
    """Fails as it declares."""
    raise KeyError("declared")


def listen() -> None:
    """Connects a receiver from inside a task."""
    from taskcore.signals import task_prerun

    task_prerun.connect(_heard, weak=False)


def _heard(task: Any, **_: Any) -> None:
    write(f"heard {task.name}")


def header(self: Any) -> Any:
    """A header of the caller's own, as an attribute and in the dict."""
    return [self.request.color, self.request.headers]


def headers(self: Any) -> Any:
    """All headers of the caller's own."""
    return self.request.headers


class Hooked(Task[..., Any]):
    """Tells its ends."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        write(f"on_failure {type(exc).__name__}")

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        write(f"after_return {status}")


def make(**conf: Any) -> Taskcore:
    """An app with all of the above."""
    app = Taskcore("sample", **conf)
    for plain in (
        add,
        echo,
        repeat,
        fail,
        tag,
        boom,
        refuse,
        fail_unpicklable,
        unencodable,
        log,
        say,
        now,
        hold,
        soft,
        spin,
        start_program,
        start_daemon,
        pid,
        take_memory,
        watch_current,
        gather,
        ignore,
        nested,
        mourn,
        bury,
        bury_and_die,
        listen,
    ):
        app.task(plain, name=f"sample.{plain.__name__}")
    app.task(expect, name="sample.expect", throws=(KeyError,))
    app.task(hold, name="sample.hold_hooked", base=Hooked)
    for bound in (
        become,
        invite,
        describe,
        try_until,
        retry_and_ignore,
        leave_context,
        give_up,
        header,
        headers,
    ):
        app.task(bound, name=f"sample.{bound.__name__}", bind=True)
    app.task(retry_in_left_context, name="sample.retry_in_left_context")
    app.task(
        stubborn,
        name="sample.stubborn",
        bind=True,
        autoretry_for=(ConnectionError,),
        default_retry_delay=0,
        max_retries=5,
    )
    app.task(log, name="sample.quiet", ignore_result=True)
    app.task(log, name="sample.log_late", acks_late=True)
    app.task(work, name="sample.work")
    app.task(work, name="sample.work_late", acks_late=True)
    app.task(hold, name="sample.hold_late", acks_late=True)
    app.task(hold, name="sample.hold_tracked", track_started=True)
    app.task(reject, name="sample.reject", bind=True, acks_late=True)
    app.task(die, name="sample.die")
    app.task(die, name="sample.die_late", acks_late=True)
    app.task(log, name="sample.seldom", rate_limit="1/h")
    app.task(now, name="sample.paced", rate_limit="5/s")
    app.task(soft, name="sample.soft_limited", soft_time_limit=0.3)
    if "SAMPLE_NO_HARD_LIMITS" not in os.environ:  # which pools inside the worker refuse
        app.task(spin, name="sample.hard_limited", time_limit=0.5)
    return app


app = make()
