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

from taskcore.exceptions import NotSupportedError
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable
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

    def __init__(self, name: str) -> None:
        self.name = name
        self.receivers: list[_Receiver] = []
        """Changed in place by `append` and `remove` alone, which several threads may do at once."""
        self._watchers: list[weakref.WeakMethod[Callable[[], None]]] = []

    if TYPE_CHECKING:

        @overload
        def connect(
            self,
            receiver: F,
            *,
            sender: object = None,
            weak: bool = True,
            dispatch_uid: object = None,
        ) -> F: ...
        @overload
        def connect(
            self,
            receiver: None = None,
            *,
            sender: object = None,
            weak: bool = True,
            dispatch_uid: object = None,
        ) -> Callable[[F], F]: ...

    def connect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: object = None,
    ) -> Any:
        """Adds a receiver; also a decorator, with or without parentheses.

        Args:
            receiver: called as `receiver(sender=..., signal=..., **named)`; it should take
                `**kwargs`.
            sender: listen only to this sender: a task, or the name of one.
            weak: do not keep the receiver alive.
            dispatch_uid: identity of the receiver, so that connecting twice has no effect.
        """
        if receiver is None:
            return lambda found: self.connect(
                found, sender=sender, weak=weak, dispatch_uid=dispatch_uid
            )
        if not callable(receiver):
            raise TypeError(
                f"receiver of signal `{self.name}` must be callable, not `{type(receiver).__name__}`"
            )
        if self._find(receiver, sender, dispatch_uid) is None:
            made = _Receiver(dispatch_uid, sender, _reference(receiver, weak))
            self.receivers.append(made)
            self._tell_watchers()
        return receiver

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        *,
        sender: object = None,
        dispatch_uid: object = None,
    ) -> bool:
        """Removes a receiver; whether it was there."""
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


def _is_same(known: Callable[..., Any], receiver: object) -> bool:
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
    """A signal of Celery's that nobody sends here: a receiver would wait for ever."""

    __slots__ = ()

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        """Not in this version."""
        raise NotSupportedError(
            f"signal `{self.name}` is not sent in this version: no Python runs for a task in a worker's parent process; "
            "use task_prerun, task_postrun, task_failure or the worker's log"
        )


task_received = _Unsent("task_received")
task_revoked = _Unsent("task_revoked")
task_rejected = _Unsent("task_rejected")
task_unknown = _Unsent("task_unknown")
task_sent = _Unsent("task_sent")
worker_before_create_process = _Unsent("worker_before_create_process")
heartbeat_sent = _Unsent("heartbeat_sent")
eventlet_pool_started = _Unsent("eventlet_pool_started")
eventlet_pool_preshutdown = _Unsent("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = _Unsent("eventlet_pool_postshutdown")
eventlet_pool_apply = _Unsent("eventlet_pool_apply")
user_preload_options = _Unsent("user_preload_options")

# The worker. `sender` has the attributes `app` and `hostname`; in children it is None.
celeryd_after_setup = Signal("celeryd_after_setup")
"""Once the worker is configured; `sender` is its node name: conf."""
celeryd_init = Signal("celeryd_init")
"""Before the worker is configured; `sender` is its node name: conf (may still be changed), options."""
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
"""The worker has configured a logger: logger, loglevel, logfile, format."""
after_setup_task_logger = Signal("after_setup_task_logger")
"""The same for the parent of the task loggers."""
import_modules = Signal("import_modules")
"""Before `imports` and `include` are imported."""
