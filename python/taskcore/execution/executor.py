"""The execution of one call, as a list of named steps.

`Executor` is what the core calls in the process that runs tasks. Each step takes the one state
object (`call.Call`) and returns it; a step that a task does not need is not in its list, and a
task that needs none of them is `plain`: the core calls its function directly and comes here only
for exceptions. Every exception, exit and return becomes an Outcome in `failures` or at the end of
the list, nowhere else. Nothing is stored or acknowledged here; the core does that after the
outcome. Hence on_success and error callbacks run just before the result can be read, where
Celery's run just after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, NoReturn

from taskcore import context, serialize, signals, states
from taskcore.exceptions import EncodeError, Ignore, Retry
from taskcore.execution import callbacks, fork_guard, joins, outcome, tracing
from taskcore.execution.call import Call
from taskcore.execution.failures import handle_ended, handle_exception, log
from taskcore.execution.outcome import Outcome
from taskcore.results import exception_codec
from taskcore.results.choose_encoding import to_write
from taskcore.results.encoding import Encoding
from taskcore.utils import shorten

Step = Callable[[Call], Call]

_WRITABLE = frozenset({type(None), bool, int, float})
"""Values of these are written without a look: they can be, and are short."""


class Plan:
    """What a process knows about a task that it executes; made once per process and task."""

    __slots__ = (
        "after",
        "extended",
        "fun",
        "function",
        "ignore_result",
        "is_coroutine",
        "plain",
        "steps",
        "steps_with_callbacks",
        "store_errors",
        "task",
    )

    def __init__(self, task: Any, base: type) -> None:
        self.task = task
        custom_call = type(task).__call__ is not base.__call__
        # First: whoever traces may replace the body.
        traced = tracing.traced(task)
        self.function: Callable[..., Any] = traced or (task if custom_call else task.run)
        self.is_coroutine = traced is None and _is_coroutine(self.function)
        self.fun = _as_function(self.function) if self.is_coroutine else self.function
        self.ignore_result = bool(task.ignore_result)
        self.store_errors = bool(task.store_errors_even_if_ignored)
        self.extended = bool(task.app.conf["result_extended"])
        before = [step for step, needed in _BEFORE if needed(task, base)]
        ended = [step for step, needed in _ENDED if needed(task, base)]
        self.after: list[Step] = [step for step, needed in _AFTER if needed(task, base)]
        checked = [check_result] if ended or self.after else []
        self.steps: list[Step] = [*before, call_function, *checked, succeed, *ended]
        self.steps_with_callbacks: list[Step] = [
            check_supported,
            *before,
            call_function,
            *checked,
            publish_callbacks,
            succeed,
            *ended,
        ]
        self.plain = not (before or ended or self.after)


class Executor:
    """Runs calls for one app; one per process."""

    def __init__(
        self, app: Any, base: type, on_invalidate: Callable[[], object] = lambda: None
    ) -> None:
        """
        Args:
            base: the class Task: what a task overrides is told by comparing with it.
            on_invalidate: called when plans became stale; the core then asks for them again.
        """
        self.app = app
        self._base = base
        self._on_invalidate = on_invalidate
        self._plans: dict[str, Plan] = {}
        self.set_request = context.set_request
        for signal in _WATCHED:
            signal.watch(self.invalidate)

    def plan(self, name: str) -> Plan | None:
        """What is needed to run the task `name`; None when it is not registered."""
        plan = self._plans.get(name)
        if plan is None:
            task = self.app.tasks.get(name)
            if task is None:
                return None
            plan = self._plans[name] = Plan(task, self._base)
        return plan

    @property
    def hostname(self) -> str | None:
        """Node name of the worker; the core puts it into extended results."""
        hostname: str | None = self.app.hostname
        return hostname

    @property
    def result_max_size(self) -> int:
        """Bytes of the longest encoded result."""
        limit: int = self.app.conf["result_max_size"]
        return limit

    @property
    def encoding(self) -> Encoding | None:
        """How result documents are written; None for JSON. The core asks once."""
        return to_write(self.app.conf)

    @property
    def max_body(self) -> int:
        """Bytes of the longest encoded arguments."""
        limit: int = self.app.conf["task_max_body"]
        return limit

    def publish_body(self, request: Any, group: str, results: Any) -> bool:
        """Publishes the body of a chord that is complete; see `joins.publish_body`."""
        published: bool = self._join(joins.publish_body, request, group, results)
        return published

    def fail_body(self, request: Any, group: str, reason: tuple[str | None, Any]) -> Any:
        """Ends the body of a chord that cannot run; see `joins.fail_body`."""
        return self._join(joins.fail_body, request, group, *reason)

    def _join(self, step: Callable[..., Any], request: Any, *args: Any) -> Any:
        token = context.set_request(request)
        try:
            return step(self.app, request, *args)
        finally:
            context.reset_request(token)

    def invalidate(self) -> None:
        """Drops what was derived from a configuration, hooks or receivers that have changed."""
        self._plans.clear()
        self._on_invalidate()

    def run(self, plan: Plan, request: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Outcome:
        """Runs a call through all of its steps; never raises."""
        call = self.execute(plan, request, args, kwargs)
        call.exc = None  # its traceback knows the call: they would keep each other until the collector comes
        return call.outcome

    def execute(
        self, plan: Plan, request: Any, args: Sequence[Any], kwargs: dict[str, Any]
    ) -> Call:
        """As `run`, giving all that is known at the end."""
        # The task finds itself by its own name, so signatures and local calls look up the plan in
        # the app.
        call = Call(plan, request, args, kwargs)
        token = context.set_request(request)
        try:
            try:
                for step in plan.steps_with_callbacks if request.has_embed else plan.steps:
                    call = step(call)
            except BaseException as exc:
                call = handle_exception(call, exc)
            for step in plan.after:
                call = run_shielded(step, call)
        finally:
            context.reset_request(token)
        return call

    def handle_exception(
        self,
        plan: Plan,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        exc: BaseException,
    ) -> Outcome:
        """The outcome of a call that raised `exc`; never raises."""
        token = context.set_request(request)
        try:
            return handle_exception(Call(plan, request, args, kwargs), exc).outcome
        finally:
            context.reset_request(token)

    def handle_ended(
        self,
        plan: Plan | None,
        request: Any,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        end: Mapping[str, Any],
    ) -> None:
        """Tells whoever follows a call that the worker ended: hooks, signals, error callbacks, the
        rest of the chain.

        Args:
            plan: None: no such task is registered, so there are no hooks.
            end: the exception as in a result document, and the `state`; `errbacks` where the task was
                never to run here, so that of its own nobody hears but its error callbacks; `again` where
                the process was lost that told of it before, so that no user code is called.
        """
        exc = exception_codec.from_document(end)
        token = context.set_request(request)
        try:
            again = bool(end.get("again"))
            if plan is None or again or end.get("errbacks"):
                if end["state"] == states.FAILURE:
                    callbacks.publish_errbacks(self.app, request, exc, "", call=not again)
                else:
                    callbacks.revoke_following(self.app, request, exc)
                return
            call = handle_ended(Call(plan, request, args, kwargs), exc, end["state"])
            if after_return in plan.after and call.outcome.state == states.FAILURE:
                run_shielded(after_return, call)
        finally:
            context.reset_request(token)

    def has_failure_handlers(self, task: Any) -> bool:
        """Whether hooks of a task or receivers of signals want to know of its failure."""
        return bool(signals.task_failure.receivers) or any(
            _overrides(hook)(task, self._base) for hook in ("on_failure", "after_return")
        )

    def exit_forked_process(self, raised: BaseException | None) -> NoReturn:
        """Ends a process that user code forked and that came back from it."""
        fork_guard.exit_forked_process(raised)

    def loads(self, data: bytes, content_type: str, content_encoding: str) -> Any:
        """Decodes a body that the core does not decode itself."""
        return serialize.loads(data, content_type, content_encoding)


# Steps, in order


def check_supported(call: Call) -> Call:
    """Fails what this version could not finish, before user code has run."""
    callbacks.check_supported(call.task.app, call.request)
    return call


def skip_duplicate(call: Call) -> Call:
    """Ends a call that was delivered again although it has succeeded: its result, and what follows it,
    are where they belong."""
    info, results = call.request.to_dict().get("delivery_info") or {}, call.task.app.results_or_none
    if info.get("redelivered") and results is not None:
        document = results.get([call.id])[0]
        if document is not None and document["status"] == states.SUCCESS:
            raise Ignore("it has succeeded before")
    return call


def send_prerun(call: Call) -> Call:
    """The signal task_prerun."""
    signals.task_prerun.send(
        call.task, task_id=call.id, task=call.task, args=call.args, kwargs=call.kwargs
    )
    return call


def before_start(call: Call) -> Call:
    """The hook of that name."""
    call.task.before_start(call.id, call.args, call.kwargs)
    return call


def call_function(call: Call) -> Call:
    """User code."""
    process = fork_guard.fork_count()
    begun = perf_counter()
    try:
        call.retval = call.plan.fun(*call.args, **call.kwargs)
    except BaseException as exc:
        if fork_guard.fork_count() != process:
            fork_guard.exit_forked_process(exc)
        raise
    if fork_guard.fork_count() != process:
        fork_guard.exit_forked_process(None)
    if type(call.retval) is Retry and call.retval.is_eager:
        raise call.retval  # what `retry(throw=False)` gave is run here all the same
    call.runtime = perf_counter() - begun
    return call


def check_result(call: Call) -> Call:
    """Fails a call whose result cannot be written, before hooks and signals say that it has succeeded."""
    ignored = call.request.ignore_result
    if type(call.retval) not in _WRITABLE and not (
        call.plan.ignore_result if ignored is None else ignored
    ):
        encoded = serialize.dumps(call.retval, call.task.app.conf["result_serializer"])[2]
        size, limit = len(encoded), call.task.app.conf["result_max_size"]
        if size > limit:
            raise EncodeError(
                f"the result of `{call.task.name}` takes `{size}` bytes, more than the `result_max_size` of "
                f"`{limit}`; store the data elsewhere and return where it is, or raise that setting"
            )
    return call


def publish_callbacks(call: Call) -> Call:
    """Success callbacks and the next step of the chain; before the result is stored, so that its
    children are complete."""
    callbacks.publish_callbacks(call.task.app, call.request, call.retval)
    return call


def succeed(call: Call) -> Call:
    """The outcome of a call that returned."""
    call.outcome = Outcome(
        outcome.SUCCESS, states.SUCCESS, call.retval, None, _repr(call.task, call.retval)
    )
    return call


def on_success(call: Call) -> Call:
    """The hook of that name; it can no longer change the outcome."""
    return run_shielded(_on_success, call)


def send_success(call: Call) -> Call:
    """The signal task_success."""
    signals.task_success.send(call.task, result=call.retval, runtime=call.runtime)
    return call


def after_return(call: Call) -> Call:
    """The hook of that name; a call that will run again, or of which nothing is kept, has not
    returned."""
    if call.outcome.verdict in _NOT_RETURNED:
        return call
    retval = call.retval if call.exc is None else call.exc
    call.task.after_return(
        call.outcome.state, retval, call.id, call.args, call.kwargs, _exception_info(call)
    )
    return call


def send_postrun(call: Call) -> Call:
    """The signal task_postrun."""
    retval = call.retval if call.exc is None else call.exc
    signals.task_postrun.send(
        call.task,
        task_id=call.id,
        task=call.task,
        args=call.args,
        kwargs=call.kwargs,
        retval=retval,
        state=call.outcome.state,
    )
    return call


def _on_success(call: Call) -> Call:
    call.task.on_success(call.retval, call.id, call.args, call.kwargs)
    return call


def _overrides(hook: str) -> Callable[[Any, type], bool]:
    # A hook may also be set on the task itself, by the decorator.
    return lambda task, base: (
        hook in vars(task) or getattr(type(task), hook) is not getattr(base, hook)
    )


def _has_receivers(signal: signals.Signal) -> Callable[[Any, type], bool]:
    return lambda task, base: bool(signal.receivers)


_WATCHED = (signals.task_prerun, signals.task_success, signals.task_postrun)
"""Whether they have receivers decides which steps there are."""
_NOT_RETURNED = frozenset({outcome.RETRY, outcome.IGNORE, outcome.REJECT, outcome.REQUEUE})

_Needed = tuple[Step, Callable[[Any, type], bool]]
_BEFORE: list[_Needed] = [
    (
        skip_duplicate,
        lambda task, base: task.acks_late and task.app.conf["worker_deduplicate_successful_tasks"],
    ),
    (send_prerun, _has_receivers(signals.task_prerun)),
    (before_start, _overrides("before_start")),
]
_ENDED: list[_Needed] = [
    (on_success, _overrides("on_success")),
    (send_success, _has_receivers(signals.task_success)),
]
_AFTER: list[_Needed] = [
    (after_return, _overrides("after_return")),
    (send_postrun, _has_receivers(signals.task_postrun)),
]


# Around user code


def run_shielded(step: Step, call: Call) -> Call:
    """A step after the outcome stands: what it raises is logged and changes nothing."""
    try:
        return step(call)
    except Exception as exc:
        log("a hook of task `%s` failed", call)
        signals.task_internal_error.send(
            call.task,
            task_id=call.id,
            exception=exc,
            args=call.args,
            kwargs=call.kwargs,
            traceback=exc.__traceback__,
            einfo=None,
        )
        return call


def _exception_info(call: Call) -> exception_codec.ExceptionInfo | None:
    return (
        None
        if call.exc is None
        else exception_codec.ExceptionInfo(call.exc, call.outcome.traceback or "")
    )


def _repr(task: Any, value: Any) -> str:
    return shorten(value, task.resultrepr_maxsize)


def _is_coroutine(fun: Any) -> bool:
    code = getattr(getattr(fun, "__func__", fun), "__code__", None)
    return code is not None and bool(code.co_flags & 0x80)  # CO_COROUTINE


def _as_function(fun: Any) -> Callable[..., Any]:
    """A coroutine function as the core can call it: it runs on a loop of the thread's own."""
    from taskcore.execution.coroutines import run

    return lambda *args, **kwargs: run(fun(*args, **kwargs))
