"""The next step of a chain, by a short way.

Most steps are calls of a task that this process knows, with an id and a reply id and no other
option. Their fields are known beforehand, so no signature is made of them, nothing is merged and
nothing checked again. All other steps go through `Producer.send_callback`; the messages are alike.
"""

from __future__ import annotations

from taskcore.publishing import trail
from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from taskcore.publishing.producer import Producer

_PLAIN = frozenset({"task_id", "reply_to"})


def plain_step(request: Any) -> dict[str, Any] | None:
    """The next step of the chain that the message of an execution carries, where that is a call
    without any options of its own and nothing else follows the execution."""
    chain = getattr(request, "only_chain", None)
    step: dict[str, Any] | None = chain[-1] if chain else None
    if type(step) is not dict or step.get("subtask_type"):
        return None
    options = step.get("options")
    # Without an id it is somebody else's way of writing it.
    return step if options and "task_id" in options and options.keys() <= _PLAIN else None


def send_step(producer: Producer, request: Any, step: dict[str, Any], retval: Any) -> bool:
    """Has a plain step follow the execution with its result; False where its task is none of this
    process, or the program has a sending of its own."""
    task = producer.app.tasks.get(step.get("task"))
    if task is None or not producer.has_short_path(task):
        return False
    options, args = step["options"], step.get("args") or ()
    fields = {
        "task_id": options["task_id"],
        "parent_id": request.id,
        "root_id": request.root_id,
        "chain": request.only_chain[:-1],
        "reply_to": options.get("reply_to"),
        "priority": producer.inherited_priority(request),
    }
    if fields["reply_to"] is None and not task.ignore_result:
        results = producer.app.results_or_none
        fields["reply_to"] = results and results.reply_to
    positional = args if step.get("immutable") else (retval, *args)
    known = {key: value for key, value in fields.items() if value is not None}
    kwargs = dict(step.get("kwargs") or ())
    task_id = producer.deliver(task, positional, kwargs, known, "compact", request)
    trail.add(producer.app, request, task_id)
    return True
