"""What follows a chord whose members have ended: its body, or the end of all that the body was to do.

The worker's own process calls these, beside the loop, because they must not wait behind tasks. So
nothing of the user's runs here but what takes part in any publish (routes, signals, an own
`apply_async`): error callbacks that want the exception itself are left to a child. Nothing is
published here either; see `callbacks`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskcore import signals, states
from taskcore.exceptions import ChordError
from taskcore.execution import callbacks
from taskcore.results import exception_codec
from taskcore.task import retry


def publish_body(app: Any, request: Any, group: str, results: Any) -> bool:
    """Publishes the body of the chord `group`, which the execution `request` has completed.

    Args:
        results: the argument of the body: the results, or the text that stands for them.
    Returns:
        Whether it did. Not with a text where code of the user's would see the arguments, and could
        compute with it: such a body needs the results themselves.
    """
    carried = request.to_dict()
    body = find_body(carried, group)
    if isinstance(results, str) and _is_seen(app, body):
        return False
    own = (body.get("options") or {}).get("priority", app.producer.inherited_priority(request))
    callbacks._publish(app, request, carried, body, (results,), {"priority": own})
    return True


def _is_seen(app: Any, body: Mapping[str, Any]) -> bool:
    """Whether publishing the body calls code of the user's with its arguments."""
    if signals.before_task_publish.receivers or app.has_own_send:
        return True
    tasks = (app.tasks.get(sig.get("task")) for sig in callbacks.all_inside([body]))
    return any(task is not None and task.has_own_call for task in tasks)


def fail_body(
    app: Any, request: Any, group: str, failed: str | None, reason: Any
) -> tuple[list[str], dict[str, Any]]:
    """Ends the body of the chord `group`, all that was to run in it and after it, and has its error
    callbacks called.

    Args:
        failed: the first member that did not succeed; None: the body cannot be called.
        reason: the exception of that member, as in a result document, or why.
    Returns:
        The ids of those messages among the ones that follow which are only to call error callbacks,
        and what they are to be told.
    """
    carried = request.to_dict()
    body = find_body(carried, group)
    if failed is None:
        error = ChordError(f"The body cannot be called: {reason}")
    else:
        error = ChordError(f"Dependency {failed} raised {_repr(reason)}")
    called = fail(app, request, carried, body, error)
    end = {"state": states.FAILURE, "errbacks": True}
    return called, {**exception_codec.to_document(error), **end}


def fail(
    app: Any,
    request: Any,
    carried: Mapping[str, Any],
    body: Mapping[str, Any],
    error: BaseException,
) -> list[str]:
    """Ends a signature that will not run, all that is in it and after it, and has its error callbacks
    called.

    Args:
        request: the execution because of which.
        carried: what its message says.
    Returns:
        The ids under which there are messages that are only to call error callbacks.
    """
    options = body.get("options") or {}
    unrun = [body, *(options.get("chain") or ())]
    callbacks.end_unrun(app, request, unrun, states.FAILURE, error, None)
    called = []
    for sig in _with_errbacks(body):
        task_id = sig["options"].get("task_id")
        errbacks = sig["options"]["link_error"]
        errbacks = [errbacks] if isinstance(errbacks, Mapping) else errbacks
        new_style = [one for one in errbacks if callbacks.takes_exception(app, one)]
        old_style = [one for one in errbacks if one not in new_style]
        callbacks.publish_old_style(app, request, carried, old_style, task_id)
        if new_style and task_id:
            _publish_call(app, request, carried, sig, new_style)
            called.append(task_id)
    return called


def find_body(carried: Mapping[str, Any], group: str) -> Any:
    """The body of the chord `group` in what a message carries: that of its own task, or of another
    that was to run after it.

    Raises:
        ValueError: there is none.
    """
    own = carried.get("chord")
    if own and carried.get("group") == group:
        return _checked(own, group)
    waiting = [*(carried.get("chain") or ()), *([own] if own else ())]
    while waiting:
        for sig in callbacks.all_inside([waiting.pop()]):
            options = sig.get("options") or {}
            if options.get("group_id") == group and options.get("chord"):
                return _checked(options["chord"], group)
            # A failure ends the chord that the body is a member of, and so on outward.
            waiting += [*(options.get("chain") or ()), *filter(None, [options.get("chord")])]
    raise ValueError(f"the message of the last member of chord `{group}` carries no body")


def _checked(body: Any, group: str) -> Any:
    if not isinstance(body, Mapping) or not isinstance(body.get("task"), str):
        raise ValueError(f"the body of chord `{group}` is `{body!r:.100}`: expected a signature")
    return body


def _with_errbacks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The tasks whose error callbacks hear of the end of a body: each of a group; the first of a
    chain, which would have been the first to run."""
    options, inside = body.get("options") or {}, body.get("kwargs") or {}
    members = inside.get("tasks") or ()
    if body.get("subtask_type") == "group":
        for member in members:
            yield from _with_errbacks(member)
    elif body.get("subtask_type") == "chain" and not options.get("link_error"):
        for member in members[:1]:
            yield from _with_errbacks(member)
    if options.get("link_error"):
        yield body


def _publish_call(
    app: Any, request: Any, carried: Mapping[str, Any], sig: Mapping[str, Any], errbacks: list[Any]
) -> None:
    """Makes a message for the pool, under the id of a task that is not run, that has error callbacks."""
    fields = {
        "task_id": sig["options"]["task_id"],
        "root_id": request.root_id,
        "parent_id": request.id,
        "errbacks": errbacks,
    }
    target = app.tasks.get(sig["task"]) or sig["task"]
    app.producer.deliver(target, (), {}, fields, retry.protocol_of(carried), request)


def _repr(document: Any) -> str:
    """An exception as it was stored, as `repr` would show it."""
    if not isinstance(document, Mapping):
        return str(document)
    message = document.get("exc_message")
    args = message if isinstance(message, (list, tuple)) else [message]
    return f"{document.get('exc_type')}({', '.join(map(repr, args))})"
