"""What follows a task by the message that called it: callbacks, error callbacks, and the rest of a
chain; each may be a single task or a composition.

Nothing is published here. Messages are encoded and leave with the outcome of the execution; the
worker publishes them before it stores the result. Only the size of a chord that begins now is told
to the store at once: a join that nobody enters expires.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from taskcore import context, states
from taskcore.canvas import Signature, maybe_signature
from taskcore.canvas.check import check
from taskcore.canvas.compose import as_chain
from taskcore.exceptions import NotSupportedError
from taskcore.publishing import argument_check, call_options
from taskcore.results import exception_codec
from taskcore.task import retry
from taskcore.utils import uuid


def check_supported(app: Any, request: Mapping[str, Any]) -> None:
    """Refuses what cannot be carried on.

    Raises:
        NotSupportedError: a chord, or routing that only RabbitMQ has.
        TypeError, ValueError, ImproperlyConfigured: a composition that could not run, as
            `canvas.check` says.
    """
    if request.get("chord"):
        raise NotSupportedError(
            "the task belongs to a chord: chords are not supported in this version of taskcore"
        )
    for sig in [*(request.get("callbacks") or ()), *(request.get("chain") or ())[-1:]]:
        call_options.check_routing(sig.get("options") or {})
        _check_composition(app, sig)
    for sig in request.get("errbacks") or ():
        _check_composition(app, sig)


def _check_composition(app: Any, sig: Mapping[str, Any]) -> None:
    if sig.get("subtask_type"):
        check(maybe_signature(sig), app, names=False)


def _spread(sigs: Iterable[Any]) -> Iterator[Any]:
    """Error callbacks one by one: the members of a group instead of the group."""
    for sig in sigs:
        if sig.get("subtask_type") == "group":
            yield from (sig.get("kwargs") or {}).get("tasks") or ()
        else:
            yield sig


def publish_callbacks(app: Any, request: Any, retval: Any) -> None:
    """Publishes the callbacks and the next step of the chain, each with the result as its first
    argument."""
    carried = request.to_dict()
    # Celery has error callbacks inherit none.
    priority = app.producer.inherited_priority(request)
    callbacks = carried.get("callbacks") or []
    # One callback is a task by itself, several are a group; monitors show them so.
    group = uuid() if len(callbacks) > 1 else None
    for index, sig in enumerate(callbacks):
        more = {"group_id": group, "group_index": index} if group else {}
        more["priority"] = (sig.get("options") or {}).get("priority", priority)
        _publish(app, request, carried, sig, (retval,), more)
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


def publish_errbacks(app: Any, request: Any, exc: BaseException, traceback: str) -> None:
    """Fails the rest of the chain with the same exception, then runs or publishes the error callbacks."""
    carried = request.to_dict()
    _store_chain(app, carried, states.FAILURE, exc, traceback)
    old_style = []
    for sig in _spread(carried.get("errbacks") or ()):
        if sig.get("subtask_type"):
            old_style.append(sig)
            continue
        signature = Signature(sig, app=app)
        task = app.tasks.get(signature.task)
        if (
            task is not None
            and not task._bound
            and argument_check.positional_count(task.run) - len(signature.args) > 1
        ):
            _call_errback(task, signature, request, exc, traceback)
        else:
            old_style.append(signature)
    # As in Celery they are no children of the task: who waits for its result does not wait for them.
    more = {"group_id": uuid() if old_style else None, "add_to_parent": False}
    for index, sig in enumerate(old_style):
        _publish(app, request, carried, sig, (request.id,), {**more, "group_index": index})


def revoke_chain(app: Any, request: Any, exc: BaseException) -> None:
    """Revokes the rest of the chain of a task that has expired: it will never run either."""
    _store_chain(app, request.to_dict(), states.REVOKED, exc, None)


def _call_errback(
    task: Any, sig: Signature, request: Any, exc: BaseException, traceback: str
) -> None:
    """The style that takes (request, exc, traceback): called in this process, because none of them
    can be sent."""
    from taskcore.context import Context

    args, kwargs, _ = sig.merged((Context(request, task.app), exc, traceback))
    task(*args, **kwargs)


def _store_chain(
    app: Any, carried: Mapping[str, Any], state: str, exc: BaseException, traceback: str | None
) -> None:
    results = app.results_or_none
    if results is None:
        return
    following = [*(carried.get("chain") or ()), *filter(None, [carried.get("chord")])]
    document, extended = exception_codec.to_document(exc), app.conf["result_extended"]
    for task_id, sig in dict(_with_ids(following)).items():
        fields = _extended(sig) if extended else None
        results.put(task_id, state, document, traceback=traceback, fields=fields)


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


def _with_ids(sigs: Iterable[Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The ids of these signatures and of all that is inside of them, and what they are of: who
    waits for a group waits for its members."""
    for sig in sigs:
        if not isinstance(sig, Mapping):
            continue
        if task_id := (sig.get("options") or {}).get("task_id"):
            yield task_id, sig
        if sig.get("subtask_type"):
            inside = sig.get("kwargs") or {}
            for part in ("tasks", "header", "body"):
                members = inside.get(part) or ()
                yield from _with_ids([members] if isinstance(members, Mapping) else members)
