"""How a call that raised ends: the one place where exceptions become outcomes.

`Ignore`, `Reject` and `Retry` say themselves how; an exception that the task retries for becomes a
Retry first; all others, exits included, are failures. Hooks, signals and error callbacks of that
ending run here, and what they raise is logged: it can no longer change the outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time
from typing import Any

from taskcore import signals, states
from taskcore.exceptions import Ignore, NotSupportedError, Reject, Retry
from taskcore.execution import callbacks, outcome
from taskcore.execution.call import Call
from taskcore.execution.outcome import Outcome
from taskcore.results import exception_codec
from taskcore.task import retry
from taskcore.utils import shorten


def handle_exception(call: Call, exc: BaseException) -> Call:
    """Gives the call the outcome of `exc`; never raises.

    What was to follow the call, its callbacks or a retry that it has not ended with, is dropped: it
    has ended otherwise. `Ignore` says nothing against a retry that was asked for before.
    """
    dropped = [] if isinstance(exc, (Retry, Ignore)) else call.request.drop_following()
    call.exc = exc = _autoretry(call, exc)
    if not isinstance(exc, Retry):
        _warn_dropped(call, dropped, exc)
    try:
        handler = next(handler for cls, handler in _HANDLERS if isinstance(exc, cls))
        return handler(call, exc)
    except Exception as broken:  # an exception whose own methods raise
        _warn_dropped(call, call.request.drop_following(), exc)
        call.outcome = _undescribable(exc, broken)
        return call
    finally:
        del exc  # as in `_autoretry`


def handle_ended(call: Call, exc: BaseException, state: str) -> Call:
    """What follows a call that the worker ended, so that it did not raise `exc` itself; never
    raises.

    Args:
        state: FAILURE (killed for its hard time limit, or lost with its process) or REVOKED
            (expired before it ran).
    """
    call.exc = exc
    if state == states.FAILURE:
        return _failed(call, exc)
    call.outcome = Outcome(outcome.IGNORE, state, None, None, str(exc))
    try:
        # DIFFERENCE: Celery leaves what was to follow PENDING for ever. Error callbacks are for
        # failures only, as there.
        callbacks.revoke_following(call.task.app, call.request, exc)
    except Exception:
        log("ending what follows task `%s` failed", call)
    return call


def _warn_dropped(call: Call, dropped: list[str], exc: BaseException) -> None:
    """Says that the call asked for a retry which does not come."""
    if call.id in dropped:
        _logger().warning(
            "the retry of task `%s[%s]` is dropped, because after asking for it the task raised `%s`: let "
            "the exception of `retry()` through",
            call.task.name,
            call.id,
            type(exc).__name__,
        )


def _autoretry(call: Call, exc: BaseException) -> BaseException:
    """The exception that ends the call: a Retry where the task retries automatically."""
    task = call.task
    if not task.autoretry_for or isinstance(exc, (Ignore, Reject, Retry, NotSupportedError)):
        return exc
    if not isinstance(exc, tuple(task.autoretry_for)) or isinstance(
        exc, tuple(task.dont_autoretry_for)
    ):
        return exc
    if retry.NO_MORE in exc.__dict__:
        return exc
    how = dict(task.retry_kwargs or {})
    if task.retry_backoff:
        how["countdown"] = retry.backoff(
            call.request.retries,
            float(task.retry_backoff),
            task.retry_backoff_max,
            task.retry_jitter,
        )
    try:
        return task.retry(exc=exc, **how)  # type: ignore[no-any-return]
    except BaseException as ending:
        # The Retry, `exc` itself when no retries are left, or what cannot be encoded.
        del exc  # or this frame, which its traceback knows, would keep it
        return ending


def _ignored(call: Call, exc: Any) -> Call:
    call.outcome = Outcome(outcome.IGNORE, states.IGNORED, None, None, str(exc))
    return call


def _rejected(call: Call, exc: Reject) -> Call:
    document = exception_codec.to_document(exc)
    if exc.requeue:
        # A message that was acknowledged cannot be put back.
        verdict = outcome.IGNORE if call.task.acks_late and _requeued(call) else outcome.REQUEUE
        call.outcome = Outcome(verdict, states.REJECTED, document, None, repr(exc))
        return call
    # It never runs again, so whoever waits for it must learn that it has failed.
    call.outcome = Outcome(outcome.REJECT, states.FAILURE, document, None, repr(exc))
    einfo = exception_codec.ExceptionInfo(exc, "")
    _publish_errbacks(call, exc, einfo)
    _send_failure(call, exc, einfo)
    return call


def _requeued(call: Call) -> bool:
    """Whether the message follows itself, with the mark that it does; otherwise the broker puts it
    back as it was."""
    known = call.request.to_dict()
    if known.get("is_eager"):
        return False
    try:
        call.task.app.producer.follow_again(
            call.request,
            call.task,
            known["args"],
            known["kwargs"],
            retry.requeued(known, time()),
            retry.protocol_of(known),
        )
    except Exception:
        log("task `%s` goes back without the mark that it is redelivered", call)
        return False
    return True


def _retry(call: Call, exc: Retry) -> Call:
    cause = exc.exc
    text = exception_codec.format_traceback(cause if cause is not None else exc)
    document = exception_codec.to_document(cause) if cause is not None else None
    call.outcome = Outcome(outcome.RETRY, states.RETRY, document, text, str(exc))
    einfo = exception_codec.ExceptionInfo(exc, text)
    # DIFFERENCE: where `retry()` was given no `exc`, Celery's hook gets None.
    _call_hook(call, call.task.on_retry, cause if cause is not None else exc, einfo)
    signals.task_retry.send(call.task, request=call.task.request, reason=exc, einfo=einfo)
    return call


def _failed(call: Call, exc: BaseException) -> Call:
    text = exception_codec.format_traceback(exc)
    document = exception_codec.to_document(exc)
    declared = call.task.throws and isinstance(exc, tuple(call.task.throws))
    verdict = outcome.EXPECTED if declared else outcome.FAILURE
    call.outcome = Outcome(verdict, states.FAILURE, document, text, shorten(exc))
    einfo = exception_codec.ExceptionInfo(exc, text)
    _publish_errbacks(call, exc, einfo)
    _call_hook(call, call.task.on_failure, exc, einfo)
    _send_failure(call, exc, einfo)
    return call


def _send_failure(call: Call, exc: BaseException, einfo: exception_codec.ExceptionInfo) -> None:
    """The signal task_failure."""
    signals.task_failure.send(
        call.task,
        task_id=call.id,
        exception=exc,
        args=call.args,
        kwargs=call.kwargs,
        traceback=exc.__traceback__,
        einfo=einfo,
    )


def _publish_errbacks(call: Call, exc: BaseException, einfo: exception_codec.ExceptionInfo) -> None:
    """The rest of the chain and the error callbacks; before hooks and signals, as in Celery."""
    if call.request.has_embed:
        try:
            callbacks.publish_errbacks(call.task.app, call.request, exc, einfo.traceback)
        except Exception:
            log("error callbacks of task `%s` failed", call)


_HANDLERS: list[tuple[type[BaseException], Callable[[Call, Any], Call]]] = [
    (Ignore, _ignored),
    (Reject, _rejected),
    (Retry, _retry),
    (BaseException, _failed),
]


def _undescribable(exc: BaseException, broken: Exception) -> Outcome:
    name = type(exc).__qualname__
    text = f"{name} (it cannot be described: {type(broken).__name__})"
    document = {"exc_type": name, "exc_message": [text], "exc_module": type(exc).__module__}
    return Outcome(outcome.FAILURE, states.FAILURE, document, text, text)


def _call_hook(
    call: Call, hook: Callable[..., Any], exc: BaseException, einfo: exception_codec.ExceptionInfo
) -> None:
    try:
        hook(exc, call.id, call.args, call.kwargs, einfo)
    except Exception:
        log("a hook of task `%s` failed", call)


def log(text: str, call: Call) -> None:
    _logger().exception(text, f"{call.task.name}[{call.id}]")


def _logger() -> logging.Logger:
    return logging.getLogger("taskcore.task")
