"""How a call that raised ends: the one place where exceptions become outcomes.

`Ignore`, `Reject` and `Retry` say themselves how; an exception that the task retries for becomes a Retry first; all
others, exits included, are failures. Hooks, signals and error callbacks of that ending run here, and what they raise is
logged: it can no longer change the outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from time import time
from typing import Any

from taskcore import signals, states
from taskcore.exceptions import Ignore, NotSupportedError, Reject, Retry
from taskcore.execution import callbacks, outcome
from taskcore.execution.call import Life
from taskcore.execution.outcome import Outcome
from taskcore.results import exception_codec
from taskcore.task import retry
from taskcore.utils import shorten


def end(life: Life, exc: BaseException) -> Life:
    """Gives the life the outcome of `exc`; never raises."""
    life.exc = exc = _retried(life, exc)
    try:
        ending = next(found for cls, found in _ENDINGS if isinstance(exc, cls))
        return ending(life, exc)
    except Exception as broken:  # an exception whose own methods raise
        life.outcome = _broken(exc, broken)
        return life
    finally:
        del exc  # as in `_retried`


def tell(life: Life, exc: BaseException, state: str) -> Life:
    """What follows a call that the worker ended, so that it did not raise `exc` itself; never raises.

    Args:
        state: FAILURE (killed for its hard time limit, or lost with its process) or REVOKED (expired before it ran).
    """
    life.exc = exc
    if state == states.FAILURE:
        return _failed(life, exc)
    life.outcome = Outcome(outcome.IGNORE, state, None, None, str(exc))
    try:
        # DIFFERENCE: Celery leaves the rest of the chain PENDING for ever. Error callbacks are for failures only, as there.
        callbacks.revoked(life.task.app, life.request, exc)
    except Exception:
        log("ending the chain of task `%s` failed", life)
    return life


def _retried(life: Life, exc: BaseException) -> BaseException:
    """The exception that ends the call: a Retry where the task retries automatically."""
    task = life.task
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
            life.request.retries,
            float(task.retry_backoff),
            task.retry_backoff_max,
            task.retry_jitter,
        )
    try:
        return task.retry(exc=exc, throw=False, **how)  # type: ignore[no-any-return]
    except BaseException as ending:
        # No retries left (then it is `exc` itself), or the broker did not take the message.
        del exc  # or this frame, which its traceback knows, would keep it
        return ending


def _ignored(life: Life, exc: Any) -> Life:
    life.outcome = Outcome(outcome.IGNORE, states.IGNORED, None, None, str(exc))
    return life


def _rejected(life: Life, exc: Reject) -> Life:
    document = exception_codec.to_document(exc)
    if exc.requeue:
        # A message that was acknowledged cannot be put back.
        verdict = outcome.IGNORE if life.task.acks_late and _requeued(life) else outcome.REQUEUE
        life.outcome = Outcome(verdict, states.REJECTED, document, None, repr(exc))
        return life
    # It never runs again, so whoever waits for it must learn that it has failed.
    life.outcome = Outcome(outcome.REJECT, states.FAILURE, document, None, repr(exc))
    _announce(life, exc, exception_codec.ExceptionInfo(exc, ""))
    return life


def _requeued(life: Life) -> bool:
    """Whether the message was published again, with the mark that it is; otherwise the broker puts it back as it was."""
    known = life.request.to_dict()
    if known.get("is_eager"):
        return False
    try:
        life.task.app.producer.publish_again(
            life.task,
            known["args"],
            known["kwargs"],
            retry.requeued(known, time()),
            retry.protocol_of(known),
        )
    except Exception:
        log("task `%s` goes back without the mark that it is redelivered", life)
        return False
    return True


def _retry(life: Life, exc: Retry) -> Life:
    cause = exc.exc
    text = exception_codec.format_traceback(cause if cause is not None else exc)
    document = exception_codec.to_document(cause) if cause is not None else None
    life.outcome = Outcome(outcome.RETRY, states.RETRY, document, text, str(exc))
    einfo = exception_codec.ExceptionInfo(exc, text)
    _hook(life, life.task.on_retry, cause if cause is not None else exc, einfo)
    signals.task_retry.send(life.task, request=life.task.request, reason=exc, einfo=einfo)
    return life


def _failed(life: Life, exc: BaseException) -> Life:
    text = exception_codec.format_traceback(exc)
    document = exception_codec.to_document(exc)
    declared = life.task.throws and isinstance(exc, tuple(life.task.throws))
    verdict = outcome.EXPECTED if declared else outcome.FAILURE
    life.outcome = Outcome(verdict, states.FAILURE, document, text, shorten(exc))
    einfo = exception_codec.ExceptionInfo(exc, text)
    _hook(life, life.task.on_failure, exc, einfo)
    _announce(life, exc, einfo)
    return life


def _announce(life: Life, exc: BaseException, einfo: exception_codec.ExceptionInfo) -> None:
    """The signal task_failure, the rest of the chain and the error callbacks."""
    signals.task_failure.send(
        life.task,
        task_id=life.id,
        exception=exc,
        args=life.args,
        kwargs=life.kwargs,
        traceback=exc.__traceback__,
        einfo=einfo,
    )
    if life.request.has_embed:
        try:
            callbacks.failed(life.task.app, life.request, exc, einfo.traceback)
        except Exception:
            log("error callbacks of task `%s` failed", life)


_ENDINGS: list[tuple[type[BaseException], Callable[[Life, Any], Life]]] = [
    (Ignore, _ignored),
    (Reject, _rejected),
    (Retry, _retry),
    (BaseException, _failed),
]


def _broken(exc: BaseException, broken: Exception) -> Outcome:
    name = type(exc).__qualname__
    text = f"{name} (it cannot be described: {type(broken).__name__})"
    document = {"exc_type": name, "exc_message": [text], "exc_module": type(exc).__module__}
    return Outcome(outcome.FAILURE, states.FAILURE, document, text, text)


def _hook(
    life: Life, hook: Callable[..., Any], exc: BaseException, einfo: exception_codec.ExceptionInfo
) -> None:
    try:
        hook(exc, life.id, life.args, life.kwargs, einfo)
    except Exception:
        log("a hook of task `%s` failed", life)


def log(text: str, life: Life) -> None:
    import logging

    logging.getLogger("taskcore.task").exception(text, f"{life.task.name}[{life.id}]")
