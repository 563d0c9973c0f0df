"""What follows a task by the message that called it: callbacks, error callbacks, and the rest of a
chain; each may be a single task or a composition.

Nothing is published here. Messages are encoded and leave with the outcome of the execution; the
worker publishes them before it stores the result. Only the size of a chord that begins now is told
to the store at once: a join that nobody enters expires.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from taskcore import context, states
from taskcore.canvas import Signature, maybe_signature
from taskcore.canvas.check import check
from taskcore.canvas.compose import as_chain
from taskcore.canvas.links import listed
from taskcore.publishing import argument_check, trail
from taskcore.publishing.next_step import plain_step, send_step
from taskcore.results import exception_codec
from taskcore.task import retry
from taskcore.utils import uuid


def check_supported(app: Any, request: Any) -> None:
    """Refuses what cannot be carried on.

    Raises:
        ImproperlyConfigured: the member of a chord, where no results are kept.
        TypeError, ValueError, ImproperlyConfigured: a composition that could not run, as
            `canvas.check` says.
    """
    if plain_step(request) is not None:
        return
    carried = request.to_dict()
    if carried.get("chord"):
        app.backend  # noqa: B018 - raises
    chain = carried.get("chain")
    # Of the rest of a chain nothing but the next step is looked at: it is not decoded.
    for sig in [*(carried.get("callbacks") or ()), *([chain[-1]] if chain else ())]:
        _check_composition(app, sig)
    for sig in carried.get("errbacks") or ():
        _check_composition(app, sig)


def _check_composition(app: Any, sig: Mapping[str, Any]) -> None:
    if sig.get("subtask_type"):
        check(maybe_signature(sig), app, names=False)


def publish_callbacks(app: Any, request: Any, retval: Any) -> None:
    """Publishes the callbacks and the next step of the chain, each with the result as its first
    argument."""
    step = plain_step(request)
    if step is not None and send_step(app.producer, request, step, retval):
        return
    carried = request.to_dict()
    # Celery has error callbacks inherit none.
    priority = app.producer.inherited_priority(request)
    callbacks = carried.get("callbacks") or []
    # One callback is a task by itself, several are a group; monitors show them so.
    group = uuid() if len(callbacks) > 1 else None
    members = []
    for index, sig in enumerate(callbacks):
        own = sig.get("options") or {}
        more = {"group_id": group, "group_index": index} if group else {}
        more["priority"] = own.get("priority", priority)
        if group and not sig.get("subtask_type"):
            members.append(own.get("task_id") or uuid())
            more |= {"task_id": members[-1], "add_to_parent": False}
        _publish(app, request, carried, sig, (retval,), more)
    if members:
        trail.add_group(app, request, app.GroupResult(group, members))
    chain = carried.get("chain")
    if chain:
        # Reversed on the wire: the last element is the next one.
        own = (chain[-1].get("options") or {}).get("priority", priority)
        more = {"chain": chain[:-1], "priority": own}
        _publish(app, request, carried, chain[-1], (retval,), more)


def _publish(
    app: Any,
    request: Any,
    carried: Mapping[str, Any],
    sig: Any,
    args: Sequence[Any],
    options: dict[str, Any],
) -> None:
    options |= {"parent_id": request.id, "root_id": request.root_id}
    if sig.get("subtask_type"):
        _publish_composition(app, request, carried, sig, args, options)
        return
    signature = Signature(sig, app=app)
    merged = signature.merged(args, {}, options)
    app.producer.send_callback(signature.task, *merged, protocol=retry.protocol_of(carried))


def _publish_composition(
    app: Any,
    request: Any,
    carried: Mapping[str, Any],
    sig: Any,
    args: Sequence[Any],
    options: dict[str, Any],
) -> None:
    """As `_publish`, for what becomes several messages or has more than its own to carry."""
    signature = Signature.from_dict(sig, app)
    signature._app = app
    if options.get("chain"):
        options["chain"] = context.opened(options["chain"])
    if isinstance(request, context.LocalRequest):
        # Whoever runs a task here and now wants no messages from it.
        steps = [
            signature,
            *(maybe_signature(one, app) for one in reversed(options.get("chain") or ())),
        ]
        as_chain(steps, app).apply(args)
        return
    if signature["subtask_type"] == "group":
        for key in ("group_id", "group_index"):
            options.pop(key, None)  # of the callbacks of one task: it has its own
    with app.producer.following(request, retry.protocol_of(carried)):
        signature.apply_async(args, **{k: v for k, v in options.items() if v is not None})


def publish_errbacks(
    app: Any, request: Any, exc: BaseException, traceback: str, call: bool = True
) -> None:
    """Fails what was to follow with the same exception, then runs or publishes the error callbacks.

    Args:
        call: whether those are run that would be here; else they are left out.
    """
    carried = request.to_dict()
    end_unrun(app, request, _following(carried), states.FAILURE, exc, traceback)
    old_style = []
    for sig in carried.get("errbacks") or ():
        if takes_exception(app, sig):
            if not call:
                continue
            with _logged(sig, request.id):
                call_errback(app, sig, request, exc, traceback)
        else:
            old_style.append(sig)
    publish_old_style(app, request, carried, old_style, request.id)


def publish_old_style(
    app: Any, request: Any, carried: Mapping[str, Any], errbacks: Sequence[Any], failed_id: Any
) -> None:
    """Publishes the error callbacks that take the id of what has failed."""
    # As in Celery they are no children of the task: who waits for its result does not wait for them.
    more = {"group_id": uuid() if errbacks else None, "add_to_parent": False}
    for index, sig in enumerate(errbacks):
        with _logged(sig, failed_id):
            _publish(app, request, carried, sig, (failed_id,), {**more, "group_index": index})


@contextmanager
def _logged(sig: Mapping[str, Any], failed_id: Any) -> Iterator[None]:
    """Logs what an error callback raises: the others of the task are called all the same."""
    try:
        yield
    except Exception:
        logging.getLogger("taskcore.task").exception(
            "error callback `%s` of task [%s] failed", sig["task"], failed_id
        )


def takes_exception(app: Any, sig: Mapping[str, Any]) -> bool:
    """Whether an error callback takes (request, exception, traceback), as it does when it is known
    here, is not bound and has room for more than one argument besides those that are stored."""
    task = app.tasks.get(sig["task"])
    if sig.get("subtask_type") or task is None or task._bound:
        return False
    if sig.get("immutable"):
        return argument_check.positional_count(task.run) > 1
    room = argument_check.positional_count(task.run, sig.get("kwargs") or ())
    return room - len(sig.get("args") or ()) > 1


def revoke_following(app: Any, request: Any, exc: BaseException) -> None:
    """Revokes what was to follow a task that was revoked or has expired: it will never run either."""
    end_unrun(app, request, _following(request.to_dict()), states.REVOKED, exc, None)


def _following(carried: Mapping[str, Any]) -> list[Any]:
    """What a message says is to run after a success."""
    return [*(carried.get("chain") or ()), *(carried.get("callbacks") or ())]


def call_errback(
    app: Any, sig: Mapping[str, Any], request: Any, exc: BaseException, traceback: str
) -> None:
    """The style that takes (request, exc, traceback): called in this process, because none of them
    can be sent."""
    given = (context.Context(request, app), exc, traceback)
    args, kwargs, _ = Signature(sig, app=app).merged(given)
    app.tasks[sig["task"]](*args, **kwargs)


def end_unrun(
    app: Any,
    request: Any,
    sigs: Iterable[Any],
    state: str,
    exc: BaseException,
    traceback: str | None,
) -> None:
    """Ends these tasks, which will never run, and all inside of them. Where one is the member of a
    chord, it counts there."""
    results = app.results_or_none
    if results is None:
        return
    document, extended = exception_codec.to_document(exc), app.conf["result_extended"]
    local = isinstance(request, context.LocalRequest)
    for sig in _all_unrun(sigs):
        options = sig.get("options") or {}
        task_id = options.get("task_id")
        if not task_id:
            continue
        more = {"traceback": traceback, "fields": _extended(sig) if extended else None}
        if local:
            results.put(task_id, state, document, **more)
            continue
        if options.get("chord") and options.get("group_id"):
            more |= {"group": options["group_id"], "group_index": options.get("group_index")}
        request.end(task_id, state, document, **more)


def _extended(sig: Mapping[str, Any]) -> dict[str, Any]:
    """What `result_extended` adds for a task that never ran."""
    return {
        "name": sig.get("task"),
        "args": sig.get("args"),
        "kwargs": sig.get("kwargs"),
        "worker": None,
        "retries": 0,
        "queue": (sig.get("options") or {}).get("queue"),
    }


def _all_unrun(sigs: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """These signatures, all that is inside of them, and what was to follow each of these."""
    waiting = deque(sigs)
    while waiting:
        for sig in all_inside([waiting.popleft()]):
            yield sig
            waiting += listed((sig.get("options") or {}).get("link"))


def all_inside(sigs: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """These signatures and all that is inside of them: who waits for a group waits for its members."""
    for sig in sigs:
        if not isinstance(sig, Mapping):
            continue
        yield sig
        if sig.get("subtask_type"):
            inside = sig.get("kwargs") or {}
            for part in ("tasks", "header", "body"):
                members = inside.get(part) or ()
                yield from all_inside([members] if isinstance(members, Mapping) else members)
