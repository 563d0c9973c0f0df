"""What a task has published, as its result will tell: `children`."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from taskcore import context


def add(app: Any, parent: context.TaskRequest | None, task_id: str) -> None:
    """Records a task for the execution that has published it, unless that wants none recorded."""
    if parent is not None and _is_wanted(app, parent):
        parent.add_child(task_id)


def add_group(app: Any, parent: context.TaskRequest | None, group: Any) -> None:
    """Records a group likewise, by its result, as one child that has others."""
    if parent is not None and _is_wanted(app, parent):
        (group_id, before), members = group.as_tuple()
        parent.add_child(group_id, before, members)


def _is_wanted(app: Any, parent: context.TaskRequest) -> bool:
    task = app.tasks.get(parent.task)
    return task is None or bool(task.trail)
