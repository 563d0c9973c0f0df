"""The life of one call, as a list of named steps.

`Execution` is what the core calls in the process that runs tasks. Each step takes the one state object (`call.Life`) and
returns it; a step that a task does not need is not in its list, and a task that needs none of them is `plain`: the core
calls its function directly and comes here only for exceptions. Every exception, exit and return becomes an Outcome in
`failures` or at the end of the list, nowhere else. Nothing is stored or acknowledged here; the core does that after the
outcome. Hence on_success and error callbacks run just before the result can be read, where Celery's run just after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn

from taskcore import context, serialize, signals, states
from taskcore.exceptions import Retry
from taskcore.execution import callbacks, fork_guard, outcome
from taskcore.execution.call import Life
from taskcore.execution.failures import end, log, tell
from taskcore.execution.outcome import Outcome
from taskcore.results import exception_codec
from taskcore.utils import shorten

Step = Callable[[Life], Life]

_WRITABLE = frozenset({type(None), bool, int, float, str})
"""Values of these are written without a look."""


class Entry:
    """What a process knows about a task that it executes; made once per process and task."""

    __slots__ = (
        "after",
        "extended",
        "fun",
        "ignore_result",
        "linked",
        "plain",
        "steps",
        "store_errors",
        "task",
    )

    def __init__(self, task: Any, base: type) -> None:
        self.task = task
        custom_call = type(task).__call__ is not base.__call__
        self.fun: Callable[..., Any] = _runnable(task if custom_call else task.run)
        self.ignore_result = bool(task.ignore_result)
        self.store_errors = bool(task.store_errors_even_if_ignored)
        self.extended = bool(task.app.conf["result_extended"])
        before = [step for step, needed in _BEFORE if needed(task, base)]
        ended = [step for step, needed in _ENDED if needed(task, base)]
        self.after: list[Step] = [step for step, needed in _AFTER if needed(task, base)]
        checked = [check_result] if ended or self.after else []
        self.steps: list[Step] = [*before, call, *checked, succeed, *ended]
        self.linked: list[Step] = [
            refuse_unsupported,
            *before,
            call,
            *checked,
            publish_links,
            succeed,
            *ended,
        ]
        self.plain = not (before or ended or self.after)


class Execution:
    """Runs calls for one app; one per process."""

    def __init__(
        self, app: Any, base: type, forgotten: Callable[[], object] = lambda: None
    ) -> None:
        """
        Args:
            base: the class Task: what a task overrides is told by comparing with it.
            forgotten: called when entries became stale; the core then asks for them again.
        """
        self.app = app
        self._base = base
        self._forgotten = forgotten
        self._entries: dict[str, Entry] = {}
        self.set_current = context.set_current
        for signal in _WATCHED:
            signal.watch(self.forget)

    def entry(self, name: str) -> Entry | None:
        """What is needed to run the task `name`; None when it is not registered."""
        found = self._entries.get(name)
        if found is None:
            task = self.app.tasks.get(name)
            if task is None:
                return None
            found = self._entries[name] = Entry(task, self._base)
        return found

    @property
    def hostname(self) -> str | None:
        """Node name of the worker; the core puts it into extended results."""
        found: str | None = self.app.hostname
        return found

    def forget(self) -> None:
        """Drops what was derived from a configuration, hooks or receivers that have changed."""
        self._entries.clear()
        self._forgotten()

    def run(
        self, entry: Entry, request: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Outcome:
        """Runs a call through all of its steps; never raises."""
        life = self.live(entry, request, args, kwargs)
        life.exc = None  # its traceback knows the life: they would keep each other until the collector comes
        return life.outcome

    def live(self, entry: Entry, request: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Life:
        """As `run`, giving all that is known at the end."""
        # The task finds itself by its own name, so signatures and local calls look up the entry in the app.
        life = Life(entry, request, args, kwargs)
        token = context.set_current(request)
        try:
            try:
                for step in entry.linked if request.has_embed else entry.steps:
                    life = step(life)
            except BaseException as exc:
                life = end(life, exc)
            for step in entry.after:
                life = _shielded(step, life)
        finally:
            context.reset_current(token)
        return life

    def failed(
        self,
        entry: Entry,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        exc: BaseException,
    ) -> Outcome:
        """The outcome of a call that raised `exc`; never raises."""
        token = context.set_current(request)
        try:
            return end(Life(entry, request, args, kwargs), exc).outcome
        finally:
            context.reset_current(token)

    def ended(
        self,
        entry: Entry,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        end: Mapping[str, Any],
    ) -> None:
        """Tells whoever follows a call that the worker ended: hooks, signals, error callbacks, the rest of the chain.

        Args:
            end: the exception as in a result document, and the `state`.
        """
        exc = exception_codec.from_document(end)
        token = context.set_current(request)
        try:
            life = tell(Life(entry, request, args, kwargs), exc, end["state"])
            if after_return in entry.after and life.outcome.state == states.FAILURE:
                _shielded(after_return, life)
        finally:
            context.reset_current(token)

    def hears_failure(self, task: Any) -> bool:
        """Whether hooks of a task or receivers of signals want to know of its failure."""
        return bool(signals.task_failure.receivers) or any(
            _overrides(hook)(task, self._base) for hook in ("on_failure", "after_return")
        )

    def leave_fork(self, raised: BaseException | None) -> NoReturn:
        """Ends a process that user code forked and that came back from it."""
        fork_guard.leave(raised)

    def loads(self, data: bytes, content_type: str, content_encoding: str) -> Any:
        """Decodes a body that the core does not decode itself."""
        return serialize.loads(data, content_type, content_encoding)


# Steps, in order


def refuse_unsupported(life: Life) -> Life:
    """Fails what this version could not finish, before user code has run."""
    callbacks.check(life.request.to_dict())
    return life


def send_prerun(life: Life) -> Life:
    """The signal task_prerun."""
    signals.task_prerun.send(
        life.task, task_id=life.id, task=life.task, args=life.args, kwargs=life.kwargs
    )
    return life


def before_start(life: Life) -> Life:
    """The hook of that name."""
    life.task.before_start(life.id, life.args, life.kwargs)
    return life


def call(life: Life) -> Life:
    """User code."""
    process = fork_guard.process()
    begun = perf_counter()
    try:
        life.retval = life.entry.fun(*life.args, **life.kwargs)
    except BaseException as exc:
        if fork_guard.process() != process:
            fork_guard.leave(exc)
        raise
    if fork_guard.process() != process:
        fork_guard.leave(None)
    if type(life.retval) is Retry and life.retval.is_eager:
        raise life.retval  # what `retry(throw=False)` gave is run here all the same
    life.runtime = perf_counter() - begun
    return life


def check_result(life: Life) -> Life:
    """Fails a call whose result cannot be written, before hooks and signals say that it has succeeded."""
    ignored = life.request.ignore_result
    if type(life.retval) not in _WRITABLE and not (
        life.entry.ignore_result if ignored is None else ignored
    ):
        serialize.dumps(life.retval, "json")
    return life


def publish_links(life: Life) -> Life:
    """Success callbacks and the next step of the chain; before the result is stored, so that its children are complete."""
    callbacks.succeeded(life.task.app, life.request, life.retval)
    return life


def succeed(life: Life) -> Life:
    """The outcome of a call that returned."""
    life.outcome = Outcome(
        outcome.SUCCESS, states.SUCCESS, life.retval, None, _printed(life.task, life.retval)
    )
    return life


def on_success(life: Life) -> Life:
    """The hook of that name; it can no longer change the outcome."""
    return _shielded(_on_success, life)


def send_success(life: Life) -> Life:
    """The signal task_success."""
    signals.task_success.send(life.task, result=life.retval, runtime=life.runtime)
    return life


def after_return(life: Life) -> Life:
    """The hook of that name; a call that will run again, or of which nothing is kept, has not returned."""
    if life.outcome.verdict in _NOT_RETURNED:
        return life
    retval = life.retval if life.exc is None else life.exc
    life.task.after_return(
        life.outcome.state, retval, life.id, life.args, life.kwargs, _einfo(life)
    )
    return life


def send_postrun(life: Life) -> Life:
    """The signal task_postrun."""
    retval = life.retval if life.exc is None else life.exc
    signals.task_postrun.send(
        life.task,
        task_id=life.id,
        task=life.task,
        args=life.args,
        kwargs=life.kwargs,
        retval=retval,
        state=life.outcome.state,
    )
    return life


def _on_success(life: Life) -> Life:
    life.task.on_success(life.retval, life.id, life.args, life.kwargs)
    return life


def _overrides(hook: str) -> Callable[[Any, type], bool]:
    # A hook may also be set on the task itself, by the decorator.
    return lambda task, base: (
        hook in vars(task) or getattr(type(task), hook) is not getattr(base, hook)
    )


def _heard(signal: signals.Signal) -> Callable[[Any, type], bool]:
    return lambda task, base: bool(signal.receivers)


_WATCHED = (signals.task_prerun, signals.task_success, signals.task_postrun)
"""Whether they have receivers decides which steps there are."""
_NOT_RETURNED = frozenset({outcome.RETRY, outcome.IGNORE, outcome.REJECT, outcome.REQUEUE})

_Needed = tuple[Step, Callable[[Any, type], bool]]
_BEFORE: list[_Needed] = [
    (send_prerun, _heard(signals.task_prerun)),
    (before_start, _overrides("before_start")),
]
_ENDED: list[_Needed] = [
    (on_success, _overrides("on_success")),
    (send_success, _heard(signals.task_success)),
]
_AFTER: list[_Needed] = [
    (after_return, _overrides("after_return")),
    (send_postrun, _heard(signals.task_postrun)),
]


# Around user code


def _shielded(step: Step, life: Life) -> Life:
    """A step after the outcome stands: what it raises is logged and changes nothing."""
    try:
        return step(life)
    except Exception as exc:
        log("a hook of task `%s` failed", life)
        signals.task_internal_error.send(
            life.task,
            task_id=life.id,
            exception=exc,
            args=life.args,
            kwargs=life.kwargs,
            traceback=exc.__traceback__,
            einfo=None,
        )
        return life


def _einfo(life: Life) -> exception_codec.ExceptionInfo | None:
    return (
        None
        if life.exc is None
        else exception_codec.ExceptionInfo(life.exc, life.outcome.traceback or "")
    )


def _printed(task: Any, value: Any) -> str:
    return shorten(value, task.resultrepr_maxsize)


def _runnable(fun: Any) -> Callable[..., Any]:
    """The function as the core can call it; a coroutine function runs on a loop of the thread's own."""
    code = getattr(getattr(fun, "__func__", fun), "__code__", None)
    if code is None or not code.co_flags & 0x80:  # CO_COROUTINE
        return fun  # type: ignore[no-any-return]
    from taskcore.execution.coroutines import run

    return lambda *args, **kwargs: run(fun(*args, **kwargs))
