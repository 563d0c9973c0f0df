"""What a running task may do to the workflow that it is a part of: put another in its place, and
add members to its chord."""

from __future__ import annotations

from taskcore import context
from taskcore.exceptions import Ignore, ImproperlyConfigured
from taskcore.task import retry
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from taskcore.task.task import Task


def replace(task: Task[..., Any], sig: Any) -> Any:
    """Carries out `Task.replace`; see there."""
    from taskcore.canvas import chain, chunks, maybe_signature
    from taskcore.canvas.compose import is_empty, kind, with_one_value

    request = _request(task, "replace")
    sig = maybe_signature(sig, task.app)
    if "chord" in sig["options"]:
        raise ImproperlyConfigured("what replaces a task must not be a member of a chord itself")
    if kind(sig) == "chain" and is_empty(sig):
        raise ImproperlyConfigured("a task cannot be replaced by an empty chain")
    if sig["task"] == "celery.chunks":  # on the wire it is no kind of its own
        parts: Any = chunks._of(sig, task.app)
        sig = parts.group().set(**sig["options"])
    carried = request.to_dict()
    sig = with_one_value(sig.clone())
    for callback in carried.get("callbacks") or ():
        sig.link(maybe_signature(callback))
    for errback in carried.get("errbacks") or ():
        sig.link_error(maybe_signature(errback))
    nesting = {"replaced_task_nesting": int(carried.get("replaced_task_nesting") or 0) + 1}
    sig.freeze(carried["id"], root_id=carried.get("root_id"))
    more = {
        "chord": carried.get("chord"),
        "group_id": carried.get("group"),
        "group_index": carried.get("group_index"),
        "root_id": carried.get("root_id"),
    }
    last = sig.tasks[-1] if kind(sig) == "chain" else sig
    _give_result(_end(sig), task, carried)
    sig.set(**nesting)
    if rest := carried.get("chain"):
        # The steps keep the ids that they have; the group is the last one's, where it was put.
        steps = [maybe_signature(one, task.app).set(**nesting) for one in reversed(rest)]
        if more["root_id"] is not None:
            last.set(root_id=more["root_id"])
        sig = chain._of({"kwargs": {"tasks": [sig, *steps]}, "subtask_type": "chain"}, task.app)
        sig["task"] = "celery.chain"
    else:
        sig.set(**{k: v for k, v in more.items() if v is not None})
    return task.on_replace(sig)


def _end(sig: Any) -> Any:
    """The task at the end of a signature: it has the id of the task that is replaced."""
    from taskcore.canvas.compose import kind

    while kind(sig) in ("chain", "chord"):
        sig = sig.tasks[-1] if kind(sig) == "chain" else sig.body
    return sig


def _give_result(end: Any, task: Task[..., Any], carried: dict[str, Any]) -> None:
    """Has the last task give its result as the replaced one would: whoever waits for that hears of
    it, also where the last task by itself keeps none."""
    ignored = carried.get("ignore_result")
    ignored = bool(task.ignore_result if ignored is None else ignored)
    end.set(ignore_result=ignored)
    if carried.get("reply_to") is not None:
        end.set(reply_to=carried["reply_to"])


def publish(task: Task[..., Any], sig: Any) -> Any:
    """Has a signature follow the running execution, which it replaces."""
    request = _request(task, "replace")
    carried = request.to_dict()
    if carried.get("is_eager"):
        return sig.apply().get(disable_sync_subtasks=False)
    with task.app.producer.following(request, retry.protocol_of(carried)):
        sig.apply_async(parent_id=carried["id"])
    raise Ignore("replaced by another task")


def add_to_chord(task: Task[..., Any], sig: Any, lazy: bool) -> Any:
    """Carries out `Task.add_to_chord`; see there."""
    request = _request(task, "add_to_chord")
    carried = request.to_dict()
    if not carried.get("chord"):
        raise ValueError(f"task `{task.name}` [{request.id}] is no member of a chord")
    sig.set(
        group_id=carried["group"],
        group_index=carried.get("group_index"),
        chord=carried["chord"],
        root_id=carried.get("root_id"),
    )
    sig.freeze()
    task.app.backend.extend_join(carried["group"], 1)
    return sig if lazy else sig.delay()


def _request(task: Task[..., Any], what: str) -> context.TaskRequest:
    request = context.get_request()
    if request is None or request.id is None or request.task != task.name:
        raise RuntimeError(
            f"`{what}` of task `{task.name}` is for an execution of it: no worker executes it here"
        )
    return request
