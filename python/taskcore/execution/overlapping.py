"""The steps of a call whose function is a coroutine function, in an event loop that runs others beside
it: the same steps as elsewhere, of which one awaits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from taskcore.exceptions import Retry
from taskcore.execution.call import Call
from taskcore.execution.executor import call_function, run_shielded
from taskcore.execution.failures import handle_exception
from taskcore.execution.outcome import Outcome


async def execute(
    plan: Any,
    request: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    is_cancelled: Callable[[], bool],
) -> Outcome:
    """Runs a call through all of its steps.

    Args:
        is_cancelled: whether the worker has ended the call, and will tell whoever follows it.
    Raises:
        BaseException: the call was cancelled by the worker.
    """
    call = Call(plan, request, args, kwargs)
    try:
        for step in plan.steps_with_callbacks if request.has_embed else plan.steps:
            call = await _call_coroutine(call) if step is call_function else step(call)
    except BaseException as exc:
        if is_cancelled():
            raise
        call = handle_exception(call, exc)
    for step in plan.after:
        call = run_shielded(step, call)
    call.exc = None  # its traceback knows the call
    return call.outcome


async def _call_coroutine(call: Call) -> Call:
    """User code."""
    begun = perf_counter()
    call.retval = await call.plan.function(*call.args, **call.kwargs)
    if type(call.retval) is Retry and call.retval.is_eager:
        raise call.retval  # what `retry(throw=False)` gave is run here all the same
    call.runtime = perf_counter() - begun
    return call
