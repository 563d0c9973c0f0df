"""The zygote, which forks the children of a process pool, and the life of a child around
`_core.run_child`.

The zygote is forked from the worker after the app was imported and before any thread, connection
or runtime exists; it keeps that state and forks children from it on request, so they start in
milliseconds and share its memory. It imports nothing, runs no user code and knows no tasks: it
forks, signals, reaps and reports, on one control socket. Signals meant for the worker's process
group (Ctrl-C) change nothing here: the worker decides, and its end is the end of all. Each child
leads a session of its own: no Ctrl-C reaches the programs that its task started, and whatever
kills the child kills them too. The price of forking early is that a change of code needs a new
worker, as everywhere.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import random
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from taskcore import _core
from taskcore.execution import fork_guard, interrupt

_RECORD = struct.Struct("<IIII")
"""Kind, two arguments, and one kept free. The core's `pool/process/zygote.rs` is the other end."""
_FORK, _KILL, _PING, _TEXT, _MODULES = 1, 2, 3, 4, 5
_FORKED, _EXITED, _FORK_FAILED, _PONG = 1, 2, 3, 4

_DUMP = 0.02
"""Seconds that a child has for writing its stacks before the next one is asked."""

_TEMPORARY_FOLDER = -100
"""The priority under which `multiprocessing` registers the end of its folder, and nothing else."""

_ENDING = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP")
"""The signals by which a task may be terminated, beside those that have no handler."""

_LEFT_TO_THE_WORKER = ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")


def start_zygote(
    make_executor: Callable[[list[list[Any]]], Any],
    *,
    log_tasks: bool = False,
    max_memory: int | None = None,
    on_exit: Callable[[], object] | None = None,
    dumps: int = 2,
    coroutines: int = 0,
) -> tuple[int, int]:
    """Forks the zygote; the descriptor of its control socket and its process id.

    Must be called while this process has one thread.

    Args:
        make_executor: called once in each child, before it takes calls, with the modules that it
            imports first (name, and whether anew); gives its
            `taskcore.execution.executor.Executor`.
        log_tasks: whether outcomes carry the printable result.
        max_memory: a child that has taken more KiB than this after a task ends.
        on_exit: called in a child that ends in order.
        dumps: descriptor that SIGUSR1 to the zygote has the stacks of its children written to.
        coroutines: how many calls a child runs at once, in an event loop; 0: one, and there is none.
    """
    ours, theirs = socket.socketpair()
    # What exists now is never garbage; untouched by the collector it stays shared between the worker,
    # the zygote and the children.
    gc.collect()
    gc.freeze()
    # What is buffered would be written once by each process.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        theirs.close()
        return ours.detach(), pid
    code = 1
    try:
        ours.close()
        _Zygote(theirs, make_executor, (log_tasks, max_memory), on_exit, dumps, coroutines).serve()
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    # Without the interpreter's end: its handlers belong to the process that was forked.
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        _remove_temporary_folder()
    finally:
        os._exit(code)


def _remove_temporary_folder() -> None:
    """Removes the folder that `multiprocessing` makes in a process that listens or has a manager. It
    would do so at the interpreter's end; a folder of the process that was forked stays, because
    what removes it looks at who made it."""
    util = sys.modules.get("multiprocessing.util")
    for (priority, _), finalizer in list(getattr(util, "_finalizer_registry", {}).items()):
        if priority == _TEMPORARY_FOLDER:
            with contextlib.suppress(OSError):
                finalizer()


def _number(name: str) -> int:
    return int(getattr(signal, name))


def _left_to_the_worker(signum: int, frame: Any) -> None:
    """A handler and not SIG_IGN, because that would be inherited by the programs that tasks start."""


