"""Signals: named moments that a program can listen to, under Celery's names.

A `Signal` keeps its receivers and calls them; who sends it, and when, is said beside each name
below. A receiver that raises is logged and changes nothing; only where
an app is set up, what this version does not have is raised. A task whose signals nobody listens to
pays nothing for them: the sender looks at `receivers` first, and the execution of plain tasks
never enters Python code of taskcore. Whoever has decided by them how tasks are run
(`Signal.watch`) is told when they change. A receiver counts in the process in which it is
connected.
"""

from __future__ import annotations

from taskcore.exceptions import NotSupportedError, SettingIgnored
from taskcore.typed import TYPE_CHECKING
from taskcore.utils import warn

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar, overload

    F = TypeVar("F", bound=Callable[..., Any])


class _Receiver:
    """A receiver as it is connected."""

    __slots__ = ("get", "sender", "uid")

    def __init__(
        self, uid: object, sender: object, get: Callable[[], Callable[..., Any] | None]
    ) -> None:
        self.uid = uid
        """What the user calls it, or None."""
        self.sender = sender
        """Whom it listens to; None: anybody."""
        self.get = get
        """Gives the receiver, or None once it no longer exists. An address is no identity: it is
        used again."""


class Signal:
    """One named moment."""

    __slots__ = ("__weakref__", "_watchers", "name", "receivers")
    _raised: tuple[type[Exception], ...] = ()
    """What `send` raises instead of logging it."""

    def __init__(
        self, name: str = "", providing_args: Iterable[str] = (), use_caching: bool = False
    ) -> None:
        """
        Args:
            name: for messages about it.
            providing_args, use_caching: accepted, as in Celery; nothing depends on them.
        """
        self.name = name
        self.receivers: list[_Receiver] = []
        """Changed in place by `append` and `remove` alone, which several threads may do at once."""
        self._watchers: list[weakref.WeakMethod[Callable[[], None]]] = []

    if TYPE_CHECKING:

        @overload
        def connect(
            self,
            receiver: F,
            sender: object = None,
            weak: bool = True,
            dispatch_uid: object = None,
            retry: bool = False,
        ) -> F: ...
        @overload
        def connect(
            self,
            receiver: None = None,
            sender: object = None,
            weak: bool = True,
            dispatch_uid: object = None,
            retry: bool = False,
        ) -> Callable[[F], F]: ...

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: object = None,
        retry: bool = False,
    ) -> Any:
        """Adds a receiver; also a decorator, with or without parentheses.

        Args:
            receiver: called as `receiver(sender=..., signal=..., **named)`; it should take
                `**kwargs`.
            sender: listen only to this sender: a task, or the name of one.
            weak: do not keep the receiver alive.
            dispatch_uid: identity of the receiver, so that connecting twice has no effect.
            retry: call a receiver that raises again, until it does not, after 2, 4, 6 and at most 30
                seconds; whoever sends waits meanwhile. The receiver is kept alive.
        """
        if receiver is None:
            return lambda found: self.connect(found, sender, weak, dispatch_uid, retry)
        if not callable(receiver):
            raise TypeError(
                f"receiver of signal `{self.name}` must be callable, not `{type(receiver).__name__}`"
            )
        if self._find(receiver, sender, dispatch_uid) is None:
            called = _again_and_again(self.name, receiver) if retry else receiver
            made = _Receiver(dispatch_uid, sender, _reference(called, weak and not retry))
            self.receivers.append(made)
            self._tell_watchers()
            self._tell()
        return receiver

    def _tell(self) -> None:
        """Somebody listens."""

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        weak: bool | None = None,
        dispatch_uid: object = None,
    ) -> bool:
        """Removes a receiver; whether it was there.

        Args:
            weak: accepted, as in Celery.
        """
        found = self._find(receiver, sender, dispatch_uid)
        if found is None:
            return False
        self._remove(found)
        self._tell_watchers()
        return True

    def _find(
        self, receiver: Callable[..., Any] | None, sender: object, uid: object
    ) -> _Receiver | None:
        """The receiver as it is connected; those that no longer exist are removed on the way."""
        for item in tuple(self.receivers):
            known = item.get()
            if known is None:
                self._remove(item)
                continue
            same = item.uid == uid if uid is not None else _is_same(known, receiver)
            if same and (item.sender is sender or item.sender == sender):
                return item
        return None

    def _remove(self, item: _Receiver) -> None:
        try:  # noqa: SIM105 - contextlib is one more import of every producer
            self.receivers.remove(item)
        except ValueError:
            pass  # another thread was first

    def has_listeners(self, sender: object = None) -> bool:
        """Whether anybody would be called."""
        return any(_wanted(item.sender, sender) for item in self.receivers)

    def send(self, sender: object, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Calls the receivers; gives each with what it returned, or with what it raised."""
        responses: list[tuple[Callable[..., Any], Any]] = []
        for item in tuple(self.receivers):
            receiver = item.get()
            if receiver is None:
                self._remove(item)
            elif _wanted(item.sender, sender):
                responses.append((receiver, self._call(receiver, sender, named)))
        return responses

    send_robust = send

    def watch(self, changed: Callable[[], None]) -> None:
        """Has a bound method called, as long as its object lives, whenever receivers come or go."""
        self._watchers = [known for known in self._watchers if known() is not None]
        import weakref

        self._watchers.append(weakref.WeakMethod(changed))

    def _tell_watchers(self) -> None:
        for reference in self._watchers:
            changed = reference()
            if changed is not None:
                changed()

    def _call(self, receiver: Callable[..., Any], sender: object, named: dict[str, Any]) -> Any:
        try:
            return receiver(signal=self, sender=sender, **named)
        except self._raised:
            raise
        except Exception as exc:
            import logging

            logging.getLogger("taskcore.signals").exception(
                "receiver of signal `%s` failed", self.name
            )
            return exc

    def __repr__(self) -> str:
        return f"<Signal: {self.name}>"


class SetupSignal(Signal):
    """A signal of a program's being set up: a receiver that asks for what this version does not have
    ends the program, which would otherwise run without it."""

    __slots__ = ()

    _raised = (NotSupportedError,)


def _again_and_again(name: str, receiver: Callable[..., Any]) -> Callable[..., Any]:
    """The receiver, called until it does not raise."""

    def insist(**named: Any) -> Any:
        import logging
        from time import sleep

        wait = 0.0
        while True:
            try:
                return receiver(**named)
            except Exception:
                wait = min(wait + _RETRY_STEP, _RETRY_MAX)
                text = "receiver of signal `%s` failed, and is called again in %s s"
                logging.getLogger("taskcore.signals").exception(text, name, wait)
            sleep(wait)

    insist.__dict__["_receiver"] = receiver
    return insist


_RETRY_STEP, _RETRY_MAX = 2.0, 30.0
"""Seconds between two calls of a receiver that raises: so many more each time, at most so many."""


def _is_same(known: Callable[..., Any], receiver: object) -> bool:
    known = getattr(known, "_receiver", known)
    # Two reads of a bound method give two objects; its function and its instance do not change.
    return known is receiver or (
        hasattr(known, "__func__")
        and known.__func__ is getattr(receiver, "__func__", None)
        and getattr(known, "__self__", None) is getattr(receiver, "__self__", None)
    )


def _reference(receiver: Callable[..., Any], weak: bool) -> Callable[[], Callable[..., Any] | None]:
    if not weak:
        return lambda: receiver
    import weakref

    if hasattr(receiver, "__self__") and hasattr(receiver, "__func__"):
        return weakref.WeakMethod(receiver)
    return weakref.ref(receiver)


def _wanted(wanted: object, sender: object) -> bool:
    return wanted is None or wanted is sender or wanted == getattr(sender, "name", sender)


# The publishing process. `sender` is the name of the task.
before_task_publish = Signal("before_task_publish")
"""body, exchange, routing_key, headers, properties, declare, retry_policy. Headers that a receiver
adds are sent, and so are its changes of eta, expires, timelimit, shadow, argsrepr, kwargsrepr and the
property priority; what else it changes is warned of."""
after_task_publish = Signal("after_task_publish")
"""body, exchange, routing_key, headers; the broker has confirmed. DIFFERENCE: for what leaves with
the outcome of a task (a retry, callbacks, error callbacks, the next step of a chain) it is sent when the
message is encoded, in the process that runs the task; where the task then ends otherwise, that message
is dropped."""

# The process that executes. `sender` is the task.
task_prerun = Signal("task_prerun")
"""task_id, task, args, kwargs."""
task_postrun = Signal("task_postrun")
"""task_id, task, args, kwargs, retval, state."""
task_success = Signal("task_success")
"""result, runtime (seconds)."""
task_failure = Signal("task_failure")
"""task_id, exception, args, kwargs, traceback, einfo."""
task_internal_error = Signal("task_internal_error")
"""As task_failure: a hook of the task raised after the task itself had ended."""
task_retry = Signal("task_retry")
"""request, reason, einfo."""


class _Unsent(Signal):
    """A signal of Celery's that nobody sends here: whoever connects to it is told so, and is kept."""

    __slots__ = ("_why",)

    def __init__(self, name: str, why: str) -> None:
        super().__init__(name)
        self._why = why

    def _tell(self) -> None:
        warn(f"signal `{self.name}` is not sent in this version: {self._why}", SettingIgnored)


_IN_THE_CORE = (
    "no Python runs for a message in a worker's parent process; use task_prerun, task_postrun or task_failure, "
    "or the events that `worker -E` tells"
)
_GREEN = "there are no green threads; `async def` tasks run in every pool"

task_received = _Unsent("task_received", _IN_THE_CORE)
task_revoked = _Unsent("task_revoked", _IN_THE_CORE)
task_rejected = _Unsent("task_rejected", _IN_THE_CORE)
task_unknown = _Unsent("task_unknown", _IN_THE_CORE)
task_sent = _Unsent("task_sent", "use after_task_publish")
worker_before_create_process = _Unsent(
    "worker_before_create_process",
    "processes are forked from one that no code of yours runs in; use worker_process_init",
)
heartbeat_sent = _Unsent(
    "heartbeat_sent", "heartbeats leave from the worker's core; ask `taskcore health`"
)
eventlet_pool_started = _Unsent("eventlet_pool_started", _GREEN)
eventlet_pool_preshutdown = _Unsent("eventlet_pool_preshutdown", _GREEN)
eventlet_pool_postshutdown = _Unsent("eventlet_pool_postshutdown", _GREEN)
eventlet_pool_apply = _Unsent("eventlet_pool_apply", _GREEN)

user_preload_options = _Unsent(
    "user_preload_options",
    "the command line takes no options of your own in front of the command; read the environment, or pass "
    "`-- setting=value`",
)

# The worker. `sender` has the attributes `app` and `hostname`; in children it is None.
celeryd_after_setup = Signal("celeryd_after_setup")
"""Once the worker is configured; `sender` is its node name: instance (as `sender` of worker_ready), conf."""
celeryd_init = Signal("celeryd_init")
"""Before the worker is configured; `sender` is its node name: instance, conf (may still be changed), options."""
worker_init = Signal("worker_init")
"""Before the worker is built."""
worker_process_init = Signal("worker_process_init")
"""In each pool child, before its first task."""
worker_process_shutdown = Signal("worker_process_shutdown")
"""In each pool child, before it ends: pid, exitcode."""
worker_ready = Signal("worker_ready")
"""The worker is connected and consumes."""
worker_shutting_down = Signal("worker_shutting_down")
"""A stop was asked for; `sender` is the node name: sig, how (`Warm` or `Cold`), exitcode."""
worker_shutdown = Signal("worker_shutdown")
"""The worker has stopped."""
beat_init = Signal("beat_init")
"""A beat starts; `sender` is its service."""
beat_embedded_init = Signal("beat_embedded_init")
"""The same when it is part of a worker."""
setup_logging = Signal("setup_logging")
"""A receiver takes over the configuration of logging."""
after_setup_logger = Signal("after_setup_logger")
"""The worker has configured a logger: logger, loglevel, logfile, format, colorize."""
after_setup_task_logger = Signal("after_setup_task_logger")
"""The same for the parent of the task loggers."""
import_modules = Signal("import_modules")
"""Before `imports` and `include` are imported."""
