"""States of the user's own, such as PROGRESS, stored while a task runs."""

from __future__ import annotations

from typing import Any


def store(app: Any, task_id: str, state: str, meta: Any, request: Any) -> None:
    """Stores `state` with `meta`, an exception or a value.

    Args:
        request: of the execution that the state belongs to; None: nothing is known of it.
    """
    if isinstance(meta, BaseException):
        from taskcore.results import exception_codec

        meta = exception_codec.to_document(meta)
    fields = {} if request is None else _fields(app, request.to_dict())
    written = {name: value for name, value in fields.items() if value is not None}
    app.results_or_none.put(task_id, state, meta, fields=written or None)


def _fields(app: Any, request: dict[str, Any]) -> dict[str, Any]:
    fields = {"parent_id": request["parent_id"], "group_id": request.get("group")}
    if app.conf["result_extended"]:
        fields |= {
            "name": request["task"],
            "worker": app.hostname,
            "queue": request.get("queue"),
        }
        fields |= {key: request.get(key) for key in ("args", "kwargs", "retries")}
    return fields