class _Zygote:
    """Forks, signals and reaps children until the worker closes the control socket."""

    def __init__(
        self,
        control: socket.socket,
        make_executor: Callable[[list[list[Any]]], Any],
        options: tuple[bool, int | None],
        on_exit: Callable[[], object] | None,
        dumps: int,
        coroutines: int,
    ) -> None:
        self.control = control
        self.make_executor = make_executor
        self.options = options
        self.on_exit = on_exit
        self.dumps = dumps
        self.coroutines = coroutines
        self.children: set[int] = set()
        self.wakeup, self._wakeup_end = socket.socketpair()
        self.files: list[int] = []
        self.text = b""
        self.modules: list[list[Any]] = []
        """What children import before they begin: name, and whether anew."""

    def serve(self) -> None:
        """The life of the zygote."""
        for name in _LEFT_TO_THE_WORKER:
            signal.signal(_number(name), _left_to_the_worker)
        signal.signal(signal.SIGUSR1, self.dump)
        self.wakeup.setblocking(False)
        self._wakeup_end.setblocking(False)
        signal.set_wakeup_fd(self._wakeup_end.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _left_to_the_worker)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(self.wakeup, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self.wakeup.fileno():
                    self.reap()
                elif not self.handle_request():
                    return self.kill_children()

    def handle_request(self) -> bool:
        """Reads a request and does it; False at the end of the control socket."""
        data, fds, _, _ = socket.recv_fds(self.control, _RECORD.size, 2)
        self.files += fds
        if not data:
            return False
        while len(data) < _RECORD.size:
            data += self.control.recv(_RECORD.size - len(data))
        kind, first, second, _ = _RECORD.unpack(data)
        if kind == _FORK:
            self.fork(first, self.files.pop(0), self.files.pop(0))
        elif kind == _KILL and first in self.children:
            # It may have exited, but it has not been reaped: the pid is still its own.
            if second == signal.SIGKILL:
                _kill_group(first)
            os.kill(first, second)
        elif kind == _PING:
            self.report(_PONG, 0, 0)
        elif kind == _TEXT:
            self.text += data[4:]
        elif kind == _MODULES:
            named, self.text = json.loads(self.text[:first]), b""
            names = [name for name, _ in named]
            self.modules = [one for one in self.modules if one[0] not in names] + named
        return True

    def fork(self, number: int, fd: int, memory: int) -> None:
        try:
            pid = os.fork()
        except OSError as exc:
            os.close(fd)
            os.close(memory)
            self.report(_FORK_FAILED, number, exc.errno or 0)
            return
        if pid == 0:
            self.become_child(fd, memory)
        os.close(fd)
        os.close(memory)
        self.children.add(pid)
        self.report(_FORKED, number, pid)

    def reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self.wakeup.recv(4096):
                pass
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            self.children.discard(pid)
            if status:
                # Its task is lost, and may run again elsewhere: nothing of it may go on here. No
                # new process gets this number while a group of that name exists.
                _kill_group(pid)
            self.report(_EXITED, pid, status)

    def report(self, kind: int, first: int, second: int) -> None:
        # When the worker is gone, the end of the control socket says so.
        with contextlib.suppress(OSError):
            self.control.sendall(_RECORD.pack(kind, first, second, 0))

    def dump(self, signum: int, frame: Any) -> None:
        """SIGUSR1: has every child write its stacks, one after another as far as they answer at once."""
        for pid in sorted(self.children):
            with contextlib.suppress(OSError):
                os.write(self.dumps, f"stacks of Child-{pid}:\n".encode())
            os.kill(pid, signal.SIGUSR2)
            time.sleep(_DUMP)

    def kill_children(self) -> None:
        """The worker is gone: nothing may go on running that another worker will be given."""
        for pid in self.children:
            _kill_group(pid)
            os.kill(pid, signal.SIGKILL)
        for pid in self.children:
            os.waitpid(pid, 0)

    def become_child(self, fd: int, memory: int) -> NoReturn:
        code = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGUSR1, _soft_limit)
            _dump_on_sigusr2(self.dumps)
            ours: dict[int, Any] = dict.fromkeys(
                map(_number, _LEFT_TO_THE_WORKER), _left_to_the_worker
            )
            for number in map(_number, _ENDING):
                ours[number] = _terminate
                signal.signal(number, _terminate)
            fork_guard.reset_in_forks(ours | {signal.SIGUSR1: _soft_limit})
            self.control.close()
            self.wakeup.close()
            self._wakeup_end.close()
            os.set_inheritable(fd, False)
            os.set_inheritable(memory, False)
            _reseed()
            code = self.live(fd, memory)
            if self.on_exit is not None:
                self.on_exit()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            _leave(code)

    def live(self, fd: int, memory: int) -> int:
        """Runs calls until the worker closes the socket."""
        if not self.coroutines:
            return _core.run_child(fd, memory, self.make_executor(self.modules), *self.options)
        from taskcore.execution import event_loop

        def make_child(executor: Any) -> _core.LoopChild:
            return _core.LoopChild(fd, memory, executor, self.options[0], self.coroutines)

        return event_loop.run(lambda: self.make_executor(self.modules), make_child, self.coroutines)


def _kill_group(leader: int) -> None:
    """Kills a child and the programs of its task; nothing when it has none yet, or is gone without
    any."""
    with contextlib.suppress(
        ProcessLookupError, PermissionError
    ):  # macOS refuses a group of zombies
        os.killpg(leader, signal.SIGKILL)


def _soft_limit(signum: int, frame: Any) -> None:
    """SIGUSR1 in a child: the soft time limit of a call is due, unless it has just ended."""
    if interrupt.asked is not None:
        interrupt.asked()
    elif _core.soft_limit_due():
        from taskcore.exceptions import SoftTimeLimitExceeded

        due = interrupt.interrupt(threading.get_ident(), SoftTimeLimitExceeded)
        if due is not None:
            raise due()


def _terminate(signum: int, frame: Any) -> None:
    """A signal that ends a process, in a child: its task was terminated, or it is meant for the
    worker alone."""
    if _core.end_due():
        # By the same signal, so that whoever waits for the process learns how it ended.
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _dump_on_sigusr2(fd: int) -> None:
    """Has the stacks of all threads written, also while the process is inside of a library that is
    not Python."""
    faulthandler.register(signal.SIGUSR2, file=fd)

    def in_fork() -> None:
        # The fork guard has made it the system's default again, unless the user has a handler.
        if signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL:
            faulthandler.unregister(signal.SIGUSR2)
            signal.signal(signal.SIGUSR2, signal.SIG_DFL)

    os.register_at_fork(after_in_child=in_fork)


def _reseed() -> None:
    """Children of one process would otherwise draw the same random numbers."""
    random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
