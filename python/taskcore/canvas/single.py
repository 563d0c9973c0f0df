"""A single task as a part of a composition: its attributes, the ids that it gets, the call that it
becomes."""

from __future__ import annotations

from taskcore.typed import TYPE_CHECKING, Any, Mapping
from taskcore.utils import uuid

if TYPE_CHECKING:
    from taskcore.canvas.run import Calls, Run


class Item:
    """An attribute that is a key of the dict, or of its options."""

    def __init__(self, key: str, part: str | None = None) -> None:
        self.key, self.part = key, part

    def __get__(self, sig: Any, owner: type) -> Any:
        if sig is None:
            return self
        return sig[self.key] if self.part is None else sig[self.part].get(self.key)

    def __set__(self, sig: Any, value: Any) -> None:
        if self.key == "args":
            value = tuple(value)
        (sig if self.part is None else sig[self.part])[self.key] = value


def freeze_task(sig: Any, task_id: str | None, more: Mapping[str, Any]) -> Any:
    """Gives a signature the id of the task that it becomes; the result of that.

    Args:
        task_id: unless it has one; default: a fresh one.
        more: options to set; the group that it is a member of stays.
    """
    own = sig["options"]
    if own.get("task_id") is None:
        own["task_id"] = task_id or uuid()
    for key, value in more.items():
        if value is not None and not (key == "group_id" and own.get(key) is not None):
            own[key] = value
    result, reply_to = sig.app.producer.promise(sig["task"], own["task_id"], own)
    if reply_to and "reply_to" not in own:
        own["reply_to"] = reply_to
    return result


def unfold_task(sig: Any, run: Run, args: Any, kwargs: Any, options: dict[str, Any]) -> Calls:
    """The call of a single task, and what stands for its result."""
    positional, named, own = sig.merged(args, kwargs, options)
    if own.get("task_id") is None:
        own["task_id"] = uuid()
    run.count += 1
    yield sig["task"], positional, named, own, None
    return run.app.producer.promise(sig["task"], own["task_id"], own)[0]
