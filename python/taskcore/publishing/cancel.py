"""Takes a task back that is scheduled for later and has not been claimed by a worker."""

from __future__ import annotations

from typing import Any

from taskcore import states
from taskcore.exceptions import TaskRevokedError


def cancel(app: Any, task_id: str, queue: str | None) -> bool:
    """Drops the task from `queue`, or from whichever has it; whether there was one.

    Its result becomes REVOKED where the app keeps results. What follows it is ended by the next worker,
    to which the broker hands the message instead of dropping it.
    """
    publisher = app.publisher
    queues = [queue] if queue else [app.conf["task_default_queue"], *app.amqp.queues]
    if not queue:
        queues += publisher.queues()
    if not any(publisher.cancel(name, task_id) for name in dict.fromkeys(queues)):
        return False
    if app.results_or_none is not None:
        from taskcore.results import exception_codec

        revoked = exception_codec.to_document(TaskRevokedError("revoked"))
        app.results_or_none.put(task_id, states.REVOKED, revoked)
    return True
