"""`task.apply`: a call executed here and now as a worker does it, with hooks, signals, retries and
callbacks, but without a broker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from taskcore import context, states
from taskcore.exceptions import Ignore, Reject, Retry
from taskcore.publishing import call_options
from taskcore.results import exception_codec
from taskcore.utils import uuid

if TYPE_CHECKING:
    from taskcore.task.task import Task


def apply(
    task: Task[..., Any],
    args: Iterable[Any] | None,
    kwargs: Mapping[str, Any] | None,
    task_id: str | None,
    throw: bool | None,
    options: dict[str, Any],
) -> Any:
    """Executes `task`, and again as long as it retries; gives its `EagerResult`.

    Args:
        throw: raise what the task raises; None: as `task_eager_propagates` says.
        options: as for `apply_async`.
    """
    if options.pop("propagate", None) is not None:
        call_options.warn_ignored("propagate")
    call_options.check_names(options)
    positional = call_options.to_args(task.name, args)
    named = call_options.to_kwargs(task.name, kwargs)
    app = task.app
    app.finalize()
    task_id = task_id or options.get("task_id") or uuid()
    request = _request(task, task_id, positional, named, options)
    call = app.executor.execute(app.executor.plan(task.name), request, positional, named)
    if task.store_eager_result:
        _store(app, call)
    if isinstance(call.exc, Retry) and call.exc.sig is not None:
        again = {**call.exc.sig["options"], "throw": throw, "retries": request.retries + 1}
        return task.apply(call.exc.sig["args"], call.exc.sig["kwargs"], **again)
    if isinstance(call.exc, KeyboardInterrupt):
        raise call.exc  # Ctrl-C is meant for this process, whatever it runs
    if isinstance(call.exc, (Ignore, Reject)):
        return app.eager_result(task_id, call, task.name)
    if call.exc is not None and (app.conf["task_eager_propagates"] if throw is None else throw):
        raise exception_codec.ordinary(call.exc)
    return app.eager_result(task_id, call, task.name)


def _store(app: Any, call: Any) -> None:
    """Stores how a call ended, as a worker would."""
    state, ignored = call.outcome.state, call.request.ignore_result
    wanted = not (call.plan.ignore_result if ignored is None else ignored)
    wanted = wanted or (call.plan.store_errors and state == states.FAILURE)
    if app.results_or_none is None or not wanted or isinstance(call.exc, Ignore):
        return
    value = call.retval if call.exc is None else exception_codec.to_document(call.exc)
    app.results_or_none.put(call.id, state, value, traceback=call.outcome.traceback)


def _request(
    task: Task[..., Any], task_id: str, args: Any, kwargs: Any, options: Mapping[str, Any]
) -> context.LocalRequest:
    """The request that the task sees as `self.request`; its parent is the task that runs here."""
    parent = context.get_parent_request()
    return context.LocalRequest(
        parent,
        id=task_id,
        task=task.name,
        args=list(args),
        kwargs=kwargs,
        is_eager=True,
        hostname=task.app.hostname or task.app.node,
        retries=options.get("retries") or 0,
        headers=options.get("headers") or {},
        callbacks=call_options.signatures("link", options.get("link")),
        errbacks=call_options.signatures("link_error", options.get("link_error")),
        chain=options.get("chain"),
        root_id=options.get("root_id") or (parent.root_id if parent else task_id),
        parent_id=parent.id if parent else None,
        delivery_info={
            "is_eager": True,
            "exchange": options.get("exchange"),
            "routing_key": options.get("routing_key"),
            "priority": options.get("priority"),
        },
        ignore_result=options.get("ignore_result"),
        shadow=options.get("shadow"),
        **call_options.stamps(options),
    )
